"""Allocation of log sequence numbers, and its limit (2017 §4.2.1).

The limit (LAL) keeps the log from running too far ahead of storage. It is also what lets a recovery
annul everything that an earlier writer may have sent and nobody saw: no such LSN lies beyond it.
"""

from __future__ import annotations

from segments.protocol.errors import InvalidConfig, InvalidWrite, LsnsExhausted
from segments.protocol.ids import MAX_LSN, Lsn
from segments.protocol.volume import MAX_LAL


def lsn_limit(vdl: Lsn, last_annulled_lsn: Lsn, lal: int) -> Lsn:
    """The highest LSN that a writer may have given out by the time its VDL was ``vdl``, inclusive.

    Where all LSNs end (`MAX_LSN`) is not looked at.
    """
    return max(vdl, last_annulled_lsn) + lal


class LsnAllocator:
    """Hands out contiguous LSNs, each once, never above its `lsn_limit`."""

    __slots__ = ("_lal", "_last_annulled_lsn", "_last_lsn")

    def __init__(self, next_lsn: Lsn, lal: int, last_annulled_lsn: Lsn = 0) -> None:
        """Continue at ``next_lsn``, above every annulled LSN; ``lal`` is counted in LSNs."""
        if not 1 <= lal <= MAX_LAL:
            raise InvalidConfig(f"lal is {lal!r}: expected 1 to {MAX_LAL}")
        if not last_annulled_lsn < next_lsn:
            raise InvalidConfig(
                f"next_lsn is {next_lsn!r}: expected above {last_annulled_lsn}, the last annulled"
            )
        self._last_lsn = next_lsn - 1
        self._lal = lal
        self._last_annulled_lsn = last_annulled_lsn

    @property
    def last_allocated(self) -> Lsn:
        """The highest LSN handed out, or the one before the first."""
        return self._last_lsn

    def limit(self, vdl: Lsn) -> Lsn:
        """The highest LSN that may be allocated while the VDL is ``vdl``, inclusive."""
        return min(lsn_limit(vdl, self._last_annulled_lsn, self._lal), MAX_LSN)

    def check_mtr(self, count: int) -> None:
        """Raise `InvalidWrite` for an MTR of ``count`` records that could never be allocated.

        `LsnsExhausted` if that is for want of LSNs.
        """
        if not 1 <= count <= self._lal:
            raise InvalidWrite(f"an MTR of {count} records: expected 1 to {self._lal}, the LAL")
        if self._last_lsn + count > MAX_LSN:
            left = max(0, MAX_LSN - self._last_lsn)
            raise LsnsExhausted(
                f"an MTR of {count} records: expected at most {left}, the LSNs that the volume has "
                f"left up to {MAX_LSN}"
            )

    def can_allocate(self, count: int, vdl: Lsn) -> bool:
        """Whether ``count`` LSNs fit below the limit; if not, wait for the VDL to advance.

        Raises as `check_mtr` does, when no VDL would ever be enough.
        """
        if not 1 <= count <= self._lal or self._last_lsn + count > MAX_LSN:
            self.check_mtr(count)
        return self._last_lsn + count <= self.limit(vdl)

    def allocate(self, count: int, vdl: Lsn) -> Lsn:
        """Take ``count`` LSNs, all or none, and return the first; `can_allocate` must hold."""
        if not self.can_allocate(count, vdl):
            raise AssertionError(
                f"{count} LSNs after {self._last_lsn}: expected to end by {self.limit(vdl)}"
            )
        first_lsn = self._last_lsn + 1
        self._last_lsn += count
        return first_lsn
