"""What can be done to a world, by name. Each fault is a small function of the world and its action.

``heal`` undoes them all; only a lost disk stays lost. What a fault can hit and which parameters it
takes stands beside it, with their ranges, and is checked by `check` before anything happens. Those
of segments and their disks are in `sim.world.segment_faults`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aurora.targets import WRITERS, Target, resolve
from segments.protocol.errors import Invalid
from segments.protocol.ids import Address
from segments.protocol.volume import ProtectionGroup
from sim.plan.schedule import Action
from sim.wording import suggestion
from sim.world import segment_faults  # noqa: F401 - its faults are known once it is imported
from sim.world.fault import ADDRESSES, FAULTS, NOBODY, Fault, Param, WrongAction, new_fault
from sim.world.world import World

__all__ = ["FAULTS", "Fault", "WrongAction", "apply", "check", "check_sides", "is_idle"]

_OTHERS: Final = Param(str, None)


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
        if param.takes_names:
            _check_names(action, key, value, fault.hits, groups)
    given = [key for key in fault.exclusive if key in action.params]
    if len(given) > 1:
        raise WrongAction(action, given[1], f"found with {given[0]}: expected one of the two")
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


# ---- network -------------------------------------------------------------------------------------


@new_fault(
    "partition",
    "nothing passes between the target and `others`, either way",
    ADDRESSES,
    others=_OTHERS,
)
def _partition(world: World, action: Action) -> None:
    left, right = _sides(world, action)
    world.network.partition(left, right)


@new_fault("cut", "nothing passes from the target to `others`", ADDRESSES, others=_OTHERS)
def _cut(world: World, action: Action) -> None:
    left, right = _sides(world, action)
    world.network.cut(left, right)


@new_fault("clog", "messages from the target to `others` are held back", ADDRESSES, others=_OTHERS)
def _clog(world: World, action: Action) -> None:
    left, right = _sides(world, action)
    world.network.clog(left, right)


@new_fault("heal_network", "every partition, cut, clog and slowness of links ends", NOBODY)
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


@new_fault(
    "crash_writer",
    "the writer stops at once, whatever it was doing; nobody takes its place",
    NOBODY,
)
def _crash_writer(world: World, _: Action) -> None:
    world.crash_writer()


@new_fault("recover", "the writer, if it runs, is crashed, and another opens the volume", NOBODY)
def _recover(world: World, _: Action) -> None:
    world.crash_writer()
    world.open_writer()


@new_fault(
    "take_over", "another writer opens the volume while the old one, now a zombie, goes on", NOBODY
)
def _take_over(world: World, _: Action) -> None:
    world.open_writer()


@new_fault("heal", "all faults end: everything that is down and not lost comes back", NOBODY)
def _heal(world: World, _: Action) -> None:
    world.heal()
