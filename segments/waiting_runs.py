"""Runs above a gap of the chain, until the gap is filled: intervals that do not overlap.

A run covers the half-open interval from the record before its first one to its last one, in which
the chain has no other record. What is held first stays. Of another run the parts in the gaps are
taken, if it agrees at the ends of what is held: each of them must be a record of the run, where the
run goes on beyond it. If it does not it contradicts, and is refused as a whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from segments.held_run import HeldRun, Span
from segments.protocol.errors import SpoiltRun
from segments.protocol.ids import Lsn


def _last_lsn(held: HeldRun) -> Lsn:
    return held.lsns[-1]


class WaitingRuns:
    """The runs, ascending."""

    def __init__(self) -> None:
        self.records = 0
        """Records in them."""
        self.size_bytes = 0
        """What those take when they are encoded, without the heads of runs."""
        self._runs: list[HeldRun] = []

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[HeldRun]:
        return iter(self._runs)

    @property
    def last_lsn(self) -> Lsn:
        """The highest record that waits; there is one."""
        return self._runs[-1].lsns[-1]

    def find(self, lsn: Lsn) -> Span | None:
        """The record at ``lsn``, if it is held."""
        at = bisect_right(self._runs, lsn - 1, key=_last_lsn)
        if at == len(self._runs):
            return None
        start, stop = self._runs[at].span(lsn - 1, lsn)
        return Span(self._runs[at], start, stop) if start < stop else None

    def lacking(self, held: HeldRun, scl: Lsn) -> list[HeldRun]:
        """The parts of a run that fill gaps above ``scl``, ascending; none if it contradicts."""
        lsns, prev_lsn, last_lsn = held.lsns, held.run.prev_lsn, held.lsns[-1]
        at = bisect_right(self._runs, prev_lsn, key=_last_lsn)
        low = self._runs[at - 1].lsns[-1] if at else scl
        parts = []
        for above in (*islice(self._runs, at, None), None):
            if last_lsn <= low:
                break
            high = last_lsn if above is None else above.run.prev_lsn
            if prev_lsn < high and low < high:
                start, stop = held.span(low, high)
                agrees_below = prev_lsn >= low or lsns[max(0, start - 1)] == low
                agrees_above = last_lsn <= high or lsns[max(0, stop - 1)] == high
                if not (agrees_below and agrees_above):
                    return []
                if start < stop:
                    parts.append(held.cut(start, stop))
            if above is not None:
                low = above.lsns[-1]
        return parts

    def add(self, held: HeldRun) -> None:
        """Take in a run that lies in a gap."""
        self._runs.insert(bisect_right(self._runs, held.lsns[-1], key=_last_lsn), held)
        self._count(held, 1)

    def take_what_follows(self, scl: Lsn) -> list[HeldRun]:
        """Take out the runs that are linked with ``scl``, one after the other."""
        count = 0
        for held in self._runs:
            if held.run.prev_lsn != scl:
                break
            scl = held.lsns[-1]
            count += 1
        taken = self._runs[:count]
        del self._runs[:count]
        for held in taken:
            self._count(held, -1)
        return taken

    def take_all(self) -> list[HeldRun]:
        """Take out all of them, ascending."""
        taken, self._runs = self._runs, []
        self.records = self.size_bytes = 0
        return taken

    def drop(self, last_lsn: Lsn) -> bool:
        """Drop the run that ends with the record at ``last_lsn``; returns whether there was one."""
        at = bisect_right(self._runs, last_lsn - 1, key=_last_lsn)
        if at == len(self._runs) or self._runs[at].lsns[-1] != last_lsn:
            return False
        self._count(self._runs.pop(at), -1)
        return True

    def keep_nearest(self, most: float) -> None:
        """Drop the records above the ``most`` lowest, and what would have to be cut and cannot."""
        while self.records > most:
            held = self._runs.pop()
            self._count(held, -1)
            if self.records < most:
                with suppress(SpoiltRun):
                    self.add(held.cut(0, int(most) - self.records))

    def _count(self, held: HeldRun, sign: int) -> None:
        self.records += sign * len(held.lsns)
        self.size_bytes += sign * held.run.size_bytes
