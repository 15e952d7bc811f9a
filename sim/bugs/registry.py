"""Deliberate bugs: small edits of the real code, made for the duration of a run and then undone.

An edit names a function and replaces a piece of its source, which must occur there exactly once: so
a bug reads as a diff, follows the code it is planted in, and says so when that code has moved away
under it. The function object stays and only its ``__code__`` is swapped, so what has taken hold of
it before, a table of handlers or an import by name, runs the bug too.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from types import CodeType, FunctionType
from typing import Final

import attrs

from segments.protocol.errors import Invalid
from sim.plan.schedule import Schedule
from sim.wording import suggestion


class DoesNotApply(Invalid):
    """The code that a bug was written for has changed: the bug has to follow it."""


@attrs.frozen
class Edit:
    """One replacement in the source of one function."""

    target: str
    """Module, colon, qualified name: ``aurora.quorum:QuorumModel.has_read``."""
    old: str
    """What must occur exactly once in the function's source, dedented."""
    new: str


@attrs.frozen(kw_only=True)
class Bug:
    """One way to get the protocol wrong (protocol §12)."""

    name: str
    summary: str
    section: str
    """Where the rule stands that it breaks."""
    edits: tuple[Edit, ...]
    directed: Callable[[], Schedule] | None = None
    """A schedule made to expose it, where random ones rarely do."""

    def apply(self) -> AbstractContextManager[None]:
        """Plant the bug while the block runs, in this whole process."""
        return _planted(self.edits)


@contextmanager
def _planted(edits: tuple[Edit, ...]) -> Iterator[None]:
    changed = _edited(edits)
    saved = [(function, function.__code__) for function in changed]
    for function, code in changed.items():
        function.__code__ = code
    try:
        yield
    finally:
        for function, code in saved:
            function.__code__ = code


def _edited(edits: tuple[Edit, ...]) -> dict[FunctionType, CodeType]:
    """The new code of every function that the edits touch; raises `DoesNotApply`."""
    sources: dict[FunctionType, str] = {}
    for edit in edits:
        function = find_function(edit.target)
        source = sources.get(function) or textwrap.dedent(inspect.getsource(function))
        if source.count(edit.old) != 1:
            raise DoesNotApply(
                f"{edit.target} contains {edit.old!r} {source.count(edit.old)} times: expected once"
            )
        sources[function] = source.replace(edit.old, edit.new)
    return {function: _compiled(function, source) for function, source in sources.items()}


def find_function(target: str) -> FunctionType:
    """The function behind a target, a property's getter included; raises `DoesNotApply`."""
    module, _, path = target.partition(":")
    found: object = import_module(module)
    for name in path.split("."):
        if name not in vars(found):
            raise DoesNotApply(f"{target}: {name} does not exist")
        found = vars(found)[name]
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, staticmethod | classmethod):
        found = found.__func__
    if callable(found):
        found = inspect.unwrap(found)  # a context manager's function stands behind its decorator
    if not isinstance(found, FunctionType) or found.__code__.co_freevars:
        raise DoesNotApply(f"{target} is {type(found).__name__}: expected a plain function")
    return found


def _compiled(function: FunctionType, source: str) -> CodeType:
    """The code of ``function`` as if its source were this one; lines stay where they are."""
    tree = ast.parse(source)
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef), function
    definition.decorator_list.clear()
    ast.increment_lineno(tree, function.__code__.co_firstlineno - 1)
    flags = __future__.annotations.compiler_flag
    code = compile(tree, function.__code__.co_filename, "exec", flags, dont_inherit=True)
    names: dict[str, FunctionType] = {}
    exec(code, function.__globals__, names)
    return names[definition.name].__code__


BUGS: Final[dict[str, Bug]] = {}
"""Every deliberate bug by name, in the order of protocol §12."""


def require_bug(name: str) -> Bug:
    """The bug called ``name``; raises `Invalid`."""
    if name not in BUGS:
        raise Invalid(f"bug {name!r}: {suggestion(name, BUGS)}")
    return BUGS[name]


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Run the block with the bug called ``name`` in the real code; None plants nothing."""
    if name is None:
        yield
        return
    with require_bug(name).apply():
        yield
