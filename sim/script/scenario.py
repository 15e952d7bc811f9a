"""The object that a scenario in Python is given: calls, faults, and what is expected of both.

(More than 400 lines: whatever a script may ask for is a method of one class.)
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final, NoReturn, TypeAlias

import trio

from aurora.arguments import check_flag, check_kind, check_seconds
from aurora.engine import Engine
from aurora.targets import Target
from segments.protocol.errors import AuroraError, Fenced, Invalid, PageNotFound
from segments.protocol.ids import Lsn, PageId, SegmentId
from segments.protocol.record import PAGE_SIZE, checked_page_id, checked_write
from sim.durations import length, moment_column
from sim.files.expectations import UNMET
from sim.plan.schedule import SECOND, Action, Operation
from sim.run import Run
from sim.script.errors import ExpectationFailed
from sim.world import faults
from sim.world.clients import make_call
from sim.world.history import Call, Outcome
from sim.world.no_effect import without_effect

_PROBE_PAGE: Final = 1_000_000
"""From here on lie the pages that expectations write to."""

Teller: TypeAlias = Callable[[str], object]
"""Called with each line of the story."""


class Pending:
    """A write that waits for a quorum."""

    def __init__(self, scenario: Scenario, call: Call, finished: trio.Event) -> None:
        self._scenario = scenario
        self._call = call
        self._finished = finished

    @property
    def call(self) -> Call:
        """The call as it stands."""
        return self._call

    async def done(self, *, within_s: float) -> Lsn:
        """Expect it to be acknowledged within ``within_s`` seconds; returns its commit LSN."""
        check_seconds("within_s", within_s)
        scenario, started = self._scenario, trio.current_time()
        with trio.move_on_after(within_s):
            await self._finished.wait()
        if self._call.outcome is not Outcome.OK:
            scenario.fail(
                f"the waiting write is {self._call.outcome.value} after {within_s:g} s: "
                f"expected it to be acknowledged"
            )
        scenario.say(f"the waiting write is acknowledged after {_since(started)}")
        return self._call.lsn


class Scenario:
    """A cluster under the hands of a scenario. Targets are those of `aurora.targets`."""

    def __init__(self, run: Run, nursery: trio.Nursery, tell: Teller) -> None:
        self.world = run.world
        self._run = run
        self._nursery = nursery
        self._tell = tell
        self._probes = 0
        self.random: Random = run.world.seeds.stream("script")
        """What a script draws from, if it draws: the same from the same seed."""
        self.actions: list[Action] = []
        """The faults so far."""

    # ---- calls -----------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """The latest writer."""
        return self.world.cluster.engine

    async def put(
        self, page_id: PageId, data: bytes, offset: int = 0, *, by: Engine | None = None
    ) -> Lsn:
        """Write ``data`` and return the commit LSN; fails the scenario if it is refused.

        ``by`` is the writer to use, by default the latest that has opened the volume.
        """
        page_id, offset, data = checked_write(page_id, offset, data)
        _check_engine("by", by)
        engine = by or await self.world.usable_engine()
        call = self._write_call(engine, page_id, data, offset)
        await make_call(self.world, engine, call)
        if call.outcome is not Outcome.OK:
            self.fail(f"the write to page {page_id} is {call.outcome.value}: {call.error}")
        return call.lsn

    async def get(
        self,
        page_id: PageId,
        *,
        strict: bool = False,
        cached: bool = True,
        by: Engine | None = None,
    ) -> bytes:
        """The page, 8,192 bytes; fails the scenario if nobody can say what is in it.

        Without ``cached`` a segment has to answer, and not the writer's buffer pool. Raises
        `PageNotFound` for a page that was never written, which says nothing against anybody: that
        this is true has been checked.
        """
        _check_engine("by", by)
        call = await self._read(page_id, strict=strict, cached=cached, by=by)
        if call.outcome is Outcome.NOT_FOUND:
            raise PageNotFound(call.error)
        if call.page is None:
            self.fail(f"the read of page {page_id} is {call.outcome.value}: {call.error}")
        return call.page

    async def _read(
        self, page_id: PageId, *, strict: bool, cached: bool, by: Engine | None
    ) -> Call:
        page_id = checked_page_id(page_id)
        engine = by or await self.world.usable_engine()
        call = self._call(engine, "strict_get" if strict else "get", page_id, cached=cached)
        await make_call(self.world, engine, call)
        return call

    # ---- expectations ----------------------------------------------------------------------------

    async def writes_go_on(self, *, within_s: float, by: Engine | None = None) -> Lsn:
        """Expect a write to be acknowledged within ``within_s`` seconds."""
        check_seconds("within_s", within_s)
        started = trio.current_time()
        pending = self._start_write(by)
        with trio.move_on_after(within_s):
            await pending._finished.wait()
        if pending.call.outcome is not Outcome.OK:
            self.fail(
                f"a write is {pending.call.outcome.value} after {within_s:g} s: "
                f"expected writes to go on"
            )
        self.say(f"writes go on: one took {_since(started)}")
        return pending.call.lsn

    async def writes_wait(self, *, for_s: float) -> Pending:
        """Expect a write not to be answered for ``for_s`` seconds; it goes on waiting."""
        check_seconds("for_s", for_s)
        pending = self._start_write(None)
        with trio.move_on_after(for_s):
            await pending._finished.wait()
        if pending.call.outcome is not Outcome.PENDING:
            self.fail(f"a write is {pending.call.outcome.value}: expected it to wait {for_s:g} s")
        self.say(f"writes wait: one is pending for {for_s:g} s")
        return pending

    async def reads_go_on(
        self, page_id: PageId, expected: bytes, *, within_s: float, cached: bool = False
    ) -> None:
        """Expect a page to begin with ``expected``, and to be read within ``within_s`` seconds.

        A segment has to answer, unless ``cached`` lets the writer's buffer pool do so, too: that
        goes on whatever happens to the segments.
        """
        check_seconds("within_s", within_s)
        if not isinstance(expected, bytes) or not 0 < len(expected) <= PAGE_SIZE:
            raise Invalid(f"expected is {expected!r}: expected 1 to {PAGE_SIZE} bytes")
        started, call = trio.current_time(), None
        with trio.move_on_after(within_s):
            call = await self._read(page_id, strict=False, cached=cached, by=None)
        if call is None or call.page is None:
            why = "pending" if call is None else f"{call.outcome.value}: {call.error}"
            self.fail(f"a read of page {page_id} is {why}, expected within {within_s:g} s")
        if not call.page.startswith(expected):
            found = call.page[: len(expected)]
            self.fail(f"page {page_id} begins with {found!r}: expected {expected!r}")
        if not (cached or call.from_segment):
            self.fail(f"page {page_id} was not read from a segment")
        self.say(f"reads go on: page {page_id} took {_since(started)}")

    async def is_fenced(self, writer: Engine) -> None:
        """Expect a write through ``writer`` to be refused because another has taken over."""
        _check_engine("writer", writer, needed=True)
        pending = self._start_write(writer)
        with trio.move_on_after(30):
            await pending._finished.wait()
        if not isinstance(writer.error, Fenced):
            why = f": {writer.error}" if writer.error is not None else ""
            self.fail(f"a write through {writer.name} is {pending.call.outcome.value}{why}")
        self.say(f"{writer.name} is fenced: {pending.call.error}")

    def expect(self, truth: bool, text: str) -> None:
        """Expect anything else."""
        check_flag("truth", truth)
        if not truth:
            self.fail(f"expected: {text}")
        self.say(text)

    def fail(self, text: str) -> NoReturn:
        """End the scenario: an expectation was not met."""
        if not self.world.scheduler.failed:
            self.say(f"NOT AS EXPECTED: {text}")
        self._run.checker.fail(UNMET, text)  # whatever the script does about the exception
        raise ExpectationFailed(text)

    # ---- faults ----------------------------------------------------------------------------------

    def crash(self, target: Target) -> None:
        """Segments lose power: what is not synced is lost."""
        self.fault("crash", target)

    def restart(self, target: Target) -> None:
        """Segments that are down come back."""
        self.fault("restart", target)

    def pause(self, target: Target) -> None:
        """Segments handle nothing."""
        self.fault("pause", target)

    def resume(self, target: Target) -> None:
        """Paused segments go on."""
        self.fault("resume", target)

    def slow(self, target: Target, factor: float) -> None:
        """Network and disk of segments take ``factor`` times as long; 1 ends it."""
        self.fault("slow", target, factor=factor)

    def wipe(self, target: Target) -> None:
        """Disks are lost for good."""
        self.fault("wipe", target)

    def copy_disk(self, target: Target) -> None:
        """What is on disks is copied, for `roll_back`."""
        self.fault("copy_disk", target)

    def roll_back(self, target: Target, down_ms: float = 5.0) -> None:
        """Disks are again what they were when they were last copied, or made."""
        self.fault("roll_back", target, down_ms=down_ms)

    def partition(self, target: Target, others: Target | None = None) -> None:
        """Nothing passes between the target (``writer`` too) and the others, or everybody else."""
        self.fault("partition", target, **({} if others is None else {"others": others}))

    def heal_network(self) -> None:
        """Every partition ends."""
        self.fault("heal_network")

    def heal(self) -> None:
        """Every fault ends; whatever is not lost comes back."""
        self.fault("heal")

    def crash_writer(self) -> None:
        """The writer stops at once."""
        self.fault("crash_writer")

    def fault(self, kind: str, target: Target = "", **params: Any) -> None:
        """Any fault of `sim.world.faults.FAULTS`, now; raises `sim.world.faults.WrongAction`."""
        action = Action(at_ns=self.world.scheduler.now_ns, kind=kind, target=target, params=params)
        groups = self.world.cluster.groups
        faults.check(action, groups)
        faults.check_sides(action, groups)
        values = "".join(f" {name}={value}" for name, value in action.params.items())
        idle = without_effect(self.world, action)
        self.say(f"fault: {kind} {action.target}{values}".rstrip())
        if idle is not None:
            self.say(f"note: {idle}")
        self.actions.append(action)
        faults.apply(self.world, action)

    async def open_writer(self, *, within_s: float) -> Engine:
        """Another writer opens the volume, whether the old one runs or not; expect it in time."""
        check_seconds("within_s", within_s)
        started, engine, why = trio.current_time(), None, ""
        self.say("another writer opens the volume")
        try:
            with trio.move_on_after(within_s):
                engine = await self.world.cluster.open_writer()
        except AuroraError as error:
            why = f": {error}"
        if engine is None:
            self.fail(f"the volume is not open after {within_s:g} s{why}")
        self.say(f"{engine.name} has opened at VDL {engine.vdl}, after {_since(started)}")
        return engine

    # ---- time, and telling -----------------------------------------------------------------------

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        check_seconds("seconds", seconds)
        await trio.sleep(seconds)

    def say(self, text: str) -> None:
        """Add a line to the story."""
        self._tell(f"{moment_column(self.world.scheduler.now_ns)}  {text}")

    @property
    def lost(self) -> list[SegmentId]:
        """The segments whose disks are lost."""
        return list(self.world.cluster.lost_segments())

    # ---- details ---------------------------------------------------------------------------------

    def _call(self, engine: Engine, kind: str, page_id: PageId, **values: Any) -> Call:
        now_ns = self.world.scheduler.now_ns
        operation = Operation(at_ns=now_ns, client=0, kind=kind, pages=(page_id,), **values)
        return Call(len(self.world.calls), operation, now_ns, engine.name)

    def _write_call(self, engine: Engine, page_id: PageId, data: bytes, offset: int) -> Call:
        call = self._call(engine, "put", page_id, offset=offset, length=len(data))
        call.writes = [(page_id, offset, data)]
        return call

    def _start_write(self, by: Engine | None) -> Pending:
        """Begin a write that goes on by itself, to a page that nobody has written.

        It waits for a writer, too, if there is none.
        """
        _check_engine("by", by)
        self._probes += 1
        data = self._probes.to_bytes(8, "big")
        call = self._write_call(by or self.engine, _PROBE_PAGE + self._probes, data, 0)
        finished = trio.Event()

        async def write() -> None:
            engine = by or await self.world.usable_engine()
            call.writer, call.number = engine.name, len(self.world.calls)
            call.invoked_ns = self.world.scheduler.now_ns
            await make_call(self.world, engine, call)
            finished.set()

        self._nursery.start_soon(write, name=f"write {self._probes}")
        return Pending(self, call, finished)


def _since(started: float) -> str:
    return length(round((trio.current_time() - started) * SECOND))


def _check_engine(name: str, value: object, *, needed: bool = False) -> None:
    if needed or value is not None:
        check_kind(name, value, Engine, "a writer, as s.engine and open_writer give")
