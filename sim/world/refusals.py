"""What a disk refuses: when it is full, as often as it was told to, and by chance."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from segments.protocol.errors import StorageBroken, StorageFailed, StorageFull
from sim.plan.profiles import DiskProfile
from sim.world.ambush import ANY, is_of


@attrs.define(eq=False)
class Refusals:
    """Of one disk, which draws from ``draw``, `Random.random` of its own stream."""

    draw: Callable[[], float]
    capacity_bytes: int | None = None
    """Of all its files, above which it is full; None: never."""
    writes: int = 0
    """Operations of kind ``writes_of`` whose write is still to be refused."""
    writes_of: str = ANY
    syncs: int = 0
    """Operations of kind ``syncs_of`` whose sync is."""
    syncs_of: str = ANY

    @property
    def due(self) -> bool:
        """Whether operations are still to be refused that have room."""
        return self.writes > 0 or self.syncs > 0

    def full(self, needed_bytes: int) -> StorageFull | None:
        """How an operation is refused that takes ``needed_bytes`` of room; None if there is."""
        if self.capacity_bytes is None or needed_bytes <= self.capacity_bytes:
            return None
        return StorageFull(
            f"disk full: {needed_bytes} bytes needed, expected at most {self.capacity_bytes}"
        )

    def next(self, kind: str, needed_bytes: int, profile: DiskProfile) -> StorageFailed | None:
        """How an operation is refused; None if it is not."""
        if full := self.full(needed_bytes):
            return full
        if self.writes > 0 and is_of(self.writes_of, kind):
            self.writes -= 1
            return StorageFailed("the disk refused a write")
        if self.syncs > 0 and is_of(self.syncs_of, kind):
            self.syncs -= 1
            return StorageBroken("the disk refused a sync")
        if profile.write_failure and self.draw() < profile.write_failure:
            return StorageFailed("the disk refused a write")
        if profile.sync_failure and self.draw() < profile.sync_failure:
            return StorageBroken("the disk refused a sync")
        return None
