"""Comma-separated values go into a table.

All reading is done in `aurora.sqlite.bridge.run`: it may wait for who writes to a pipe.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from aurora.terminal import language
from aurora.terminal.language import Misuse
from aurora.terminal.sql.progress import shown_progress
from aurora.terminal.sql.shell import Shell
from aurora.terminal.sql.words import Words, file_of, quoted, with_text
from aurora.terminal.text import counted
from segments.protocol.errors import SqlError

if TYPE_CHECKING:
    from aurora.terminal.sql.waiting_file import WaitingFile

_ROWS: Final = 1_000
_CHARACTERS: Final = 128 << 10
"""What is one transaction, if none is open: so many rows, or so much text."""

_LONGEST: Final = 100_000_000
"""Characters in a value, or a line: what never ends does not take all the memory there is."""
_SAVEPOINT: Final = "aurora_import"


class Part(NamedTuple):
    """Rows that go into the table together."""

    rows: list[list[str]]
    lines: list[int]
    """The line on which each of them ends."""


async def import_csv(shell: Shell, words: Words) -> None:
    """Insert a file's rows into a table, which is made if it is not there.

    In the transaction that is open, all or none; if there is none, in several, so that no size is
    too much: then all rows before a mistake stay.
    """
    language.at_least(words, 2, "FILE", "TABLE")
    language.at_most(words, 2)
    path, table = file_of(words[0]), words[1]
    if shell.snapshot is not None:
        raise Misuse("`.import` in the past: expected `.at now` before it, which ends that")
    if _has_commands(path):
        raise Misuse(f"{path} is where the commands come from: expected another file, or a pipe")
    await shell.open()
    from aurora.terminal.sql.waiting_file import WaitingFile  # needs what `open` has asked for

    with WaitingFile(path) as file, _long_values():
        rows = CsvFile(path, file)  # kept until `file` is closed, or its end would be a warning
        done = await _Import(shell, rows, table).run()
    shell.tell(f"{counted(done, 'row')} into {table}", file=str(path), rows=done)


def _has_commands(path: Path) -> bool:
    """Whether a file is standard input; what a person types is another matter."""
    try:
        return os.path.samestat(path.stat(), os.fstat(0)) and not os.isatty(0)
    except OSError:
        return False  # opening the file says what is wrong with it


@contextmanager
def _long_values() -> Iterator[None]:
    """Lift a limit that is the whole process's, for a while."""
    before = csv.field_size_limit(_LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)


class _Import:
    """One file on its way into a table."""

    def __init__(self, shell: Shell, file: CsvFile, table: str) -> None:
        self._shell = shell
        self._file = file
        self._table = table
        self._done = 0
        self._exists = False
        """Whether the table is there."""

    async def run(self) -> int:
        """How many rows it were; an error says how many of them stay."""
        shell = self._shell
        within = shell.transaction
        if within is not None:
            await shell.write(f"SAVEPOINT {_SAVEPOINT}")
        told = False
        try:
            await self._run()
        except (Misuse, SqlError) as error:
            told = True
            if within is None and self._exists:
                what = f"{counted(self._done, 'row')} before it stay in {self._table}"
            elif within is None:
                what = f"no table {self._table} is made"
            elif shell.transaction is within:
                await shell.write(f"ROLLBACK TO {_SAVEPOINT}; RELEASE {_SAVEPOINT}")
                what = "none of its rows is part of the transaction"
            else:
                raise
            raise with_text(error, f"{error}; {what}") from error
        else:
            if within is not None:
                await shell.write(f"RELEASE {_SAVEPOINT}")
            told = True
        finally:
            if not told and within is None and self._done:
                stay = f"at least the first {counted(self._done, 'row')} stay in {self._table}"
                shell.note(stay, "warn")
        return self._done

    async def _run(self) -> None:
        from aurora.sqlite.bridge import run

        shell, file, table = self._shell, self._file, self._table
        columns = await _columns(shell, table)
        self._exists = bool(columns)
        first = await run(file.first_row)
        columns = columns or first
        making = ", ".join(f"{quoted(name)} TEXT" for name in columns)
        if [each.lower() for each in first] == [each.lower() for each in columns]:
            first = []
        insert = f"INSERT INTO {quoted(table)} VALUES({', '.join('?' * len(columns))})"
        with shown_progress(shell.aside.console) as tell:
            parts = file.parts(first, len(columns))
            while True:
                part = await run(next, parts, None)
                if not self._exists:  # a first row that does not fit has left nothing
                    await shell.write(f"CREATE TABLE {quoted(table)}({making})")
                    self._exists = True
                if part is None:
                    return
                await self._insert(insert, part)
                tell("importing", *file.position())

    async def _insert(self, insert: str, part: Part) -> None:
        """Insert as many as can be; halves find the one that cannot."""
        count = len(part.rows)
        try:
            await self._shell.write_many(insert, part.rows)
        except SqlError as error:
            if self._shell.transaction is None and count > 1:
                half = count // 2
                await self._insert(insert, Part(part.rows[:half], part.lines[:half]))
                await self._insert(insert, Part(part.rows[half:], part.lines[half:]))
                return
            lines = f"line {part.lines[0]}"
            if count > 1:
                lines += f" to {part.lines[-1]}"
            raise with_text(error, f"{self._file.path}, {lines}: {error}") from error
        self._done += count


async def _columns(shell: Shell, table: str) -> list[str]:
    source = await shell.source()
    rows = await source.query("SELECT name FROM pragma_table_info(?)", (table,)).all()
    return [name for (name,) in rows]


class CsvFile:
    """One file's rows, in parts."""

    def __init__(self, path: Path, file: WaitingFile) -> None:
        self.path = path
        self._file = file
        # Bytes that are no UTF-8 are found with their line, not with the buffer that they are in.
        self._text = TextIOWrapper(
            BufferedReader(file), encoding="utf-8-sig", errors="surrogateescape", newline=""
        )
        self._reader = csv.reader(self._lines(), strict=True)

    def position(self) -> tuple[int, int]:
        """Bytes read, and of how many; 0 if that is not known."""
        return self._file.taken, self._file.size

    def first_row(self) -> list[str]:
        """The first row, as a rule the names of columns; raises `Misuse` if there is none."""
        for row in self._rows():
            return row
        raise Misuse(f"{self.path} has no line: expected one with the names of columns")

    def parts(self, first: list[str], columns: int) -> Iterator[Part]:
        """``first``, if any, and all the rest; raises `Misuse` for one that does not fit.

        All rows before that have been given by then.
        """
        part, size = Part([], []), 0
        rows = self._all(first, columns)
        while True:
            mistake: Misuse | None = None
            try:
                row = next(rows, None)
            except Misuse as error:
                mistake, row = error, None
            if row is not None:
                part.rows.append(row)
                part.lines.append(self._reader.line_num)
                size += sum(map(len, row))
            if part.rows and (row is None or len(part.rows) >= _ROWS or size >= _CHARACTERS):
                yield part
                part, size = Part([], []), 0
            if mistake is not None:
                raise mistake
            if row is None:
                return

    def _all(self, first: list[str], columns: int) -> Iterator[list[str]]:
        for row in chain([first] if first else [], self._rows()):
            if len(row) != columns:
                raise self._misuse(
                    f"{counted(len(row), 'value')}: expected {columns}, one for each column"
                )
            yield row

    def _lines(self) -> Iterator[str]:
        while line := self._text.readline(_LONGEST):
            if len(line) == _LONGEST:
                raise self._misuse(f"a line of more than {_LONGEST:,} characters: expected fewer")
            yield line

    def _rows(self) -> Iterator[list[str]]:
        try:
            for row in self._reader:
                "".join(row).encode("utf-8")
                if row:
                    yield row
        except csv.Error as error:
            expected = f"comma-separated values, of at most {_LONGEST:,} characters each"
            raise self._misuse(f"{error}; expected {expected}") from None
        except UnicodeEncodeError as error:
            wrong = error.object[error.start]
            raise self._misuse(f"{wrong!r} is no UTF-8; expected CSV in UTF-8") from None

    def _misuse(self, text: str) -> Misuse:
        return Misuse(f"{self.path}, line {self._reader.line_num}: {text}")
