"""The child of `sql_kills`: sessions on a database, in files, until it is killed.

Called with a directory, a number for this round, and a file of what has been acknowledged, a line
each: ``round session number lsn``, numbers counted from 0 in each session. Looks whether all of it
is there, says ``open``, and then prints such a line for each commit, once it is acknowledged.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import trio

from aurora import ClusterConfig, EngineConfig, SegmentConfig, open_cluster, open_database
from aurora.sqlite.database import Database
from aurora.sqlite.snapshot import Snapshot
from tests.process.committer import say

SESSIONS: Final = 8
ACCOUNTS: Final = 6
EUROS: Final = 1_000
"""What each account has at first."""
BATCH: Final = 30
"""Rows of one commit, where there are several."""
CONFIG: Final = ClusterConfig(
    lal=200_000,
    # A transaction that is not small comes in several parts, between which a kill may fall.
    engine=EngineConfig(
        buffer_pool_pages=32, part_writes=16, part_bytes=16 << 10, retention_lsns=20_000
    ),
    segment=SegmentConfig(wal_file_bytes=256 << 10, fold_bytes=64 << 10, compact_bytes=256 << 10),
)

SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, euros INTEGER);
CREATE TABLE IF NOT EXISTS entry
    (round INTEGER, session INTEGER, number INTEGER, rows INTEGER, source INTEGER, target INTEGER,
     euros INTEGER, body BLOB);
CREATE INDEX IF NOT EXISTS entries ON entry (round, session, number);
INSERT INTO account WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n
    LIMIT {ACCOUNTS}) SELECT i, {EUROS} FROM n WHERE NOT EXISTS (SELECT 1 FROM account);
"""
_ENTRY: Final = "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_WRONG: Final = f"""
SELECT a.id, a.euros FROM account AS a WHERE a.euros <> {EUROS}
    + (SELECT total(euros) FROM entry WHERE target = a.id)
    - (SELECT total(euros) FROM entry WHERE source = a.id)
"""
"""Accounts that have not what their entries say: half of a transaction is there, or one twice."""


class Acknowledged(NamedTuple):
    """One commit that a session has been told of."""

    round: int
    session: int
    number: int
    lsn: int


# ---- what must hold ------------------------------------------------------------------------------


async def check(database: Database, acknowledged: Iterable[Acknowledged]) -> None:
    """Raise unless all acknowledged is there once, and of the rest at most what was under way."""
    assert (await database.execute("PRAGMA integrity_check")).rows == [("ok",)]
    if not await database.query("SELECT count(*) FROM sqlite_schema").value():
        assert not list(acknowledged), "acknowledged, and there is not even a table"
        return
    assert await database.query(_WRONG).all() == []
    there: dict[tuple[int, int], list[int]] = {}
    async for session_round, session, number, rows, found in database.query(
        "SELECT round, session, number, max(rows), count(*) FROM entry GROUP BY 1, 2, 3 ORDER BY 3"
    ):
        assert rows == found, (session_round, session, number, rows, found)
        there.setdefault((session_round, session), []).append(number)
    told: dict[tuple[int, int], int] = {}
    for each in acknowledged:
        key = each.round, each.session
        told[key] = max(told.get(key, 0), each.number + 1)
    for key in told.keys() | there.keys():
        numbers, least = there.get(key, []), told.get(key, 0)
        assert numbers == list(range(len(numbers))), (key, numbers)
        assert least <= len(numbers) <= least + 1, (key, least, len(numbers))


async def check_past(database: Database, acknowledged: Iterable[Acknowledged]) -> None:
    """Raise unless the newest commits can be read as what they were."""
    history = await database.history(8)
    assert [each.lsn for each in history] == sorted({each.lsn for each in history}, reverse=True)
    for each in history[::3]:
        async with database.at(each.lsn) as then:
            assert await _is_whole(then)
    for known in acknowledged:
        async with database.at(known.lsn) as then:
            question = "SELECT max(number) FROM entry WHERE round = ? AND session = ?"
            found = await then.query(question, (known.round, known.session)).value()
            assert found == known.number, (known, found)


async def _is_whole(then: Snapshot) -> bool:
    if not await then.query("SELECT count(*) FROM sqlite_schema WHERE name = 'entry'").value():
        return True  # before there was anything
    return await then.query(_WRONG).all() == []


# ---- sessions ------------------------------------------------------------------------------------


async def session(database: Database, round_number: int, number: int) -> None:
    """Commits of one kind after the other: a row, rows, a transfer, something large."""
    random = Random(f"{round_number} {number}")
    if number == 0 and round_number % 3 == 2:
        await database.execute("UPDATE entry SET body = NULL WHERE round < ?", (round_number,))
        await database.execute("VACUUM")
    for commit in count():
        kind = random.random()
        key = round_number, number, commit
        if kind < 0.4:
            outcome = await database.execute(_ENTRY, (*key, 1, None, None, 0, b"x" * 80))
            lsn = outcome.lsn
        elif kind < 0.5:
            rows = [(*key, BATCH, None, None, 0, b"y" * 700) for _ in range(BATCH)]
            lsn = (await database.execute_many(_ENTRY, rows)).lsn
        elif kind < 0.53:
            body = random.randbytes(150_000)
            lsn = (await database.execute(_ENTRY, (*key, 1, None, None, 0, body))).lsn
        else:
            source, target = random.sample(range(ACCOUNTS), 2)
            euros = random.randrange(50)
            change = "UPDATE account SET euros = euros + ? WHERE id = ?"
            async with database.transaction() as transaction:
                await transaction.execute(change, (-euros, source))
                await transaction.execute(change, (euros, target))
                await transaction.execute(_ENTRY, (*key, 1, source, target, euros, None))
            lsn = transaction.lsn
        say(f"{round_number} {number} {commit} {lsn}")


async def main(directory: str, round_number: int, acknowledged: list[Acknowledged]) -> None:
    async with (
        open_cluster(directory, config=CONFIG) as cluster,
        open_database(cluster) as database,
    ):
        await check(database, acknowledged)
        await check_past(database, acknowledged[-4:])
        await database.execute(SCHEMA)
        say("open")
        async with trio.open_nursery() as nursery:
            for number in range(SESSIONS):
                nursery.start_soon(session, database, round_number, number)


def read(lines: Iterable[str]) -> list[Acknowledged]:
    """Acknowledged commits, from lines as they are printed."""
    return [Acknowledged(*map(int, line.split())) for line in lines]


if __name__ == "__main__":
    # What it waits for on a slow machine is no error; all that is at standard error is one.
    logging.getLogger("aurora").addHandler(logging.NullHandler())
    trio.run(main, sys.argv[1], int(sys.argv[2]), read(Path(sys.argv[3]).read_text().splitlines()))
