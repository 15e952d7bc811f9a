"""A real database's write stream in the simulated world: the log of a SQLite database, replayed.

One client commits the database as it was, in a few mini-transactions, then each transaction of the
log as one. Meanwhile a scenario's faults happen. In the end the database is rebuilt from pages that
the engine reads, and must equal, byte for byte, the one that SQLite makes from the same two files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import attrs
import trio

from aurora.engine import Engine
from aurora.terminal.finishing import writing
from segments.protocol.errors import (
    AuroraError,
    Closed,
    Fenced,
    Invalid,
    PageNotFound,
    Unavailable,
)
from segments.protocol.ids import PageId
from sim.files.expectations import Ends, Expectation, Lost
from sim.files.sqlite_rebuild import (
    SIZE_PAGE_ID,
    MtrWrites,
    SqliteWorkload,
    base_path_of,
    integrity_check,
    load_workload,
    read_size,
    rebuild,
    sqlite_checkpointed,
)
from sim.plan.schedule import MS, Knobs, Operation, Schedule
from sim.run import Run, Verdict
from sim.show.report import Report
from sim.wording import counted
from sim.world.history import Call, Outcome
from sim.world.world import World

SPACING_NS: Final = 3 * MS
"""Between the beginnings of two transactions, at least."""
_PER_MTR_NS: Final = 100 * MS
"""Each may take this long, on the average, before the run counts as stuck."""


@attrs.frozen
class Comparison:
    """What became of the database."""

    transactions: int
    pages: int
    page_size: int
    retries: int
    """Commits made again because their writer ended before it had acknowledged them."""
    difference: str
    """Empty if the rebuilt file is SQLite's, byte for byte: then all is well."""
    integrity: str
    """SQLite's verdict on its own file of the two: ``ok``, or what the input brought along."""
    rebuilt_integrity: str
    """The same on the rebuilt file: the same, if there is no difference."""

    @property
    def verdict_of_sqlite(self) -> str:
        """What the integrity check says, and of which file."""
        if self.integrity != "ok":
            return (
                f"{self.integrity} (of the file that SQLite itself makes of the input as well, so "
                f"it says nothing of the engine)"
            )
        return self.rebuilt_integrity


def factor_for(schedule: Schedule, transactions: int) -> float:
    """By how much a schedule has to be stretched so that ``transactions`` of them fit in."""
    return max(1.0, transactions * SPACING_NS / schedule.knobs.duration_ns)


def stretched(schedule: Schedule, transactions: int) -> Schedule:
    """The schedule without its calls, with time enough for that many transactions.

    If they need more than it has, its actions are moved apart by the same factor, so that they
    stay spread over the whole replay.
    """
    factor = factor_for(schedule, transactions)
    knobs = attrs.evolve(
        schedule.knobs,
        duration_ns=int(schedule.knobs.duration_ns * factor),
        liveness_ns=schedule.knobs.liveness_ns + transactions * _PER_MTR_NS,
    )
    actions = tuple(attrs.evolve(each, at_ns=int(each.at_ns * factor)) for each in schedule.actions)
    return attrs.evolve(schedule, knobs=knobs, actions=actions, operations=())


class ReplayRun(Run):
    """A run whose one client replays a log, and then reads every page of the database."""

    def __init__(self, schedule: Schedule, workload: SqliteWorkload) -> None:
        super().__init__(World(schedule))
        self.pages: dict[PageId, bytes] = {}
        """What the engine returned for each page at the end."""
        self.retries = 0
        self.workload = workload
        self._replayed = trio.Event()

    async def _begin(self, nursery: trio.Nursery) -> None:
        await super()._begin(nursery)
        nursery.start_soon(self._replay, name="replay")

    async def _converge(self) -> None:
        await self._replayed.wait()
        await super()._converge()

    async def _replay(self) -> None:
        mtrs = [each for each in self.workload.mtrs() if not each.is_empty]
        spacing_ns = self.world.schedule.knobs.duration_ns // max(1, len(mtrs))
        for number, mtr in enumerate(mtrs):
            await self.world.sleep_until(number * spacing_ns)
            await self._commit(mtr)
        await self.world.sleep_until(self.world.schedule.knobs.duration_ns)
        for page_id in range(SIZE_PAGE_ID, self.workload.db_pages + 1):
            await self._read(page_id)
        self._replayed.set()

    async def _commit(self, mtr: MtrWrites) -> None:
        """Commit until it is acknowledged: to write the same bytes again changes nothing."""
        pages = tuple(dict.fromkeys(each.page_id for each in mtr.writes))
        while True:
            engine = await self.world.usable_engine()
            call = self._call("put", pages, engine)
            try:
                call.lsn = await engine.put_many(mtr.writes)
                # Of an earlier attempt nothing is recorded: to the history it is this one.
                call.outcome, call.writes = Outcome.OK, mtr.writes
            except (Fenced, Closed) as error:
                call.outcome, call.error = Outcome.UNKNOWN, str(error)
                self.retries += 1
            self._end(call, engine)
            if call.outcome is Outcome.OK:
                return

    async def _read(self, page_id: PageId) -> None:
        while True:
            engine = await self.world.usable_engine()
            call = self._call("get", (page_id,), engine)
            call.lsn = engine.vdl
            try:
                call.page = self.pages[page_id] = await engine.get(page_id, cached=False)
                call.outcome = Outcome.OK
            except PageNotFound as error:
                call.outcome, call.error = Outcome.NOT_FOUND, str(error)
            except Unavailable as error:
                call.outcome, call.error = Outcome.REFUSED, str(error)
            self._end(call, engine)
            if call.outcome is not Outcome.REFUSED:
                return

    def _call(self, kind: str, pages: tuple[PageId, ...], engine: Engine) -> Call:
        now = self.world.scheduler.now_ns
        operation = Operation(at_ns=now, client=0, kind=kind, pages=pages)
        call = Call(len(self.world.calls), operation, now, engine.name)
        self.world.invoked(call)
        return call

    def _end(self, call: Call, engine: Engine) -> None:
        call.returned_ns = self.world.scheduler.now_ns
        self.world.returned(call, engine)


def compare(run: ReplayRun, wal_path: Path, output: Path | None) -> Comparison:
    """Rebuild the database from what ``run`` has read, and hold it against SQLite's own.

    The rebuilt file is kept at ``output``. Raises `Invalid` if that cannot be written.
    """
    workload = run.workload
    page_size = workload.wal.page_size

    def page(page_id: PageId) -> bytes:
        if page_id not in run.pages:
            raise PageNotFound(f"page {page_id} was never written")
        return run.pages[page_id]

    with TemporaryDirectory() as directory:
        expected = sqlite_checkpointed(base_path_of(wal_path), wal_path, Path(directory))
        size = read_size(page(SIZE_PAGE_ID)) if SIZE_PAGE_ID in run.pages else (0, 0)
        if size == (page_size, workload.db_pages):
            rebuilt = rebuild(page, page_size, workload.db_pages)
            difference = difference_of(rebuilt, expected, page_size)
        else:
            rebuilt = b""
            difference = f"the size is {size}: expected {(page_size, workload.db_pages)}"
        if output is not None:
            with writing(output):
                output.write_bytes(rebuilt)
        own, ours = Path(directory, "expected.db"), Path(directory, "rebuilt.db")
        own.write_bytes(expected)
        ours.write_bytes(rebuilt)
        integrity, rebuilt_integrity = integrity_check(own), integrity_check(ours)
    return Comparison(
        transactions=len(workload.wal.transactions),
        pages=workload.db_pages,
        page_size=page_size,
        retries=run.retries,
        difference=difference,
        integrity=integrity,
        rebuilt_integrity=rebuilt_integrity,
    )


def difference_of(rebuilt: bytes, expected: bytes, page_size: int) -> str:
    """Where two database files differ first; empty if they do not."""
    if len(rebuilt) != len(expected):
        return f"{len(rebuilt)} bytes rebuilt: expected {len(expected)}"
    if rebuilt == expected:
        return ""
    at = next(
        i for i, (one, other) in enumerate(zip(rebuilt, expected, strict=True)) if one != other
    )
    page = at // page_size + 1
    return f"byte {at} (page {page}) is {rebuilt[at]:#04x}: expected {expected[at]:#04x}"


def concluded(report: Report, comparison: Comparison) -> Report:
    """The report, with what became of the database; a run that passed fails if it is not right."""
    size = f"{comparison.pages:,} pages of {comparison.page_size:,} bytes"
    again = f", {counted(comparison.retries, 'commit')} made again" if comparison.retries else ""
    facts = {
        "transactions": f"{comparison.transactions:,}{again}",
        "rebuilt_file": f"{size}, {comparison.difference or 'byte for byte the one of SQLite'}",
        "identical": not comparison.difference,
        "integrity_check": comparison.verdict_of_sqlite,
    }
    report = attrs.evolve(report, facts={**report.facts, **facts})
    if not comparison.difference or report.verdict not in (Verdict.PASSED, Verdict.UNDECIDED):
        return report
    return attrs.evolve(
        report,
        verdict=Verdict.VIOLATION,
        invariant="same-file-as-sqlite",
        finding=comparison.difference,
    )


def sized(knobs: Knobs, mtrs: Sequence[MtrWrites]) -> Knobs:
    """The knobs, raised where the largest mini-transaction would not fit.

    Raises `Invalid` if it can never fit: the LAL belongs to the volume, and is kept to, and the
    engine has bounds of its own.
    """
    records = max((len(each.writes) for each in mtrs), default=0)
    if knobs.lal < records:
        raise Invalid(
            f"lal is {knobs.lal}: expected at least {records}, the records of the log's largest "
            f"transaction"
        )
    needed = {
        "buffer_pool_pages": max(len({w.page_id for w in each.writes}) for each in mtrs),
        "max_mtr_writes": records,
        "max_mtr_bytes": max(sum(len(w.data) for w in each.writes) for each in mtrs),
    }
    raised: dict[str, Any] = {k: v for k, v in needed.items() if v > getattr(knobs, k)}
    knobs = attrs.evolve(knobs, **raised)
    try:
        knobs.cluster_config()
    except AuroraError as error:
        raise Invalid(f"the largest transaction of the log does not fit: {error}") from None
    return knobs


def raised_facts(before: Knobs, after: Knobs) -> dict[str, str]:
    """What `sized` has changed, for the report."""
    changed = [
        f"{name} {getattr(before, name):,} to {getattr(after, name):,}"
        for name in ("buffer_pool_pages", "max_mtr_writes", "max_mtr_bytes")
        if getattr(before, name) != getattr(after, name)
    ]
    return {"raised": f"{', '.join(changed)}: for the largest transaction"} if changed else {}


def still_judged(expectations: Sequence[Expectation]) -> tuple[Expectation, ...]:
    """Those that hold of a replay, too: of disks, and of the end.

    All others speak of the calls of a scenario's own clients, whose place the log takes.
    """
    return tuple(each for each in expectations if isinstance(each, Lost | Ends))


def set_aside_facts(expectations: Sequence[Expectation]) -> dict[str, str]:
    """How many expectations are not judged, for the report."""
    count = len(expectations) - len(still_judged(expectations))
    if not count:
        return {}
    return {"set aside": f"{counted(count, 'expectation')} of the scenario's own clients"}


def prepare(wal_path: Path, schedule: Schedule) -> tuple[SqliteWorkload, Schedule]:
    """Read a log and its database, and fit a scenario to it; raises what `load_workload` does.

    SQLite itself is asked as well, so that files that it refuses are refused before anything runs.
    """
    workload = load_workload(wal_path)
    with TemporaryDirectory() as directory:
        sqlite_checkpointed(base_path_of(wal_path), wal_path, Path(directory))
    mtrs = list(workload.mtrs())
    schedule = attrs.evolve(schedule, knobs=sized(schedule.knobs, mtrs))
    return workload, stretched(schedule, len(mtrs))
