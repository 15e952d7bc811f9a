"""Comma-separated values go into a table."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from aurora.terminal import language
from aurora.terminal.language import Misuse
from aurora.terminal.sql.progress import shown_progress
from aurora.terminal.sql.shell import Shell
from aurora.terminal.sql.words import Words, file_of, quoted
from aurora.terminal.text import counted

_ROWS: Final = 1_000
_CHARACTERS: Final = 128 << 10
"""What is one transaction, if none is open: so many rows, or so much text."""

Rows = list[list[str]]


async def import_csv(shell: Shell, words: Words) -> None:
    """Insert a file's rows into a table, which is made if it is not there.

    In the transaction that is open; if there is none, in several, so that no size is too much.
    """
    language.at_least(words, 2, "FILE", "TABLE")
    language.at_most(words, 2)
    path, table = file_of(words[0]), words[1]
    if shell.snapshot is not None:
        raise Misuse("`.import` in the past: expected `.at now` before it, which ends that")
    await shell.open()
    with path.open(encoding="utf-8-sig", newline="") as file:
        done = await _import(shell, CsvFile(path, file), table)
    shell.tell(f"{counted(done, 'row')} into {table}", file=str(path), rows=done)


async def _import(shell: Shell, file: CsvFile, table: str) -> int:
    done, ended = 0, False
    columns = await _columns(shell, table)
    first = file.first_row()
    if not columns:
        statement = ", ".join(f"{quoted(name)} TEXT" for name in first)
        await shell.write(f"CREATE TABLE {quoted(table)}({statement})")
        columns = first
    if [each.lower() for each in first] == [each.lower() for each in columns]:
        first = []
    insert = f"INSERT INTO {quoted(table)} VALUES({', '.join('?' * len(columns))})"
    try:
        with shown_progress(shell.aside.console) as tell:
            for rows in file.parts(first, len(columns)):
                await shell.write_many(insert, rows)
                done += len(rows)
                tell("importing", *file.position())
        ended = True
    finally:
        if not ended and shell.transaction is None and done:
            shell.note(f"at least the first {counted(done, 'row')} stay in {table}", "warn")
    return done


async def _columns(shell: Shell, table: str) -> list[str]:
    source = await shell.source()
    rows = await source.query("SELECT name FROM pragma_table_info(?)", (table,)).all()
    return [name for (name,) in rows]


class CsvFile:
    """One file's rows, in parts."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path = path
        self._file = file
        self._size = path.stat().st_size
        self._reader = csv.reader(file, strict=True)

    def position(self) -> tuple[int, int]:
        """Bytes read, and of how many."""
        return self._file.buffer.tell(), self._size

    def first_row(self) -> list[str]:
        """The first row, as a rule the names of columns; raises `Misuse` if there is none."""
        for row in self._rows():
            return row
        raise Misuse(f"{self._path} has no line: expected one with the names of columns")

    def parts(self, first: list[str], columns: int) -> Iterator[Rows]:
        """``first``, if any, and all the rest; raises `Misuse` for one that does not fit."""
        part: Rows = []
        size = 0
        for row in self._all(first):
            if len(row) != columns:
                raise Misuse(
                    f"{self._path}, line {self._reader.line_num}: {counted(len(row), 'value')}: "
                    f"expected {columns}, one for each column"
                )
            part.append(row)
            size += sum(map(len, row))
            if len(part) >= _ROWS or size >= _CHARACTERS:
                yield part
                part, size = [], 0
        if part:
            yield part

    def _all(self, first: list[str]) -> Iterator[list[str]]:
        if first:
            yield first
        yield from self._rows()

    def _rows(self) -> Iterator[list[str]]:
        try:
            yield from (row for row in self._reader if row)
        except (csv.Error, UnicodeDecodeError) as error:
            line = self._reader.line_num + 1
            raise Misuse(f"{self._path}, line {line}: {error}; expected CSV in UTF-8") from None
