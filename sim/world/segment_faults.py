"""What can happen to segments and to their disks."""

from __future__ import annotations

from typing import Final

from sim.plan.schedule import MS, Action
from sim.world.ambush import ANY, WRITES
from sim.world.fault import Param, new_fault, segments_of, value_of
from sim.world.layer_parts import ANY_PART, PARTS
from sim.world.world import World

_FACTOR: Final = Param(float, 10.0, 0.01, 100_000)
_BITS: Final = Param(int, 1, 1, 10_000)
_OFFSET: Final = Param(int, None, 0, (1 << 20) - 1)
_FRAME: Final = Param(int, None, -1_000_000, 1_000_000)
_BYTE_BITS: Final = Param(int, 1, 1, 8)
_PART: Final = Param(str, ANY_PART, one_of=(ANY_PART, *PARTS))
_PLACES: Final = Param(int, 1, 1, 1_000)
_SLOT: Final = Param(int, 1, 1, 2)
_COUNT: Final = Param(int, 1, 0, 1_000_000)
_SLACK: Final = Param(int, 0, 0, 1 << 30)
_WRITE: Final = Param(str, ANY, one_of=WRITES)
_FLAG: Final = Param(int, 0, 0, 1)
_DOWN_MS: Final = Param(float, 5.0, 0.01, 100_000)

# ---- segments ------------------------------------------------------------------------------------


@new_fault("crash", "segments stop at once; what is not synced is lost, the last write may be torn")
def _crash(world: World, action: Action) -> None:
    for segment in segments_of(world, action):
        world.crash_segment(segment)


@new_fault("restart", "segments that are down come back, each from its own log")
def _restart(world: World, action: Action) -> None:
    for segment in segments_of(world, action):
        world.restart_segment(segment)


@new_fault("pause", "segments hear and say nothing until resumed")
def _pause(world: World, action: Action) -> None:
    for segment in segments_of(world, action):
        world.cluster.pause(segment)


@new_fault("resume", "paused segments go on")
def _resume(world: World, action: Action) -> None:
    for segment in segments_of(world, action):
        world.cluster.resume(segment)


@new_fault("slow", "network and disk of segments take `factor` times as long", factor=_FACTOR)
def _slow(world: World, action: Action) -> None:
    factor = float(value_of(action, "factor"))
    for segment in segments_of(world, action):
        world.network.set_slowness(segment, factor)
        world.disks[segment].set_slowness(factor)


@new_fault("slow_disk", "disk operations of segments take `factor` times as long", factor=_FACTOR)
def _slow_disk(world: World, action: Action) -> None:
    for segment in segments_of(world, action):
        world.disks[segment].set_slowness(float(value_of(action, "factor")))


@new_fault("wipe", "disks are lost for good, with every promise made on them")
def _wipe(world: World, action: Action) -> None:
    for segment in segments_of(world, action):
        world.wipe_segment(segment)


@new_fault("copy_disk", "what is on disks is copied, for a `roll_back` later")
def _copy_disk(world: World, action: Action) -> None:
    for segment in segments_of(world, action):
        world.copies.keep(segment)


@new_fault(
    "roll_back",
    "disks are again what they were when they were last copied, or made; segments that are up "
    "crash for it, and come back `down_ms` milliseconds later; with `harmless` 1 only if others "
    "have all that is lost so, records and promises",
    down_ms=_DOWN_MS,
    harmless=_FLAG,
)
def _roll_back(world: World, action: Action) -> None:
    down_ns = int(value_of(action, "down_ms") * MS)
    for segment in segments_of(world, action):
        if not (value_of(action, "harmless") and world.copies.why_harmful(segment, world.cluster)):
            world.roll_back_segment(segment, down_ns)


@new_fault(
    "crash_amid_write",
    "segments stop in the middle of their next write of the kind `write`, and come back `down_ms` "
    "milliseconds later",
    write=_WRITE,
    down_ms=_DOWN_MS,
)
def _crash_amid_write(world: World, action: Action) -> None:
    _lie_in_wait(world, action, after=False)


@new_fault(
    "crash_after_write",
    "segments stop as soon as their next write of the kind `write` is durable, before they can say "
    "so, and come back `down_ms` milliseconds later",
    write=_WRITE,
    down_ms=_DOWN_MS,
)
def _crash_after_write(world: World, action: Action) -> None:
    _lie_in_wait(world, action, after=True)


def _lie_in_wait(world: World, action: Action, *, after: bool) -> None:
    down_ns = int(value_of(action, "down_ms") * MS)
    for segment in segments_of(world, action):
        world.crash_at_write(segment, value_of(action, "write"), after=after, down_ns=down_ns)


# ---- disks ---------------------------------------------------------------------------------------


@new_fault(
    "bit_rot",
    "in `places` places of the log `bits` bits flip: at byte `offset`, if the log is longer than "
    "that, in frame `frame`, counted round and round from 0, or from -1 backwards, or anywhere; "
    "the last frame is spared",
    exclusive=("offset", "frame"),
    bits=_BITS,
    offset=_OFFSET,
    frame=_FRAME,
    places=_PLACES,
)
def _bit_rot(world: World, action: Action) -> None:
    offset, frame = value_of(action, "offset"), value_of(action, "frame")
    for segment in segments_of(world, action):
        for _ in range(value_of(action, "places")):
            world.rot_segment(segment, value_of(action, "bits"), offset, frame)


@new_fault(
    "rot_promise",
    "`bits` bits of the promise in slot `slot` flip; with both slots rotten at a restart the "
    "segment is lost",
    slot=_SLOT,
    bits=_BITS,
)
def _rot_promise(world: World, action: Action) -> None:
    for segment in segments_of(world, action):
        world.rot_promise(segment, value_of(action, "slot"), value_of(action, "bits"))


@new_fault(
    "rot_manifest",
    "`bits` bits of half `half` of the manifest flip, unless the other half is rotten by then",
    half=_SLOT,
    bits=_BITS,
)
def _rot_manifest(world: World, action: Action) -> None:
    for segment in segments_of(world, action):
        world.rot_manifest(segment, value_of(action, "half"), value_of(action, "bits"))


@new_fault(
    "rot_layer",
    "`bits` bits of a byte of a layer flip: of layer `layer`, counted round and round from the "
    "oldest, 0, or from the newest, -1, backwards, or of any; in its part `part`, or in any",
    layer=_FRAME,
    part=_PART,
    bits=_BYTE_BITS,
)
def _rot_layer(world: World, action: Action) -> None:
    which, part = value_of(action, "layer"), value_of(action, "part")
    for segment in segments_of(world, action):
        world.rot_layer(segment, value_of(action, "bits"), which, part)


@new_fault("disk_full", "disks have room for `slack` bytes more, until `disk_free`", slack=_SLACK)
def _disk_full(world: World, action: Action) -> None:
    for segment in segments_of(world, action):
        disk = world.disks[segment]
        disk.set_capacity(disk.size() + value_of(action, "slack"))


@new_fault("disk_free", "full disks take writes again")
def _disk_free(world: World, action: Action) -> None:
    for segment in segments_of(world, action):
        world.disks[segment].set_capacity(None)


@new_fault(
    "fail_writes",
    "the next `count` writes of the kind `write` are refused; with 0 no more",
    count=_COUNT,
    write=_WRITE,
)
def _fail_writes(world: World, action: Action) -> None:
    for segment in segments_of(world, action):
        world.disks[segment].fail_writes(value_of(action, "count"), value_of(action, "write"))


@new_fault(
    "fail_syncs",
    "the next `count` syncs of the kind `write` are refused, each until the disk is opened anew; "
    "with 0 no more",
    count=_COUNT,
    write=_WRITE,
)
def _fail_syncs(world: World, action: Action) -> None:
    for segment in segments_of(world, action):
        world.disks[segment].fail_syncs(value_of(action, "count"), value_of(action, "write"))
