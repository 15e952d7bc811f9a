"""One volume, one person: what is going on, what is shown, and how long anyone waits for it.

Three ways for things to happen. *By themselves*: real time, nothing held. *Shown*: the network is
held and the clock stands, and a command runs message by message, each step told; virtual time
passes only where the command would otherwise wait for ever. *Step by step*: the same, but every
message waits for the person, who may do something else in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from threading import Event
from typing import Final

import attrs
import trio
from rich.text import Text

from aurora.cluster import Cluster
from aurora.health import duration
from aurora.terminal.changes import changes, marked, pool_changes
from aurora.terminal.narrate import Narrator
from aurora.terminal.network import Held
from aurora.terminal.picture import draw
from aurora.terminal.screen import Screen
from aurora.terminal.snapshot import VolumeView, take
from aurora.terminal.stage import Stage
from aurora.terminal.text import counted, show_lsns, styled
from segments.protocol.errors import AuroraError, Closed
from segments.protocol.ids import SegmentId
from segments.protocol.messages import WriteBatch
from segments.protocol.run import read_records

PATIENCE_S: Final = 2.0
"""How long a command is waited for, in whatever time there is, before the prompt comes back."""
_HISTORY_LIMIT: Final = 1_000
_SLICE_S: Final = 0.05


class CallKind(Enum):
    """What a call wants, and so what becomes of it while segments are missing."""

    READ = auto()
    WRITE = auto()
    OPENING = auto()
    """Of the volume, by a writer; needs a write quorum, as a write does."""
    RESTART = auto()


@attrs.define(eq=False)
class Operation:
    """A call to the engine that runs in a task of its own."""

    title: str
    kind: CallKind
    call: Callable[[], Awaitable[str]]
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    done: trio.Event = attrs.field(factory=trio.Event)
    result: str | None = None
    error: AuroraError | None = None

    async def run(self) -> None:
        """Make the call and keep what became of it."""
        try:
            with self.scope:
                self.result = await self.call()
        except AuroraError as error:
            self.error = error
        finally:
            self.done.set()


class Session:
    """Runs commands on a cluster, and shows what happens."""

    def __init__(
        self,
        cluster: Cluster,
        stage: Stage,
        narrator: Narrator,
        screen: Screen,
        nursery: trio.Nursery,
        *,
        held: bool = False,
    ) -> None:
        """``held`` keeps virtual time even while nothing is shown, so that runs repeat exactly."""
        self.cluster = cluster
        self.stage = stage
        self.screen = screen
        self.log_screen: Screen | None = None
        """Where the volume's log is told; None for where all else is."""
        self.viz = False
        self.stepping = False
        self.delay_s = 0.0
        self.failures = 0
        """Commands, or calls that they began, that have failed."""
        self.ended = False
        self.crashed: set[str] = set()
        """Names of the writers that were crashed by command."""
        self.isolated: list[tuple[str, ...]] = []
        """Each partition's one side: addresses cut off from all others."""
        self.history: list[str] = []
        self.pending: list[Operation] = []
        """Calls that are not finished, or whose end has not been told yet."""
        self._held = held
        self._pictured: VolumeView | None = None
        """What the last picture showed."""
        self._narrator = narrator
        self._nursery = nursery
        stage.cluster = cluster
        stage.on_step = self._show_step

    # ---- how things happen -----------------------------------------------------------------------

    async def set_mode(self, *, viz: bool | None = None, stepping: bool | None = None) -> None:
        """Turn showing and stepping on or off."""
        self.viz = self.viz if viz is None else viz
        if viz:
            self._pictured = self.view()
        self.stepping = self.stepping if stepping is None else stepping
        if self.viz or self.stepping or self._held:
            await self.stage.hold()
            self._narrator.listening = self.viz or self.stepping
            if not self.stepping:
                await self.stage.settle()
        else:
            self._narrator.listening = False
            self.stage.let_run()

    async def perform(self, title: str, kind: CallKind, call: Callable[[], Awaitable[str]]) -> None:
        """Make a call that may take long, and wait for it as the mode has it; then tell its end.

        Raises its error. What is not finished in time goes on, and is told when it is.
        """
        operation = Operation(title, kind, call)
        self.pending.append(operation)
        self._nursery.start_soon(operation.run)
        try:
            await self._wait_for(operation)
        except trio.Cancelled:
            operation.scope.cancel()
            self.pending.remove(operation)
            raise
        if operation.done.is_set():
            self.pending.remove(operation)
            if operation.error is not None:
                raise operation.error
            self.screen.say(operation.result or "", "good")
        elif not self.stepping:
            self.screen.say(f"{title}: {self._outlook(kind)}", "warn")

    def _outlook(self, kind: CallKind) -> str:
        """What will become of a call that waits."""
        for_good = any(group.writes.for_good for group in self.cluster.health().groups)
        if kind in (CallKind.WRITE, CallKind.OPENING) and for_good:
            return "waits for a write quorum, and too many segments are lost: it can never go on"
        if kind is CallKind.READ:
            patience = duration(self.cluster.config.engine.read_timeout_s)
            return f"waits for segments to answer, and gives up after {patience} without"
        return "waits for segments to answer, and goes on by itself when they do"

    async def _wait_for(self, operation: Operation) -> None:
        if not self.stage.held:
            with trio.move_on_after(PATIENCE_S):
                await operation.done.wait()
        elif self.stepping:
            await self.stage.rest()
        else:
            await self.stage.settle()
            passed = 0.0
            while not operation.done.is_set() and passed < PATIENCE_S:
                await self.stage.pass_time(_SLICE_S)
                passed += _SLICE_S

    def tell_opening(self) -> None:
        """Show how the volume was opened, which nobody could hold."""
        for head, text in self._narrator.tell(by_party=self.stage.held):
            self.screen.say(text, head=head)

    async def after_change(self) -> None:
        """Let a change that needs no call take effect."""
        if self.stage.held and not self.stepping:
            await self.stage.settle()
        else:
            await self.stage.rest()

    async def pass_time(self, seconds: float) -> None:
        """Let real or virtual time pass, whichever there is."""
        if self.stage.held:
            await self.stage.pass_time(seconds)
        else:
            await trio.sleep(seconds)

    def tell_finished(self) -> None:
        """Say what has become of calls that took longer than anyone waited."""
        for operation in [each for each in self.pending if each.done.is_set()]:
            self.pending.remove(operation)
            if operation.error is not None:
                self.failures += 1
                unknown = operation.kind is CallKind.WRITE
                more = "; it may be durable, or not" if unknown else ""
                self.screen.say(f"{operation.title}: {self.failed(operation.error)}{more}", "bad")
            else:
                self.screen.say(f"{operation.title}: {operation.result}", "good")

    def failed(self, error: AuroraError) -> str:
        """An error as the prompt shows it."""
        kind = "" if isinstance(error, Closed) else f"{type(error).__name__}: "
        return f"error: {kind}{self.in_words(str(error))}"

    def in_words(self, text: str) -> str:
        """A text in the words of the prompt: a writer that was crashed has crashed."""
        for name in self.crashed:
            text = text.replace(f"{name} has been closed", f"{name} has crashed")
        return text

    # ---- what is shown ---------------------------------------------------------------------------

    async def _show_step(self, delivered: tuple[Held, bool] | None) -> None:
        lines = self._narrator.tell()
        if delivered is not None and self.stepping:
            held, arrived = delivered
            lost = "" if arrived else "   lost: nobody there, or cut off"
            self.screen.say(f"{describe(held)}{lost}", "title")
        for head, text in lines:
            self.screen.say(text, head=head)
            if self.delay_s and not self.stepping:
                await real_pause(self.delay_s)

    def view(self) -> VolumeView:
        """The system as it is now."""
        return take(self.cluster, self.cut_off())

    def picture(self) -> None:
        """Draw the system; while every step is shown, with what has changed since last time."""
        now, before = self.view(), self._pictured
        lines = draw(now, self.screen.width)
        if self.viz and before is not None:
            lines = marked(draw(before, self.screen.width), lines)
        self.screen.show(lines)
        if self.viz and before is not None:
            self.tell_changes("changed", before, now)
        self._pictured = now

    def picture_changes(self) -> None:
        """The same after a command; without the drawing, if nothing in it but the pool changed."""
        now, before = self.view(), self._pictured
        if before is None or changes(before, now):
            self.picture()
            return
        self.tell_changes("changed", before, now)
        self._pictured = now

    def tell_changes(self, head: str, before: VolumeView, now: VolumeView) -> None:
        """Say in words what has changed since an earlier view."""
        first = styled(f"{head}  ", "title")
        for line in [*changes(before, now), *pool_changes(before, now)] or ["nothing"]:
            self.screen.say(line, "changed", head=first)
            first = Text(" " * first.cell_len)

    def cut_off(self) -> dict[SegmentId, bool]:
        """Which segments a partition keeps from the latest writer."""
        writer = self.cluster.engine.name
        return {
            segment: any((segment in side) != (writer in side) for side in self.isolated)
            for segment in self.cluster.hosts
        }

    def remember(self, line: str) -> None:
        """Add a command to the session's history."""
        self.history.append(line)
        del self.history[:-_HISTORY_LIMIT]

    def prompt(self) -> str:
        """What stands before the cursor."""
        if not self.stepping:
            return "aurora> "
        count = len(self.stage.network.under_way())
        return f"aurora [{counted(count, 'message')} under way]> "


async def real_pause(seconds: float) -> None:
    """Let a person read, whatever the clock of the volume does meanwhile."""
    await trio.to_thread.run_sync(Event().wait, seconds, abandon_on_cancel=True)


def describe(held: Held) -> str:
    """Who tells whom what."""
    message = held.message
    what = type(message).__name__
    if isinstance(message, WriteBatch):
        records = read_records(message.records)
        lsns = show_lsns(records[0].lsn, records[-1].lsn) if records else "no record"
        what += f" {lsns}, VDL {message.vdl}"
    else:
        shown = ("scl", "page_id", "read_point", "after_lsn", "required_scl")
        values = [f"{name} {getattr(message, name)}" for name in message._fields if name in shown]
        what = " ".join([what, ", ".join(values)]).rstrip()
    return f"{held.envelope.source} → {held.destination}  {what}"
