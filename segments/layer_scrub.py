"""The scrub of layers: all of their files is read again, piece by piece, and so on without end.

It goes beside that of the log: a log is short, and its damage has to be found soon, while it may
take days to read all layers. Blocks are held against their sums, what stands around them against
what is known of the layer. What has rotted, or is gone, has to come from a peer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise

from segments.config import SegmentConfig
from segments.layers.block import check_sum
from segments.layers.job import Job
from segments.layers.layer import Layer, verify_layer
from segments.protocol.errors import DamagedLayer
from segments.protocol.ids import Lsn
from segments.state import SegmentState


class LayerScrub:
    """Which piece of the layers of one segment is read again next."""

    def __init__(
        self, state: SegmentState, config: SegmentConfig, found: Callable[[DamagedLayer], None]
    ) -> None:
        """``found`` is told of damage; from then on the layer counts as damaged, or is gone."""
        self._state = state
        self._config = config
        self._found = found
        self._at: float | None = None
        self._through: Lsn = 0
        """The layers up to here have been read."""
        self._number = 0
        """The layer of which some blocks have been read, and how many."""
        self._block = 0

    def tick(self, now: float) -> None:
        """The next piece is due an interval after the last one."""
        if self._at is None:
            self._at = now + self._config.scrub_interval_s

    def take_piece(self, now: float) -> Job[None] | None:
        """Reads and checks the next piece; None if it is not time, or there is none."""
        if self._at is None or now < self._at:
            return None
        self._at = None
        layer = self._next_layer()
        return None if layer is None else self._piece(layer)

    def _next_layer(self) -> Layer | None:
        """The one to go on with, whatever has become of the layers since.

        None that is known to be damaged: it is read no more.
        """
        layers = self._state.layers
        sound = [each for each in layers if each.number not in layers.damaged]
        behind = [each for each in sound if each.end > self._through]
        if not behind:
            self._through = 0
        return next(iter(behind or sound), None)

    def _piece(self, layer: Layer) -> Job[None]:
        if self._number != layer.number:
            self._number, self._block = layer.number, 0
        try:
            if self._block < len(layer.first_pages):
                yield from self._read_blocks(layer, self._block)
            else:
                yield from verify_layer(layer)
                self._through, self._number = layer.end, 0
        except DamagedLayer as damage:
            self._found(damage)

    def _read_blocks(self, layer: Layer, first: int) -> Job[None]:
        """As many as fit into a piece, at least one."""
        offsets, size = layer.offsets, self._config.scrub_bytes
        stop = max(first + 1, bisect_right(offsets, offsets[first] + size) - 1)
        data = memoryview((yield layer.read_blocks(first, stop - first)))
        for at, end in pairwise(offsets[first : stop + 1]):
            start = at - offsets[first]
            check_sum(data[start : start + end - at], end - at, at, layer.number)
        self._block = stop
