"""What one segment holds, where, and what that has cost: for people, nothing decides by it.

Counts begin when the segment comes up. *User bytes* are payloads of records: what was written to
pages, without what the store needs to find it again; and 8 bytes for each mini-transaction, its
clock.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from segments.core import SegmentCore
from segments.layers.block import BLOCK_HEAD_BYTES
from segments.layers.block_cache import BlockCache
from segments.layers.layer import HEADER_BYTES, Layer
from segments.layers.page_cache import PageCache
from segments.layers.tiers import Tiers
from segments.protocol.ids import Lsn
from segments.protocol.record import RECORD_OVERHEAD_BYTES


@attrs.frozen(kw_only=True)
class CacheStatistics:
    """One cache."""

    entries: int
    size_bytes: int
    hits: int
    misses: int

    @classmethod
    def of(cls, cache: BlockCache | PageCache) -> CacheStatistics:
        """Those of ``cache``."""
        return cls(entries=len(cache), size_bytes=cache.size, hits=cache.hits, misses=cache.misses)


@attrs.frozen(kw_only=True)
class TierStatistics:
    """The layers of one tier, or the base layer."""

    tier: int | None
    """0 is what folds make, each other one is merged of the one before; None: the base."""
    layers: int
    file_bytes: int


@attrs.frozen(kw_only=True)
class SegmentStatistics:
    """One segment at one moment."""

    log_bytes: int
    """In the files of its log."""
    open_records: int
    """Records in its log and in no layer yet."""
    folded: Lsn
    """F: everything up to here, inclusive, is in layers."""
    base_lsn: Lsn
    """Up to here, inclusive, only the newest version of each page is left."""
    announced_floor: Lsn
    """Highest floor that the writer has announced; 0: none since it has opened the volume."""
    tiers: tuple[TierStatistics, ...]
    """The base first, then the highest tier; empty without layers."""
    damaged_layers: int
    collectable_bytes: int
    """In layers that are below the floor and have not been collected: as yet it is too little."""
    block_cache: CacheStatistics
    page_cache: CacheStatistics
    """Reads that found a version of their page to start from, and that found none."""
    log_bytes_written: int
    layer_bytes_written: int
    """In files that have become live; of what was given up half-way nothing counts."""
    user_bytes_taken: int
    """Of records that came as records. What came in a layer of a peer is not among them."""
    user_bytes_held: int
    """Of records that are held, and of the pages in the base layer."""

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return sum(each.layers for each in self.tiers)

    @property
    def layer_bytes(self) -> int:
        """What their files take."""
        return sum(each.file_bytes for each in self.tiers)

    @property
    def write_amplification(self) -> float | None:
        """Bytes written for each user byte taken in; None before the first one."""
        written = self.log_bytes_written + self.layer_bytes_written
        return written / self.user_bytes_taken if self.user_bytes_taken else None

    @property
    def space_amplification(self) -> float | None:
        """Bytes on the disk for each user byte held; None if there is none."""
        size = self.log_bytes + self.layer_bytes
        return size / self.user_bytes_held if self.user_bytes_held else None


def statistics_of(core: SegmentCore) -> SegmentStatistics:
    """Those of the segment that ``core`` runs."""
    state, files, layers = core.state, core.files, core.state.layers
    floor, index = core.background.collectable_floor, state.index
    materializer = state.materializer
    collectable = (each.length for each in layers if each.end <= floor and not each.base)
    return SegmentStatistics(
        log_bytes=files.log_bytes,
        open_records=len(index),
        folded=state.folded,
        base_lsn=state.floor,
        announced_floor=state.announced_floor,
        tiers=tuple(_by_tier(layers, core.background.tiers)),
        damaged_layers=len(layers.damaged),
        collectable_bytes=sum(collectable),
        block_cache=CacheStatistics.of(materializer.block_cache),
        page_cache=CacheStatistics.of(materializer.page_cache),
        log_bytes_written=files.log_bytes_written,
        layer_bytes_written=files.layer_bytes_written,
        user_bytes_taken=core.user_bytes_taken,
        user_bytes_held=index.payload_bytes() + sum(_user_bytes(each) for each in layers),
    )


def _by_tier(layers: Iterable[Layer], tiers: Tiers) -> Iterable[TierStatistics]:
    sizes: dict[int | None, list[int]] = {}
    for each in layers:
        tier = None if each.base else tiers.tier_of(each.length)
        sizes.setdefault(tier, []).append(each.length)
    for tier in sorted(sizes, key=lambda each: (each is not None, -(each or 0))):
        yield TierStatistics(tier=tier, layers=len(sizes[tier]), file_bytes=sum(sizes[tier]))


def _user_bytes(layer: Layer) -> int:
    """What a layer has of users: of a base its images, since nothing else is left of records."""
    if not layer.base:
        return layer.user_bytes
    blocks = layer.offsets[-1] - HEADER_BYTES
    heads = len(layer.first_pages) * BLOCK_HEAD_BYTES + layer.count * RECORD_OVERHEAD_BYTES
    return max(0, blocks - heads)  # nothing is known of one that is unreadable
