"""The shell's own commands: what their words mean, what is offered, and that the help has all."""

from __future__ import annotations

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from aurora.terminal.language import Misuse
from aurora.terminal.sql.commands import COMMANDS, find
from aurora.terminal.sql.completing import SqlCompleter
from aurora.terminal.sql.words import moment, quoted


def offered(text: str) -> list[str]:
    completer = SqlCompleter(["A0", "B0"])
    completer.names = {"notes": ["id", "body"], "Other": ["id", "x"]}
    found = completer.get_completions(Document(text), CompleteEvent())
    return [each.text for each in found]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sel", ["select"]),
        ("SEL", ["SELECT"]),
        ("SELECT * FROM no", ["notes"]),
        ("INSERT INTO o", ["Other"]),
        ("DROP TABLE exi", ["exists"]),
        ("SELECT bo", ["body"]),
        ("SELECT notes.", ["notes.id", "notes.body"]),
        ("UPDATE other SET x", ["x"]),
        ("UPDATE notes SET x", []),
        ("SELECT other.x FROM nowhere.", []),
        (".cra", [".crash"]),
        (".crash az", ["az1", "az2", "az3"]),
        (".crash az1 wr", ["writer"]),
        (".schema n", ["notes"]),
        (".mode l", ["line", "list"]),
        (".help ba", ["backtrack"]),
        (".nonsense a", []),
    ],
)
def test_what_completion_offers(text: str, words: list[str]) -> None:
    assert offered(text) == words


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["12"], 12),
        (["@10,000,014"], 10_000_014),
        (["now"], None),
        (["NOW"], None),
        (["5", "minutes", "ago"], "5 minutes ago"),
        (["2026-05-01 12:00"], "2026-05-01 12:00"),
        (["-5"], "-5"),
    ],
)
def test_moments(words: list[str], meant: object) -> None:
    assert moment(words) == meant


def test_a_number_that_no_lsn_can_be() -> None:
    with pytest.raises(Misuse, match="99999999999999999999"):
        moment(["99999999999999999999"])


def test_commands_are_found_by_their_names() -> None:
    for name, command in COMMANDS.items():
        assert find(f".{name}") is command
        assert find(f".{name.upper()}") is command
    assert find(".exit") is find(".quit")
    with pytest.raises(Misuse, match=r"did you mean \.tables"):
        find(".table")


def test_names_are_quoted() -> None:
    assert quoted('a "b"') == '"a ""b"""'
