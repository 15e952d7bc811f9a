"""Blocks that were read and verified, as many as fit; those not used for longest go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container

from segments.layers.block import Block


class BlockCache:
    """Blocks by number of their layer and number in it. Both never change what they stand for."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._blocks: OrderedDict[tuple[int, int], Block] = OrderedDict()
        self.size = 0
        """Bytes of all blocks in here; never above the limit."""
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._blocks)

    def get(self, layer: int, block: int) -> Block | None:
        """The block, if it is here; counted as a hit or a miss."""
        key = (layer, block)
        found = self._blocks.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._blocks.move_to_end(key)
        return found

    def peek(self, layer: int, block: int) -> Block | None:
        """The block, if it is here; neither counted nor used by that."""
        return self._blocks.get((layer, block))

    def put(self, layer: int, block: int, content: Block) -> None:
        """Keep a block; one that is larger than the whole cache is not kept."""
        if content.size > self._limit_bytes:
            return
        self._remove((layer, block))
        self._blocks[layer, block] = content
        self.size += content.size
        while self.size > self._limit_bytes:
            _, oldest = self._blocks.popitem(last=False)
            self.size -= oldest.size

    def keep_only(self, layers: Container[int]) -> None:
        """Drop the blocks of all other layers."""
        for key in [key for key in self._blocks if key[0] not in layers]:
            self._remove(key)

    def _remove(self, key: tuple[int, int]) -> None:
        removed = self._blocks.pop(key, None)
        if removed is not None:
            self.size -= removed.size
