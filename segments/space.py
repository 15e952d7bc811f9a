"""How much of the space that its files may take a segment needs, as it says in acknowledgements.

Pure. What a segment *needs* is what its files take, and what is there for a while besides: a layer
stands beside all that it replaces until the manifest names it, and the log beside the layer that it
is folded into. From `disk_bytes` on the segment is *short of space*. It goes on taking what it is
sent, as that is part of the log already, and folds and merges; writers begin nothing new
(`aurora.volume_space`), and what can be collected is collected as soon as that gains anything.
"""

from __future__ import annotations

from typing import Final

from segments.config import SegmentConfig
from segments.layers.tiers import Tiers
from segments.live_files import LiveFiles
from segments.protocol import events
from segments.protocol.events import Tracer
from segments.protocol.ids import MAX_INTEGER, Lsn, SegmentId
from segments.protocol.space import NO_LIMIT, Space
from segments.state import SegmentState

_LOOKS: Final = 4
"""So often while what makes a fold due is written."""


class SpaceWatch:
    """What one segment needs, as of the last look: now and then, and when much has come."""

    def __init__(
        self,
        segment: SegmentId,
        state: SegmentState,
        files: LiveFiles,
        tiers: Tiers,
        config: SegmentConfig,
        trace: Tracer | None = None,
    ) -> None:
        self.space = NO_LIMIT
        self._segment = segment
        self._state = state
        self._files = files
        self._tiers = tiers
        self._limit_bytes = config.disk_bytes
        self._fold_bytes = config.fold_bytes
        self._look_at_bytes = 0 if config.disk_bytes is not None else MAX_INTEGER
        self._trace = trace

    @property
    def look_is_due(self) -> bool:
        """Whether so much has joined the log since the last look."""
        return self._files.log_bytes_written >= self._look_at_bytes

    def look(self, floor: Lsn) -> None:
        """See how much is needed; ``floor`` is up to where may be collected."""
        if self._limit_bytes is None:
            return
        files = self._files
        room = self._tiers.room(self._state.layers.layers, floor)
        log_bytes = files.log_bytes + self._fold_bytes  # so much may be on its way
        needed_bytes = 2 * log_bytes + files.layer_bytes + room  # the log is folded first
        was, self.space = self.space, Space(needed_bytes, self._limit_bytes)
        self._look_at_bytes = files.log_bytes_written + self._fold_bytes // _LOOKS
        if self.space.short is not was.short and self._trace is not None:
            self._trace(self._segment, events.SpaceLookedAt(*self.space, self.space.short))
