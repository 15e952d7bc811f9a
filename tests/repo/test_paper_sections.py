"""The rules that come from the papers: each is in the protocol, and has a test, by its section.

A section is cited as ``2017 §4.2.1``: in docs/protocol.md beside the rule, in the code that keeps
it, and in the docstring of each test that would fail without it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.repo.sources import of_each, parsed, python_files, text

SECTION: Final = re.compile(r"(201[78])((?: ?(?:,|and|to)? ?§\d(?:\.\d)*)+)")


def sections_in(prose: str) -> set[str]:
    """The sections that a text cites: ``2018 §2.1, §2.3`` are two."""
    return {
        f"{year} §{number}"
        for year, cited in SECTION.findall(prose)
        for number in re.findall(r"§([\d.]*\d)", cited)
    }


def docstrings(tree: ast.Module, kinds: tuple[type, ...]) -> str:
    """All docstrings of nodes of these kinds, in one text."""
    nodes = [each for each in ast.walk(tree) if isinstance(each, kinds)]
    texts = [ast.get_docstring(each) or "" for each in nodes if isinstance(each, _DOCUMENTED)]
    return "\n".join(texts)


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def cited_by(paths: Iterable[Path]) -> set[str]:
    """The sections that the docstrings of tests cite."""
    return {each for path in paths for each in sections_in(docstrings(parsed(path), _FUNCTIONS))}


def built(protocol: str) -> str:
    """The protocol without its chapter of what is not built."""
    before, later = protocol.split("\n## 10. ")
    return before + later[later.index("\n## 11. ") :]


IN_PROTOCOL: Final = sections_in(built(text(Path("docs/protocol.md"))))
LATER: Final = sections_in(text(Path("docs/protocol.md"))) - IN_PROTOCOL


@cache
def cited_in_tests() -> set[str]:
    """All sections that tests cite, once somebody asks: it takes reading all of them."""
    return cited_by(each for each in python_files("tests") if each.parts[1] != "repo")


@pytest.mark.parametrize("section", sorted(IN_PROTOCOL))
def test_a_rule_of_the_papers_has_a_test(section: str) -> None:
    assert section in cited_in_tests()


def test_what_the_code_cites_is_a_rule_of_the_protocol() -> None:
    known = IN_PROTOCOL | LATER
    files = python_files("aurora", "segments")
    assert of_each(files, lambda path: sections_in(text(path)) - known) == []


def test_what_tests_cite_is_a_rule_of_the_protocol() -> None:
    assert cited_in_tests() <= IN_PROTOCOL


def test_sections_are_found_however_they_are_cited() -> None:
    prose = "(2017 §2.1, 2018 §2.1, §2.3), 2018 §3.2 to §3.4; protocol §7, step 2; in 2017. §4 too"
    assert sections_in(prose) == {
        "2017 §2.1", "2018 §2.1", "2018 §2.3", "2018 §3.2", "2018 §3.4",
    }  # fmt: skip
    tree = ast.parse('"""2017 §9."""\ndef test_x():\n    """2017 §4.1: so."""\n')
    assert sections_in(docstrings(tree, _FUNCTIONS)) == {"2017 §4.1"}
