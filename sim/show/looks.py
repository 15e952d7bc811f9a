"""How each segment and writer stands at a moment, looked at from outside.

The live view on a terminal and the keyframes of a film are both drawn from this.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import attrs

from aurora.engine import Engine
from segments.host import SegmentHost
from segments.protocol.errors import Fenced
from segments.protocol.ids import Address, Lsn, PgId, SegmentId, VolumeEpoch, name_writers

FAR_BEHIND: Final = 20
"""LSNs behind the tail from which on a segment is shown as behind."""
_MOST_GAPS: Final = 3


@attrs.frozen(kw_only=True)
class SegmentLook:
    """One segment; what it holds is None while it is not up."""

    state: str
    """``up``, ``down``, ``lost``, ``behind``, ``healing`` (not everything that it ever
    acknowledged is there), or the word of a fault, see `sim.plan.episodes.Episode.state`."""
    scl: Lsn | None = None
    received: Lsn | None = None
    """The highest LSN of a record on its disk, also above a gap."""
    gap: str | None = None
    """What is missing below that, as people read it; empty if nothing is."""
    epoch: str | None = None
    table_epoch: str | None = None
    floor: Lsn | None = None
    log_bytes: int | None = None
    layers: int | None = None


@attrs.frozen(kw_only=True)
class WriterLook:
    """One writer; its watermarks are None before it has recovered the volume."""

    state: str
    """``opening``, ``open``, ``fenced`` or ``down``."""
    epoch: str | None = None
    vcl: Lsn | None = None
    vdl: Lsn | None = None
    next_lsn: Lsn | None = None
    """The LSN that it will give next."""
    waiting: int | None = None
    """Commits in the log that are not acknowledged yet."""
    commits: int | None = None
    pgcl: Mapping[PgId, Lsn] = attrs.field(factory=dict)
    scl: Mapping[SegmentId, Lsn] = attrs.field(factory=dict)
    """What each segment has acknowledged to it."""


def segment_state(host: SegmentHost, faults: Sequence[str], tail: Lsn) -> str:
    """The state of a segment in a word.

    ``faults`` are the words of those that last at the moment, the last begun last; ``tail`` is the
    last LSN of its group.
    """
    if host.lost is not None:
        return "lost"
    if not host.up or host.core is None:
        return "down"
    if faults:
        return faults[-1]
    if not host.core.state.whole:
        return "healing"
    return "behind" if tail - host.core.state.scl > FAR_BEHIND else "up"


def look_at_segment(
    host: SegmentHost, faults: Sequence[str], tail: Lsn, names: Mapping[int, Address]
) -> SegmentLook:
    """A segment as it is now; ``names`` are the writers', by their ids."""
    state, core = segment_state(host, faults, tail), host.core
    if core is None or not host.up or host.lost is not None:
        return SegmentLook(state=state)
    held = core.state
    return SegmentLook(
        state=state,
        scl=held.scl,
        received=held.index.highest_lsn,
        gap=_gaps(held.index.missing_ranges()),
        epoch=epoch_text(held.epoch, names),
        table_epoch=epoch_text(held.table.epoch, names),
        floor=held.floor,
        log_bytes=core.files.log_bytes,
        layers=len(held.layers),
    )


def look_at_writer(engine: Engine, names: Mapping[int, Address]) -> WriterLook:
    """A writer as it is now."""
    epoch = None if engine.epoch is None else epoch_text(engine.epoch, names)
    core = engine.core
    if engine.error is not None:
        fenced = isinstance(engine.error, Fenced)
        return WriterLook(state="fenced" if fenced else "down", epoch=epoch)
    if core is None:
        return WriterLook(state="opening", epoch=epoch)
    statistics = engine.statistics() if core.opened else None
    return WriterLook(
        state="open" if core.opened else "opening",
        epoch=epoch,
        vcl=core.vcl,
        vdl=core.vdl,
        next_lsn=core.last_allocated_lsn + 1,
        waiting=0 if statistics is None else statistics.commits_waiting,
        commits=0 if statistics is None else statistics.commits,
        pgcl={pg_id: core.pgcl(pg_id) for pg_id in core.pg_ids},
        scl={each: scl for pg_id in core.pg_ids for each, scl in core.scls(pg_id).items()},
    )


def epoch_text(epoch: VolumeEpoch, names: Mapping[int, Address]) -> str:
    """An epoch as people read it: ``2 (writer-2)``."""
    return name_writers(str(epoch), names)


def _gaps(ranges: Collection[tuple[Lsn, Lsn]]) -> str:
    """Half-open ranges in words: ``LSN 5–7, 9 and 2 more``."""
    first = [
        f"{start}" if end - start == 1 else f"{start}–{end - 1}"
        for start, end in [*ranges][:_MOST_GAPS]
    ]
    more = f" and {len(ranges) - _MOST_GAPS} more" if len(ranges) > _MOST_GAPS else ""
    return f"LSN {', '.join(first)}{more}" if first else ""
