"""Mutants: which there are, which are spared, how they are named, drawn and made."""

from __future__ import annotations

import ast
import builtins
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from segments.protocol.errors import Invalid
from sim.mutants.apply import NoSuchMutant, install, marked, mutated_code
from sim.mutants.cores import CORES, chosen_modules, source_path
from sim.mutants.equivalents import read_equivalents, stale
from sim.mutants.operators import OPERATORS
from sim.mutants.population import diff_of, population
from sim.mutants.sample import sampled, shares
from sim.mutants.sites import Mutant, mutants_of
from sim.mutants.spared import SPARED_FUNCTIONS


def within(body: str) -> list[Mutant]:
    """The mutants of a function with this body."""
    lines = "".join(f"\n    {line}" for line in body.splitlines())
    return mutants_of("some.module", ast.parse(f"def f(self, a, b, c):{lines}"))


def changes(body: str, operator: str) -> list[str]:
    return [each.change for each in within(body) if each.operator == operator]


# ---- the operators -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "body", "expected"),
    [
        ("bound", "return a < b", ["a < b => a <= b"]),
        ("bound", "return a <= b > c", ["a <= b > c => a < b > c", "a <= b > c => a <= b >= c"]),
        ("bound", "return a == b", []),
        ("comparison", "return a >= b", ["a >= b => a < b"]),
        ("comparison", "return a is None", ["a is None => a is not None"]),
        ("comparison", "return a not in b", ["a not in b => a in b"]),
        ("comparison", "return a != b", ["a != b => a == b"]),
        ("min-max", "return max(a, b)", ["max(a, b) => min(a, b)"]),
        ("min-max", "return a.max(b)", []),
        ("condition", "if a:\n    b()", ["a => not a"]),
        ("condition", "while f(a):\n    b()", ["f(a) => not f(a)"]),
        ("condition", "return b if a else c", ["a => not a"]),
        ("condition", "return [b for b in c if b]", ["b => not b"]),
        ("condition", "if a < b:\n    c()", []),  # turned round by its comparison
        ("condition", "if not a:\n    b()", ["not a => a"]),
        (
            "condition",
            "return a and b",
            ["a and b => a or b", "a and b => b", "a and b => a"],
        ),
        ("constant", "return True", ["return True => return False"]),
        ("constant", "return a + 1", ["a + 1 => a + 2", "a + 1 => a + 0"]),
        ("constant", "return a[-1]", ["a[-1] => a[-2]", "a[-1] => a[0]"]),
        ("constant", "self.a = 0", ["self.a = 0 => self.a = 1"]),
        ("constant", "return a[:1]", ["a[:1] => a[:2]", "a[:1] => a[:0]"]),
        ("constant", "self.a += 1", ["self.a += 1 => self.a += 2"]),
        ("constant", "return 4096, 0.5, 'text', None", []),
        ("arithmetic", "return a - b", ["a - b => a + b"]),
        ("arithmetic", "a -= b", ["a -= b => a += b"]),
        ("arithmetic", "return a + 'text'", []),
        (
            "arguments",
            "return f(a, b, c)",
            ["f(a, b, c) => f(b, a, c)", "f(a, b, c) => f(a, c, b)"],
        ),
        ("arguments", "return f(a, a), max(a, b), f(*a, b)", []),
        ("statement", "self.a(b)\nreturn b", ["self.a(b) => pass"]),
        ("statement", "if a:\n    return b\nreturn c", ["return b => pass"]),
        ("statement", "for a in b:\n    continue", ["continue => pass"]),
        ("statement", "for a in b:\n    break", ["break => pass"]),
        ("statement", "if a:\n    raise f(b)", ["raise f(...) => pass"]),
        ("statement", "self.a = b", ["self.a = b => pass"]),
        ("statement", "self.a += b", ["self.a += b => pass"]),
        ("statement", "del a[b]", ["del a[b] => pass"]),
        ("statement", "d = b\nreturn d", []),  # without it there is only an error
        ("statement", "a = b\nreturn a", ["a = b => pass"]),
        ("statement", "d = b\nif c:\n    d = c\nreturn d", ["d = c => pass"]),
        ("statement", "yield from a", ["(yield from a) => (yield from ())"]),
        ("statement", "pass", []),
    ],
)
def test_an_operator_makes_just_these_changes(
    operator: str, body: str, expected: list[str]
) -> None:
    assert changes(body, operator) == expected
    assert operator in OPERATORS


def test_a_constructor_keeps_its_attributes() -> None:
    tree = ast.parse("class A:\n    def __init__(self, a):\n        self.a = a\n        f(a)")
    assert [each.change for each in mutants_of("m", tree)] == ["f(a) => pass"]


def test_names_do_not_depend_on_lines_and_tell_doubles_apart() -> None:
    body = "a.b()\nif c:\n    a.b()"
    first = [each for each in within(body) if each.change == "a.b() => pass"]
    assert [each.nth for each in first] == [1, 2]
    assert [each.key for each in first] == [
        "some.module:f: a.b() => pass", "some.module:f: a.b() => pass #2",
    ]  # fmt: skip
    moved = mutants_of("some.module", ast.parse("\n\nimport x\n" + ast.unparse(_tree(body))))
    assert [each.id for each in moved] == [each.id for each in within(body)]
    assert [each.line for each in moved] != [each.line for each in within(body)]


def _tree(body: str) -> ast.Module:
    lines = "".join(f"\n    {line}" for line in body.splitlines())
    return ast.parse(f"def f(self, a, b, c):{lines}")


# ---- what is spared ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "raise_it = None\nassert a < b, f(a, b)",
        "if self._trace is not None:\n    c(1, 2)",
        "self.note(a, 1)",
        "self._trace = b",
        "self.resends += 1",
        "self.outstanding, self.outstanding_since_s = (a, b)",
        "if a != self.outstanding:\n    self.outstanding = a",
        "self._waits_for(a, b)",
        "if not 1 <= a:\n    raise InvalidConfig(f'{a} < {b}')",
        "return f'{a + 1}'",
        "d: Final[a < b] = b",
        "return setting(1, 2)",
        "'''Docstring.'''",
    ],
)
def test_what_does_not_belong_to_the_protocol_is_spared(body: str) -> None:
    assert within(body) == []


def test_an_error_is_left_out_but_its_text_is_spared() -> None:
    body = "if a < 1:\n    raise InvalidWrite(f(a, b) + 1)"
    assert [each.change for each in within(body)] == [
        "a < 1 => a <= 1", "a < 1 => a >= 1", "a < 1 => a < 2", "a < 1 => a < 0",
        "raise InvalidWrite(...) => pass",
    ]  # fmt: skip
    assert mutants_of("m", ast.parse("LIMIT = 3\nclass A:\n    def __repr__(self): f(1)")) == []


def test_spared_functions_exist_in_cores() -> None:
    for target in SPARED_FUNCTIONS:
        module, _, path = target.partition(":")
        found: Any = ast.parse(source_path(module).read_text(encoding="utf-8"))
        for name in path.split("."):
            found = next(each for each in found.body if getattr(each, "name", "") == name)
        assert module in CORES and isinstance(found, ast.FunctionDef)


# ---- the population ------------------------------------------------------------------------------


@cache
def all_mutants() -> dict[str, list[Mutant]]:
    """Made by whichever test asks first: to collect the tests takes none of them."""
    return population(CORES)


def test_every_core_has_mutants_and_no_two_share_a_name() -> None:
    ids = [each.id for mutants in all_mutants().values() for each in mutants]
    assert all(all_mutants().values()) and len(set(ids)) == len(ids) > 2_000
    assert {each.operator for some in all_mutants().values() for each in some} == set(OPERATORS)


@pytest.mark.parametrize("module", CORES)
def test_mutants_compile_and_differ(module: str) -> None:
    """One of each operator: all of them would take a minute."""
    source = source_path(module).read_text(encoding="utf-8")
    tree = ast.parse(source)
    before = ast.unparse(tree)
    firsts = {each.operator: each for each in reversed(mutants_of(module, tree))}
    for mutant in firsts.values():
        mutant.place.put(ast.copy_location(marked(mutant), mutant.node))
        after = ast.unparse(ast.fix_missing_locations(tree))
        compile(after, module, "exec", dont_inherit=True)
        compile(tree, module, "exec", dont_inherit=True)
        assert after != before and "__mutant_reached__()" in after
        mutant.place.put(mutant.node)
    assert ast.unparse(tree) == before and firsts


def test_a_diff_is_of_the_source_with_its_comments() -> None:
    mutant = next(
        each
        for each in population(["aurora.quorum"])["aurora.quorum"]
        if each.change == "known <= self._pgcl < scl => known < self._pgcl < scl"
    )
    lines = diff_of(mutant).splitlines()
    assert (
        "-        if known <= self._pgcl < scl:  # else the 4th highest is still the same" in lines
    )
    assert (
        "+        if known < self._pgcl < scl:  # else the 4th highest is still the same" in lines
    )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("aurora.quorum", ["aurora.quorum"]),
        ("quorum", ["aurora.quorum"]),
        ("protocol.*", [each for each in CORES if each.startswith("segments.protocol.")]),
        ("nothing", []),
    ],
)
def test_modules_are_chosen_by_patterns(pattern: str, expected: list[str]) -> None:
    assert chosen_modules((pattern,)) == expected
    assert chosen_modules(()) == list(CORES)


# ---- the sample ----------------------------------------------------------------------------------

PARTS: Final = {"a": range(100), "b": range(1000, 1040), "c": range(2000, 2003)}


def test_a_sample_is_the_same_wherever_it_is_drawn() -> None:
    assert sampled(PARTS, 8, 1) == [0, 27, 44, 49, 73, 98, 1000, 1035]
    assert sampled(PARTS, 8, 2) != sampled(PARTS, 8, 1)


def test_every_module_has_its_share() -> None:
    sizes = {name: len(each) for name, each in PARTS.items()}
    assert shares(sizes, 14) == {"a": 10, "b": 4, "c": 0}
    assert all(sum(shares(sizes, wanted).values()) == wanted for wanted in range(144))
    assert shares(sizes, 144) == sizes
    assert sampled(PARTS, None, 1) == [*range(100), *range(1000, 1040), *range(2000, 2003)]
    assert sampled(PARTS, 1_000, 1) == sampled(PARTS, None, 1)


def test_a_larger_sample_holds_what_a_smaller_one_does() -> None:
    small = sampled({"a": range(100)}, 10, 1)
    assert set(small) < set(sampled({"a": range(100)}, 11, 1))


# ---- a mutant at work ----------------------------------------------------------------------------

SNIPPET: Final = """
def level(a, limit=3):
    if a < limit:
        a = a + 1
        return a
    for b in (1, 2):
        continue
    return max(a, b)
"""


def run_mutant(change: str, *arguments: int, monkeypatch: pytest.MonkeyPatch) -> tuple[object, int]:
    """What the mutated snippet returns, and how often the changed place was executed."""
    noted: list[None] = []
    monkeypatch.setattr(builtins, "__mutant_reached__", lambda: noted.append(None), raising=False)
    mutant = next(each for each in mutants_of("m", ast.parse(SNIPPET)) if each.change == change)
    names: dict[str, Any] = {}
    exec(mutated_code("m", SNIPPET, mutant.id, "m.py"), names)
    return names["level"](*arguments), len(noted)


@pytest.mark.parametrize(
    ("change", "argument", "expected", "times"),
    [
        ("a < limit => a <= limit", 3, 4, 1),
        ("a + 1 => a - 1", 1, 0, 1),
        ("a + 1 => a - 1", 9, 9, 0),
        ("a = a + 1 => pass", 1, 1, 1),
        ("continue => pass", 5, 5, 2),
        ("max(a, b) => min(a, b)", 5, 2, 1),
        ("max(a, b) => min(a, b)", 1, 2, 0),
        ("3 => 2", 2, 2, 1),  # a default is evaluated where it is defined
    ],
)
def test_a_mutant_behaves_as_it_says_and_notes_that_it_was_reached(
    change: str, argument: int, expected: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_mutant(change, argument, monkeypatch=monkeypatch) == (expected, times)


def test_a_mutant_that_does_not_exist_is_refused() -> None:
    with pytest.raises(NoSuchMutant, match="m has no mutant 00000000"):
        mutated_code("m", SNIPPET, "00000000", "m.py")


def test_a_module_that_is_there_already_cannot_become_a_mutant() -> None:
    with pytest.raises(RuntimeError, match="expected a fresh process"):
        install("segments.protocol.errors", "00000000")


# ---- equivalent mutants --------------------------------------------------------------------------


def test_every_equivalent_mutant_exists_and_has_a_reason() -> None:
    entries = read_equivalents()
    keys = {each.key for mutants in all_mutants().values() for each in mutants}
    assert stale(entries, keys) == []
    assert all(len(each.why.split()) > 3 for each in entries.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('in = "m:f"\nchange = "a => b"', "expected 'why'"),
        ('in = "m:f"\nchange = "a => b"\nwhy = " "', "with a reason"),
        ('in = "m:f"\nwhy = "because"', "expected 'change'"),
    ],
)
def test_an_incomplete_entry_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "equivalent.toml"
    path.write_text(f"[[mutant]]\n{text}\n", encoding="utf-8")
    with pytest.raises(Invalid, match=message):
        read_equivalents(path)


def test_an_entry_whose_code_has_changed_is_stale(tmp_path: Path) -> None:
    path = tmp_path / "equivalent.toml"
    entry = '[[mutant]]\nin = "m:f"\nchange = "a => b"\nnth = 2\nwhy = "nobody asks"\n'
    path.write_text(entry, encoding="utf-8")
    assert stale(read_equivalents(path), {"m:f: a => b"}) == ["m:f: a => b #2"]
    assert stale(read_equivalents(path), {"m:f: a => b #2"}) == []
    path.write_text(entry * 2, encoding="utf-8")
    with pytest.raises(Invalid, match="expected once"):
        read_equivalents(path)
