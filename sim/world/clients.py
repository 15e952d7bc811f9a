"""Clients: tasks that make the calls of a schedule through the engine's public API."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from aurora.engine import Engine
from segments.protocol.errors import (
    AuroraError,
    Closed,
    Fenced,
    PageNotFound,
    ReadPointBelowFloor,
    Unavailable,
)
from segments.protocol.ids import PageId
from sim.plan.schedule import Operation
from sim.world.history import Call, Outcome
from sim.world.world import World


def payload_of(number: int, index: int, length: int) -> bytes:
    """What operation ``number`` writes to the ``index``-th of its pages: never twice the same."""
    word = number.to_bytes(6, "big") + index.to_bytes(2, "big")
    return (word * (length // 8 + 1))[: max(8, length)]


def writes_of(number: int, operation: Operation) -> list[tuple[PageId, int, bytes]]:
    """What operation ``number``, a ``put``, writes: page, offset and data of each part."""
    return [
        # A page written twice is not simply overwritten: both writes can be seen.
        (page, operation.offset + 8 * index, payload_of(number, index, operation.length))
        for index, page in enumerate(operation.pages)
    ]


async def run_client(world: World, operations: Iterable[tuple[int, Operation]]) -> None:
    """Make one client's calls, one after the other, each not before its time."""
    engine: Engine | None = None
    for number, operation in operations:
        await world.sleep_until(operation.at_ns)
        if engine is None or not operation.sticky:
            engine = await world.usable_engine()
        await make_call(world, engine, Call(number, operation, world.scheduler.now_ns, engine.name))


async def make_call(world: World, engine: Engine, call: Call) -> None:
    """Make one call; what comes of it stands in ``call`` and is told to the world."""
    world.invoked(call)
    try:
        await _perform(engine, call)
        call.outcome = Outcome.OK
    except trio.Cancelled:
        world.abandoned(call)
        raise
    except PageNotFound as error:
        call.outcome, call.error = Outcome.NOT_FOUND, str(error)
    except (Fenced, Closed) as error:
        write = call.operation.kind == "put"
        call.outcome, call.error = Outcome.UNKNOWN if write else Outcome.REFUSED, str(error)
    except ReadPointBelowFloor as error:
        call.outcome, call.error = Outcome.TOO_OLD, str(error)
    except Unavailable as error:
        call.outcome, call.error = Outcome.REFUSED, str(error)
    except AuroraError as error:
        call.outcome, call.error = Outcome.REFUSED, str(error)
        world.raised_undocumented(call, error)
    call.returned_ns = world.scheduler.now_ns
    world.returned(call, engine)
    await trio.lowlevel.checkpoint()


async def _perform(engine: Engine, call: Call) -> None:
    operation, cached = call.operation, call.operation.cached
    match operation.kind:
        case "put":
            call.writes = call.writes or writes_of(call.number, operation)
            call.lsn = await engine.put_many(call.writes)
        case "get":
            call.lsn = engine.vdl
            call.page = await engine.get(operation.pages[0], cached=cached)
        case "strict_get":
            read = await engine.read(operation.pages[0], strict=True, cached=cached)
            call.lsn, call.page = read.read_point, read.page.image
        case "get_at":
            call.lsn = _older(engine, operation.age)
            call.page = await engine.get_at(operation.pages[0], call.lsn, cached=cached)
        case "view":
            async with engine.read_view(_older(engine, operation.age)) as view:
                call.lsn = view.lsn
                await trio.sleep(operation.age)
                call.page = await engine.get_at(operation.pages[0], view.lsn, cached=cached)
        case "list":
            async with engine.read_view(_older(engine, operation.age)) as view:
                call.lsn = view.lsn
                call.listed = [page_id async for page_id in view.pages(operation.pages[0])]
        case other:
            raise AssertionError(f"operation {other!r}")


def _older(engine: Engine, age: float) -> int:
    """A read point between the VDL (0) and the floor (1)."""
    statistics = engine.statistics()
    return statistics.vdl - int(age * (statistics.vdl - statistics.floor))
