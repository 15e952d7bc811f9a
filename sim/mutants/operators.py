"""The mutation operators: the mistakes that one slip of the pen makes, over the syntax tree.

Each yields what may stand in the place of a node, under the operator's name. What takes the place
of a statement is None: it is dropped.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import attrs

Replacement: TypeAlias = tuple[str, ast.expr | ast.stmt | None]
"""The operator's name, and the new node."""

OPERATORS: Final = {
    "bound": "a bound inclusive where it was exclusive, or the other way round",
    "comparison": "a comparison turned into its opposite",
    "min-max": "min for max, max for min",
    "condition": "a condition negated, one of its parts left out, and for or",
    "constant": "True for False, a small number one more or one less",
    "arithmetic": "plus for minus, minus for plus",
    "arguments": "two neighbouring arguments swapped",
    "statement": "a call, an assignment, a return, continue, break, raise or del left out",
}

_BOUNDS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
_OPPOSITES: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_EXTREMES: Final = {"min": "max", "max": "min"}
_UNORDERED_CALLS: Final = frozenset({"min", "max", "isinstance", "cast", "zip"})
"""Whose arguments may change places, or could not possibly have."""
_MOST: Final = 8
"""Larger numbers are sizes and limits: one more or less of them is tuning, not protocol."""
_TEXTS: Final = (ast.JoinedStr, ast.List, ast.Tuple, ast.ListComp)


@attrs.frozen
class Function:
    """What an operator may know of the function that a statement stands in."""

    node: ast.FunctionDef | ast.AsyncFunctionDef

    @property
    def builds(self) -> bool:
        """Whether it makes an object: without its attributes that would only be an error."""
        return self.node.name in ("__init__", "__attrs_post_init__")

    def has_value_before(self, target: ast.Name) -> bool:
        """Whether a local name has been given another value further up, or is a parameter."""
        parameters = [each.arg for each in ast.walk(self.node.args) if isinstance(each, ast.arg)]
        return target.id in parameters or any(
            isinstance(each, ast.Name)
            and each.id == target.id
            and isinstance(each.ctx, ast.Store)
            and (each.lineno, each.col_offset) < (target.lineno, target.col_offset)
            for each in ast.walk(self.node)
        )


# ---- expressions ---------------------------------------------------------------------------------


def expression_changes(node: ast.expr, *, is_test: bool) -> Iterator[Replacement]:
    """What may stand in the place of ``node``; ``is_test`` says that it decides where to go on."""
    for operator in _OF_EXPRESSIONS.get(type(node), ()):
        yield from operator(node)
    if is_test and not _has_own_opposite(node):
        yield "condition", ast.UnaryOp(ast.Not(), node)


def _has_own_opposite(node: ast.expr) -> bool:
    """Whether other operators turn it round already."""
    if isinstance(node, ast.Compare):
        return len(node.ops) == 1
    return isinstance(node, ast.Constant | ast.BoolOp) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    )


def _compare(node: ast.expr) -> Iterator[Replacement]:
    assert isinstance(node, ast.Compare)
    for at, op in enumerate(node.ops):
        for name, table in (("bound", _BOUNDS), ("comparison", _OPPOSITES)):
            if type(op) in table:
                ops = [*node.ops[:at], table[type(op)](), *node.ops[at + 1 :]]
                yield name, ast.Compare(node.left, ops, node.comparators)


def _boolean(node: ast.expr) -> Iterator[Replacement]:
    assert isinstance(node, ast.BoolOp)
    yield (
        "condition",
        ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values),
    )
    for at in range(len(node.values)):
        rest = [*node.values[:at], *node.values[at + 1 :]]
        yield "condition", rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _unary(node: ast.expr) -> Iterator[Replacement]:
    assert isinstance(node, ast.UnaryOp)
    if isinstance(node.op, ast.Not):
        yield "condition", node.operand
    elif is_number(node):
        assert isinstance(node.operand, ast.Constant) and isinstance(node.operand.value, int)
        yield "constant", _negative(node.operand.value + 1)
        yield "constant", _negative(node.operand.value - 1)


def _negative(value: int) -> ast.expr:
    return ast.UnaryOp(ast.USub(), ast.Constant(value)) if value else ast.Constant(0)


def is_number(node: ast.AST) -> bool:
    """Whether it is a constant, also with a minus before it."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
        return isinstance(node, ast.Constant) and type(node.value) is int and node.value <= _MOST
    return isinstance(node, ast.Constant)


def _binary(node: ast.expr) -> Iterator[Replacement]:
    assert isinstance(node, ast.BinOp)
    other = _other_sign(node.op)
    if other is not None and not (_is_text(node.left) or _is_text(node.right)):
        yield "arithmetic", ast.BinOp(node.left, other, node.right)


def _other_sign(op: ast.operator) -> ast.operator | None:
    if isinstance(op, ast.Add):
        return ast.Sub()
    return ast.Add() if isinstance(op, ast.Sub) else None


def _is_text(node: ast.expr) -> bool:
    """Whether plus joins it, so that minus is only an error."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str | bytes)
    return isinstance(node, _TEXTS)


def _constant(node: ast.expr) -> Iterator[Replacement]:
    assert isinstance(node, ast.Constant)
    value = node.value
    if isinstance(value, bool):
        yield "constant", ast.Constant(not value)
    elif isinstance(value, int) and value <= _MOST:
        yield "constant", ast.Constant(value + 1)
        if value > 0:
            yield "constant", ast.Constant(value - 1)


def _call(node: ast.expr) -> Iterator[Replacement]:
    assert isinstance(node, ast.Call)
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name in _EXTREMES:
        yield "min-max", ast.Call(ast.Name(_EXTREMES[name], ast.Load()), node.args, node.keywords)
    if name in _UNORDERED_CALLS or any(isinstance(each, ast.Starred) for each in node.args):
        return
    for at in range(len(node.args) - 1):
        left, right = node.args[at : at + 2]
        if ast.dump(left) != ast.dump(right):
            args = [*node.args[:at], right, left, *node.args[at + 2 :]]
            yield "arguments", ast.Call(node.func, args, node.keywords)


def _yield_from(node: ast.expr) -> Iterator[Replacement]:
    yield "statement", ast.YieldFrom(ast.Tuple([], ast.Load()))  # a generator it stays


_OF_EXPRESSIONS: Final[
    dict[type[ast.expr], tuple[Callable[[ast.expr], Iterator[Replacement]], ...]]
] = {
    ast.Compare: (_compare,),
    ast.BoolOp: (_boolean,),
    ast.UnaryOp: (_unary,),
    ast.BinOp: (_binary,),
    ast.Constant: (_constant,),
    ast.Call: (_call,),
    ast.YieldFrom: (_yield_from,),
}


# ---- statements ----------------------------------------------------------------------------------


def statement_changes(node: ast.stmt, function: Function) -> Iterator[Replacement]:
    """What may stand in the place of a statement of ``function``."""
    if isinstance(node, ast.AugAssign):
        other = _other_sign(node.op)
        if other is not None and not _is_text(node.value):
            yield "arithmetic", ast.AugAssign(node.target, other, node.value)
    if _can_be_dropped(node, function):
        yield "statement", None


def _can_be_dropped(node: ast.stmt, function: Function) -> bool:
    """Whether the code without it could be somebody's code, and not merely an error.

    The first assignment of a local name stays, and of an attribute in a constructor, and the last
    return of a function.
    """
    match node:
        case ast.Expr(ast.Call() | ast.Await(ast.Call())):
            return True
        case ast.Continue() | ast.Break() | ast.Raise() | ast.Delete() | ast.AugAssign():
            return True
        case ast.Return():
            return node is not function.node.body[-1]
        case ast.Assign():
            return all(_may_stay_as_it_was(each, function) for each in node.targets)
        case ast.AnnAssign(value=ast.expr()):
            return _may_stay_as_it_was(node.target, function)
    return False


def _may_stay_as_it_was(target: ast.expr, function: Function) -> bool:
    match target:
        case ast.Name():
            return function.has_value_before(target)
        case ast.Attribute():
            return not function.builds
        case ast.Subscript():
            return True
        case ast.Tuple():
            return all(_may_stay_as_it_was(each, function) for each in target.elts)
    return False
