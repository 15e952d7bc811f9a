"""What a statement returned, printed: for people in a mode, for programs as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

from aurora.terminal.sql.formats import Part, Row, as_json, lines_of
from aurora.terminal.text import STYLES

if TYPE_CHECKING:
    from aurora.sqlite.rows import Rows

PART: Final = 1_000
"""Rows printed together."""


class Results:
    """Where results go."""

    def __init__(self, console: Console, *, json_lines: bool) -> None:
        """``json_lines`` makes each result one line of JSON, whatever the mode."""
        self._console = console
        self.json_lines = json_lines
        self.mode = "table"

    async def print_query(self, rows: Rows) -> None:
        """Print all rows of a query, part by part; as JSON, together."""
        part = await _next_part(rows)
        if self.json_lines:
            found = part
            while part:
                part = await _next_part(rows)
                found += part
            self.print_object(_result(rows.columns, found))
            return
        first = True
        while True:
            following = await _next_part(rows) if len(part) == PART else []
            self._print_part(Part(rows.columns, part, first, not following))
            if not following:
                return
            part, first = following, False

    def print_rows(
        self, columns: Sequence[str], rows: Sequence[Row], **more: int | str | None
    ) -> None:
        """Print rows that are there; ``more`` is told in JSON alone."""
        if self.json_lines:
            self.print_object(_result(columns, rows) | more)
        elif columns:
            self._print_part(Part(columns, rows))

    def print_object(self, fields: dict[str, Any]) -> None:
        """One line of JSON."""
        self.print_line(_json_line(fields))

    def print_line(self, line: str) -> None:
        """A line that is JSON already."""
        self._console.print(Text(line), soft_wrap=True)

    def print_text(self, text: str) -> None:
        """A text as it is, whatever the width of the window; in JSON as that."""
        if self.json_lines:
            self.print_object({"text": text})
        else:
            self._console.print(Text(text), soft_wrap=True)

    def _print_part(self, part: Part) -> None:
        width = self._console.width if self._console.is_terminal else None
        text = Text()
        heading = self.mode == "table"
        for line in lines_of(self.mode, part, width):
            if len(text):
                text.append("\n")
            text.append(line, STYLES["title"] if heading else "")
            heading = heading and not line.startswith("─")
        if len(text):
            self._console.print(text, soft_wrap=True)


def error_line(kind: str, message: str, code: int | None = None, line: int | None = None) -> str:
    """An error as a line of JSON."""
    fields = {"kind": kind, "message": message, "code": code, "line": line}
    return _json_line({"error": fields})


def _json_line(fields: dict[str, Any]) -> str:
    line = json.dumps(fields, ensure_ascii=False)
    # Of bytes that were no UTF-8, as in a name that was typed: an escape is JSON, too.
    return line.encode("utf-8", errors="backslashreplace").decode("utf-8")


def _result(columns: Sequence[str], rows: Sequence[Row]) -> dict[str, Any]:
    return {"columns": list(columns), "rows": [[as_json(each) for each in row] for row in rows]}


async def _next_part(rows: AsyncIterator[Row]) -> list[Row]:
    part: list[Row] = []
    async for row in rows:
        part.append(row)
        if len(part) == PART:
            break
    return part
