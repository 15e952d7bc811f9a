"""How much of the space that its files may take a segment needs, as it says in acknowledgements.

Pure. What a segment *needs* is what its files take, and what the largest job in the background
takes besides for a while: a layer is there with all that it replaces until the manifest names it.
From `disk_bytes` on the segment is *short of space*. It goes on taking what it is sent, as that is
part of the log already; writers begin nothing new (`aurora.volume_space`), and what can be
collected is collected as soon as that gains anything.
"""

from __future__ import annotations

from segments.config import SegmentConfig
from segments.layers.layer_map import LayerMap
from segments.layers.tiers import Tiers
from segments.live_files import LiveFiles
from segments.protocol.ids import Lsn
from segments.protocol.space import NO_LIMIT, Space


def space_of(
    files: LiveFiles, layers: LayerMap, tiers: Tiers, floor: Lsn, config: SegmentConfig
) -> Space:
    """That of a segment; ``floor`` is up to where it may collect."""
    if config.disk_bytes is None:
        return NO_LIMIT
    folding = min(files.log_bytes, tiers.most_folded)
    job = max(folding, tiers.room(layers.layers, floor))
    return Space(files.log_bytes + files.layer_bytes + job, config.disk_bytes)
