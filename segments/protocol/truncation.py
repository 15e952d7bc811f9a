"""Truncation ranges: the LSNs that recoveries have annulled (2017 §4.3).

A recovery that opens at VDL ``v`` annuls every LSN in ``(v, e]`` for an ``e`` that no earlier
writer can have reached. A table of such half-open ranges, stamped with the epoch that made it,
travels as one value: tables are replaced by one of a higher epoch and never merged (see
"tables-unioned" in the deliberate bugs).
"""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter
from typing import NamedTuple

import attrs

from segments.protocol.errors import Invalid
from segments.protocol.ids import NO_EPOCH, Lsn, VolumeEpoch


class TruncationRange(NamedTuple):
    """LSNs ``start_lsn <= lsn < end_lsn``, all annulled."""

    start_lsn: Lsn
    end_lsn: Lsn


_start_of = itemgetter(0)


def _ascending(_: object, __: object, ranges: tuple[TruncationRange, ...]) -> None:
    last_end = 0
    for start, end in ranges:
        if not last_end < start < end:
            raise Invalid(
                f"truncation ranges {ranges!r}: expected ascending, disjoint and non-empty"
            )
        last_end = end


@attrs.frozen
class TruncationTable:
    """All ranges annulled so far, as the recovery of ``epoch`` left them."""

    epoch: VolumeEpoch = NO_EPOCH
    ranges: tuple[TruncationRange, ...] = attrs.field(default=(), validator=_ascending)

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
        for start, end in self.ranges:
            if start <= lsn < end:
                return start - 1
        return lsn

    def lsn_behind(self, lsn: Lsn, count: int) -> Lsn:
        """The LSN that lies ``count`` LSNs before ``lsn``, annulled ones not counted; at least 0.

        ``lsn`` is not annulled itself; what is may lie above it.
        """
        behind = lsn - count
        for start, end in reversed(self.ranges):
            if start > lsn:
                continue
            if behind >= end:
                break
            behind -= end - start
        return max(0, behind)

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
        kept.append(TruncationRange(start, last_lsn + 1))
        return TruncationTable(epoch, tuple(kept))
