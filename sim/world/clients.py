"""Clients: tasks that make the calls of a schedule through the engine's public API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import Final

import trio

from aurora.commit_queue import Commit
from aurora.config import EngineConfig
from aurora.engine import Engine, ReadView
from segments.protocol.errors import (
    AuroraError,
    Closed,
    Fenced,
    PageNotFound,
    ReadPointBelowFloor,
    Unavailable,
)
from segments.protocol.ids import Lsn, PageId
from segments.protocol.record import PAGE_SIZE
from sim.plan.schedule import SECOND, SQL, Operation
from sim.world import sql_clients
from sim.world.history import Call, Outcome
from sim.world.world import World
from sim.world.wrong_calls import make_wrong_call

_DOCUMENTED: Final = (PageNotFound, ReadPointBelowFloor, Fenced, Unavailable)
"""What any call may raise that has no mistake."""


def payload_of(number: int, index: int, length: int) -> bytes:
    """What operation ``number`` writes to the ``index``-th of its pages: never twice the same.

    Nor is it ever zeros, which are what an empty page has.
    """
    word = (number + 1).to_bytes(6, "big") + index.to_bytes(2, "big")
    return (word * (length // 8 + 1))[: max(8, length)]


def writes_of(number: int, operation: Operation) -> list[tuple[PageId, int, bytes]]:
    """What operation ``number``, a ``put``, writes: page, offset and data of each part."""
    last = PAGE_SIZE - max(8, operation.length)
    return [
        # A page written twice is not simply overwritten: both writes can be seen, if they fit.
        (page, min(operation.offset + 8 * at, last), payload_of(number, at, operation.length))
        for at, page in enumerate(operation.pages)
    ]


async def run_client(world: World, operations: Iterable[tuple[int, Operation]]) -> None:
    """Make one client's calls, one after the other, each not before its time."""
    kept: Engine | None = None
    for number, operation in operations:
        await world.sleep_until(operation.at_ns)
        if operation.early:
            engine = world.cluster.engine
        elif operation.kind == SQL and (kept is None or not operation.sticky):
            engine = kept = await sql_clients.engine_for_sql(world)
        elif kept is None or not operation.sticky:
            engine = kept = await world.usable_engine()
        else:
            engine = kept
        await make_call(world, engine, Call(number, operation, world.scheduler.now_ns, engine.name))


async def make_call(world: World, engine: Engine, call: Call) -> None:
    """Make one call; what comes of it stands in ``call`` and is told to the world."""
    world.invoked(call)
    patience_ns = call.operation.patience_ns
    try:
        with trio.move_on_after(inf if patience_ns is None else patience_ns / SECOND) as patience:
            await _attempt(world, engine, call)
    except trio.Cancelled:
        world.abandoned(call)  # by whoever plays the run, not by its caller
        raise
    if patience.cancelled_caught:
        call.cancelled = True
        call.outcome = Outcome.UNKNOWN if call.may_write else Outcome.GAVE_UP
        call.error = "its caller gave up"
    call.returned_ns = world.scheduler.now_ns
    world.returned(call, engine)
    await trio.lowlevel.checkpoint()


async def _attempt(world: World, engine: Engine, call: Call) -> None:
    try:
        if call.operation.kind == "open":
            await world.take_over()
        elif call.is_sql:
            await sql_clients.make_sql_call(world, engine, call)
        else:
            await _perform(world, engine, call)
        call.outcome = Outcome.OK
    except AuroraError as error:
        call.raised, call.error = type(error), str(error)
        call.outcome = sql_clients.outcome_of(call, error) if call.is_sql else _outcome(call, error)
        documented = sql_clients.DOCUMENTED if call.is_sql else _DOCUMENTED
        refused = call.operation.kind == "wrong" or call.operation.way == "refused"
        if not refused and not isinstance(error, documented):
            world.raised_undocumented(call, error)


def _outcome(call: Call, error: AuroraError) -> Outcome:
    if call.operation.kind == "wrong":
        return Outcome.INVALID
    match error:
        case PageNotFound():
            return Outcome.NOT_FOUND
        case Fenced() | Closed():
            return Outcome.UNKNOWN if call.writes_pages else Outcome.REFUSED
        case ReadPointBelowFloor():
            return Outcome.TOO_OLD
    return Outcome.REFUSED


async def _perform(world: World, engine: Engine, call: Call) -> None:
    operation, cached, page_id = call.operation, call.operation.cached, call.operation.pages[0]
    match operation.kind:
        case "put":
            call.writes = call.writes or writes_of(call.number, operation)
            call.in_parts = _comes_in_parts(call, world.config.engine)
            await _write(engine, call)
        case "get":
            call.lsn = engine.vdl
            call.page = await engine.get(page_id, cached=cached)
        case "strict_get":
            read = await engine.read(page_id, strict=True, cached=cached)
            call.lsn, call.page = read.read_point, read.page.image
        case "get_at":
            call.lsn = _older(engine, operation.age)
            call.page = await engine.get_at(page_id, call.lsn, cached=cached)
        case "strict_get_at":
            call.lsn = call.held = _older(engine, operation.age)
            read = await engine.read(page_id, call.lsn, strict=True, cached=cached)
            call.page = read.page.image
        case "view":
            async with engine.read_view(_older(engine, operation.age)) as view:
                call.lsn = call.held = view.lsn
                await _read_in(view, engine, call)
        case "list":
            async with engine.read_view(_older(engine, operation.age)) as view:
                call.lsn = call.held = view.lsn
                # In two parts, the first of which is empty.
                call.listed = [each async for each in view.pages(page_id, page_id)]
                call.listed += [each async for each in view.pages(page_id)]
        case "scan":
            found = engine.pages(page_id)
            call.lsn = found.lsn
            call.listed = [each async for each in found]
        case "many":
            call.lsn = call.held = _older(engine, operation.age)
            pages = await engine.get_many(operation.pages, call.lsn)
            call.reads = [(each.page_id, each.image or None) for each in pages]
        case "changes":
            changed = engine.changed_pages(_older(engine, operation.age))
            call.lsn, call.after = changed.lsn, changed.after_lsn
            call.listed = [each async for each in changed]
        case "head":
            call.head = await engine.read_head(page_id)
        case "wrong":
            await make_wrong_call(engine, call, world.schedule.knobs)
        case other:
            raise AssertionError(f"operation {other!r}")


def _comes_in_parts(call: Call, config: EngineConfig) -> bool:
    """Whether a write is too much for one step of the writer."""
    writes = call.writes
    return (
        len(writes) > config.part_writes
        or sum(len(data) for _, _, data in writes) > config.part_bytes
        or len({page_id for page_id, _, _ in writes}) > config.buffer_pool_pages
    )


def _older(engine: Engine, age: float) -> int:
    """A read point between the VDL (0) and the floor (1)."""
    statistics = engine.statistics()
    return statistics.vdl - int(age * (statistics.vdl - statistics.floor))


async def _read_in(view: ReadView, engine: Engine, call: Call) -> None:
    """Read the pages of a view, waiting before each of them; the first answers the call."""
    operation, reads = call.operation, list[tuple[PageId, bytes | None]]()
    call.reads = reads
    missing = ""
    for page_id in operation.pages:
        await trio.sleep(operation.hold_ns / len(operation.pages) / SECOND)
        try:
            if operation.cached:
                page: bytes | None = await view.get(page_id)
            else:
                page = await engine.get_at(page_id, view.lsn, cached=False)
        except PageNotFound as error:
            page, missing = None, missing or str(error)
        reads.append((page_id, page))
    call.page = reads[0][1]
    if call.page is None:
        raise PageNotFound(missing)


# ---- writes --------------------------------------------------------------------------------------


async def _write(engine: Engine, call: Call) -> None:
    match call.operation.way:
        case "put_many":
            call.lsn = await engine.put_many(call.writes)
        case "put":
            ((page_id, offset, data),) = call.writes
            call.lsn = await engine.put(page_id, offset, data)
        case "submit":
            with _buffers_of(call) as writes:
                commit = await engine.submit(writes)
                call.submitted = True
            await _durable(commit, call.operation.hold_ns)
            call.lsn = await commit.durable()  # as often as one likes, and now at once
        case "mtr":
            await _write_what_is_read(engine, call)
        case other:
            raise AssertionError(f"way to write {other!r}")


async def _durable(commit: Commit, beside_ns: int) -> Lsn:
    """Wait for a commit; beside another task, if it is to give up after a while above 0."""
    if not beside_ns:
        return await commit.durable()
    found: Lsn | AuroraError
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_wait_a_while, commit, beside_ns)
        try:
            found = await commit.durable()
        except AuroraError as error:
            found = error  # as it is, not in a group
    if isinstance(found, AuroraError):
        raise found
    return found


async def _wait_a_while(commit: Commit, patience_ns: int) -> None:
    with trio.move_on_after(patience_ns / SECOND), suppress(AuroraError):
        await commit.durable()


@contextmanager
def _buffers_of(call: Call) -> Iterator[list[tuple[PageId, int, bytearray]]]:
    """The writes of a call in buffers of its client, which uses these for something else later."""
    writes = [(page_id, offset, bytearray(data)) for page_id, offset, data in call.writes]
    try:
        yield writes
    finally:
        for _, _, buffer in writes:
            buffer[:] = bytes(len(buffer))


async def _write_what_is_read(engine: Engine, call: Call) -> None:
    """A mini-transaction that reads its first page, before its own writes and after them."""
    page_id = call.writes[0][0]
    async with engine.mini_transaction() as mtr:
        call.snapshot = call.held = engine.vdl
        try:
            before: bytes | None = await mtr.read(page_id)
        except PageNotFound:
            before = None
        call.reads = [(page_id, before)]
        with _buffers_of(call) as writes:
            for write in writes:
                mtr.write(*write)
        await trio.sleep(call.operation.hold_ns / SECOND)
        call.own = await mtr.read(page_id)
        call.held = 0
    assert mtr.commit_lsn is not None
    call.lsn = mtr.commit_lsn
