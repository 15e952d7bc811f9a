"""From what hosts and writer know at one moment to a `HealthReport`: pure, without a clock.

Who counts as taking writes, who can answer a read, and what is missing is decided here and only
here, which takes some more than 400 lines; how many are enough is up to `QuorumModel`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from math import inf
from typing import Final

import attrs

from aurora.health import (
    PATIENCE_S,
    Going,
    GroupHealth,
    HealthReport,
    SegmentHealth,
    SegmentStatus,
    Waiting,
    WaitKind,
    in_trouble,
)
from aurora.pending import WaitSnapshot
from aurora.quorum import QuorumModel
from segments.protocol.ids import Address, PgId, SegmentId
from segments.protocol.refusal import DiskTrouble, Refusal
from segments.protocol.space import NO_LIMIT, Space


@attrs.frozen(kw_only=True)
class SegmentSnapshot:
    """What its host, and the latest writer, know of one segment. Points in time share one clock."""

    segment: SegmentId
    pg_id: PgId
    az: int
    up: bool = True
    """Whether it runs and answers."""
    starting: bool = False
    """Whether it is reading its log, to come up."""
    since_s: float = 0.0
    """When it came up, went down or was lost."""
    lost: str | None = None
    mistake: str | None = None
    refusal: Refusal | None = None
    """Why its disk takes no writes."""
    background_refusal: Refusal | None = None
    """Why it does not let layers be written, which is the only way to make the log shorter."""
    delay_s: float = 0.0
    """By how much its answers are held back, on request."""
    paused_since_s: float | None = None
    writing_since_s: float | None = None
    """When the write to the log began that is under way."""
    whole: bool = True
    """Whether it has everything that it ever promised."""
    damaged_layers: int = 0
    """Of how many of its layers a part is known to be lost."""
    current: bool = True
    """Whether the writer knows it to have all that is durable in its group."""
    silent_since_s: float | None = None
    """Since when it owes the writer an answer."""
    behind_since_s: float | None = None
    """Since when it lacks what a write quorum has."""
    lag: int = 0
    """By how many LSNs."""
    space: Space = NO_LIMIT
    """What it needs and may take on its disk."""


class Phase(Enum):
    """How far a writer is."""

    SEALING = auto()
    FETCHING = auto()
    REPLICATING = auto()
    OPEN = auto()
    ENDED = auto()


@attrs.frozen(kw_only=True)
class WriterSnapshot:
    """One writer."""

    name: Address
    epoch: str
    phase: Phase
    since_s: float = 0.0
    """When it began to open the volume."""
    end: str = ""
    """Why it has ended."""
    answered: frozenset[SegmentId] = frozenset()
    """Who has taken part in the phase: sealed the epoch, or adopted its table."""
    waits: tuple[WaitSnapshot, ...] = ()
    full: str = ""
    """Why it begins nothing new, if segments are short of space."""


@attrs.frozen(kw_only=True)
class VolumeSnapshot:
    """A volume at ``now_s``."""

    now_s: float
    models: Mapping[PgId, QuorumModel]
    segments: Sequence[SegmentSnapshot]
    writers: Sequence[WriterSnapshot] = ()
    """The latest last; of the others, those that are opening the volume."""
    read_only: bool = False
    """Whether it is a copy, which takes no writes."""


def diagnose(volume: VolumeSnapshot) -> HealthReport:
    """Say how the volume is."""
    segments = [_segment(each, volume.now_s) for each in volume.segments]
    groups = tuple(_group(pg_id, model, segments) for pg_id, model in volume.models.items())
    latest = volume.writers[-1] if volume.writers else None
    stopped = _stopped(volume, latest, groups)
    waits = [
        *_openings(volume, groups),
        *_held_up(volume, latest, groups),
        *_disks(segments),
        *_lost(volume, segments),
    ]
    writes = _all([(each, each.writes) for each in groups], of_many=len(groups) > 1)
    if volume.read_only:
        groups = tuple(attrs.evolve(each, writes=_READ_ONLY) for each in groups)
        writes = _READ_ONLY
    return HealthReport(
        _about(latest, "a copy of the volume" if volume.read_only else "the volume"),
        groups,
        stopped or _full(latest, segments) or writes,
        stopped or _all([(each, each.reads) for each in groups], of_many=len(groups) > 1),
        tuple(waits),
    )


def _full(writer: WriterSnapshot | None, segments: Sequence[SegmentHealth]) -> Going | None:
    """Why nothing new is written, if it is for want of space."""
    if writer is None or not writer.full:
        return None
    short = tuple(each.segment for each in segments if each.status is SegmentStatus.SHORT)
    return Going(False, writer.full, short, refused=True)


_READ_ONLY: Final = Going(False, "the volume is open for reading alone", refused=True)


# ---- segments ------------------------------------------------------------------------------------

_OF_DISK: Final = {
    DiskTrouble.FULL: SegmentStatus.FULL,
    DiskTrouble.REFUSED: SegmentStatus.REFUSED,
    DiskTrouble.FAILING: SegmentStatus.FAILING,
}
_NEED_HELP: Final = (
    SegmentStatus.DAMAGED,
    SegmentStatus.FULL,
    SegmentStatus.REFUSED,
    SegmentStatus.FAILING,
    SegmentStatus.FAILED,
)
"""What somebody is to be told of even while nothing else waits for it."""


def _segment(each: SegmentSnapshot, now: float) -> SegmentHealth:
    status, why, since_s = _status(each, now)
    silent, behind = _since(each, each.silent_since_s), _since(each, each.behind_since_s)
    reachable = each.up and each.paused_since_s is None and not _lasts(silent, now)
    keeps_up = reachable and not _lasts(behind, now)
    return SegmentHealth(
        each.segment,
        each.pg_id,
        each.az,
        status,
        why,
        max(0.0, now - since_s),
        takes_writes=keeps_up and each.refusal is None and not _stuck(each, now),
        answers_reads=reachable and each.current and each.lost is None,
        confirms_epoch=reachable and each.lost is None,
    )


def _status(each: SegmentSnapshot, now: float) -> tuple[SegmentStatus, str, float]:
    """The worst that is known of a segment, why, and since when."""
    if each.lost is not None:
        return SegmentStatus.LOST, each.lost, each.since_s
    if each.mistake is not None:
        return SegmentStatus.FAILED, each.mistake, each.since_s
    if each.up and each.paused_since_s is not None:
        return SegmentStatus.PAUSED, "", each.paused_since_s
    if each.refusal is not None:
        return _OF_DISK[each.refusal.trouble], each.refusal.why, each.refusal.since_s
    if not each.up:
        return SegmentStatus.DOWN, "reads its log" if each.starting else "", each.since_s
    if not each.whole:
        what = "a layer" if each.damaged_layers else "its log"
        return SegmentStatus.DAMAGED, f"part of {what} is lost; peers repair it", each.since_s
    if each.writing_since_s is not None and _stuck(each, now):
        return SegmentStatus.FAILING, "a write does not finish", each.writing_since_s
    if (refusal := each.background_refusal) is not None:
        why = f"{refusal.why}; its layers are not written; the log only grows"
        return _OF_DISK[refusal.trouble], why, refusal.since_s
    if each.space.short:
        needed, limit = each.space
        return SegmentStatus.SHORT, f"needs {needed:,} of {limit:,} bytes", each.since_s
    if _lasts(silent := _since(each, each.silent_since_s), now):
        return SegmentStatus.SILENT, "no answer to the writer", silent
    if _lasts(behind := _since(each, each.behind_since_s), now):
        return SegmentStatus.BEHIND, f"by {each.lag:,} LSNs", behind
    slow = f"slow: each round of messages waits {each.delay_s * 1e3:g} ms" if each.delay_s else ""
    return SegmentStatus.UP, slow, each.since_s


def _stuck(each: SegmentSnapshot, now: float) -> bool:
    """Whether its disk does not come to the end of a write."""
    return each.writing_since_s is not None and _lasts(each.writing_since_s, now)


def _since(each: SegmentSnapshot, since_s: float | None) -> float:
    """From when on something counts against a segment: not while it was down."""
    return inf if since_s is None else max(since_s, each.since_s)


def _lasts(since_s: float, now: float) -> bool:
    return now - since_s >= PATIENCE_S


# ---- groups --------------------------------------------------------------------------------------


def _group(pg_id: PgId, model: QuorumModel, segments: Sequence[SegmentHealth]) -> GroupHealth:
    members = tuple(each for each in segments if each.pg_id == pg_id)
    taking = [each.segment for each in members if each.takes_writes]
    writes = reads = strict_reads = Going(True)
    if not model.has_write(taking):
        count = f"{len(taking)} of {len(members)} segments take writes, {model.write} needed"
        left = [each.segment for each in members if each.status is not SegmentStatus.LOST]
        absent = [each for each in members if not each.takes_writes]
        writes = _not_going(count, absent, for_good=not model.has_write(left))
    if not any(each.answers_reads for each in members):
        count = f"none of {len(members)} segments can answer for the newest version, 1 needed"
        reads = _not_going(count, members)
    confirming = [each.segment for each in members if each.confirms_epoch]
    if not model.has_read(confirming):
        count = f"{len(confirming)} of {len(members)} confirm the epoch, {model.read} needed"
        strict_reads = _not_going(count, [each for each in members if not each.confirms_epoch])
    return GroupHealth(pg_id, members, writes, reads, strict_reads)


def _not_going(count: str, others: Sequence[SegmentHealth], *, for_good: bool = False) -> Going:
    troubled = [each for each in others if each.status is not SegmentStatus.UP]
    reasons = f": {in_trouble(troubled)}" if troubled else ""
    return Going(False, count + reasons, tuple(each.segment for each in troubled), for_good)


def _all(each_group: Sequence[tuple[GroupHealth, Going]], *, of_many: bool) -> Going:
    """What holds for all of these groups together."""
    wrong = [(group, going) for group, going in each_group if not going.goes_on]
    if not wrong:
        return Going(True)
    missing = "; ".join(_in_group(group, of_many=of_many) + going.missing for group, going in wrong)
    segments = tuple(each for _, going in wrong for each in going.segments)
    return Going(False, missing, segments, any(going.for_good for _, going in wrong))


def _in_group(group: GroupHealth, *, of_many: bool) -> str:
    return f"group {group.pg_id}: " if of_many else ""


# ---- the writer ----------------------------------------------------------------------------------


def _about(writer: WriterSnapshot | None, what: str = "the volume") -> str:
    match writer:
        case None:
            return "none has been opened yet"
        case WriterSnapshot(phase=Phase.OPEN):
            return f"{writer.name} has {what} open, epoch {writer.epoch}"
        case WriterSnapshot(phase=Phase.ENDED):
            said = writer.end.startswith(f"{writer.name} ")
            return writer.end if said else f"{writer.name} has ended: {writer.end}"
    return f"{writer.name} is opening {what}"


def _stopped(
    volume: VolumeSnapshot, writer: WriterSnapshot | None, groups: Sequence[GroupHealth]
) -> Going | None:
    """Why nothing goes on at all; None while a writer has the volume open."""
    if writer is None or writer.phase is Phase.ENDED:
        return Going(False, f"no writer has the volume open; {_about(writer)}")
    if writer.phase is Phase.OPEN:
        return None
    missing, segments = _missing_to_open(volume, writer, groups)
    return Going(False, missing, segments)


def _openings(volume: VolumeSnapshot, groups: Sequence[GroupHealth]) -> list[Waiting]:
    waits = []
    for writer in volume.writers:
        if writer.phase not in (Phase.OPEN, Phase.ENDED):
            missing, segments = _missing_to_open(volume, writer, groups)
            what = f"{writer.name} cannot open the volume yet"
            for_s = max(0.0, volume.now_s - writer.since_s)
            waits.append(Waiting(WaitKind.OPENING, writer.name, what, missing, for_s, segments))
    return waits


def _missing_to_open(
    volume: VolumeSnapshot, writer: WriterSnapshot, groups: Sequence[GroupHealth]
) -> tuple[str, tuple[SegmentId, ...]]:
    """What an opening waits for, and the segments that stand in its way."""
    found: list[str] = []
    names: list[SegmentId] = []
    for group in groups:
        model = volume.models[group.pg_id]
        done = [each.segment for each in group.segments if each.segment in writer.answered]
        count = f"{len(done)} of {len(group.segments)} segments"
        match writer.phase:
            case Phase.SEALING if not model.has_read(done):
                count += f" have sealed its epoch, {model.read} needed"
            case Phase.REPLICATING if not model.has_write(done):
                count += f" have taken over its epoch, {model.write} needed"
            case _:
                continue
        absent = [each for each in group.segments if each.segment not in writer.answered]
        going = _not_going(count, absent)
        found.append(_in_group(group, of_many=len(groups) > 1) + going.missing)
        names.extend(going.segments)
    if found:
        return "; ".join(found), tuple(names)
    fetching = writer.phase is Phase.FETCHING
    return ("the newest part of the log is read" if fetching else "records are copied"), ()


_HELD_UP: Final = {
    WaitKind.COMMITS: "commits wait for a write quorum",
    WaitKind.ROOM: "commits wait for room, as the log may not run further ahead of the VDL",
    WaitKind.POOL: "commits wait for a place in the buffer pool",
    WaitKind.PAGES: "commits wait for their pages to come into the buffer pool",
    WaitKind.READS: "reads wait for a segment that can answer",
    WaitKind.STRICT_READS: "strict reads wait for a read quorum",
    WaitKind.TURN: "transactions wait for their turn",
}


def _held_up(
    volume: VolumeSnapshot, writer: WriterSnapshot | None, groups: Sequence[GroupHealth]
) -> list[Waiting]:
    """The calls that wait, and what is missing for them."""
    waits = []
    for each in writer.waits if writer is not None else ():
        concerned = [group for group in groups if group.pg_id in each.pg_ids]
        reads = _all([(group, group.reads) for group in concerned], of_many=len(groups) > 1)
        writes = _all([(group, group.writes) for group in concerned], of_many=len(groups) > 1)
        going = reads if each.kind is WaitKind.READS else writes
        if each.kind is WaitKind.PAGES and not reads.goes_on:
            going = reads
        if each.kind is WaitKind.STRICT_READS:
            strict = [(group, group.strict_reads) for group in concerned]
            going = _all(strict, of_many=len(groups) > 1)
        known = each.missing or going.missing
        waits.append(
            Waiting(
                each.kind,
                each.kind,
                _HELD_UP[each.kind],
                known or "nobody is known to be in trouble",
                volume.now_s - each.since_s,
                going.segments,
                explained=bool(known),
            )
        )
    return waits


# ---- what somebody has to be told of -------------------------------------------------------------


def _disks(segments: Sequence[SegmentHealth]) -> list[Waiting]:
    """Segments that need help, those with the same trouble together."""
    alike: dict[str, list[SegmentHealth]] = {}
    for each in segments:
        if each.status in _NEED_HELP:
            alike.setdefault(f"{each.status} ({each.why})", []).append(each)
    return [
        Waiting(
            WaitKind.DISK,
            trouble,
            in_trouble(group),
            "",
            max(each.for_s for each in group),
            tuple(each.segment for each in group),
        )
        for trouble, group in alike.items()
    ]


def _lost(volume: VolumeSnapshot, segments: Sequence[SegmentHealth]) -> list[Waiting]:
    waits: list[Waiting] = []
    for pg_id, model in volume.models.items():
        members = [each for each in segments if each.pg_id == pg_id]
        gone = [each for each in members if each.status is SegmentStatus.LOST]
        left = [each.segment for each in members if each.status is not SegmentStatus.LOST]
        whole = f"group {pg_id}" if len(volume.models) > 1 else "the volume"
        waits.extend(
            Waiting(
                WaitKind.LOST,
                each.segment,
                f"{each.segment} is lost ({each.why})",
                f"{whole} runs on {len(left)} of {len(members)} segments, {_outlook(model, left)}",
                each.for_s,
                (each.segment,),
            )
            for each in gone
        )
    return waits


def _outlook(model: QuorumModel, left: Sequence[SegmentId]) -> str:
    spare = model.spare_for_write(left)
    if spare < 0:
        return "too few for a write quorum, for good"
    if spare == 0:
        return (
            "and can do without none of them: with one down writes wait, "
            "with one lost it can never be opened again"
        )
    return (
        f"and can do without {spare} of them: with {spare + 1} down writes wait, "
        f"with {spare + 1} lost it can never be opened again"
    )
