"""What a fault is: its name, whom it can hit, which parameters it takes, what it does to a world.

Each is registered by the function that does it; `sim.world.faults` has them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from segments.protocol.errors import Invalid
from segments.protocol.ids import SegmentId
from sim.plan.schedule import Action
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
    """A parameter of a fault: a number in a range, a word of several, or names of addresses."""

    kind: type[int] | type[float] | type[str]
    default: Any
    """What is taken if it is missing."""
    least: float = 0
    """Inclusive, as is ``most``."""
    most: float = 0
    one_of: Sequence[str] = ()
    """The words that it can be; a text without such a choice is names."""

    @property
    def takes_names(self) -> bool:
        """Whether it names addresses, as a target does."""
        return self.kind is str and not self.one_of

    @property
    def expected(self) -> str:
        """What a value has to be."""
        if self.one_of:
            return f"one of {', '.join(self.one_of)}"
        if self.kind is str:
            return "names of segments, zones or writers, also of one to come"
        what = "an integer" if self.kind is int else "a number"
        return f"{what} from {self.least:,} to {self.most:,}"

    @property
    def missing(self) -> str:
        """What is taken if there is no value, in words."""
        if self.default is not None:
            return self.default if self.one_of else f"{self.default:g}"
        return "everybody" if self.kind is str else "anywhere"

    def accepts(self, value: object) -> bool:
        """Whether it is of this type and within the range."""
        if self.kind is str:
            return isinstance(value, str) and (value in self.one_of or not self.one_of)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.kind is int and not isinstance(value, int):
            return False
        return self.least <= value <= self.most  # no NaN is


@attrs.frozen
class Fault:
    """One kind of action."""

    name: str
    summary: str
    hits: str
    """`NOBODY`, `SEGMENTS` or `ADDRESSES`."""
    params: Mapping[str, Param]
    exclusive: Sequence[str]
    """The parameters of which only one may be given."""
    apply: Callable[[World, Action], None]


FAULTS: Final[dict[str, Fault]] = {}


def new_fault(
    name: str,
    summary: str,
    hits: str = SEGMENTS,
    /,
    exclusive: Sequence[str] = (),
    **params: Param,
) -> Callable[[Any], Any]:
    def register(apply: Callable[[World, Action], None]) -> Callable[[World, Action], None]:
        FAULTS[name] = Fault(name, summary, hits, params, exclusive, apply)
        return apply

    return register


def value_of(action: Action, key: str) -> Any:
    """A parameter, or what is taken if it is missing."""
    return action.params.get(key, FAULTS[action.kind].params[key].default)


def segments_of(world: World, action: Action) -> list[SegmentId]:
    """The segments that the target names."""
    return world.cluster.targets(action.target)
