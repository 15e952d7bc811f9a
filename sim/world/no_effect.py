"""Actions that change nothing: restarting what is up, crashing what is down, healing nothing.

They do no harm, and drawn schedules are full of them. Whoever has written one down may have meant
something else, so the report and the stories say it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from segments.protocol.ids import Address, SegmentId
from sim.plan.episodes import titled
from sim.plan.schedule import Action
from sim.world.world import World


@attrs.frozen
class WithoutEffect:
    """An action that changed nothing, for all whom it named or for some."""

    at_ns: int
    action: Action
    on: tuple[Address, ...]
    """Of those that it named the ones on whom it had none; empty if it had none at all."""
    reason: str

    def __str__(self) -> str:
        on = f" on {' '.join(self.on)}" if self.on else ""
        return f"{titled(self.action)} had no effect{on}: {self.reason}"


def without_effect(world: World, action: Action) -> WithoutEffect | None:
    """What there is to say about an action that is about to happen; None if it has its effect."""
    now_ns = world.scheduler.now_ns
    if action.kind in _CUTS:
        return _cut(world, action)
    whole = _OF_THE_WORLD.get(action.kind)
    if whole is not None:
        reason = whole(world, action)
        return WithoutEffect(now_ns, action, (), reason) if reason else None
    of_segment = _OF_A_SEGMENT.get(action.kind)
    if of_segment is None:
        return None
    named = world.cluster.targets(action.target)
    idle = {segment: how for segment in named if (how := of_segment(world, action, segment))}
    if not idle:
        return None
    by_reason: dict[str, list[SegmentId]] = {}
    for segment, how in idle.items():
        by_reason.setdefault(how, []).append(segment)
    reason = ", ".join(
        f"{' '.join(names)} {'was' if len(names) == 1 else 'were'} {how}"
        for how, names in by_reason.items()
    )
    return WithoutEffect(now_ns, action, () if len(idle) == len(named) else tuple(idle), reason)


# ---- on a segment --------------------------------------------------------------------------------


def _crash(world: World, _: Action, segment: SegmentId) -> str:
    return "" if world.cluster.hosts[segment].started else _away(world, segment)


def _restart(world: World, _: Action, segment: SegmentId) -> str:
    host = world.cluster.hosts[segment]
    return "up" if host.started else "lost" if host.lost is not None else ""


def _pause(world: World, _: Action, segment: SegmentId) -> str:
    if not world.cluster.hosts[segment].up:
        return _away(world, segment)
    return "paused already" if _is_paused(world, segment) else ""


def _resume(world: World, _: Action, segment: SegmentId) -> str:
    return "" if _is_paused(world, segment) else "not paused"


def _slow(world: World, action: Action, segment: SegmentId) -> str:
    ends = action.params.get("factor") == 1
    is_slow = world.disks[segment].slowness != 1
    if action.kind == "slow":
        is_slow |= world.network.slowness_of(segment) != 1
    return "not slow" if ends and not is_slow else ""


def _wipe(world: World, _: Action, segment: SegmentId) -> str:
    return "lost already" if world.cluster.hosts[segment].lost is not None else ""


def _roll_back(world: World, action: Action, segment: SegmentId) -> str:
    if world.cluster.hosts[segment].lost is not None:
        return "lost"
    if world.copies.is_same(segment):
        return "as it had been"
    harmless = action.params.get("harmless")
    return world.copies.why_harmful(segment, world.cluster) if harmless else ""


def _bit_rot(world: World, action: Action, segment: SegmentId) -> str:
    if world.cluster.hosts[segment].lost is not None:
        return "lost"
    end, offset = world.can_rot(segment), action.params.get("offset", 0)
    return "" if offset < end else f"{end} bytes long, its last frame aside"


def _rot_layer(world: World, action: Action, segment: SegmentId) -> str:
    if world.cluster.hosts[segment].lost is not None:
        return "lost"
    return "" if world.disks[segment].layer_files else "without layers"


def _needs_a_disk(world: World, _: Action, segment: SegmentId) -> str:
    return "lost" if world.cluster.hosts[segment].lost is not None else ""


def _disk_full(world: World, _: Action, segment: SegmentId) -> str:
    return "full already" if world.disks[segment].capacity_bytes is not None else ""


def _disk_free(world: World, _: Action, segment: SegmentId) -> str:
    return "" if world.disks[segment].capacity_bytes is not None else "not full"


def _away(world: World, segment: SegmentId) -> str:
    return "down" if world.cluster.hosts[segment].lost is None else "lost"


def _is_paused(world: World, segment: SegmentId) -> bool:
    return world.cluster.hosts[segment].paused_since_s is not None


_OF_A_SEGMENT: Final[Mapping[str, Callable[[World, Action, SegmentId], str]]] = {
    "crash": _crash,
    "restart": _restart,
    "pause": _pause,
    "resume": _resume,
    "slow": _slow,
    "slow_disk": _slow,
    "wipe": _wipe,
    "copy_disk": _needs_a_disk,
    "roll_back": _roll_back,
    "bit_rot": _bit_rot,
    "rot_promise": _needs_a_disk,
    "rot_manifest": _needs_a_disk,
    "rot_layer": _rot_layer,
    "crash_amid_write": _needs_a_disk,
    "crash_after_write": _needs_a_disk,
    "disk_full": _disk_full,
    "disk_free": _disk_free,
}

# ---- on the network, the writer, everything ------------------------------------------------------


_CUTS: Final = ("partition", "cut", "clog")


def _cut(world: World, action: Action) -> WithoutEffect | None:
    """Writers that do not exist: they may come, and are cut off then."""
    sides = [action.target, *([action.params["others"]] if "others" in action.params else ())]
    known = {*world.cluster.hosts, *(engine.name for engine in world.cluster.engines)}
    missing = tuple(
        name for side in sides for name in world.cluster.addresses(side) if name not in known
    )
    reason = f"there was no {' and no '.join(missing)} yet"
    return WithoutEffect(world.scheduler.now_ns, action, missing, reason) if missing else None


def _heal_network(world: World, _: Action) -> str:
    return "" if world.network.troubled else "nobody was cut off, held back or slowed"


def _crash_writer(world: World, _: Action) -> str:
    engine = world.cluster.engine
    return f"{engine.name} had ended already" if engine.error is not None else ""


def _heal(world: World, _: Action) -> str:
    broken = (
        world.network.troubled
        or any(disk.troubled for disk in world.disks.values())
        or any(_is_paused(world, segment) for segment in world.cluster.hosts)
        or any(not host.up and host.lost is None for host in world.cluster.hosts.values())
        or world.cluster.engine.error is not None
    )
    return "" if broken else "nothing was broken that can be mended"


_OF_THE_WORLD: Final[Mapping[str, Callable[[World, Action], str]]] = {
    "heal_network": _heal_network,
    "crash_writer": _crash_writer,
    "heal": _heal,
}
