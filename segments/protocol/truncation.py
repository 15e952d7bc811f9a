"""Truncation ranges: the LSNs that recoveries have annulled (2017 §4.3).

A recovery that opens at VDL ``v`` annuls every LSN in ``(v, e]`` for an ``e`` that no earlier
writer can have reached. A table of such half-open ranges, stamped with the epoch that made it,
travels as one value: tables are replaced by one of a higher epoch and never merged (see
"tables-unioned" in the deliberate bugs).

A table is *settled* once all members of the volume have adopted it. No record that it annuls is
left anywhere then, and the next recovery leaves its ranges out (§8 of the protocol says why they
can never come back). Only retention still has to count past them: for that they become *gaps*.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from operator import itemgetter
from typing import Final, NamedTuple, TypeVar

import attrs

from segments.protocol.errors import Invalid
from segments.protocol.ids import NO_EPOCH, Lsn, VolumeEpoch


class TruncationRange(NamedTuple):
    """LSNs ``start_lsn <= lsn < end_lsn``, all annulled; the last of them by ``epoch``."""

    start_lsn: Lsn
    end_lsn: Lsn
    epoch: VolumeEpoch


class Gap(NamedTuple):
    """Where ranges have been forgotten: of these LSNs all but ``live`` are annulled."""

    start_lsn: Lsn
    end_lsn: Lsn
    live: int


_Stretch = TypeVar("_Stretch", TruncationRange, Gap)
_start_of = itemgetter(0)

_SHARES: Final = 16
_UNLIMITED: Final = 1 << 40
"""What counts as retention where everything is retained: no gap need be told from another."""


def retention_slack(retention: int | None) -> int:
    """How many LSNs more than ``retention`` may stay, for the sake of a bounded number of gaps."""
    return (_UNLIMITED if retention is None else retention) // _SHARES


def _ascending(_: object, __: object, stretches: tuple[_Stretch, ...]) -> None:
    last_end = 0
    for start, end, _rest in stretches:
        if not last_end < start < end:
            raise Invalid(
                f"truncation ranges {stretches!r}: expected ascending, disjoint and non-empty"
            )
        last_end = end


@attrs.frozen
class TruncationTable:
    """What is annulled, as the recovery of ``epoch`` left it."""

    epoch: VolumeEpoch = NO_EPOCH
    ranges: tuple[TruncationRange, ...] = attrs.field(default=(), validator=_ascending)
    """All that any member may still hold a record of, and always the last one."""
    settled: VolumeEpoch = NO_EPOCH
    """All members are known to have adopted the table of this epoch, or none is known to be so."""
    gaps: tuple[Gap, ...] = attrs.field(default=(), validator=_ascending)
    """Of what was forgotten, as much as retention has to count past."""

    @property
    def last_annulled_lsn(self) -> Lsn:
        """The highest annulled LSN, inclusive; 0 when nothing is annulled."""
        return self.ranges[-1].end_lsn - 1 if self.ranges else 0

    def annuls(self, lsn: Lsn) -> bool:
        """Whether no record may exist at ``lsn``."""
        ranges = self.ranges
        if not ranges or lsn >= ranges[-1].end_lsn:
            return False  # as for most: the log goes on above all that was annulled
        index = bisect_right(ranges, lsn, key=_start_of) - 1
        return index >= 0 and lsn < ranges[index].end_lsn

    def survivor(self, lsn: Lsn) -> Lsn:
        """What is left of ``lsn`` as a bound: itself, or if it is annulled the last LSN before.

        Who held everything up to ``lsn`` and adopts this table holds no more than this (§7, §8).
        """
        for start, end, _ in self.ranges:
            if start <= lsn < end:
                return start - 1
        return lsn

    def lsn_behind(self, lsn: Lsn, count: int) -> Lsn:
        """The LSN that lies ``count`` LSNs before ``lsn``, annulled ones not counted; at least 0.

        ``lsn`` is not annulled itself; what is may lie above it. Where it would lie in a gap, it is
        the LSN before that: at least ``count`` are between.
        """
        behind = lsn - count
        known = sorted((*self.gaps, *(Gap(start, end, 0) for start, end, _ in self.ranges)))
        for start, end, live in reversed(known):
            if start > lsn:
                continue
            if behind >= end:
                break
            if end - behind <= live:
                return start - 1
            behind -= end - start - live
        return max(0, behind)

    def with_settled(self, epoch: VolumeEpoch) -> TruncationTable:
        """This table, once the one of ``epoch`` is known to be settled."""
        return attrs.evolve(self, settled=epoch) if epoch > self.settled else self

    def without_settled(self, vdl: Lsn, retention: int | None) -> TruncationTable:
        """This table for a recovery that opens at ``vdl``: what is settled is left out.

        Of that, what somebody must count past who retains so many LSNs becomes gaps.
        """
        left = [each for each in self.ranges if each.epoch > self.settled]
        forgotten = [
            Gap(start, end, 0)
            for start, end, epoch in self.ranges
            if epoch <= self.settled and start <= vdl
        ]
        lowest = self.lsn_behind(vdl, _UNLIMITED if retention is None else retention)
        gaps = [each for each in (*self._gaps_below(vdl), *forgotten) if each.end_lsn > lowest]
        joined = _joined(gaps, retention_slack(retention))
        return TruncationTable(self.epoch, tuple(left), self.settled, joined)

    def _gaps_below(self, vdl: Lsn) -> list[Gap]:
        """The gaps without what is above ``vdl``, which a recovery that opens there annuls itself.

        They reach higher if a recovery has opened above it, and what it found was lost again.
        """
        return [
            Gap(start, min(end, vdl + 1), live if end <= vdl + 1 else 0)
            for start, end, live in self.gaps
            if start <= vdl
        ]

    def extended(self, epoch: VolumeEpoch, vdl: Lsn, last_lsn: Lsn) -> TruncationTable:
        """This table with ``(vdl, last_lsn]`` annulled as well, stamped with ``epoch``.

        Ranges above ``vdl`` are swallowed by the new one; raises `Invalid` for an epoch that is not
        above this table's, or a range that would end below one already annulled.
        """
        if epoch <= self.epoch:
            raise Invalid(f"table epoch {epoch}: expected above {self.epoch}")
        if last_lsn < max(vdl, self.last_annulled_lsn):
            raise Invalid(f"range end {last_lsn}: expected >= {max(vdl, self.last_annulled_lsn)}")
        start = vdl + 1
        kept = [each for each in self.ranges if each.end_lsn < start]
        touching = [each for each in self.ranges if each.start_lsn <= start <= each.end_lsn]
        if touching:
            start = touching[0].start_lsn
        kept.append(TruncationRange(start, last_lsn + 1, epoch))
        return TruncationTable(epoch, tuple(kept), self.settled, self.gaps)


def _joined(gaps: Iterable[Gap], most: int) -> tuple[Gap, ...]:
    """``gaps``, ascending, those as one that have at most so many live LSNs in and between them.

    So of two neighbours that are left there are more, and within any retention only a few.
    """
    joined: list[Gap] = []
    for gap in gaps:
        if joined:
            start, end, live = joined[-1]
            live += gap.start_lsn - end + gap.live
            if live <= most:
                joined[-1] = Gap(start, gap.end_lsn, live)
                continue
        joined.append(gap)
    return tuple(joined)
