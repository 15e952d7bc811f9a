"""How wrong calls are made; which error each must raise stands in `sim.plan.wrong_calls`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from aurora.engine import Engine
from segments.protocol.ids import MAX_INTEGER, Lsn
from segments.protocol.record import PAGE_SIZE
from sim.plan.schedule import Knobs, Operation
from sim.plan.wrong_calls import WRONG_WRITES
from sim.world.history import Call

_Writes: TypeAlias = list[Any]
_GOOD: Final = b"a good one"


async def make_wrong_call(engine: Engine, call: Call, knobs: Knobs) -> None:
    """Make a call with the mistake that its operation names."""
    operation = call.operation
    if operation.wrong in WRONG_WRITES:
        await _wrong_write(engine, operation, knobs)
    else:
        await _wrong_read(engine, call)


# ---- writes --------------------------------------------------------------------------------------


async def _wrong_write(engine: Engine, operation: Operation, knobs: Knobs) -> None:
    wrong, way, page_id = operation.wrong, operation.way, operation.pages[0]
    if wrong == "mini-transaction that has ended":
        async with engine.mini_transaction() as mtr:
            pass
        mtr.write(page_id, 0, _GOOD)
    elif wrong == "wait that is no flag":
        async with engine.mini_transaction(wait=1) as mtr:  # type: ignore[arg-type]
            mtr.write(page_id, 0, _GOOD)
    elif wrong in _WRITES:
        await _write(engine, way, _WRITES[wrong](page_id))
    else:
        await _write(engine, way, _too_much(knobs, wrong, page_id))


_WRITES: Final[Mapping[str, Callable[[int], _Writes]]] = {
    # Behind a good one, which must not be written either.
    "no data": lambda page: [(page, 0, _GOOD), (page, 0, b"")],
    "data longer than a page": lambda page: [(page, 0, bytes(PAGE_SIZE + 1))],
    "data beyond the page's end": lambda page: [(page, 0, _GOOD), (page, PAGE_SIZE - 7, bytes(8))],
    "data that is text": lambda page: [(page, 0, "text")],
    "data that is a number": lambda page: [(page, 0, 8)],
    "offset at the page's end": lambda page: [(page, PAGE_SIZE, b"x")],
    "offset below zero": lambda page: [(page, -1, _GOOD)],
    "offset that is a bool": lambda page: [(page, True, _GOOD)],
    "page below zero": lambda _: [(-1, 0, _GOOD)],
    "page above all": lambda page: [(page, 0, _GOOD), (MAX_INTEGER + 1, 0, _GOOD)],
    "page that is a bool": lambda _: [(True, 0, _GOOD)],
    "page that is text": lambda _: [("1", 0, _GOOD)],
    "no writes": lambda _: [],
    "writes of two values": lambda page: [(page, 0, _GOOD), (page, _GOOD)],
}


def _too_much(knobs: Knobs, wrong: str, page_id: int) -> _Writes:
    """More than a mini-transaction can ever hold, of one thing only where that can be."""
    if wrong == "too many bytes":
        return [(page_id, 0, bytes(PAGE_SIZE))] * (knobs.max_mtr_bytes // PAGE_SIZE + 1)
    return [(page_id, 0, _GOOD)] * (min(knobs.max_mtr_writes, knobs.lal) + 1)


async def _write(engine: Engine, way: str, writes: _Writes) -> None:
    if way == "put" and len(writes) == 1:
        await engine.put(*writes[0])
    elif way == "mtr" and all(len(each) == 3 for each in writes) and writes:
        async with engine.mini_transaction() as mtr:
            for write in writes:
                mtr.write(*write)
    elif way == "submit":
        await engine.submit(writes)
    else:
        await engine.put_many(writes)


# ---- reads ---------------------------------------------------------------------------------------


async def _wrong_read(engine: Engine, call: Call) -> None:
    """A read of one of the kinds in `WRONG_READS`; the LSN that is asked for stands in the call."""
    wrong: Any = call.operation.wrong
    page_id: Any = call.operation.pages[0]
    what, _, mistake = wrong.partition(" ")
    if mistake in _PAGES:
        await engine.get(_PAGES[mistake])
    elif wrong == "strict that is no flag":
        await engine.get(page_id, strict=1)  # type: ignore[arg-type]
    elif wrong == "cached that is no flag":
        await engine.get(page_id, cached="no")  # type: ignore[arg-type]
    elif wrong == "view that has ended":
        async with engine.read_view() as view:
            pass
        await view.get(page_id)
    elif wrong == "list from a page below zero":
        engine.pages(-1)
    elif wrong == "list up to a page below zero":
        engine.pages(page_id, -1)
    else:
        await _read_at(engine, what, page_id, _read_point(engine, mistake, call))


_PAGES: Final[Mapping[str, Any]] = {
    "of a page below zero": -1,
    "of a page above all": MAX_INTEGER + 1,
    "of a page that is a bool": True,
}


_READ_POINTS: Final[Mapping[str, Any]] = {
    "below zero": -1,
    "far above the VDL": MAX_INTEGER,
    "at a bool": True,
    "at no LSN": None,
}


def _read_point(engine: Engine, mistake: str, call: Call) -> Any:
    if mistake in _READ_POINTS:
        return _READ_POINTS[mistake]
    found: Lsn
    if mistake == "above the VDL":
        found = engine.vdl + 1
    else:
        assert mistake == "below the floor", mistake
        found = engine.statistics().floor - 1
    call.lsn = found
    return found


async def _read_at(engine: Engine, what: str, page_id: int, lsn: Any) -> None:
    if what == "view":
        async with engine.read_view(lsn):
            pass
    elif what == "list":
        engine.pages(page_id, lsn=lsn)
    else:
        await engine.get_at(page_id, lsn)
