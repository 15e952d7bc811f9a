"""The rows of the failure table (protocol §9) as predicates: what goes on does, in bounds (28)."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from typing import Final

import attrs

from segments.protocol.ids import Lsn, PgId, SegmentId
from sim.check.invariants import WRITE_QUORUM, Broken, holds
from sim.check.soundness import SLOW
from sim.durations import length, moment
from sim.world.history import Call

NOBODY_AWAY: Final = "no failure"
SOME_AWAY: Final = "1 or 2 segments"
AZ_AWAY: Final = "one AZ"
SLOW_AWAY: Final = "slow or gray segment"
THREE_AWAY: Final = "AZ + 1 segment (3 of 6)"
FOUR_AWAY: Final = "4 of 6"


@attrs.frozen
class Standing:
    """How a protection group stands: who can serve its writer now, and what keeps the others."""

    ready: Sequence[SegmentId]
    away: Mapping[SegmentId, str]
    row: str
    """Its row of the table."""

    def __str__(self) -> str:
        away = ", ".join(f"{segment} ({why})" for segment, why in self.away.items())
        return f"ready: {', '.join(self.ready) or 'nobody'}; not ready: {away or 'nobody'}"


def row_of(away: Mapping[SegmentId, str], one_az: bool) -> str:
    """The row for these segments; ``one_az``: they are the two of one AZ."""
    if len(away) >= 4:
        return FOUR_AWAY
    if len(away) == 3:
        return THREE_AWAY
    if SLOW in away.values():
        return SLOW_AWAY
    if one_az:
        return AZ_AWAY
    return SOME_AWAY if away else NOBODY_AWAY


@holds("needless-unavailability")
def is_answered(
    call: Call, now_ns: int, since_ns: int, bound_ns: int, standings: Sequence[Standing]
) -> None:
    """28, for a call that could have been answered since ``since_ns``, and has not been."""
    if now_ns - since_ns > bound_ns:
        what = "writes" if call.operation.kind == "put" else "reads"
        raise Broken(
            f"{_row(standings)}: {what} go on, and {_named(call)} has waited for "
            f"{length(now_ns - since_ns)} since it could (from {moment(since_ns)}): expected at "
            f"most {length(bound_ns)}; {_standing(standings)}"
        )


@holds("needless-unavailability")
def is_not_refused(call: Call, standings: Sequence[Standing]) -> None:
    """28, for a call that failed though it could have been answered, or before its time was up."""
    raise Broken(
        f"{_row(standings)}: {_named(call)} was refused ({call.error}): expected an answer, or to "
        f"be tried for longer; {_standing(standings)}"
    )


@holds("needless-unavailability")
def has_no_room(
    call: Call, groups: Sequence[Collection[SegmentId]], short: Container[SegmentId]
) -> None:
    """28, for a write that was refused for want of space: some group has no write quorum with any.

    ``short`` are those that have ever said so.
    """
    counts = [sum(each not in short for each in members) for members in groups]
    if min(counts) >= WRITE_QUORUM:
        raise Broken(
            f"{_named(call)} was refused ({call.error}): expected it to be written, as {counts} "
            "segments of the groups have never been short of space"
        )


@holds("needless-unavailability")
def hears_of_room(
    writer: str,
    full: Sequence[PgId],
    groups: Mapping[PgId, Sequence[SegmentId]],
    short: Container[SegmentId],
) -> None:
    """28, in the end: a writer that takes groups to be full is right; ``short`` is who is so."""
    for pg_id in full:
        roomy = [each for each in groups[pg_id] if each not in short]
        if len(roomy) >= WRITE_QUORUM:
            raise Broken(
                f"{writer} takes group {pg_id} to be full: expected it to have heard that "
                f"{', '.join(roomy)} have room"
            )


@holds("needless-unavailability")
def opens(
    writer: str, now_ns: int, since_ns: int, bound_ns: int, standings: Sequence[Standing]
) -> None:
    """28, for a writer that could have opened the volume since ``since_ns``."""
    if now_ns - since_ns > bound_ns:
        raise Broken(
            f"{_row(standings)}: a recovery is possible, and {writer} has not opened the volume "
            f"for {length(now_ns - since_ns)} since it could (from {moment(since_ns)}): expected "
            f"at most {length(bound_ns)}; {_standing(standings)}"
        )


@holds("needless-unavailability")
def catches_up(
    segment: SegmentId,
    lacks: str,
    now_ns: int,
    since_ns: int,
    bound_ns: int,
    standing: Standing,
) -> None:
    """28, for a segment that is back and hears its writer and its peers."""
    if now_ns - since_ns > bound_ns:
        raise Broken(
            f"{segment} is back, and {lacks} after {length(now_ns - since_ns)} "
            f"(from {moment(since_ns)}): expected to have caught up within {length(bound_ns)}; "
            f"{standing}"
        )


def lacking(whole: bool, adopted: bool, scl: Lsn, target: Lsn) -> str:
    """What a segment still lacks, in words; empty if nothing."""
    if not whole:
        return "is not whole"
    if not adopted:
        return "has not adopted its writer's truncation table"
    return f"is at SCL {scl}, below {target}" if scl < target else ""


def _named(call: Call) -> str:
    pages = ",".join(map(str, call.operation.pages[:4]))
    return f"call {call.number} ({call.operation.kind} page {pages}, {call.writer})"


def _row(standings: Sequence[Standing]) -> str:
    """The row of the group that is worst off."""
    return max(standings, key=lambda each: len(each.away)).row


def _standing(standings: Sequence[Standing]) -> str:
    return "; ".join(map(str, standings[:2]))
