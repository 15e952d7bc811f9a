"""What a disk would restore, followed as it grows, so that not all of it is read every time.

A log grows by whole frames. As long as the manifest is the same, and what was read of the log
before is still there, byte for byte, only the new frames need to be decoded and applied. After
anything else (a fold, a new file, a cut tail, damage) all is read, as a restart reads it.
"""

from __future__ import annotations

from collections.abc import Mapping

from segments.config import SegmentConfig
from segments.manifest import MANIFEST, PROMISE, log_in
from segments.protocol.ids import SegmentId
from segments.restart import plan_restart
from segments.state import SegmentState
from segments.wal import decode_promises
from segments.wal_scan import scan


class DiskShadow:
    """The state that one segment's disk stands for."""

    def __init__(self, segment: SegmentId, config: SegmentConfig) -> None:
        self._segment = segment
        self._config = config
        self._manifest = b""
        self._log = b""
        self._state: SegmentState | None = None

    def restored(self, files: Mapping[str, bytearray]) -> SegmentState | None:
        """What a restart would make of it now; None if the log is damaged or torn.

        It belongs to the shadow, and changes with the next call. Raises `SegmentLost`.
        """
        state, self._state = self._state, None
        manifest, stored = bytes(files.get(MANIFEST, b"")), log_in(files)
        log = stored.log
        if state is not None and manifest == self._manifest and log.startswith(self._log):
            found = scan(stored.parts, len(self._log))
            if found.damage or found.torn_bytes:
                return None
            for scanned in found.frames:
                state.apply_frame(scanned.frame)
            state.raise_epoch(decode_promises(bytes(files[PROMISE])).epoch)
        else:
            plan = plan_restart(self._segment, files, self._config)
            if plan.damage or plan.torn_bytes:
                return None
            state = plan.state
        self._manifest, self._log, self._state = manifest, log, state
        return state
