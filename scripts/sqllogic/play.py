"""Each record of a file on a volume, and on plain SQLite in memory: the same, and as the file says?

The plain one is of the same version of SQLite, so that a difference between the two is ours; one
between both and the file may be SQLite's, of another version.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import attrs
import trio

from aurora import ClusterConfig, EngineConfig, open_cluster, open_database
from aurora.sqlite.database import Database
from aurora.sqlite.transaction import Transaction
from scripts.sqllogic.records import Record, agrees, hashed, records, values_of
from segments.protocol.errors import SqlError, TransactionEnded

_BEGINS: Final = re.compile(r"\s*BEGIN\b", re.IGNORECASE)
_ENDS: Final = re.compile(r"\s*(COMMIT|END|ROLLBACK)\b(?!.*\bTO\b)", re.IGNORECASE)
_LEFT: Final = EngineConfig(retention_lsns=1_024)
"""Not much is kept of the past: nothing here looks at it."""


class Answer(NamedTuple):
    """What one of the two says to a record: its rows, or SQLite's code for an error."""

    rows: Sequence[Sequence[Any]] = ()
    code: int | None = None
    text: str = ""


@attrs.define
class Played:
    """What came of a file."""

    path: Path
    statements: int = 0
    queries: int = 0
    differ: list[str] = attrs.field(factory=list)
    """Where the volume said something else than plain SQLite."""
    unlike_file: list[str] = attrs.field(factory=list)
    """Where plain SQLite, and perhaps the volume with it, said something else than the file."""
    cut: bool = False
    """Whether time was up before its end."""

    @property
    def records(self) -> int:
        return self.statements + self.queries


class _GivenUp(Exception):
    """Leaves a transaction's block."""


class OnVolume:
    """Records on a database that is a volume."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._transaction: Transaction | None = None
        self._block = AsyncExitStack()

    async def answer(self, record: Record) -> Answer:
        """Run one; BEGIN and what ends it become a block of `Database.transaction`."""
        try:
            if _BEGINS.match(record.sql) and self._transaction is None:
                block = self._database.transaction()
                self._transaction = await self._block.enter_async_context(block)
                return Answer()
            if self._transaction is not None:
                if _ENDS.match(record.sql):
                    return await self.leave(commit="ROLLBACK" not in record.sql.upper())
                return Answer((await self._transaction.execute(record.sql)).rows)
            if record.types:
                return Answer(await self._database.query(record.sql).all())
            return Answer((await self._database.execute(record.sql)).rows)
        except SqlError as error:
            return Answer(code=error.code, text=str(error))

    async def leave(self, *, commit: bool) -> Answer:
        """End the transaction, if there is one."""
        self._transaction = None
        failure = None if commit else _GivenUp()
        try:
            await self._block.__aexit__(type(failure) if failure else None, failure, None)
        except (_GivenUp, TransactionEnded):
            assert not commit
        return Answer()


class OnPlain:
    """Records on SQLite itself, in memory."""

    def __init__(self) -> None:
        self.connection = apsw.Connection(":memory:")

    def answer(self, record: Record) -> Answer:
        """Run one."""
        try:
            return Answer(list(self.connection.execute(record.sql)))
        except apsw.Error as error:
            return Answer(code=getattr(error, "extendedresult", 1), text=str(error))


async def play(path: Path, deadline: float = float("inf")) -> Played:
    """Play a file; what is not begun at ``deadline``, of `time.monotonic`, is left."""
    played = Played(path)
    labels: dict[str, str] = {}
    config = ClusterConfig(engine=_LEFT)
    async with (
        open_cluster(directory=None, config=config) as cluster,
        open_database(cluster) as database,
    ):
        volume, plain = OnVolume(database), OnPlain()
        with path.open(encoding="utf-8", errors="replace") as lines:
            for record in records(lines):
                if time.monotonic() > deadline:
                    played.cut = True
                    break
                here, there = await volume.answer(record), plain.answer(record)
                _judge(played, labels, record, here, there)
                if here.code is not None and not plain.connection.in_transaction:
                    await volume.leave(commit=False)  # ON CONFLICT ROLLBACK has ended it
        await volume.leave(commit=False)
        check = await database.execute("PRAGMA integrity_check")
        if check.rows != [("ok",)]:
            played.differ.append(f"{path}: integrity_check: {check.rows[:3]}")
    return played


def _judge(
    played: Played, labels: dict[str, str], record: Record, here: Answer, there: Answer
) -> None:
    where = f"{played.path}:{record.line}"
    if record.types:
        played.queries += 1
    else:
        played.statements += 1
    if _compared(here, record) != _compared(there, record):
        played.differ.append(
            f"{where}: {record.sql}\n  volume: {_told(here)}\n  plain:  {_told(there)}"
        )
    wrong = _unlike(record, there, labels)
    if wrong:
        played.unlike_file.append(f"{where}: {record.sql}\n  plain:  {wrong}")


def _compared(answer: Answer, record: Record) -> tuple[object, int | None]:
    """Rows with the types of their values, in their order if that means anything."""
    rows = [repr(row) for row in answer.rows]
    return rows if record.sort == "nosort" else sorted(rows), answer.code


def _unlike(record: Record, answer: Answer, labels: dict[str, str]) -> str:
    """What a file would not expect of an answer; empty if all is well."""
    if not record.types:
        return _told(answer) if record.fails != (answer.code is not None) else ""
    if answer.code is not None:
        return _told(answer)
    if any(len(row) != len(record.types) for row in answer.rows):
        return f"rows of another length than {record.types}: {_told(answer)}"
    values = values_of(answer.rows, record.types, record.sort)
    if record.expected is not None and not agrees(record.expected, values):
        return f"{values[:20]}; the file: {list(record.expected[:20])}"
    if record.label and labels.setdefault(record.label, hashed(values)) != hashed(values):
        return f"{values[:20]}, another result than before of label {record.label}"
    return ""


def _told(answer: Answer) -> str:
    if answer.code is not None:
        return f"error {answer.code}: {answer.text}"
    return f"{len(answer.rows)} rows: {list(answer.rows[:5])}"


def played_file(path: Path, deadline: float) -> Played:
    """As `play`, for a process of a pool."""
    return trio.run(play, path, deadline)
