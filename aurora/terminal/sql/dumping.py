"""A database as the statements that make it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from aurora.terminal import language
from aurora.terminal.language import Misuse
from aurora.terminal.sql.shell import Shell
from aurora.terminal.sql.words import Words, quoted

if TYPE_CHECKING:
    from aurora.sqlite.database import Database
    from aurora.sqlite.snapshot import Snapshot
    from aurora.sqlite.transaction import Transaction

_PART: Final = 500
"""Lines printed together."""
_SCHEMA: Final = """
SELECT s.type, s.name, s.sql, coalesce(t.type, ''), s.tbl_name FROM sqlite_schema AS s
LEFT JOIN pragma_table_list AS t ON t.name = s.name AND t.schema = 'main'
WHERE s.sql IS NOT NULL AND (?1 IS NULL OR s.tbl_name LIKE ?1)
ORDER BY s.type <> 'table', s.type = 'view', s.type = 'trigger', s.rowid
"""
"""Tables first, then indexes, views and triggers: each after what it needs."""
_COLUMNS: Final = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0 ORDER BY cid"


async def dump(shell: Shell, words: Words) -> None:
    """Print all of the database, or one table with what belongs to it."""
    language.at_most(words, 1)
    source = await shell.source()
    if shell.transaction is not None or shell.snapshot is not None:
        await _print(shell, statements(source, words))
    else:
        db = await shell.open()
        async with db.snapshot() as snapshot:  # all of it as of one moment
            await _print(shell, statements(snapshot, words))


async def _print(shell: Shell, lines: AsyncIterator[str]) -> None:
    part: list[str] = []
    async for line in lines:
        part.append(line)
        if len(part) == _PART:
            shell.results.print_text("\n".join(part))
            part.clear()
    shell.results.print_text("\n".join(part))


async def statements(source: Database | Snapshot | Transaction, words: Words) -> AsyncIterator[str]:
    """The statements, one after the other; raises `Misuse` for a table that is not there."""
    found = await source.query(_SCHEMA, (*words, None)[:1]).all()
    if words and not found:
        raise Misuse(f"{words[0]!r} is no table or view: `.tables` lists all")
    yield "PRAGMA foreign_keys=OFF;"
    yield "BEGIN TRANSACTION;"
    sequenced = False
    for kind, name, sql, table_type, _ in found:
        if kind != "table":
            yield f"{sql};"
        elif name == "sqlite_sequence":
            sequenced = True
        elif name.startswith("sqlite_stat"):
            continue  # ANALYZE makes them
        elif table_type != "shadow":  # what a virtual table keeps is made by its own rows
            yield f"{sql};"
            async for line in _rows(source, name):
                yield line
    if sequenced:
        yield "DELETE FROM sqlite_sequence;"
        async for line in _rows(source, "sqlite_sequence"):
            yield line
    yield "COMMIT;"


async def _rows(source: Database | Snapshot | Transaction, table: str) -> AsyncIterator[str]:
    columns = [quoted(name) for (name,) in await source.query(_COLUMNS, (table,)).all()]
    values = " || ',' || ".join(f"quote({each})" for each in columns)
    names = ",".join(columns)
    async for (row,) in source.query(f"SELECT {values} FROM {quoted(table)}"):
        yield f"INSERT INTO {quoted(table)}({names}) VALUES({row});"
