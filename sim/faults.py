"""What can be done to a world, by name. Each fault is a small function of the world and its action.

``heal`` undoes them all; only a lost disk stays lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs

from segments.protocol.errors import Invalid
from segments.protocol.ids import Address, SegmentId
from sim.schedule import Action

if TYPE_CHECKING:
    from sim.world import World


@attrs.frozen
class Fault:
    """One kind of action."""

    name: str
    summary: str
    params: tuple[str, ...]
    """Names of the parameters it takes; numbers unless the summary says otherwise."""
    apply: Callable[[World, Action], None]


FAULTS: Final[dict[str, Fault]] = {}


def _fault(name: str, summary: str, *params: str) -> Callable[[Any], Any]:
    def register(apply: Callable[[World, Action], None]) -> Callable[[World, Action], None]:
        FAULTS[name] = Fault(name, summary, params, apply)
        return apply

    return register


def apply(world: World, action: Action) -> None:
    """Make ``action`` happen now; raises `Invalid` for an unknown kind, target or parameter."""
    check(action)
    FAULTS[action.kind].apply(world, action)


def check(action: Action) -> None:
    """Raise `Invalid` unless the action's kind and parameters are known."""
    fault = FAULTS.get(action.kind)
    if fault is None:
        raise Invalid(f"fault {action.kind!r}: expected one of {', '.join(sorted(FAULTS))}")
    for name in action.params:
        if name not in fault.params:
            expected = ", ".join(fault.params) or "none"
            raise Invalid(f"parameter {name!r} of fault {fault.name}: expected {expected}")


def _segments(world: World, action: Action) -> list[SegmentId]:
    """The segments that a comma-separated target names."""
    found = [each for word in action.target.split(",") for each in world.cluster.targets(word)]
    return list(dict.fromkeys(found))


def _addresses(world: World, target: str) -> list[Address]:
    """Addresses of a comma-separated target: segments, availability zones, ``writer``."""
    found: list[Address] = []
    for word in target.split(","):
        if word.strip() == "writer":
            found.append(world.cluster.engine.name)
        elif word.strip() == "writers":
            found.extend(engine.name for engine in world.cluster.engines)
        elif word.strip().startswith("writer-"):
            found.append(word.strip())
        else:
            found.extend(world.cluster.targets(word))
    return list(dict.fromkeys(found))


# ---- segments ------------------------------------------------------------------------------------


@_fault("crash", "segments stop at once; what is not synced is lost, the last write may be torn")
def _crash(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.crash_segment(segment)


@_fault("restart", "segments that are down come back, each from its own log")
def _restart(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.restart_segment(segment)


@_fault("pause", "segments handle nothing until resumed")
def _pause(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.cluster.pause(segment)


@_fault("resume", "paused segments go on")
def _resume(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.cluster.resume(segment)


@_fault("slow", "network and disk of segments take `factor` times as long", "factor")
def _slow(world: World, action: Action) -> None:
    factor = float(action.params.get("factor", 10.0))
    for segment in _segments(world, action):
        world.network.set_slowness(segment, factor)
        world.disks[segment].set_slowness(factor)


@_fault("slow_disk", "disk operations of segments take `factor` times as long", "factor")
def _slow_disk(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.disks[segment].set_slowness(float(action.params.get("factor", 10.0)))


@_fault("wipe", "disks are lost for good, with every promise made on them")
def _wipe(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.wipe_segment(segment)


# ---- disks ---------------------------------------------------------------------------------------


@_fault("bit_rot", "`bits` bits of the log flip: at byte `offset`, or anywhere", "bits", "offset")
def _bit_rot(world: World, action: Action) -> None:
    offset = action.params.get("offset")
    for segment in _segments(world, action):
        world.rot_segment(segment, int(action.params.get("bits", 1)), offset)


@_fault("disk_full", "disks take nothing more until `disk_free`")
def _disk_full(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.disks[segment].set_capacity(world.disks[segment].size())


@_fault("disk_free", "full disks take writes again")
def _disk_free(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.disks[segment].set_capacity(None)


@_fault("fail_writes", "the next `count` writes are refused", "count")
def _fail_writes(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.disks[segment].fail_writes(int(action.params.get("count", 1)))


@_fault(
    "fail_syncs", "the next `count` syncs are refused, each until the disk is opened anew", "count"
)
def _fail_syncs(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.disks[segment].fail_syncs(int(action.params.get("count", 1)))


# ---- network -------------------------------------------------------------------------------------


@_fault("partition", "nothing passes between the target and `others` (text), either way", "others")
def _partition(world: World, action: Action) -> None:
    left, right = _sides(world, action)
    world.network.partition(left, right)


@_fault("cut", "nothing passes from the target to `others` (text)", "others")
def _cut(world: World, action: Action) -> None:
    left, right = _sides(world, action)
    world.network.cut(left, right)


@_fault("clog", "messages from the target to `others` (text) are held back", "others")
def _clog(world: World, action: Action) -> None:
    left, right = _sides(world, action)
    world.network.clog(left, right)


@_fault("heal_network", "every partition, cut, clog and slowness of links ends")
def _heal_network(world: World, _: Action) -> None:
    world.network.heal_all()


def _sides(world: World, action: Action) -> tuple[list[Address], list[Address]]:
    """The two sides of a cut; the other side is everybody else unless ``others`` names it."""
    left = _addresses(world, action.target)
    named = action.params.get("others")
    if named is not None:
        return left, [each for each in _addresses(world, str(named)) if each not in left]
    everyone = [*world.cluster.hosts, *(engine.name for engine in world.cluster.engines)]
    return left, [each for each in everyone if each not in left]


# ---- writers -------------------------------------------------------------------------------------


@_fault("crash_writer", "the writer stops at once, whatever it was doing; nobody takes its place")
def _crash_writer(world: World, _: Action) -> None:
    world.crash_writer()


@_fault("recover", "the writer, if it runs, is crashed, and another opens the volume")
def _recover(world: World, _: Action) -> None:
    world.crash_writer()
    world.open_writer()


@_fault("take_over", "another writer opens the volume while the old one, now a zombie, goes on")
def _take_over(world: World, _: Action) -> None:
    world.open_writer()


@_fault("heal", "all faults end: everything that is down and not lost comes back")
def _heal(world: World, _: Action) -> None:
    world.heal()


def require_fault(name: str) -> Fault:
    """The fault called ``name``; raises `Invalid`."""
    if name not in FAULTS:
        raise Invalid(f"fault {name!r}: expected one of {', '.join(sorted(FAULTS))}")
    return FAULTS[name]
