"""Rows as text, in each mode of the shell."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.cells import cell_len

from aurora.terminal.sql.formats import MODES, Part, fitted, lines_of, shown

ROWS = [(1, "x, y", None), (22, 'say "hi"', b"\x00\xff")]
COLUMNS = ("id", "text", "data")


def lines(mode: str, *parts: Part, width: int | None = None) -> list[str]:
    return [line for part in parts for line in lines_of(mode, part, width)]


def test_a_table() -> None:
    assert lines("table", Part(COLUMNS, ROWS)) == [
        "id  text      data",
        "──  ────────  ───────",
        " 1  x, y      NULL",
        "22  say \"hi\"  x'00ff'",
    ]


def test_a_table_of_no_rows_has_its_heading() -> None:
    assert lines("table", Part(("a",), [])) == ["a", "─"]


@pytest.mark.parametrize("width", [30, 60, 80, 100])
def test_a_table_is_folded_to_its_width_and_nothing_is_cut(width: int) -> None:
    row = ("word " * 40, "漢字" * 50, 7)
    found = lines("table", Part(("a", "b", "c"), [row]), width=width)
    assert max(map(cell_len, found)) <= width
    letters = "".join(found[2:]).replace(" ", "")
    assert sorted(letters) == sorted("".join(map(str, row)).replace(" ", ""))


def test_narrow_columns_keep_their_width() -> None:
    assert fitted([4, 100, 10], 50) == [4, 36, 10]
    assert fitted([4, 10], 50) == [4, 10]
    assert fitted([100, 100], 51) == [26, 25]
    assert fitted([9, 9, 9], 3) == [6, 6, 6]


def test_a_value_stays_on_its_line() -> None:
    assert shown("a\nb\tc\x1b[2J") == "a\\nb\\tc\\x1b[2J"
    assert shown(None) == "NULL"


def test_csv() -> None:
    assert lines("csv", Part(COLUMNS, ROWS)) == [
        "id,text,data",
        '1,"x, y",',
        '22,"say ""hi""",x\'00ff\'',
    ]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_json_is_one_array(count: int) -> None:
    found = json.loads("\n".join(lines("json", Part(COLUMNS, ROWS[:count]))))
    expected: list[dict[str, Any]] = [
        {"id": 1, "text": "x, y", "data": None},
        {"id": 22, "text": 'say "hi"', "data": {"blob": "00ff"}},
    ]
    assert found == expected[:count]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "table"])
def test_a_result_in_parts_is_the_same_text(mode: str) -> None:
    parts = [
        Part(COLUMNS, ROWS[:1], first=True, last=False),
        Part(COLUMNS, ROWS[1:], first=False, last=True),
    ]
    assert lines(mode, *parts) == lines(mode, Part(COLUMNS, ROWS))


def test_columns_of_one_name_are_all_in_json() -> None:
    columns = ("a", "a", "a:1", "a", "b")
    (line,) = lines("json", Part(columns, [(1, 2, 3, 4, 5)]))
    assert json.loads(line) == [{"a": 1, "a:2": 2, "a:1": 3, "a:3": 4, "b": 5}]
    (line,) = lines("json", Part(("a", "a"), [(1, 2)]))
    assert json.loads(line) == [{"a": 1, "a:1": 2}]


def test_infinity_is_text_in_json() -> None:
    (line,) = lines("json", Part(("a",), [(float("-inf"),)]))
    assert json.loads(line) == [{"a": "-Infinity"}]


def test_line_and_list() -> None:
    assert lines("line", Part(COLUMNS, ROWS[:1])) == ["  id = 1", "text = x, y", "data = NULL"]
    assert lines("list", Part(COLUMNS, ROWS[:1])) == ["1|x, y|"]
