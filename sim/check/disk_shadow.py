"""What a disk would restore, followed as it grows, so that not all of it is read every time.

A log grows by whole frames. As long as what was read before is still there, byte for byte, only the
new frames need to be decoded and applied. After anything else (a compaction, a cut tail, damage)
the log is read from its start, as a restart reads it.
"""

from __future__ import annotations

from segments.config import SegmentConfig
from segments.state import SegmentState
from segments.wal import decode_promises, scan


class DiskShadow:
    """The state that one segment's disk stands for."""

    def __init__(self, config: SegmentConfig) -> None:
        self._config = config
        self._log = b""
        self._state: SegmentState | None = None

    def restored(self, log: bytes, promises: bytes) -> SegmentState | None:
        """What a restart would make of it now; None if the log is damaged or torn.

        It belongs to the shadow, and changes with the next call.
        """
        state = self._state
        if state is None or not log.startswith(self._log):
            self._log, state = b"", SegmentState(self._config)
        found = scan(log[len(self._log) :])
        if found.damage or found.torn_bytes or not (found.frames or self._log):
            self._log, self._state = b"", None
            return None
        for scanned in found.frames:
            state.epoch = max(state.epoch, scanned.frame.epoch)
            for entry in scanned.frame.entries:
                state.apply(entry)
        self._log, self._state = log, state
        state.epoch = max(state.epoch, decode_promises(promises).epoch)
        return state
