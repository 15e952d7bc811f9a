"""Every test asserts something: a test that cannot fail says nothing when it passes."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.repo.sources import of_each, parsed, python_files

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

ASSERTING_CALLS: Final = frozenset({"raises", "warns", "fail", "expect", "expect_exact"})
"""Of pytest and pexpect: these raise where what was expected does not come."""


def functions(tree: ast.Module) -> Iterator[Function]:
    """Every function, those inside classes and functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def names_in(function: Function) -> set[str]:
    """The names that a function's body uses, or calls as a method."""
    uses = [each for statement in function.body for each in ast.walk(statement)]
    return {
        each.id if isinstance(each, ast.Name) else each.attr
        for each in uses
        if isinstance(each, ast.Name | ast.Attribute)
    }


def asserts(function: Function) -> bool:
    """Whether it has an ``assert`` of its own, or calls what asserts for it."""
    if any(isinstance(each, ast.Assert) for each in ast.walk(function)):
        return True
    return not ASSERTING_CALLS.isdisjoint(names_in(function))


@cache
def bodies_of(tree: ast.Module) -> list[tuple[str, set[str], bool]]:
    """Of every function its name, the names that it uses, and whether it asserts by itself."""
    return [(each.name, names_in(each), asserts(each)) for each in functions(tree)]


def asserting(trees: Iterable[ast.Module]) -> frozenset[str]:
    """The names of all functions that assert, by themselves or through one another."""
    bodies = [body for tree in trees for body in bodies_of(tree)]
    found = {name for name, _, own in bodies if own}
    while True:
        more = {name for name, uses, _ in bodies if name not in found and uses & found}
        if not more:
            return frozenset(found)
        found |= more


def idle_tests(tree: ast.Module, helpers: frozenset[str]) -> list[str]:
    """The tests that assert nothing: by a statement, by a call, or by one of ``helpers``."""
    return [
        each.name
        for each in functions(tree)
        if each.name.startswith("test_")
        if not asserts(each) and helpers.isdisjoint(names_in(each) - {each.name})
    ]


TESTS: Final = [each for each in python_files("tests") if each.name.startswith("test_")]
SUPPORT: Final = [each for each in python_files("tests") if each not in TESTS]


def test_every_test_asserts_something() -> None:
    def idle(path: Path) -> list[str]:
        helpers = asserting(parsed(each) for each in (path, *SUPPORT))
        return idle_tests(parsed(path), helpers)

    assert of_each(TESTS, idle) == []


@pytest.mark.parametrize(
    "body",
    ["assert f() == 1", "with pytest.raises(Invalid):\n        f()", "checked(f())", "inner()"],
)
def test_what_asserts_is_seen(body: str) -> None:
    tree = ast.parse(
        f"def test_x():\n    {body}\n"
        "def checked(x):\n    assert x\n"
        "def inner():\n    deeper()\n"
        "def deeper():\n    checked(1)\n"
    )
    assert idle_tests(tree, asserting([tree])) == []


@pytest.mark.parametrize("body", ["f()", "x = f() == 1", "await f()", "idle()"])
def test_what_asserts_nothing_is_found(body: str) -> None:
    tree = ast.parse(f"async def test_x():\n    {body}\ndef idle():\n    f()\n")
    assert idle_tests(tree, asserting([tree])) == ["test_x"]
