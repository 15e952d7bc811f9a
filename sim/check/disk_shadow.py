"""What a disk would restore, followed as it grows, so that not all of it is read every time.

A log grows by whole frames. As long as what was read before is still there, byte for byte, only the
new frames need to be decoded and applied. After anything else (a compaction, a cut tail, damage,
the rest of a checkpoint whose beginning a restart would have given up) the log is read from its
start, as a restart reads it.
"""

from __future__ import annotations

from segments.config import SegmentConfig
from segments.manifest import Stored
from segments.protocol.ids import SegmentId
from segments.restart import plan_restart
from segments.state import SegmentState
from segments.wal import CheckpointEntry, ImagesEntry, LogScan, decode_promises, scan


class DiskShadow:
    """The state that one segment's disk stands for."""

    def __init__(self, segment: SegmentId, config: SegmentConfig) -> None:
        self._segment = segment
        self._config = config
        self._log = b""
        self._state: SegmentState | None = None

    def restored(self, stored: Stored) -> SegmentState | None:
        """What a restart would make of it now; None if the log is damaged or torn.

        It belongs to the shadow, and changes with the next call. Raises `SegmentLost`.
        """
        state, self._state = self._state, None
        found = None
        if state is not None and stored.log.startswith(self._log):
            found = scan(stored.log[len(self._log) :])
        if state is not None and found is not None and _goes_on(state, found):
            if found.damage or found.torn_bytes:
                return None
            for scanned in found.frames:
                state.apply_frame(scanned.frame)
            state.raise_epoch(decode_promises(stored.promises).epoch)
        else:
            plan = plan_restart(self._segment, stored, self._config)
            if plan.damage or plan.torn_bytes:
                return None
            state = plan.state
        self._log, self._state = stored.log, state
        return state


def _goes_on(state: SegmentState, found: LogScan) -> bool:
    """Whether the new frames make sense to a state that has forgotten an unfinished checkpoint."""
    entries = (entry for scanned in found.frames for entry in scanned.frame.entries)
    kinds = (each for each in entries if isinstance(each, CheckpointEntry | ImagesEntry))
    return state._checkpoint is not None or not isinstance(next(kinds, None), ImagesEntry)
