"""Makes a mutant: an import hook that compiles one module from its mutated syntax tree.

Installed before anything of ours is imported, so that constants, defaults, handler tables and what
other modules import by name are the mutant's. It is known afterwards whether the changed place was
ever executed: what takes its place says so first.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

from sim.mutants.cores import source_path
from sim.mutants.sites import Mutant, mutants_of

_NOTE: Final = "__mutant_reached__"


class NoSuchMutant(Exception):
    """No mutant of this name: the code has changed, or the name is mistyped."""


class Reached:
    """Whether the mutated place was executed."""

    def __init__(self) -> None:
        self.yes = False

    def note(self) -> None:
        self.yes = True


def mutated_code(module: str, source: str, mutant_id: str, filename: str) -> CodeType:
    """The module's code with the change, which notes that it is executed.

    Raises `NoSuchMutant`.
    """
    tree = ast.parse(source)
    for mutant in mutants_of(module, tree):
        if mutant.id == mutant_id:
            mutant.place.put(ast.copy_location(marked(mutant), mutant.node))
            ast.fix_missing_locations(tree)
            code: CodeType = compile(tree, filename, "exec", dont_inherit=True)
            return code
    raise NoSuchMutant(f"{module} has no mutant {mutant_id}")


def marked(mutant: Mutant) -> ast.expr | ast.stmt:
    """What takes the place of the mutated node, and notes first that it is executed."""
    note = ast.Call(ast.Name(_NOTE, ast.Load()), [], [])
    if mutant.new is None:
        return ast.Expr(note)
    if isinstance(mutant.new, ast.stmt):
        return ast.If(ast.Compare(note, [ast.Is()], [ast.Constant(None)]), [mutant.new], [])
    both = ast.Tuple([note, mutant.new], ast.Load())
    return ast.Subscript(both, ast.Constant(1), ast.Load())


class _Loader(SourceFileLoader):
    def __init__(self, module: str, path: str, code: CodeType) -> None:
        super().__init__(module, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code


class _Finder(MetaPathFinder):
    def __init__(self, module: str, path: Path, code: CodeType) -> None:
        self._module = module
        self._path = path
        self._code = code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        loader = _Loader(fullname, str(self._path), self._code)
        return spec_from_file_location(fullname, self._path, loader=loader)


def install(module: str, mutant_id: str) -> Reached:
    """Let ``module`` be the mutant from now on in this process; it must not be imported yet."""
    if module in sys.modules:
        raise RuntimeError(f"{module} has been imported: expected a fresh process")
    path = source_path(module)
    code = mutated_code(module, path.read_text(encoding="utf-8"), mutant_id, str(path))
    reached = Reached()
    names: dict[str, Any] = vars(builtins)
    names[_NOTE] = reached.note
    sys.meta_path.insert(0, _Finder(module, path, code))
    return reached
