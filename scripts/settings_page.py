"""The lists in docs/settings.md, made from the classes: every setting, and what they demand.

``python scripts/settings_page.py`` writes the page anew, from its marker on; what stands above it
is written by hand. ``--check`` only says whether the page is up to date.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from aurora.config import (
    CLUSTER_RELATIONS,
    ENGINE_RELATIONS,
    ROUTER_RELATIONS,
    ClusterConfig,
    EngineConfig,
    RouterConfig,
)
from segments.config import (
    SEGMENT_RELATIONS,
    Number,
    Relation,
    SegmentConfig,
    Setting,
    settings_of,
)

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
MARKER: Final = "<!-- From here on made by scripts/settings_page.py. -->\n"

_SIZES: Final = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class Group(NamedTuple):
    """A class of settings."""

    kind: type
    place: str
    """Names that lead to it from a `ClusterConfig`, each with a dot behind it."""
    relations: tuple[Relation, ...]


GROUPS: Final = (
    Group(ClusterConfig, "", CLUSTER_RELATIONS),
    Group(EngineConfig, "engine.", ENGINE_RELATIONS),
    Group(RouterConfig, "engine.router.", ROUTER_RELATIONS),
    Group(SegmentConfig, "segment.", SEGMENT_RELATIONS),
)


def meanings(kind: type) -> dict[str, str]:
    """The docstring below each field of a class."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef), definition
    found: dict[str, str] = {}
    name = ""
    for statement in definition.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=field)):
                name = field
            case ast.Expr(value=ast.Constant(value=str(meaning))) if name:
                found[name] = " ".join(meaning.split())
                name = ""
            case _:
                name = ""
    return found


def shown(value: Number | None, unit: str) -> str:
    """A value with its unit, as people write it."""
    if value is None:
        return "None"
    if unit == "bytes":
        for size, name in _SIZES:
            if value and value % size == 0:
                return f"{value // size:,} {name}"
    if unit == "seconds":
        return f"{value:,g} s" if value < 1_000 else f"{value:,.0f} s"
    return f"{value:,} {unit}".strip() if type(value) is int else f"{value:,g} {unit}".strip()


def bounds(setting: Setting) -> str:
    """From where to where a setting goes."""
    unit = setting.unit
    low = shown(setting.at_least, unit if unit in ("bytes", "seconds") else "")
    none = ", or None" if setting.optional else ""
    return f"{low} to {shown(setting.at_most, unit)}{none}"


def row(setting: Setting, meaning: str) -> str:
    """One setting's line of the table."""
    cost = f"{setting.cost[0].upper()}{setting.cost[1:]}."
    default = shown(setting.default, setting.unit)
    cells = (f"`{setting.name}`", default, bounds(setting), f"{meaning} *{cost}*")
    return f"| {' | '.join(cells)} |"


def sections() -> Iterator[str]:
    """The generated part, line by line."""
    for kind, place, _ in GROUPS:
        says = meanings(kind)
        where = f", as `{place.removesuffix('.')}`" if place else ""
        yield f"\n## `{kind.__name__}`\n"
        yield f"{inspect.cleandoc(kind.__doc__ or '').splitlines()[0].removesuffix('.')}{where}.\n"
        yield "| Setting | Default | Bounds | Meaning, and what it *costs* |"
        yield "|---|---|---|---|"
        for setting in settings_of(kind):
            yield row(setting, says[setting.name])
    yield "\n## What settings demand of each other\n"
    yield "Checked together when a configuration is made, and again for the volume it opens.\n"
    yield "| Expected | So that |"
    yield "|---|---|"
    for _, place, relations in GROUPS:
        for relation in relations:
            yield f"| `{placed(relation, place)}` | {relation.reason} |"


def placed(relation: Relation, place: str) -> Relation:
    """The same relation, its settings named as from a `ClusterConfig`."""

    def named(side: tuple[str | Number, ...]) -> tuple[Any, ...]:
        return tuple(place + each if isinstance(each, str) else each for each in side)

    return Relation(named(relation.terms), named(relation.limit), relation.reason)


def page(present: str) -> str:
    """The page with its generated part anew."""
    prose, marker, _ = present.partition(MARKER)
    assert marker, f"{PAGE.name} has no line {MARKER!r}"
    return prose + MARKER + "\n".join(sections()) + "\n"


def main() -> int:
    """Write the page, or with ``--check`` compare it."""
    parser = argparse.ArgumentParser(description="Make the lists of docs/settings.md.")
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    only_check = parser.parse_args().check
    present = PAGE.read_text(encoding="utf-8")
    made = page(present)
    if made == present:
        return 0
    if only_check:
        print(f"{PAGE.name} is out of date: run python scripts/settings_page.py", file=sys.stderr)
        return 1
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
