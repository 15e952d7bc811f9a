"""The project's own files, as the tests of this folder read them."""

from __future__ import annotations

import ast
import gc
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

PACKAGES: Final = ("aurora", "segments", "sim")
"""What ships in the wheel."""

_FOLDERS: Final = (*PACKAGES, "tests", "scripts", "docs", ".ci")
_GENERATED: Final = ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache")


@cache
def all_files() -> list[Path]:
    """Every file of the project, relative to its root, in order; nothing that tools generate."""
    inside = [path for folder in _FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    kept = [path for path in inside if not any(part in _GENERATED for part in path.parts)]
    # In a linked work tree `.git` is a file: git's, not the project's.
    beside = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    return sorted(path.relative_to(ROOT) for path in kept + beside)


def python_files(*folders: str) -> list[Path]:
    """The Python files in ``folders``, relative to the root."""
    return [path for path in all_files() if path.suffix == ".py" and path.parts[0] in folders]


def of_each(paths: Iterable[Path], rule: Callable[[Path], Iterable[str]]) -> list[str]:
    """What breaks a rule in any of the files. One test for all: there are thousands otherwise."""
    return [f"{path}: {found}" for path in paths for found in rule(path)]


def text(path: Path) -> str:
    """The content of ``path``, relative to the root."""
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of ``path``, relative to the root."""
    gc.disable()
    try:
        return ast.parse(text(path), filename=str(path))
    finally:
        gc.freeze()  # it is kept, and to look for garbage in it takes longer than to parse it
        gc.enable()


def imported_modules(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, also those inside functions.

    ``from a import b`` counts as ``a.b``, since ``b`` may be a module; relative imports are
    refused by the linter.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, each.name) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{each.name}") for each in node.names)


@cache
def used_names(tree: ast.Module) -> tuple[tuple[ast.expr, str], ...]:
    """Every use of something imported, under its full dotted name, whatever it is called locally.

    With ``from time import sleep as nap``, the expression ``nap`` is a use of ``time.sleep``.
    """
    origins: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                first = each.name.split(".")[0]
                origins[each.asname or first] = each.name if each.asname else first
        elif isinstance(node, ast.ImportFrom):
            for each in node.names:
                origins[each.asname or each.name] = f"{node.module}.{each.name}"
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            root, attributes = _taken_apart(node)
            if root in origins:
                found.append((node, ".".join([origins[root], *attributes])))
    return tuple(found)


def _taken_apart(node: ast.expr) -> tuple[str, list[str]]:
    """Of ``a.b.c`` ``a`` and the rest; no name if it is an attribute of something else."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.insert(0, node.attr)
        node = node.value
    return (node.id if isinstance(node, ast.Name) else ""), attributes
