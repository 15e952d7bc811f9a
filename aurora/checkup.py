"""Looks at a cluster, and records what its hosts and writers know, for `aurora.diagnosis`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from aurora.core import WriterCore
from aurora.diagnosis import Phase, SegmentSnapshot, VolumeSnapshot, WriterSnapshot
from aurora.engine import Engine
from aurora.quorum import QuorumModel
from segments.host import SegmentHost
from segments.protocol.errors import VolumeFull
from segments.protocol.space import NO_LIMIT
from segments.protocol.volume import ProtectionGroup


def take_snapshot(
    groups: Iterable[ProtectionGroup],
    hosts: Iterable[SegmentHost],
    engines: Sequence[Engine],
    now: float,
    *,
    read_only: bool = False,
) -> VolumeSnapshot:
    """The volume at ``now``, in trio's time, without any judgement; the latest writer is last."""
    latest = engines[-1] if engines else None
    others = [_writer(engine) for engine in engines[:-1]]
    busy = [each for each in others if each.phase not in (Phase.OPEN, Phase.ENDED)]
    return VolumeSnapshot(
        now_s=now,
        read_only=read_only,
        models={group.pg_id: QuorumModel(group.members) for group in groups},
        segments=[_segment(host, latest) for host in hosts],
        writers=[*busy, _writer(latest)] if latest is not None else [],
    )


def _segment(host: SegmentHost, writer: Engine | None) -> SegmentSnapshot:
    server, core = host.server, host.core
    up = host.up and host.lost is None and core is not None
    snapshot = SegmentSnapshot(
        segment=host.segment,
        pg_id=host.group.pg_id,
        az=host.az,
        up=up,
        starting=host.up and core is None,
        since_s=host.since_s,
        lost=host.lost,
        mistake=host.mistake,
        refusal=host.refusal,
        background_refusal=server.background_refusal if up and server is not None else None,
        delay_s=host.delay_s if up else 0.0,
        paused_since_s=host.paused_since_s if up else None,
        writing_since_s=server.writing_since_s if up and server is not None else None,
        whole=core is None or core.state.whole,
        damaged_layers=len(core.state.layers.damaged) if core is not None else 0,
        current=False,
        space=core.background.watch.space if up and core is not None else NO_LIMIT,
    )
    return _as_seen_by(writer, snapshot) if writer is not None else snapshot


def _as_seen_by(writer: Engine, snapshot: SegmentSnapshot) -> SegmentSnapshot:
    """With what the writer knows of the segment: who answers, and who has what."""
    segment, core = snapshot.segment, writer.core
    if writer.error is not None:
        return snapshot
    if core is None:
        recovery = writer.recovery
        silent = recovery is not None and segment not in recovery.answered
        return attrs.evolve(snapshot, silent_since_s=writer.opening_since_s if silent else None)
    stream = core.streams[segment]
    return attrs.evolve(
        snapshot,
        current=core.opened and core.is_current(segment),
        silent_since_s=stream.silent_since_s,
        behind_since_s=stream.behind_since_s,
        lag=max(0, core.pgcl(snapshot.pg_id) - stream.acked_lsn),
    )


def _full(core: WriterCore) -> str:
    """Why a writer begins nothing new; empty if it does."""
    try:
        core.space.check(core.floor_held_by)
    except VolumeFull as full:
        return str(full)
    return ""


def _writer(engine: Engine) -> WriterSnapshot:
    core, recovery = engine.core, engine.recovery
    phase, answered = Phase.SEALING, frozenset[str]()
    if engine.error is not None:
        phase = Phase.ENDED
    elif core is not None:
        phase = Phase.OPEN if core.opened else Phase.REPLICATING
        answered = frozenset(each.segment for each in core.streams.values() if each.installed)
    elif recovery is not None:
        phase = Phase.SEALING if recovery.sealing else Phase.FETCHING
        answered = recovery.answered
    return WriterSnapshot(
        name=engine.name,
        epoch=str(engine.epoch.counter) if engine.epoch is not None else "",
        phase=phase,
        since_s=engine.opening_since_s,
        end=str(engine.error or ""),
        answered=answered,
        waits=tuple(engine.waits()) if phase is Phase.OPEN else (),
        full=_full(core) if core is not None and phase is Phase.OPEN else "",
    )
