"""What can be done to a world, by name. Each fault is a small function of the world and its action.

``heal`` undoes them all; only a lost disk stays lost. What a fault can hit and which parameters it
takes stands beside it, with their ranges, and is checked by `check` before anything happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from aurora.targets import WRITERS, Target, resolve
from segments.protocol.errors import Invalid
from segments.protocol.ids import Address, SegmentId
from segments.protocol.volume import ProtectionGroup
from sim.plan.schedule import Action
from sim.wording import suggestion
from sim.world.world import World

NOBODY: Final = "nobody"
SEGMENTS: Final = "segments"
ADDRESSES: Final = "addresses"
"""Whom a fault can hit; addresses are those of segments and of writers."""


class WrongAction(Invalid):
    """An action that cannot be: ``key`` is what is wrong with it, ``problem`` why."""

    def __init__(self, action: Action, key: str, problem: str) -> None:
        super().__init__(f"fault {action.kind}: {key}: {problem}")
        self.key = key
        self.problem = problem


@attrs.frozen
class Param:
    """A parameter of a fault: a number in a range, both ends inclusive, or names of addresses."""

    kind: type[int] | type[float] | type[str]
    default: Any
    """What is taken if it is missing."""
    least: float = 0
    most: float = 0

    @property
    def expected(self) -> str:
        """What a value has to be."""
        if self.kind is str:
            return "names of segments, zones or writers, also of one to come"
        what = "an integer" if self.kind is int else "a number"
        return f"{what} from {self.least:,} to {self.most:,}"

    @property
    def missing(self) -> str:
        """What is taken if there is no value, in words."""
        if self.default is not None:
            return f"{self.default:g}"
        return "everybody" if self.kind is str else "anywhere"

    def accepts(self, value: object) -> bool:
        """Whether it is of this type and within the range."""
        if self.kind is str:
            return isinstance(value, str)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.kind is int and not isinstance(value, int):
            return False
        return self.least <= value <= self.most  # no NaN is


_FACTOR: Final = Param(float, 10.0, 0.01, 100_000)
_BITS: Final = Param(int, 1, 1, 10_000)
_OFFSET: Final = Param(int, None, 0, (1 << 20) - 1)
_COUNT: Final = Param(int, 1, 0, 1_000_000)
_OTHERS: Final = Param(str, None)


@attrs.frozen
class Fault:
    """One kind of action."""

    name: str
    summary: str
    hits: str
    """`NOBODY`, `SEGMENTS` or `ADDRESSES`."""
    params: Mapping[str, Param]
    apply: Callable[[World, Action], None]


FAULTS: Final[dict[str, Fault]] = {}


def _fault(
    name: str, summary: str, hits: str = SEGMENTS, /, **params: Param
) -> Callable[[Any], Any]:
    def register(apply: Callable[[World, Action], None]) -> Callable[[World, Action], None]:
        FAULTS[name] = Fault(name, summary, hits, params, apply)
        return apply

    return register


def apply(world: World, action: Action) -> None:
    """Make ``action`` happen now; raises `WrongAction`."""
    check(action, world.cluster.groups)
    FAULTS[action.kind].apply(world, action)


def check(action: Action, groups: Sequence[ProtectionGroup]) -> None:
    """Raise `WrongAction` unless kind, target and parameters are good for these segments.

    A writer may be named before there is one: it is cut off when it comes.
    """
    fault = FAULTS.get(action.kind)
    if fault is None:
        raise WrongAction(
            action, "fault", f"found {action.kind!r}: {suggestion(action.kind, FAULTS)}"
        )
    for key, value in action.params.items():
        if key not in fault.params:
            expected = ", ".join(fault.params) or "no parameter"
            raise WrongAction(action, key, f"unknown: expected {expected}")
        param = fault.params[key]
        if not param.accepts(value):
            raise WrongAction(action, key, f"found {value!r}: expected {param.expected}")
        if param.kind is str:
            _check_names(action, key, value, fault.hits, groups)
    if fault.hits != NOBODY:
        _check_names(action, "target", action.target, fault.hits, groups)
    elif action.target:
        raise WrongAction(
            action, "target", f"found {action.target!r}: fault {fault.name} takes no target"
        )


def _check_names(
    action: Action, key: str, target: Target, hits: str, groups: Sequence[ProtectionGroup]
) -> None:
    try:
        resolve(target, groups, with_writers=hits == ADDRESSES)
    except Invalid as error:
        raise WrongAction(action, key, str(error)) from None


def check_sides(action: Action, groups: Sequence[ProtectionGroup]) -> None:
    """Raise `WrongAction` for a fault between a side and nobody.

    It does no harm, so that `apply` takes it: seeds draw some. Whoever writes one down errs.
    """
    if is_idle(action, groups):
        others = action.params.get("others")
        key, found = ("target", action.target) if others is None else ("others", others)
        raise WrongAction(action, key, f"found {found!r}: expected somebody on the other side")


def is_idle(action: Action, groups: Sequence[ProtectionGroup]) -> bool:
    """Whether it is a fault of the network with nobody on the other side, whoever writes."""
    if FAULTS[action.kind].hits != ADDRESSES:
        return False
    left = resolve(action.target, groups, with_writers=True)
    others = action.params.get("others")
    if others is None:
        segments, writers = {each for group in groups for each in group.members}, {WRITERS}
    else:
        right = resolve(others, groups, with_writers=True)
        segments, writers = set(right.segments), set(right.writers)
    return segments <= set(left.segments) and (
        WRITERS in left.writers or writers <= set(left.writers)
    )


def _value(action: Action, key: str) -> Any:
    """A parameter, or what is taken if it is missing."""
    return action.params.get(key, FAULTS[action.kind].params[key].default)


def _segments(world: World, action: Action) -> list[SegmentId]:
    """The segments that the target names."""
    return world.cluster.targets(action.target)


# ---- segments ------------------------------------------------------------------------------------


@_fault("crash", "segments stop at once; what is not synced is lost, the last write may be torn")
def _crash(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.crash_segment(segment)


@_fault("restart", "segments that are down come back, each from its own log")
def _restart(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.restart_segment(segment)


@_fault("pause", "segments hear and say nothing until resumed")
def _pause(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.cluster.pause(segment)


@_fault("resume", "paused segments go on")
def _resume(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.cluster.resume(segment)


@_fault("slow", "network and disk of segments take `factor` times as long", factor=_FACTOR)
def _slow(world: World, action: Action) -> None:
    factor = float(_value(action, "factor"))
    for segment in _segments(world, action):
        world.network.set_slowness(segment, factor)
        world.disks[segment].set_slowness(factor)


@_fault("slow_disk", "disk operations of segments take `factor` times as long", factor=_FACTOR)
def _slow_disk(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.disks[segment].set_slowness(float(_value(action, "factor")))


@_fault("wipe", "disks are lost for good, with every promise made on them")
def _wipe(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.wipe_segment(segment)


# ---- disks ---------------------------------------------------------------------------------------


@_fault(
    "bit_rot",
    "`bits` bits of the log flip: at byte `offset`, if the log is longer than that, or anywhere",
    bits=_BITS,
    offset=_OFFSET,
)
def _bit_rot(world: World, action: Action) -> None:
    offset = _value(action, "offset")
    for segment in _segments(world, action):
        world.rot_segment(segment, _value(action, "bits"), offset)


@_fault("disk_full", "disks take nothing more until `disk_free`")
def _disk_full(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.disks[segment].set_capacity(world.disks[segment].size())


@_fault("disk_free", "full disks take writes again")
def _disk_free(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.disks[segment].set_capacity(None)


@_fault("fail_writes", "the next `count` writes are refused; with 0 no more", count=_COUNT)
def _fail_writes(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.disks[segment].fail_writes(_value(action, "count"))


@_fault(
    "fail_syncs",
    "the next `count` syncs are refused, each until the disk is opened anew; with 0 no more",
    count=_COUNT,
)
def _fail_syncs(world: World, action: Action) -> None:
    for segment in _segments(world, action):
        world.disks[segment].fail_syncs(_value(action, "count"))


# ---- network -------------------------------------------------------------------------------------


@_fault(
    "partition",
    "nothing passes between the target and `others`, either way",
    ADDRESSES,
    others=_OTHERS,
)
def _partition(world: World, action: Action) -> None:
    left, right = _sides(world, action)
    world.network.partition(left, right)


@_fault("cut", "nothing passes from the target to `others`", ADDRESSES, others=_OTHERS)
def _cut(world: World, action: Action) -> None:
    left, right = _sides(world, action)
    world.network.cut(left, right)


@_fault("clog", "messages from the target to `others` are held back", ADDRESSES, others=_OTHERS)
def _clog(world: World, action: Action) -> None:
    left, right = _sides(world, action)
    world.network.clog(left, right)


@_fault("heal_network", "every partition, cut, clog and slowness of links ends", NOBODY)
def _heal_network(world: World, _: Action) -> None:
    world.network.heal_all()


def _sides(world: World, action: Action) -> tuple[list[Address], list[Address]]:
    """The two sides of a cut; the other side is everybody else unless ``others`` names it."""
    cluster = world.cluster
    left = cluster.addresses(action.target)
    named = action.params.get("others")
    if named is not None:
        return left, [each for each in cluster.addresses(named) if each not in left]
    everyone = [*cluster.hosts, *(engine.name for engine in cluster.engines)]
    return left, [each for each in everyone if each not in left]


# ---- writers -------------------------------------------------------------------------------------


@_fault(
    "crash_writer",
    "the writer stops at once, whatever it was doing; nobody takes its place",
    NOBODY,
)
def _crash_writer(world: World, _: Action) -> None:
    world.crash_writer()


@_fault("recover", "the writer, if it runs, is crashed, and another opens the volume", NOBODY)
def _recover(world: World, _: Action) -> None:
    world.crash_writer()
    world.open_writer()


@_fault(
    "take_over", "another writer opens the volume while the old one, now a zombie, goes on", NOBODY
)
def _take_over(world: World, _: Action) -> None:
    world.open_writer()


@_fault("heal", "all faults end: everything that is down and not lost comes back", NOBODY)
def _heal(world: World, _: Action) -> None:
    world.heal()
