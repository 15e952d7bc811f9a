"""Virtual time: one heap of events that serves as trio's clock.

Trio asks its clock how long to sleep only when no task can run. `VirtualScheduler` answers by
serving events, in the order of (nanosecond, sequence number), until one makes a task runnable; then
it says "not at all". So time passes only while everything waits, a virtual hour costs nothing, and
a world in which nothing can ever happen again is seen at once.

This is the only module that touches trio's private hooks (`trio._core._run`):

* `_ALLOW_DETERMINISTIC_SCHEDULING` and `_r`: which of several runnable tasks goes first is drawn
  from a seed; without the flag it depends on addresses in memory;
* the runner: its queue of runnable tasks, its deadlines, its I/O manager, and its tasks, to name
  those that wait and to see their deadlines;
* `trio.sleep`: an event wakes who sleeps, which costs less than a cancel scope with a deadline;
* `trio._threads.start_thread_soon`: threads are refused, as devices are.

The order in which trio calls abort functions stays undefined: draw nothing and count nothing there.

(More than 400 lines: all that touches those hooks is in one place.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Iterator, MutableSequence
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from pathlib import PurePath
from random import Random
from typing import Any, Final, TypeAlias, TypeVar, TypeVarTuple, cast

import attrs
import outcome
import trio
from trio import _threads as trio_threads
from trio._core import _run as trio_internals
from trio._core._run import GLOBAL_RUN_CONTEXT

from segments.protocol.errors import AuroraError, Invalid
from sim.durations import length
from sim.world.interrupts import deferred
from sim.world.work_bound import BURST, WorkBound

NS_PER_S: Final = 1_000_000_000
MAX_TIME_NS: Final = 2**53
"""Upper bound, inclusive, of virtual time (104 days): up to here seconds as floats keep every
nanosecond apart."""
DEFAULT_STEP_LIMIT: Final = 20_000_000

_FAR_S: Final = 3600.0
_COMPACT_FROM: Final = 1024  # cancelled events: fewer are not worth a rebuild of the heap
_UNWIND_TURNS: Final = 20_000
_DETERMINISM_FLAG: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"
_ENTRY_TASK: Final = "<TrioToken.run_sync_soon task>"
_trio_sleep: Final = trio.sleep

_Result = TypeVar("_Result")
_Args = TypeVarTuple("_Args")

Handle: TypeAlias = list[Any]
"""An event that has been asked for; opaque, to be given to `VirtualScheduler.cancel`.

(A list ``[at_ns, sequence, callback, args]``: heapq compares lists in C, and no two have the same
sequence number. The callback is None once the event is served or cancelled.)
"""


class Deadlock(AuroraError):
    """Nothing can run, nothing is scheduled, and no deadline is left: a finding, not a hang."""

    def __init__(self, now_ns: int, blocked: tuple[str, ...]) -> None:
        self.now_ns = now_ns
        self.blocked = blocked
        """Each waiting task, oldest first: its name and the line at which it waits."""
        listing = "".join(f"\n  {line}" for line in blocked)
        waiting = "1 task waits" if len(blocked) == 1 else f"{len(blocked)} tasks wait"
        super().__init__(f"deadlock at {now_ns} ns: {waiting}{listing}")


class Livelock(AuroraError):
    """Work goes on and on, and time hardly: a finding, not a hang."""

    def __init__(self, text: str, since_ns: int) -> None:
        self.since_ns = since_ns
        """Since when."""
        super().__init__(text)


class Undecided(AuroraError):
    """A limit ended the run before its outcome was known: neither passed nor failed."""


class NotVirtual(Invalid):
    """A task asks for a thread or a device: they have their own time, which no seed decides."""


class _StuckError(Exception):
    """What wakes a task that does not let itself be cancelled; never leaves `run`."""


@attrs.define(eq=False)
class VirtualScheduler(trio.abc.Clock):
    """The time of one run, and all that is to happen in it.

    Events and trio's own deadlines share one time line; at the same nanosecond, events come first.
    A callback must not block. An exception it raises ends the run and leaves `run`; so does one
    given to `fail`. From then on the world stands still: tasks are cancelled, no event is served.
    """

    now_ns: int = attrs.field(default=0, init=False)
    """Virtual time in nanoseconds since the start of the run."""
    events: int = attrs.field(default=0, init=False)
    """Events served so far."""
    turns: int = attrs.field(default=0, init=False)
    """Turns of trio's loop so far; each `trio.current_time` of a task counts as one too."""
    calls: int = attrs.field(default=0, init=False)
    """Calls that clients have begun, as far as the world tells: they account for some work."""

    _now_s: float = attrs.field(default=0.0, init=False)
    _heap: list[Handle] = attrs.field(factory=list, init=False)
    _sequence: int = attrs.field(default=0, init=False)
    _cancelled: int = attrs.field(default=0, init=False)
    _horizon_ns: int = attrs.field(default=MAX_TIME_NS, init=False)
    _step_limit: int = attrs.field(default=DEFAULT_STEP_LIMIT, init=False)
    _event_bound: WorkBound = attrs.field(factory=WorkBound, init=False)
    _event_look: int = attrs.field(default=0, init=False)
    """At this many events, look whether they are too many; nothing is counted in between."""
    _turn_bound: WorkBound = attrs.field(factory=WorkBound, init=False)
    _turn_look: int = attrs.field(default=0, init=False)
    _deadline_s: float = attrs.field(default=math.inf, init=False)
    _stop_ns: int = attrs.field(default=MAX_TIME_NS, init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _failure: BaseException | None = attrs.field(default=None, init=False)
    _interrupted: bool = attrs.field(default=False, init=False)
    _started: bool = attrs.field(default=False, init=False)
    _runner: Any = attrs.field(default=None, init=False)

    @property
    def now(self) -> float:
        """Virtual time in seconds; what `trio.current_time` says."""
        return self._now_s

    @property
    def pending(self) -> int:
        """Events still to come."""
        return len(self._heap) - self._cancelled

    @property
    def quiet(self) -> bool:
        """Whether no event is to come and no task has a deadline; to be asked within an event."""
        return self.pending == 0 and self._runner.deadlines.next_deadline() == math.inf

    @property
    def failed(self) -> bool:
        """Whether the run has been ended by `fail`: tasks are only wound up from now on."""
        return self._failure is not None

    def call_at(self, at_ns: int, callback: Callable[..., object], *args: object) -> Handle:
        """Call ``callback(*args)`` at ``at_ns``; raises `Invalid` if that has passed.

        Events of the same nanosecond are served in the order in which they were asked for.
        """
        if at_ns < self.now_ns:
            raise Invalid(f"an event at {at_ns} ns: expected at least {self.now_ns}, which is now")
        self._sequence = sequence = self._sequence + 1
        event: Handle = [at_ns, sequence, callback, args]
        heappush(self._heap, event)
        return event

    def call_after(self, delay_ns: int, callback: Callable[..., object], *args: object) -> Handle:
        """Call ``callback(*args)`` ``delay_ns`` from now; raises `Invalid` if that is negative."""
        if delay_ns < 0:
            raise Invalid(f"an event after {delay_ns} ns: expected at least 0")
        # The body of `call_at` once more: most events come this way, and a call costs.
        self._sequence = sequence = self._sequence + 1
        event: Handle = [self.now_ns + delay_ns, sequence, callback, args]
        heappush(self._heap, event)
        return event

    def cancel(self, handle: Handle) -> None:
        """Make sure that the event does not happen any more; harmless if it is over."""
        if handle[2] is None:
            return
        handle[2], handle[3] = None, ()
        self._cancelled += 1
        if self._cancelled >= _COMPACT_FROM and 2 * self._cancelled > len(self._heap):
            # In place: the serving loop holds on to this very list.
            self._heap[:] = [event for event in self._heap if event[2] is not None]
            heapify(self._heap)
            self._cancelled = 0

    async def sleep_ns(self, delay_ns: int) -> None:
        """Wait for ``delay_ns`` of virtual time; cheaper and finer than `trio.sleep`."""
        task = trio.lowlevel.current_task()
        event = self.call_after(delay_ns, trio.lowlevel.reschedule, task)

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self.cancel(event)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    async def _sleep(self, seconds: float) -> None:
        """What `trio.sleep` does, without a cancel scope."""
        deadline = self._now_s + seconds
        if not self._now_s < deadline <= MAX_TIME_NS / NS_PER_S:
            await _trio_sleep(seconds)  # not at all, or for ever, or it is a mistake
            return
        wake, task = trio.lowlevel.reschedule, trio.lowlevel.current_task()
        event = self.call_at(_ns_not_before(deadline), wake, task)
        await trio.lowlevel.wait_task_rescheduled(_Awakening(self, event, deadline))

    _sleep.__qualname__ = trio.sleep.__qualname__  # by which Python names what is never awaited

    def fail(self, error: BaseException) -> None:
        """End the run with ``error``, whoever calls and whatever tasks catch; the first one counts.

        Takes effect at once for events, and for each task at its next checkpoint.
        """
        if self._failure is None:
            self._failure = error
            self._turn_look = min(self._turn_look, self.turns + _UNWIND_TURNS)
            self._scope.cancel()

    def run(
        self,
        async_fn: Callable[[*_Args], Awaitable[_Result]],
        *args: *_Args,
        seed: int | Random,
        deadline_ns: int,
        step_limit: int = DEFAULT_STEP_LIMIT,
        burst: int = BURST,
        share: int = 1,
    ) -> _Result:
        """Run ``async_fn(*args)`` in virtual time and return its result; once per scheduler.

        ``seed``, or the stream that is given instead of one, draws the order of tasks that become
        runnable together. Raises `Deadlock`;
        `Livelock` when turns or events are more than `WorkBound` allows, with this ``burst`` and
        ``share``; `Undecided` when the result is not there by ``deadline_ns`` (inclusive), or after
        ``step_limit`` events or as many turns of trio's loop; and whatever ``async_fn`` or a
        callback raises. Ctrl-C ends it at the next turn with a bare
        `KeyboardInterrupt`. Code that never comes back to trio's loop cannot be interrupted.
        """
        if self._started:
            raise Invalid("a scheduler that has run: expected a fresh one for every run")
        if not 0 <= deadline_ns <= MAX_TIME_NS:
            raise Invalid(f"deadline {deadline_ns} ns: expected 0 to {MAX_TIME_NS}")
        if step_limit < 1:
            raise Invalid(f"step limit {step_limit}: expected at least 1")
        if burst < 1 or share < 1:
            raise Invalid(f"a burst of {burst}, a share of {share}: expected at least 1")
        self._started = True
        self._horizon_ns = self._stop_ns = deadline_ns
        self._step_limit = step_limit
        self._event_bound, self._turn_bound = WorkBound(burst, share), WorkBound(burst, share)
        self._event_look = self._turn_look = min(step_limit, self._turn_bound.look_after)
        try:
            with deferred(self._interrupt), _deterministic_trio(seed, self._sleep):
                results = trio.run(self._main, async_fn, args, clock=self)
        except BaseException as error:
            if self._interrupted:
                raise KeyboardInterrupt from None
            expected = self._failure is not None and self._failure is not error
            if not expected or not isinstance(error, Exception):
                raise
            assert self._failure is not None
            raise self._failure from error
        if self._interrupted:
            raise KeyboardInterrupt
        if self._failure is not None:
            raise self._failure
        return results[0]

    def _interrupt(self) -> None:
        """Ctrl-C: no further event, and the next turn ends the run. Called by a signal handler."""
        self._interrupted = True
        if self._failure is None:
            self._event_look = self._turn_look = 0

    async def _main(
        self, async_fn: Callable[[*_Args], Awaitable[_Result]], args: tuple[*_Args]
    ) -> list[_Result]:
        with self._scope:
            return [await async_fn(*args)]
        return []  # cancelled by `fail`, which is what leaves `run`

    # What trio asks of its clock.

    def start_clock(self) -> None:
        self._runner = runner = cast(Any, GLOBAL_RUN_CONTEXT.runner)
        runner.io_manager = _NoDevices(runner.io_manager, runner.entry_queue)

    def current_time(self) -> float:
        """Virtual time in seconds. Trio asks once per turn, so turns are counted here."""
        self.turns = turns = self.turns + 1
        if turns > self._turn_look:
            self._look_at_turns()
        return self._now_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Serve events until a task can run or ``deadline`` is next: never a need to sleep."""
        runner, heap = self._runner, self._heap
        soon = runner.entry_queue
        if soon.queue or soon.idempotent_queue:
            return 0.0  # trio itself ends a run so; a look at the (real) wake-up socket is due
        if self._failure is not None:
            return self._unwind()
        runnable = runner.runq
        while not runner.waiting_for_idle:
            if deadline != self._deadline_s:
                self._deadline_s = deadline
                self._stop_ns = min(_ns_not_before(deadline), self._horizon_ns)
            if not heap or heap[0][0] > self._stop_ns:
                self._reach(deadline)
                return 0.0
            if self.events >= self._event_look and not self._look_at_events():
                return 0.0
            event = heappop(heap)
            callback = event[2]
            if callback is None:
                self._cancelled -= 1
                continue
            event[2] = None
            if event[0] != self.now_ns:
                self.now_ns = now_ns = event[0]
                self._now_s = now_ns / NS_PER_S
            self.events += 1
            try:
                callback(*event[3])
            except BaseException as error:  # noqa: BLE001 - trio would call it its own error
                self.fail(error)
            if runnable or self._failure is not None:
                return 0.0
            deadline = runner.deadlines.next_deadline()
        # Someone waits until all tasks are blocked, as they are: a longer sleep than that task
        # offers makes trio wake it.
        return _FAR_S

    def _reach(self, deadline: float) -> None:
        """No event may come before ``deadline``: let it come, unless there is a reason to end."""
        stop_ns = _ns_not_before(deadline)
        if self._interrupted:
            return  # the turn that follows ends the run
        if stop_ns <= self._horizon_ns:
            self.now_ns = max(self.now_ns, stop_ns)
            self._now_s = self.now_ns / NS_PER_S
        elif self.pending == 0 and deadline == math.inf:
            self.fail(Deadlock(self.now_ns, _blocked_tasks(self._runner)))
        else:
            self.now_ns = self._horizon_ns
            self._now_s = self.now_ns / NS_PER_S
            self.fail(Undecided(f"not finished by {self.now_ns} ns: the virtual deadline"))

    def _look_at_turns(self) -> None:
        """End the run if it is to end, or if there were too many turns."""
        if self._failure is not None:
            if hasattr(GLOBAL_RUN_CONTEXT, "task"):
                return  # it might catch this, and go on for ever
            raise _StuckError(f"tasks still running after {self.turns} turns")
        bound, now_ns = self._turn_bound, self.now_ns
        # Until the tasks are unwound; and `fail` asks for the time.
        self._turn_look = self.turns + _UNWIND_TURNS
        if self._interrupted:
            self.fail(KeyboardInterrupt())
        elif self.turns > self._step_limit:
            text = f"{self._step_limit} turns of the loop by {self.now_ns} ns: the limit"
            self.fail(Undecided(text))
        elif bound.is_broken(self.turns, now_ns, self.calls):
            names = "".join(f"\n  {line}" for line in _running_tasks(self._runner))
            text = f"tasks run and run at {now_ns} ns: {_too_much(bound, self.turns, now_ns)} turns"
            self.fail(Livelock(text + names, bound.since_ns))
        else:
            self._turn_look = min(self.turns + bound.look_after, self._step_limit)

    def _look_at_events(self) -> bool:
        """The same for events; returns whether the next may be served."""
        if self._interrupted:
            return False  # the turn that follows ends the run
        bound, now_ns = self._event_bound, self.now_ns
        if self.events >= self._step_limit:
            self.fail(Undecided(f"{self.events} events served by {now_ns} ns: the limit"))
        elif bound.is_broken(self.events, now_ns, self.calls):
            text = f"events follow events at {now_ns} ns: {_too_much(bound, self.events, now_ns)}"
            self.fail(Livelock(f"{text} of them", bound.since_ns))
        self._event_look = min(self.events + bound.look_after, self._step_limit)
        return self._failure is None

    def _unwind(self) -> float:
        """The run has failed and its tasks were cancelled: those that still wait resist."""
        tasks = _own_tasks(self._runner)
        for task in tasks:
            status = task._cancel_status
            while status is not None:
                status._scope.shield = False
                status = status._parent
        if not self._runner.runq:
            # Nothing will ever wake these; their parents must not be woken before them.
            leaves = [task for task in tasks if not any(n._children for n in task._child_nurseries)]
            for task in leaves:
                error = _StuckError(f"{_describe(task)}: the world has ended")
                self._runner.reschedule(task, outcome.Error(error))
        return 0.0


@attrs.frozen(eq=False)
class _Awakening:
    """How a sleep is cut short; trio calls it."""

    scheduler: VirtualScheduler
    event: Handle
    deadline: float

    def __call__(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self.scheduler.cancel(self.event)
        return trio.lowlevel.Abort.SUCCEEDED


class _NoDevices:
    """Trio's I/O manager, bothered only when trio calls itself: no task waits for a device.

    So a turn of the loop does without a system call.
    """

    def __init__(self, manager: Any, entry_queue: Any) -> None:
        self._manager = manager
        self._entry_queue = entry_queue

    def get_events(self, timeout: float) -> Any:
        soon = self._entry_queue
        return self._manager.get_events(timeout) if soon.queue or soon.idempotent_queue else ()

    def process_events(self, events: Any) -> None:
        if events:
            self._manager.process_events(events)

    async def wait_readable(self, fd: Any) -> None:
        if trio.lowlevel.current_task().name == _ENTRY_TASK:
            await self._manager.wait_readable(fd)
        else:
            await self.wait_writable(fd)

    async def wait_writable(self, fd: Any) -> None:
        raise NotVirtual(f"a device, {fd!r}: expected what has its place in virtual time")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)


def _no_thread(*_: object) -> None:
    raise NotVirtual(
        "a thread (as trio.to_thread, trio.Path and trio.open_file use them): expected what has "
        "its place in virtual time; files may be read without one"
    )


def _too_much(bound: WorkBound, steps: int, now_ns: int) -> str:
    """How many steps it took to exceed a bound, and how much time."""
    passed = now_ns - bound.since_ns
    within = f"only {length(passed)} have passed in" if passed else "no time has passed for"
    return f"{within} {steps - bound.since_steps}"


def _ns_not_before(time_s: float) -> int:
    """The first nanosecond at which trio, comparing floats, finds ``time_s`` to be past."""
    if time_s <= 0.0:
        return 0
    if time_s * NS_PER_S > MAX_TIME_NS:
        return MAX_TIME_NS + 1
    time_ns = round(time_s * NS_PER_S)
    while time_ns / NS_PER_S < time_s:
        time_ns += 1
    return time_ns


class _Order:
    """In which order tasks run that became runnable together; mostly it is one, alone."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.random = random.random

    def shuffle(self, batch: MutableSequence[Any]) -> None:
        if len(batch) > 1:
            self._random.shuffle(batch)


@contextmanager
def _deterministic_trio(
    seed: int | Random, sleep: Callable[[float], Awaitable[None]]
) -> Iterator[None]:
    """Let ``seed`` draw trio's order of tasks; afterwards everything is as it was."""
    allowed = getattr(trio_internals, _DETERMINISM_FLAG)
    usual = trio_internals._r
    threads = cast(Any, trio_threads)
    start_thread = threads.start_thread_soon
    setattr(trio_internals, _DETERMINISM_FLAG, True)
    order = seed if isinstance(seed, Random) else Random(seed)
    cast(Any, trio_internals)._r = _Order(order)
    threads.start_thread_soon = _no_thread
    cast(Any, trio).sleep = sleep
    try:
        yield
    finally:
        cast(Any, trio).sleep = _trio_sleep
        threads.start_thread_soon = start_thread
        setattr(trio_internals, _DETERMINISM_FLAG, allowed)
        trio_internals._r = usual


def tasks_from(task: Any) -> Iterator[Any]:
    """A task and all below it, those of one nursery oldest first: trio keeps them in a set."""
    yield task
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=lambda each: each._counter):
            yield from tasks_from(child)


def deadlines_of(task: Any) -> frozenset[float]:
    """The deadlines of all scopes around what a task awaits, in seconds of virtual time.

    The end of a sleep is one of them.
    """
    waits = task._abort_func
    found = {waits.deadline} if isinstance(waits, _Awakening) else set()
    status = task._cancel_status
    while status is not None:
        found.add(status._scope.deadline)
        status = status._parent
    return frozenset(found - {math.inf})


def _own_tasks(runner: Any) -> list[Any]:
    """All tasks but trio's two own, oldest first: trio keeps them in a set."""
    own = [t for t in runner.tasks if t is not runner.init_task and t.name != _ENTRY_TASK]
    return sorted(own, key=lambda task: task._counter)


def _blocked_tasks(runner: Any) -> tuple[str, ...]:
    return tuple(_describe(task) for task in _own_tasks(runner))


def _running_tasks(runner: Any) -> tuple[str, ...]:
    """Those whose turn it is, oldest first, or who have it."""
    running = {*runner.runq, getattr(GLOBAL_RUN_CONTEXT, "task", None)}
    return tuple(_describe(task, "runs") for task in _own_tasks(runner) if task in running)


def _describe(task: Any, does: str = "waits") -> str:
    """Name of the task, and the innermost line of its own code (not trio's) that waits or runs."""
    place = "has not started"
    for frame, line in task.iter_await_frames():
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] != "trio":
            file = PurePath(frame.f_code.co_filename).name
            place = f"{does} in {frame.f_code.co_qualname} ({file}:{line})"
    name = re.sub(r" at 0x[0-9a-fA-F]+", "", task.name)
    return f"{name} {place}"
