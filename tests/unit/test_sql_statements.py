"""Where a statement of the shell ends, and what it does to the transaction."""

from __future__ import annotations

import pytest

from aurora.terminal.sql.statements import Control, control_of, is_ended, take_apart


def taken(text: str) -> list[str]:
    return [each.text for each in take_apart(text).inputs]


@pytest.mark.parametrize(
    ("text", "statements", "rest"),
    [
        ("SELECT 1; SELECT 2;", ["SELECT 1;", "SELECT 2;"], ""),
        ("SELECT ';' -- ; no end\n;", ["SELECT ';' -- ; no end\n;"], ""),
        ("SELECT 'it''s;", [], "SELECT 'it''s;"),
        ('SELECT ";" FROM [a;b], `c;d`;', ['SELECT ";" FROM [a;b], `c;d`;'], ""),
        ("/* ; */ SELECT 1; /* not", ["SELECT 1;"], "/* not"),
        (";;; SELECT 1;;", ["SELECT 1;"], ""),
        (
            "CREATE TRIGGER a AFTER INSERT ON t BEGIN DELETE FROM u; END; SELECT 1;",
            ["CREATE TRIGGER a AFTER INSERT ON t BEGIN DELETE FROM u; END;", "SELECT 1;"],
            "",
        ),
        (".tables\nSELECT 1;\n", [".tables", "SELECT 1;"], ""),
        (".tables", [], ".tables"),
        ("  -- nothing\n", [], ""),
        ("SELECT\n", [], "SELECT\n"),
    ],
)
def test_a_text_is_taken_apart(text: str, statements: list[str], rest: str) -> None:
    assert taken(text) == statements
    assert take_apart(text).rest == rest


def test_lines_are_counted() -> None:
    typed = take_apart("\nSELECT\n1; SELECT 2;\n\n.at 5\nSELECT")
    assert [each.line for each in typed.inputs] == [1, 2, 4]
    assert typed.rest_line == 5


@pytest.mark.parametrize("text", ["SELECT 1;", ".tables", "", "  ", "-- note", ";"])
def test_enter_ends(text: str) -> None:
    assert is_ended(text)


@pytest.mark.parametrize("text", ["SELECT 1", "SELECT ';", "CREATE TRIGGER a BEGIN SELECT 1;"])
def test_enter_goes_on(text: str) -> None:
    assert not is_ended(text)


@pytest.mark.parametrize(
    ("statement", "control"),
    [
        ("begin immediate;", Control.BEGIN),
        ("/* x */ COMMIT;", Control.COMMIT),
        ("END TRANSACTION;", Control.COMMIT),
        ("ROLLBACK;", Control.ROLLBACK),
        ("ROLLBACK TRANSACTION;", Control.ROLLBACK),
        ("ROLLBACK TO a;", Control.NONE),
        ("ROLLBACK TRANSACTION TO SAVEPOINT a;", Control.NONE),
        ("SAVEPOINT a;", Control.SAVEPOINT),
        ("RELEASE a;", Control.NONE),
        ("SELECT 'BEGIN';", Control.NONE),
    ],
)
def test_what_a_statement_does_to_the_transaction(statement: str, control: Control) -> None:
    assert control_of(statement) is control
