"""The flow between the rooms of the simulator, and that nothing of ours imports in circles."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

from tests.repo.sources import PACKAGES, imported_modules, of_each, parsed, python_files

FLOW: Final = (
    "wording",
    "durations",
    "plan",
    "bugs",
    "mutants",
    "world",
    "check",
    "run",
    "files",
    "show",
    "story",
    "crews",
    "commands",
    "view",
    "script",
)
"""Rooms and modules of `sim`, each built on nothing but what stands before it."""

IN_ROOMS: Final = [each for each in python_files("sim") if each.as_posix() != "sim/__init__.py"]


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    return module.split(".")[1]


def against_the_flow(path: Path, tree: ast.Module) -> list[str]:
    """What a file of the simulator imports of rooms that stand after its own."""
    own = FLOW.index(room_of(module_of(path)))
    return [
        f"{path}:{line} imports {module}: expected only {', '.join(FLOW[: own + 1])}"
        for line, module in imported_modules(tree)
        if module.startswith("sim.") and FLOW.index(room_of(module)) > own
    ]


def circle_in(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Modules that import each other in a circle, the first one at both ends; empty if none do."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def imports_of(tree: ast.Module, known: Iterable[str]) -> list[str]:
    """The modules of ours that a file imports, also where only the type checker does."""
    found = []
    for _, name in imported_modules(tree):
        module = name if name in known else name.rpartition(".")[0]
        if module in known:
            found.append(module)
    return found


def test_a_room_knows_only_those_before_it() -> None:
    assert of_each(IN_ROOMS, lambda path: against_the_flow(path, parsed(path))) == []


def test_an_import_against_the_flow_is_found() -> None:
    later = ast.parse("def ask():\n    from sim.check.checker import Checker")
    assert len(against_the_flow(Path("sim/world/world.py"), later)) == 1
    assert against_the_flow(Path("sim/run.py"), later) == []


def test_nothing_imports_in_circles() -> None:
    files = {module_of(path): path for path in python_files(*PACKAGES)}
    graph = {name: imports_of(parsed(path), files) for name, path in files.items()}
    assert sum(map(len, graph.values())) > len(files)  # it has read them
    assert circle_in(graph) == []


def test_a_circle_is_found_also_where_only_the_type_checker_goes() -> None:
    known = {"sim.a", "sim.b"}
    forth = imports_of(ast.parse("from sim import b"), known)
    back = imports_of(ast.parse("if TYPE_CHECKING:\n    from sim.a import A"), known)
    assert (forth, back) == (["sim.b"], ["sim.a"])
    assert set(circle_in({"sim.a": forth, "sim.b": back})) == known
    assert circle_in({"sim.a": forth, "sim.b": []}) == []
