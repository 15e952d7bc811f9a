"""A database as the statements that make it."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Callable
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
ORDER BY s.type = 'trigger', s.type = 'view', s.type <> 'table', s.rowid
"""
"""Tables first, then indexes, views and triggers: each after what it needs."""
_COLUMNS: Final = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0 ORDER BY cid"
_HEADER_PRAGMAS: Final = ("user_version", "application_id")
_VIRTUAL: Final = re.compile(
    r"CREATE\s+VIRTUAL\s+TABLE\b.*?\bUSING\s+(\w+)", re.IGNORECASE | re.DOTALL
)
_CONTENT: Final = re.compile(r"""[(,]\s*content\s*=\s*(''|""|``|\[\]|[^\s,)])""", re.IGNORECASE)

Warn = Callable[[str], None]


async def dump(shell: Shell, words: Words) -> None:
    """Print all of the database, or one table with what belongs to it."""
    language.at_most(words, 1)
    source = await shell.source()

    def warn(text: str) -> None:
        shell.note(text, "warn")

    if shell.transaction is not None:
        shell.results.print_text(f"-- {_UNCOMMITTED}")
        warn(_UNCOMMITTED)
    if shell.transaction is not None or shell.snapshot is not None:
        await _print(shell, statements(source, words, warn))
    else:
        db = await shell.open()
        async with db.snapshot() as snapshot:  # all of it as of one moment
            await _print(shell, statements(snapshot, words, warn))


_UNCOMMITTED: Final = (
    "within the transaction, so with what it has not committed; `.export` writes what is durable"
)


async def _print(shell: Shell, lines: AsyncIterator[str]) -> None:
    part: list[str] = []
    async for line in lines:
        part.append(line)
        if len(part) == _PART:
            shell.results.print_text("\n".join(part))
            part.clear()
    shell.results.print_text("\n".join(part))


async def statements(
    source: Database | Snapshot | Transaction, words: Words, warn: Warn
) -> AsyncIterator[str]:
    """The statements, one after the other; raises `Misuse` for a table that is not there.

    What cannot be among them is told in a comment, and to ``warn``.
    """
    found = await source.query(_SCHEMA, (*words, None)[:1]).all()
    if words and not found:
        raise Misuse(f"{words[0]!r} is no table or view: `.tables` lists all")
    yield "PRAGMA foreign_keys=OFF;"
    yield "BEGIN TRANSACTION;"
    for pragma in () if words else _HEADER_PRAGMAS:
        if value := await source.query(f"PRAGMA {pragma}").value():
            yield f"PRAGMA {pragma}={value};"
    encoding = await source.query("PRAGMA encoding").value()
    sequenced, later = False, []
    for kind, name, sql, table_type, _ in found:
        if kind != "table":
            later.append(f"{sql};")
        elif name == "sqlite_sequence":
            sequenced = True
        elif name.startswith("sqlite_stat") or table_type == "shadow":
            continue  # ANALYZE makes them; what a virtual table keeps is made by its own rows
        else:
            yield f"{sql};"
            keeping = _keeping(sql)
            if keeping == "none":
                why = f"{name!r} keeps no content: its rows cannot be told, and are left out"
                warn(why)
                yield f"-- {why}".replace("\n", " ")
            elif keeping == "elsewhere":
                later.append(f"INSERT INTO {quoted(name)}({quoted(name)}) VALUES('rebuild');")
            elif keeping:
                async for line in _rows(source, name, encoding, with_rowid=keeping == "by rowid"):
                    yield line
    if sequenced:
        yield "DELETE FROM sqlite_sequence;"
        async for line in _rows(source, "sqlite_sequence", encoding):
            yield line
    for line in _rebuilt_last(later):
        yield line
    yield "COMMIT;"


def _keeping(sql: str) -> str:
    """How a table keeps its rows, by the statement that made it; empty if they are not its own."""
    virtual = _VIRTUAL.match(sql.lstrip())
    if virtual is None:
        return "by column"
    module = virtual[1].lower()
    if module in ("fts5", "fts4", "fts3"):
        content = _CONTENT.search(sql, virtual.end())
        if content is None:
            return "by rowid"
        return "none" if content[1] in ("''", '""', "``", "[]") else "elsewhere"
    if module in ("fts5vocab", "fts4aux", "dbstat", "bytecode", "tables_used"):
        return ""
    return "by column" if module.startswith("rtree") else "by rowid"


def _rebuilt_last(later: list[str]) -> list[str]:
    """Views may be the content of a full-text table, and triggers do not belong to a rebuilding."""
    rebuilds = [line for line in later if line.endswith("VALUES('rebuild');")]
    others = [line for line in later if line not in rebuilds]
    return [*others, *rebuilds]


async def _rows(
    source: Database | Snapshot | Transaction, table: str, encoding: str, *,
    with_rowid: bool = False,
) -> AsyncIterator[str]:  # fmt: skip
    columns = [quoted(name) for (name,) in await source.query(_COLUMNS, (table,)).all()]
    if with_rowid:
        columns.insert(0, "rowid")
    # One value for each column, as a table may have as many columns as SQLite has in a result.
    values = ",".join(
        f"CASE typeof({each}) WHEN 'text' THEN CAST({each} AS BLOB) WHEN 'blob' THEN hex({each}) "
        f"ELSE {each} END"
        for each in columns
    )
    insert = f"INSERT INTO {quoted(table)}({','.join(columns)}) VALUES("
    async for row in source.query(f"SELECT {values} FROM {quoted(table)}"):
        yield f"{insert}{','.join(literal(each, encoding) for each in row)});"


def literal(value: bytes | str | float | None, encoding: str = "UTF-8") -> str:
    """A value in SQL, exactly; a text is given by its bytes, a blob by its digits."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        if encoding != "UTF-8":
            value = value.decode(encoding, errors="replace").encode("utf-8")
        try:
            text = str(value, "utf-8")
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:  # a literal cannot have it
            return f"CAST(x'{value.hex()}' AS TEXT)"
        return "'" + text.replace("'", "''") + "'"
    if isinstance(value, str):
        return f"x'{value}'"
    if math.isinf(value):
        return "9.0e+999" if value > 0 else "-9.0e+999"
    return f"{value!r}"
