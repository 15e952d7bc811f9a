"""Clients in SQL: how the calls of `sim.world.sql_ways` are made on a volume's database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import trio

from aurora.engine import Engine
from segments.protocol.errors import (
    AuroraError,
    Closed,
    Fenced,
    InvalidWrite,
    NoSuchCommit,
    ReadPointBelowFloor,
    SqlConstraint,
    SqlInvalid,
    TransactionEnded,
    Unavailable,
)
from segments.protocol.ids import Lsn
from sim.plan.sql_calls import ACCOUNTS
from sim.world import sql_ways
from sim.world.history import Call, Outcome
from sim.world.sql_history import Statement
from sim.world.sql_session import Session
from sim.world.world import World

DOCUMENTED: Final = (
    Fenced,
    Unavailable,
    SqlInvalid,
    InvalidWrite,
    NoSuchCommit,
    ReadPointBelowFloor,
    TransactionEnded,
)
"""What a call in SQL may raise, beside what it is refused for."""
_NEXT_WRITER_S: Final = 0.02


class _Unwanted(Exception):
    """A client does not want its transaction any more."""


async def engine_for_sql(world: World) -> Engine:
    """A writer with a database, or on which one can be opened; waits for one."""
    while True:
        engine = await world.usable_engine()
        latest = world.cluster.engine
        opened = latest.error is None and not world.is_opening(latest)
        if opened or world.databases.is_open(engine):  # opened, the latest may be deposed by it
            return engine
        if world.healed and latest.error is not None:
            world.open_writer()
        await trio.sleep(_NEXT_WRITER_S)


def outcome_of(call: Call, error: AuroraError) -> Outcome:
    """What a call's error says of its effect."""
    if isinstance(error, Fenced | Closed) and call.may_write:
        return Outcome.UNKNOWN
    return Outcome.REFUSED


async def make_sql_call(world: World, engine: Engine, call: Call) -> None:
    """Make one call on the writer's database; what it says and hears stands in the call."""
    if call.operation.way == "close":
        await _close(world, engine)
        return
    async with world.databases.use(world.cluster, engine) as (database, opened):
        session = Session(database, engine, call)
        if opened:
            await session.audit()
            call.sql.opened = True
        await _WAYS[call.operation.way](session)


# ---- ways that write -----------------------------------------------------------------------------


async def _setup(session: Session) -> None:
    async with session.transaction() as say:
        for text in sql_ways.SCHEMA:
            await say(Statement(text))
        accounts = [(each, sql_ways.MONEY) for each in range(ACCOUNTS)]
        await say(Statement(sql_ways.OPEN_ACCOUNT, sets=accounts))


async def _transfer(session: Session) -> None:
    call = session.call
    row = sql_ways.transfer(call.number, call.operation)
    async with session.transaction() as say:
        await say(Statement(sql_ways.BALANCE, (row[1],)))
        for statement in sql_ways.moving(row):
            await say(statement)
        await session.hold()
        await say(Statement(sql_ways.BALANCE, (row[2],)))


async def _auto(session: Session) -> None:
    call = session.call
    row = sql_ways.transfer(call.number, call.operation, "auto")
    await session.alone(Statement(sql_ways.NOTE, row))


async def _function(session: Session) -> None:
    """A transfer by a function: many of them may run in one turn of the scheduler."""
    row = sql_ways.transfer(session.call.number, session.call.operation)
    await session.function([Statement(sql_ways.BALANCE, (row[1],)), *sql_ways.moving(row)])


async def _many(session: Session) -> None:
    call = session.call
    sets = [
        sql_ways.transfer(call.number, call.operation, "auto", part)
        for part in range(sql_ways.many_parts(call.operation))
    ]
    await session.alone(Statement(sql_ways.NOTE, sets=sets))


async def _savepoint(session: Session) -> None:
    """What is rolled back to a savepoint leaves no trace; what is around it stays."""
    call = session.call
    first, second = (sql_ways.transfer(call.number, call.operation, part=part) for part in (0, 1))
    async with session.transaction() as say:
        for statement in sql_ways.moving(first):
            await say(statement)
        await say(Statement("SAVEPOINT inner_one"))
        await say(Statement(sql_ways.SMALL_CACHE))
        await say(Statement(sql_ways.FILL, sets=sql_ways.bulk_rows(call.number, call.operation)))
        for statement in sql_ways.moving(second):
            try:
                await say(statement)
            except SqlConstraint:
                break
        await say(Statement("ROLLBACK TO inner_one"))
        await say(Statement("RELEASE inner_one"))
        await say(Statement(sql_ways.USUAL_CACHE))
        await say(Statement(sql_ways.BALANCE, (first[1],)))


async def _caught(session: Session) -> None:
    """A statement that fails after it has changed something, amid a transaction that goes on."""
    call = session.call
    row = sql_ways.transfer(call.number, call.operation)
    again = sql_ways.transfer(call.number, call.operation, "auto", 1)
    async with session.transaction() as say:
        for statement in sql_ways.moving(row):
            await say(statement)
        with suppress(SqlConstraint):
            await say(Statement(sql_ways.NOTE, sets=[again, (row[0], *again[1:])]))
        await session.hold()


async def _rollback(session: Session) -> None:
    call = session.call
    row = sql_ways.transfer(call.number, call.operation)
    with suppress(_Unwanted):
        async with session.transaction() as say:
            for statement in sql_ways.moving(row):
                await say(statement)
            await session.hold()
            raise _Unwanted


async def _bulk(session: Session) -> None:
    """More than the cache holds: SQLite gives out pages before the commit."""
    call = session.call
    async with session.transaction() as say:
        await say(Statement(sql_ways.SMALL_CACHE))
        rows = sql_ways.bulk_rows(call.number, call.operation)
        await say(Statement(sql_ways.FILL, sets=rows))
        await say(Statement(sql_ways.USUAL_CACHE))
        for statement in sql_ways.moving(sql_ways.transfer(call.number, call.operation)):
            await say(statement)


async def _unbulk(session: Session) -> None:
    """The same, and then nothing of it."""
    call = session.call
    with suppress(_Unwanted):
        async with session.transaction() as say:
            await say(Statement(sql_ways.SMALL_CACHE))
            rows = sql_ways.bulk_rows(call.number, call.operation)
            await say(Statement(sql_ways.FILL, sets=rows))
            await say(Statement(sql_ways.EMPTY, (2,)))
            await say(Statement(sql_ways.USUAL_CACHE))
            raise _Unwanted


async def _delete(session: Session) -> None:
    await session.alone(Statement(sql_ways.EMPTY, (1 + session.call.operation.length % 5,)))


async def _vacuum(session: Session) -> None:
    await session.alone(Statement("VACUUM"))


async def _backtrack(session: Session) -> None:
    call = session.call
    call.sql.low = session.head
    call.sql.back_to = when = _older(session)
    try:
        commit = await session.database.backtrack(when)
    finally:
        call.sql.high = session.head
    call.lsn = commit.lsn if call.lsns else 0


# ---- ways that read ------------------------------------------------------------------------------


async def _query(session: Session) -> None:
    await session.query(sql_ways.CONTENTS)
    await session.query(sql_ways.SUMS)


async def _few(session: Session) -> None:
    await session.query("SELECT id, balance FROM account ORDER BY id DESC", first=True)


async def _snapshot(session: Session) -> None:
    async with session.snapshot() as snapshot:
        await session.read_in(snapshot, sql_ways.CONTENTS)
        await session.hold()
        await session.read_in(snapshot, sql_ways.SUMS)
        await session.read_in(snapshot, sql_ways.CONTENTS)


async def _at(session: Session) -> None:
    async with session.snapshot(_older(session)) as snapshot:
        await session.read_in(snapshot, sql_ways.CONTENTS)
        await session.hold()
        await session.read_in(snapshot, sql_ways.SUMS)


async def _head(session: Session) -> None:
    """A transaction that changes nothing sees the head, and tells of it once that is durable."""
    async with session.transaction() as say:
        await say(Statement(sql_ways.CONTENTS))
        await session.hold()


async def _history(session: Session) -> None:
    limit, low = 1 + session.call.operation.length % 8, session.vdl
    found = await session.database.history(limit)
    session.call.sql.limit = limit
    session.call.sql.commits = low, session.vdl, [each.lsn for each in found]


async def _audit(session: Session) -> None:
    await session.audit()


async def _refused(session: Session) -> None:
    """A statement that must not be run, by whichever call."""
    text, _, in_query = sql_ways.refusal(session.call.operation)
    if in_query:
        await session.database.query(text).all()
    else:
        await session.database.execute(text)


async def _close(world: World, engine: Engine) -> None:
    """Close the database, whoever uses it: who comes next opens it anew."""
    await trio.lowlevel.checkpoint()
    world.databases.close(engine)


def _older(session: Session) -> Lsn:
    """A read point between the VDL (0) and the floor (1)."""
    statistics = session.engine.statistics()
    span = statistics.vdl - statistics.floor
    return statistics.vdl - int(session.call.operation.age * span)


_WAYS: Final[Mapping[str, Callable[[Session], Awaitable[None]]]] = {
    "setup": _setup,
    "transfer": _transfer,
    "auto": _auto,
    "function": _function,
    "many": _many,
    "savepoint": _savepoint,
    "caught": _caught,
    "rollback": _rollback,
    "bulk": _bulk,
    "unbulk": _unbulk,
    "delete": _delete,
    "vacuum": _vacuum,
    "backtrack": _backtrack,
    "query": _query,
    "few": _few,
    "snapshot": _snapshot,
    "at": _at,
    "head": _head,
    "history": _history,
    "audit": _audit,
    "refused": _refused,
}
