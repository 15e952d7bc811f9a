"""What a page may ask the server to run: read from JSON, and checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from segments.protocol.errors import Invalid
from sim.plan.redraws import MAX_SALT
from sim.plan.schedule import Action

MAIN: Final = "main"
MOST_FUTURES: Final = 100
"""From each moment, on a page; the command takes more."""
MOST_ADDED: Final = 32
MOST_REMOVED: Final = 1_000
_MAX_NS: Final = 1 << 62


@attrs.frozen(kw_only=True)
class ForkAsked:
    """Another run from a moment of one that is there."""

    source: str
    at_ns: int
    add: tuple[Action, ...] = ()
    remove: tuple[int, ...] = ()
    redraw: int | None = None
    only_check: bool = False
    """Run nothing: say whether it could be."""


@attrs.frozen(kw_only=True)
class FuturesAsked:
    """When did it become inevitable?"""

    futures: int
    stop: bool = False
    """Look no longer: what is known by then stays."""


def read_fork(body: bytes) -> ForkAsked:
    """A fork, or with ``check`` whether it could be; raises `Invalid`."""
    found = _object(body, ("from", "at_ns", "add", "remove", "redraw", "check"))
    salt = found.get("redraw")
    return ForkAsked(
        source=_text(found, "from", MAIN),
        at_ns=_number(found, "at_ns", _MAX_NS),
        add=tuple(_list(found, "add", MOST_ADDED, _action)),
        remove=tuple(_list(found, "remove", MOST_REMOVED, _index)),
        redraw=None if salt is None else _number(found, "redraw", MAX_SALT),
        only_check=found.get("check") is True,
    )


def read_futures(body: bytes) -> FuturesAsked:
    """How many futures, of ``futures`` and ``run``, or to ``stop``; raises `Invalid`."""
    found = _object(body, ("run", "futures", "stop"))
    if _text(found, "run", MAIN) != MAIN:
        raise Invalid(f"run {found['run']!r}: expected {MAIN!r}")
    if found.get("stop") is True:
        return FuturesAsked(futures=0, stop=True)
    futures = _number(found, "futures", MOST_FUTURES)
    if futures < 1:
        raise Invalid(f"futures {futures}: expected 1 to {MOST_FUTURES}")
    return FuturesAsked(futures=futures)


def _object(body: bytes, known: tuple[str, ...]) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise Invalid("the body is not JSON: expected an object") from None
    if not isinstance(found, dict):
        raise Invalid(f"the body is {type(found).__name__}: expected an object")
    unknown = [key for key in found if key not in known]
    if unknown:
        raise Invalid(f"{unknown[0][:40]!r}: unknown: expected {', '.join(known)}")
    return found


def _number(found: Mapping[str, Any], key: str, most: int) -> int:
    value = found.get(key)
    if type(value) is not int or not 0 <= value <= most:
        raise Invalid(f"{key} is {str(value)[:40]}: expected an integer from 0 to {most:,}")
    return value


def _text(found: Mapping[str, Any], key: str, missing: str) -> str:
    value = found.get(key, missing)
    if not isinstance(value, str) or len(value) > 100:
        raise Invalid(f"{key} is {str(value)[:40]}: expected a short text")
    return value


def _list(
    found: Mapping[str, Any], key: str, most: int, read: Callable[[Any, str], Any]
) -> list[Any]:
    value = found.get(key) or []
    if not isinstance(value, list) or len(value) > most:
        raise Invalid(f"{key}: expected a list of at most {most}")
    return [read(each, key) for each in value]


def _index(value: Any, key: str) -> int:
    return _number({key: value}, key, _MAX_NS)


def _action(value: Any, key: str) -> Action:
    if not isinstance(value, dict):
        raise Invalid(f"{key}: found {type(value).__name__}: expected an object")
    params = value.get("params") or {}
    if not isinstance(params, dict) or len(params) > 16:
        raise Invalid(f"{key}: params: expected an object")
    kept = {name: each for name, each in params.items() if each is not None and each != ""}
    for name, each in kept.items():
        if not isinstance(each, int | float | str) or len(name) > 40:
            raise Invalid(f"{key}: {name[:40]}: expected a number or a text")
    return Action(
        at_ns=_number(value, "at_ns", _MAX_NS),
        kind=_text(value, "kind", ""),
        target=_text(value, "target", ""),
        params=kept,
    )
