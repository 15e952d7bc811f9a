"""Which layers have rotted, and are still live: known from the world alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from segments.layers.block import check_sum
from segments.layers.job import Job, finished, reader_of
from segments.layers.layer import open_layer
from segments.manifest import LayerFile
from segments.protocol.errors import DamagedLayer
from segments.protocol.ids import SegmentId
from sim.world.world import World


class RottenLayers:
    """The layers that have rotted in one run, until no manifest names them any more."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._names: dict[SegmentId, set[str]] = {}

    def rotted(self, segment: SegmentId, name: str) -> None:
        """Bits of a file have flipped."""
        self._names.setdefault(segment, set()).add(name)

    def of(self, segment: SegmentId) -> frozenset[str]:
        """Those that the disk of a segment still names."""
        names = self._names.get(segment)
        if not names:
            return frozenset()
        names.intersection_update(each.name for each in self._world.disks[segment].layer_files)
        return frozenset(names)

    def look(self, segment: SegmentId) -> None:
        """Forget those that are sound all the same: the same bits have flipped twice."""
        names, disk = self.of(segment), self._world.disks[segment]
        some = [each for each in disk.layer_files if each.name in names]
        spoilt = {each.layer for each in damage_in(some, disk.peek())} if some else set()
        self._names[segment] = {each.name for each in some if each.number in spoilt}


def damage_in(
    layers: Sequence[LayerFile], files: Mapping[str, bytes | bytearray]
) -> list[DamagedLayer]:
    """What is wrong with each of these layers that is not what was written; none if all are."""
    found = []
    for layer in layers:
        try:
            finished(_read(layer, bytes(files.get(layer.name, b""))), reader_of(files))
        except DamagedLayer as damage:
            found.append(damage)
    return found


def _read(file: LayerFile, data: bytes) -> Job[None]:
    layer, _ = yield from open_layer(file.number, file.length)
    for at, end in pairwise(layer.offsets):
        check_sum(data[at:end], end - at, at, file.number)
