"""All mutants there are, and which version of the code they are mutants of."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable
from hashlib import sha256

from sim.mutants.cores import ROOT, source_path
from sim.mutants.sites import Mutant, mutants_of

_CODE_DIGITS = 12


def population(modules: Iterable[str]) -> dict[str, list[Mutant]]:
    """The mutants of each of the modules."""
    return {
        module: mutants_of(module, ast.parse(source_path(module).read_text(encoding="utf-8")))
        for module in modules
    }


def code_version() -> str:
    """Stands for every source that a run executes: other code, other results."""
    digest = sha256()
    for package in ("aurora", "segments", "sim"):
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:_CODE_DIGITS]


def diff_of(mutant: Mutant) -> str:
    """The change as a unified diff of the source, with its comments."""
    path = source_path(mutant.module)
    before = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix()
    lines = difflib.unified_diff(
        before.splitlines(), _replaced(before, mutant).splitlines(), name, name, lineterm=""
    )
    return "\n".join(lines)


def _replaced(source: str, mutant: Mutant) -> str:
    """The source with the new node's text where the old one's was."""
    node = mutant.node
    assert node.end_lineno is not None and node.end_col_offset is not None
    lines = source.encode().splitlines(keepends=True)  # columns are counted in bytes
    head = b"".join(lines[: node.lineno - 1]) + lines[node.lineno - 1][: node.col_offset]
    tail = lines[node.end_lineno - 1][node.end_col_offset :] + b"".join(lines[node.end_lineno :])
    new = "pass" if mutant.new is None else ast.unparse(ast.fix_missing_locations(mutant.new))
    return (head + new.encode() + tail).decode()
