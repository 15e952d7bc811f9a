"""How far the log is to be folded, and when records wait for that. Pure.

**The fold rule:** a layer holds only records at or below the announced VDL and the SCL. That VDL
stands on a write quorum, which every later recovery meets: so none annuls what is in a layer, and
none asks for it in place of what it finds. Between a seal and its table nothing is folded: the
recovery may fetch what is above the VDL that was told to it.

What is not folded is in memory. So writers may not be ahead of folding by any amount: beyond
`unfolded_bytes` no more records are written until a fold is done. That is many folds' worth, so
that nothing in the background holds up a writer (2017 §3.3) who is not faster than all of it.

Where merging does not keep up, a read would have to look into more and more layers: there merges
come first. A fold waits while it takes less than half of what may be unfolded; and, for writers who
are still faster, until the last one is paid for by merging (`Background._owed`).
"""

from __future__ import annotations

from typing import Final

from segments.config import SegmentConfig
from segments.live_files import LiveFiles
from segments.protocol.ids import Lsn
from segments.state import SegmentState

_MOST_FOLDED: Final = 4
"""A fold takes up to so many times the bytes that make it due, if the VDL stood still for long; and
all that makes records wait, as each fold takes its time, however little it folds."""


class FoldRule:
    """For one segment."""

    def __init__(self, state: SegmentState, files: LiveFiles, config: SegmentConfig) -> None:
        self._state = state
        self._files = files
        self._config = config
        self.asked: Lsn = 0
        """Up to here it is due, however short the log is: it is about to be shared."""

    def through(self) -> Lsn:
        """Up to where the log is to be folded now; where it is already if nothing is due."""
        state, index = self._state, self._state.index
        count = self._foldable()
        record_bytes = self._record_bytes()
        due = count * record_bytes >= self._config.fold_bytes or self.is_asked_for
        if not count or not (due or self._log_is_long(count)):
            return state.folded
        size = _MOST_FOLDED * self._config.fold_bytes
        if self.is_far_behind:
            size = max(size, self._config.unfolded_bytes)
        return index.linked_lsn(min(count, max(1, size // record_bytes)) - 1)

    @property
    def is_far_behind(self) -> bool:
        """Whether so much could be folded that records are to wait."""
        most = self._config.unfolded_bytes
        if self._state.index.encoded_bytes() <= most:  # nearly always
            return False
        return self._foldable() * self._record_bytes() > most

    @property
    def is_asked_for(self) -> bool:
        """Whether somebody waits for a fold."""
        return self._state.folded < self.asked

    @property
    def may_wait(self) -> bool:
        """Whether so little could be folded that it may wait until there are fewer layers."""
        return 2 * self._foldable() * self._record_bytes() < self._config.unfolded_bytes

    def _foldable(self) -> int:
        """How many records the rule lets be folded."""
        state, index = self._state, self._state.index
        if state.lacks_table or state.table.epoch != state.epoch or not len(index):
            return 0
        return index.count_through(min(state.vdl, state.scl))

    def _record_bytes(self) -> int:
        """The mean size of a record, at least 1."""
        index = self._state.index
        return max(1, index.encoded_bytes() // max(1, len(index)))

    def _log_is_long(self, foldable: int) -> bool:
        """Whether the log is too long, and most of what it must hold can be folded.

        What was sent or gossiped twice stands in it twice.
        """
        long = self._files.log_bytes > 2 * max(self._config.fold_bytes, self._config.wal_file_bytes)
        return long and 2 * foldable >= len(self._state.index)
