"""Every mutant of a module, in a fixed order, each with a name that does not depend on lines."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

import attrs

from sim.mutants.operators import Function, expression_changes, is_number, statement_changes
from sim.mutants.spared import SPARED_FUNCTIONS, is_spared, spared_fields, tells

_ID_DIGITS: Final = 8
_TESTED: Final = (ast.If, ast.While, ast.IfExp)
_TELLING: Final = (
    ast.expr, ast.keyword, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return,
)  # fmt: skip


@attrs.frozen
class Place:
    """Where a node hangs in its tree: a field of its parent, or an item of it."""

    parent: ast.AST
    field: str
    index: int | None
    outer: ast.AST | None = None
    """The parent's own parent."""

    def put(self, new: ast.AST) -> ast.AST:
        """Put another node there; returns the one that was there."""
        if self.index is None:
            old: ast.AST = getattr(self.parent, self.field)
            setattr(self.parent, self.field, new)
        else:
            items = getattr(self.parent, self.field)
            old, items[self.index] = items[self.index], new
        return old


@attrs.frozen(kw_only=True)
class Mutant:
    """One change of one module."""

    module: str
    function: str
    """Qualified name of the function or class that it is in."""
    operator: str
    change: str
    """The smallest telling piece of the code, before and after: ``a < b => a <= b``."""
    nth: int
    """Which of several with the same name, from 1 on."""
    line: int
    node: ast.expr | ast.stmt = attrs.field(repr=False, eq=False)
    new: ast.expr | ast.stmt | None = attrs.field(repr=False, eq=False)
    """What takes its place; None where it is dropped."""
    place: Place = attrs.field(repr=False, eq=False)

    @property
    def where(self) -> str:
        """Module, colon, function."""
        return f"{self.module}:{self.function}"

    @property
    def key(self) -> str:
        """Names it as long as its function is the same, wherever that stands."""
        return f"{self.where}: {self.change}" + (f" #{self.nth}" if self.nth > 1 else "")

    @property
    def id(self) -> str:
        """Short for the key."""
        return sha256(self.key.encode()).hexdigest()[:_ID_DIGITS]


def mutants_of(module: str, tree: ast.Module) -> list[Mutant]:
    """All mutants of a module, in the order of its code; they hang in its ``tree``."""
    seen: Counter[str] = Counter()
    found = []
    for mutant in _children(tree, _Scope(module)):
        seen[mutant.key] += 1
        found.append(attrs.evolve(mutant, nth=seen[mutant.key]))
    return found


@attrs.frozen
class _Scope:
    """Where the walk is."""

    module: str
    names: tuple[str, ...] = ()
    function: Function | None = None

    def within(self, node: ast.AST) -> _Scope:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return _Scope(self.module, (*self.names, node.name), Function(node))
            case ast.ClassDef():
                return _Scope(self.module, (*self.names, node.name))
        return self

    @property
    def spared(self) -> bool:
        """Whether this function is left alone, and all that is within it."""
        return f"{self.module}:{'.'.join(self.names)}" in SPARED_FUNCTIONS


def _children(parent: ast.AST, scope: _Scope, outer: ast.AST | None = None) -> Iterator[Mutant]:
    inside = scope.within(parent)
    if inside.spared:
        return
    for field, value in ast.iter_fields(parent):
        if field in spared_fields(parent):
            continue
        items = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, node in items:
            if isinstance(node, ast.AST) and not is_spared(node):
                yield from _at(node, Place(parent, field, index, outer), inside)
                if not is_number(node):
                    yield from _children(node, inside, parent)


def _at(node: ast.AST, place: Place, scope: _Scope) -> Iterator[Mutant]:
    if not scope.names:
        return  # the module's own definitions
    if isinstance(node, ast.expr):
        changes = expression_changes(node, is_test=_is_test(place))
    elif isinstance(node, ast.stmt) and scope.function is not None:
        changes = statement_changes(node, scope.function)
    else:
        return
    for operator, new in changes:
        if operator == "arguments" and _moves_a_listener(node):
            continue
        if isinstance(place.parent, ast.AugAssign) and _is_zero(new):
            continue  # that is the statement left out
        yield Mutant(
            module=scope.module, function=".".join(scope.names), operator=operator,
            change=_change(node, new, place), nth=1, line=node.lineno,
            node=node, new=new, place=place,
        )  # fmt: skip


def _is_test(place: Place) -> bool:
    if place.field == "test":
        return isinstance(place.parent, _TESTED)
    return place.field in ("ifs", "guard")


def _is_zero(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value == 0


def _moves_a_listener(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and any(tells(each) for each in node.args)


# ---- in words ------------------------------------------------------------------------------------


def _change(node: ast.expr | ast.stmt, new: ast.expr | ast.stmt | None, place: Place) -> str:
    """Before and after; of a lone number, what it stands in."""
    if new is None:
        return f"{_text(node)} => pass"
    telling = _telling(place) if is_number(node) else None
    if telling is None:
        return f"{_text(node)} => {_text(new)}"
    before = _text(telling)
    place.put(new)
    after = _text(telling)
    place.put(node)
    return f"{before} => {after}"


def _telling(place: Place) -> ast.AST | None:
    """What a number stands in: an expression, or a statement of one line."""
    for each in (place.parent, place.outer):
        if isinstance(each, _TELLING) and not isinstance(each, ast.Slice):
            return each
    return None


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        return f"raise {ast.unparse(node.exc.func)}(...)"  # whatever it says
    text = ast.unparse(ast.fix_missing_locations(node))
    return " ".join(text.split())
