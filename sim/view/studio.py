"""The runs that a server shows: the one it was started for, and forks of them.

Runs are made one at a time in a process of its own, so that the server answers meanwhile.
"""

from __future__ import annotations

import gzip
import json
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import trio

from segments.protocol.errors import Invalid, NotFound, Unavailable
from sim.commands.case import Case
from sim.crews.processes import Hand, HandGone
from sim.durations import moment
from sim.plan.episodes import is_repair, titled
from sim.plan.schedule import Action
from sim.run import Verdict
from sim.story.difference import first_unlike
from sim.view.asked import MAIN, ForkAsked, FuturesAsked
from sim.view.film import Film, make_film, packed
from sim.view.news import NewsRoom
from sim.view.search import search
from sim.wording import PROGRAM, command_line

MOST_FORKS: Final = 16
"""Forks that a server keeps; a page that wants more starts it anew."""
RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"
STOPPED: Final = "stopped"
_FAILURES: Final = (Verdict.VIOLATION.value, Verdict.LIVENESS.value)

_T = TypeVar("_T")
_Job: TypeAlias = Callable[[], Awaitable[None]]


class NoSuchRun(NotFound):
    """No run has this name."""


class NotReady(Unavailable):
    """The run is under way, or could not be made."""


class Busy(Unavailable):
    """As much is being done, or kept, as may be."""


@attrs.frozen
class Shown:
    """A film, compressed, and what of it is compared with others."""

    film: bytes
    verdict: str
    marks: array[int]
    """A number for each event: two films part where these do."""


@attrs.define
class Entry:
    """One run: a fork is named, and then made."""

    name: str
    case: Case
    shown: Shown | None = None
    error: str = ""
    again: Mapping[str, str] = {}
    """Of a fork: what it changes, and the commands and the scenario that make it again."""


def shown(film: Film) -> Shown:
    """A film as a server keeps it."""
    return Shown(packed(film), film["run"]["verdict"], _marks(film))


def make_shown(case: Case) -> Shown:
    """Run a case; what a worker does."""
    return shown(make_film(case))


def _marks(film: Film) -> array[int]:
    names = [each["name"] for each in film["kinds"]]
    nodes = [each["id"] for each in film["nodes"]]
    events = film["events"]
    columns = (events["t"], events["kind"], events["node"], events["text"])
    lines = (
        f"{at} {names[kind]} {nodes[node]} {text}"
        for at, kind, node, text in zip(*columns, strict=True)
    )
    digests = (blake2b(line.encode(), digest_size=8).digest() for line in lines)
    return array("Q", (int.from_bytes(each) for each in digests))


class Studio:
    """Keeps runs, and makes those that are asked for while `run` is."""

    def __init__(
        self, case: Case, film: Shown, work: Callable[..., Awaitable[Any]], jobs: int = 0
    ) -> None:
        """``work`` calls a function somewhere else, as `Workers.run` does.

        Futures are run in ``jobs`` processes; 0: in a thread.
        """
        self.news = NewsRoom()
        self._runs = {MAIN: Entry(MAIN, case, film)}
        self._work = work
        self._processes = jobs
        self._searching = False
        self._scope = trio.CancelScope()
        """Of the search that is under way."""
        self._so_far: Mapping[str, Any] = {}
        """What the search has told last."""
        self._forks = _Queue(MOST_FORKS)
        self._searches = _Queue(1)

    async def run(self) -> None:
        """Do what is asked for until cancelled: forks one by one, and a search beside them."""
        async with trio.open_nursery() as nursery:
            for queue in (self._forks, self._searches):
                nursery.start_soon(queue.work_off)

    # ---- what a site asks ------------------------------------------------------------------------

    def film(self, run: str) -> bytes:
        """A run's compressed film; raises `NoSuchRun` and `NotReady`."""
        entry = self._entry(run)
        if entry.shown is None:
            raise NotReady(f"{run}: {entry.error or 'it is still being run'}")
        return entry.shown.film

    def fork(self, asked: ForkAsked) -> Mapping[str, Any]:
        """Begin a fork; raises `Invalid`, `NoSuchRun`, and `Busy` if there are too many.

        Or only say what is wrong with it.
        """
        source = self._entry(asked.source)
        try:
            forked = source.case.fork(
                asked.at_ns, salt=asked.redraw, add=asked.add, remove=asked.remove
            )
        except Invalid as error:
            if asked.only_check:
                return {"wrong": str(error)}
            raise
        if asked.only_check:
            return {"wrong": ""}
        if len(self._runs) > MOST_FORKS:
            raise Busy(f"{MOST_FORKS} forks are kept already: start the viewer anew for more")
        name = f"fork-{len(self._runs)}"
        command = fork_command(source, asked, f"{name}.toml")
        case = forked.saved_as(Path(f"{name}.toml"))
        told = f"From {moment(asked.at_ns)} on another run than {source.case.source}."
        again = {
            "title": _title(source.case, asked),
            "command": command,
            "run_command": command_line("run", f"{name}.toml"),
            "toml": case.scenario_text(told),
        }
        entry = self._runs[name] = Entry(name, case, again=again)
        self._forks.put(lambda: self._make(entry))
        self._tell(entry, RUNNING)
        return {"run": name, **again}

    def inevitable(self, asked: FuturesAsked) -> Mapping[str, Any]:
        """Begin to look for the moment from which on the failure was inevitable.

        Raises `Invalid` for a run that has not failed, and `Busy` while one is looked for. Or stop
        to look for it; raises `Invalid` if nobody does.
        """
        if asked.stop:
            if not self._searching:
                raise Invalid("nothing is being looked for: expected a search to stop")
            self._scope.cancel()
            return {"run": MAIN}
        main = self._runs[MAIN]
        assert main.shown is not None
        if main.shown.verdict not in _FAILURES:
            raise Invalid(f"{main.case.source}: {main.shown.verdict}: expected a run that fails")
        if self._searching:
            raise Busy("the moment is being looked for already")
        self._searching = True
        self._scope, self._so_far = trio.CancelScope(), {}
        self._searches.put(lambda: self._search(main.case, asked.futures))
        command = f"{PROGRAM} inevitable {main.case.source} --futures {asked.futures}"
        return {"run": MAIN, "command": command}

    def _entry(self, run: str) -> Entry:
        if run not in self._runs:
            raise NoSuchRun(f"run {run[:40]!r}: expected one of {', '.join(self._runs)}")
        return self._runs[run]

    # ---- forks -----------------------------------------------------------------------------------

    async def _make(self, entry: Entry) -> None:
        try:
            entry.shown = await self._work(make_shown, entry.case)
        except HandGone:
            entry.error = "the process that ran it has ended"
            self._tell(entry, FAILED)
        except Exception as error:  # noqa: BLE001 - told on the page, which goes on
            entry.error = f"{type(error).__name__}: {error}"
            self._tell(entry, FAILED)
        else:
            self._tell(entry, DONE)

    def _tell(self, entry: Entry, state: str) -> None:
        news: dict[str, Any] = {"kind": "fork", "run": entry.name, "state": state, **entry.again}
        main = self._runs[MAIN].shown
        if entry.shown is not None and main is not None:
            event = first_unlike(main.marks, entry.shown.marks)
            difference = None if event is None else {"main": event, "fork": event}
            news |= {"verdict": entry.shown.verdict, "first_difference": difference}
        if entry.error:
            news["error"] = entry.error
        self.news.tell(entry.name, news)

    # ---- when it became inevitable ---------------------------------------------------------------

    async def _search(self, case: Case, futures: int) -> None:
        try:
            with self._scope:
                await search(case, futures, self._work, self._processes, self._tell_search)
            if self._scope.cancelled_caught:
                self._tell_search({**self._so_far, "state": STOPPED})
        except Exception as error:  # noqa: BLE001 - told on the page, which goes on
            why = "a process has ended" if isinstance(error, HandGone) else str(error)
            self._tell_search({"state": FAILED, "error": why})
        finally:
            self._searching = False

    def _tell_search(self, news: Mapping[str, Any]) -> None:
        self._so_far = news
        self.news.tell("inevitable", {"kind": "inevitable", "run": MAIN, **news})


class _Queue:
    """Jobs, done one after the other."""

    def __init__(self, most: int) -> None:
        self._sender, self._waiting = trio.open_memory_channel[_Job](most)

    def put(self, job: _Job) -> None:
        """One more; there are never more than were said."""
        self._sender.send_nowait(job)

    async def work_off(self) -> None:
        """Do them, until cancelled."""
        async for job in self._waiting:
            await job()


class Workers:
    """One process beside this one, made when there is something to do."""

    def __init__(self) -> None:
        self._hand: Hand | None = None
        self._turn = trio.StrictFIFOLock()

    async def run(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call a function of a module there, and wait for what it returns.

        Raises `HandGone` if the process ends, and what the function raises. Cancelled, it ends the
        process.
        """
        async with self._turn:
            hand = self._hand = self._hand or Hand()
            hand.begin(_Call(function), arguments)
            try:
                await trio.lowlevel.wait_readable(hand.answers.fileno())
                result: _T = hand.answer()
            except (trio.Cancelled, HandGone):
                self.close()
                raise
            return result

    def close(self) -> None:
        """End the process, if there is one."""
        if self._hand is not None:
            self._hand.close()
            self._hand = None


@attrs.frozen
class _Call:
    """Work for a process: a function of a module, called with an item's values."""

    function: Callable[..., Any]

    def __call__(self, item: Sequence[object]) -> Any:
        return self.function(*item)

    def given_up(self, item: Sequence[object], why: str) -> Any:
        """Nobody asks: who waits for a call is told when its process ends."""
        raise HandGone(why)


def fork_command(source: Entry, asked: ForkAsked, output: str) -> str:
    """The command that writes the same fork as a scenario."""
    words = ["--at", f"{asked.at_ns}ns"]
    if asked.redraw is not None:
        words += ["--redraw", str(asked.redraw)]
    for action in asked.add:
        words += ["--add", _action_text(action)]
    for number in asked.remove:
        words += ["--remove", str(number)]
    options = command_line("fork", *words, "-o", output).removeprefix(f"{PROGRAM} fork")
    return f"{PROGRAM} fork {source.case.source}{options}"


def _title(source: Case, asked: ForkAsked) -> str:
    """What a fork changes, in a few words."""
    changes = [f"+ {titled(each)}" for each in asked.add]
    gone = [source.schedule.actions[each] for each in asked.remove]
    changes += [f"− {titled(each)}" for each in gone if not is_repair(each)]
    if asked.redraw is not None:
        changes.append(f"other chances ({asked.redraw})")
    return ", ".join(changes) or "the same again"


def _action_text(action: Action) -> str:
    params = [f"{name}={_one_word(value)}" for name, value in action.params.items()]
    words: Sequence[str] = [f"{action.at_ns}ns", action.kind, _one_word(action.target), *params]
    return " ".join(word for word in words if word)


def _one_word(value: object) -> str:
    return ",".join(str(value).replace(",", " ").split())


def read_packed(film: bytes) -> Film:
    """A compressed film again."""
    found: Film = json.loads(gzip.decompress(film))
    return found
