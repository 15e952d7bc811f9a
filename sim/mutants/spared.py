"""What is not mutated, because nothing of the protocol depends on it; each with its reason."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Final

SPARED: Final[Mapping[str, str]] = {
    "errors": "what stands within `raise X(...)`, `__str__` and `__repr__` is read by people; "
    "whether an error is raised is mutated",
    "assertions": "`assert` and `zip(strict=...)`: the code's own checks, which only fail early",
    "shapes": "annotations, decorators, patterns of `match`: the type checker holds them",
    "telling onlookers": "the trace is the checkers' ear: a mutant there breaks the instrument",
    "showing people": "statistics, and what health says of a segment or a wait: nothing decides by "
    "them",
    "configuration": "`raise InvalidConfig` and the bounds of `setting(...)`: what may be set up, "
    "before anything runs",
    "definitions": "the level of modules: without them nothing starts, and their limits are tuning",
    "large numbers": "those above 8 are sizes, of which one more or less is tuning",
    "first assignments": "the first one of a name, or of an attribute in a constructor: without "
    "it there is only an error",
    "functions": "a few by name: the codec of the log, a check of arguments, what health asks",
}
"""Kinds of code, and why they are left alone."""

_CODEC: Final = "packs what is written: a mistake garbles every log, and tests of bytes see it"
_ARGUMENT: Final = "refuses values of a wrong type or shape, which no simulated caller gives"
_HEALTH: Final = "is asked by health and the terminal alone"

SPARED_FUNCTIONS: Final[Mapping[str, str]] = {
    "segments.wal:_plain": _CODEC,
    "segments.wal:_Body.entry": _CODEC,
    "segments.protocol.truncation:_ascending": _ARGUMENT,
    "segments.chain_index:ChainIndex.missing_ranges": _HEALTH,
    "segments.chain_index:ChainIndex.payload_bytes": _HEALTH,
    "segments.core:SegmentCore.user_bytes_taken": _HEALTH,
    "aurora.way:Way._waits_for": _HEALTH,
    "aurora.consistency:VolumeConsistency.first_outstanding": _HEALTH,
    "aurora.core:WriterCore.floor_held_by": _HEALTH,
    "aurora.core:WriterCore.is_current": _HEALTH,
    "aurora.quorum:QuorumModel.spare_for_write": _HEALTH,
    "aurora.recovery:Recovery.missing": _HEALTH,
    "aurora.segment_stream:SegmentStream.note_delay": _HEALTH,
    "aurora.segment_stream:_began": _HEALTH,
}
"""Functions that are left alone, with the reason."""

_TELLING: Final = frozenset({"trace", "_trace", "note", "_note", "_note_applied", "_trace_read"})
_SHOWN: Final = frozenset(
    {
        "_evictions", "_hits", "_misses", "_taken_before", "behind_since_s", "damages_found",
        "dropped_messages", "hits", "layer_bytes_written", "log_bytes_written", "misses",
        "outstanding", "outstanding_since_s", "payload_bytes_taken", "resends", "rewrites",
        "silent_since_s", "wait",
    }
)  # fmt: skip
"""Attributes that only health and statistics read."""
_METHODS: Final = frozenset({"__str__", "__repr__", "statistics", *_TELLING})
_CALLS: Final = frozenset({"setting", "_waits_for", "note_delay", *_TELLING})
_FIELDS: Final = frozenset({"annotation", "returns", "decorator_list", "pattern"})


def is_spared(node: ast.AST) -> bool:
    """Whether a node is left alone, and all that is within it."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return node.name in _METHODS
        case ast.Assert() | ast.JoinedStr() | ast.keyword(arg="strict"):
            return True
        case ast.Call(func=func) | ast.Expr(ast.Call(func=func)):
            return _last_name(func) in _CALLS
        case ast.Assign(targets=targets):
            return all(_is_shown(each) for each in targets)
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            return _is_shown(target)
        case ast.If(body=[ast.Raise(exc=ast.Call(func=func))], orelse=[]):
            return _last_name(func) == "InvalidConfig"
    return False


def spared_fields(node: ast.AST) -> frozenset[str]:
    """Which fields are left alone of a node that is not spared itself."""
    match node:
        case ast.Raise():
            return frozenset({"exc", "cause"})
        case ast.If() if any(tells(each) or _is_shown(each) for each in ast.walk(node.test)):
            return frozenset({"test", "body"})
        case ast.ClassDef():
            return frozenset({"decorator_list", "bases", "keywords"})
    return _FIELDS


def tells(node: ast.AST) -> bool:
    """Whether it is the callback that onlookers are told by."""
    return isinstance(node, ast.Name | ast.Attribute) and _last_name(node) in _TELLING


def _is_shown(node: ast.AST) -> bool:
    """Whether it is an attribute that nothing is decided by, or several of them."""
    if isinstance(node, ast.Tuple):
        return all(_is_shown(each) for each in node.elts)
    return isinstance(node, ast.Attribute) and node.attr in _SHOWN | _TELLING


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
