"""Every module has its line where a newcomer looks for it, under its package in architecture.md.

And every room of the tests has its own in tests/README.md.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.repo.sources import python_files, text

PACKAGES: Final = (
    "segments/protocol/", "segments/layers/", "segments/", "aurora/", "aurora/sqlite/",
    "aurora/terminal/", "aurora/terminal/sql/",
)  # fmt: skip


def rooms(document: str, package: str) -> list[str]:
    """The names in the first column of the table that has ``package`` at its head."""
    table = re.search(
        rf"^\| `{package}` \| .*\|\n\|---\|---\|\n((?:\|.*\n)+)", document, re.MULTILINE
    )
    assert table is not None, f"no table of {package}"
    firsts = [row.split("|")[1] for row in table[1].splitlines()]
    return [name for first in firsts for name in re.findall(r"`([^`]+)`", first)]


def modules(package: str) -> list[str]:
    """The modules of a package, those that only mark or start it left out."""
    inside = [path for path in python_files(package.split("/")[0]) if path.parent == Path(package)]
    return [path.stem for path in inside if not path.stem.startswith("__")]


@pytest.mark.parametrize("package", PACKAGES)
def test_each_module_is_named_once_and_each_name_is_a_module(package: str) -> None:
    named = [each for each in rooms(text(Path("docs/architecture.md")), package) if each[-1] != "/"]
    assert sorted(named) == sorted(modules(package))


def test_each_room_of_the_simulator_is_named_with_its_modules() -> None:
    document = text(Path("docs/architecture.md"))
    rows = dict(re.findall(r"^\| `([a-z_]+)/?` \| (.*) \|$", document, re.MULTILINE))
    parts = {path.relative_to("sim").parts[0].removesuffix(".py") for path in python_files("sim")}
    assert {each.strip("/") for each in rooms(document, "sim/")} == parts - {"__init__"}
    for path in python_files("sim"):
        if path.parts[2:] and path.stem != "__init__":
            assert f"`{path.stem}`" in rows[path.parts[1]], path


def test_each_room_of_the_tests_is_named() -> None:
    rows = re.findall(r"^\| `(\w+)/` \|", text(Path("tests/README.md")), re.MULTILINE)
    assert sorted(rows) == sorted(
        {path.parts[1] for path in python_files("tests") if path.parts[2:]}
    )


def test_a_row_may_name_several() -> None:
    document = "| `a/` | |\n|---|---|\n| `b`, `c/` | what `d` does |\n| `e` | |\n\n| `f` | |\n"
    assert rooms(document, "a/") == ["b", "c/", "e"]
