"""Processes on this machine: each does one item after the other, and nobody outlives its parent."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any, Final, Generic

from sim.crews.crew import Ended, Result, Work
from sim.crews.ledger import Item

_CONTEXT: Final = get_context("spawn")
_ENDS_WITHIN_S: Final = 5.0


class HandGone(Exception):
    """The process has ended with an item in it."""


class Hand:
    """One process. What it is to do may change from item to item."""

    def __init__(self) -> None:
        self.answers, there = _CONTEXT.Pipe()
        """Ready to be read when an item is done, or the process is gone."""
        self._process = _CONTEXT.Process(target=_serve, args=(there,), daemon=True)
        self._process.start()
        there.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def begin(self, work: Work[Any, Any], item: object) -> None:
        """Give it an item; one at a time."""
        with suppress(BrokenPipeError, ConnectionResetError):  # reading says so as well
            self.answers.send((work, item))

    def answer(self) -> Any:
        """What its item has come to; waits for it.

        Raises what the work has raised, and `HandGone`.
        """
        try:
            failed, answer = self.answers.recv()
        except (EOFError, ConnectionResetError):
            raise HandGone from None
        if failed:
            raise answer
        return answer

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.terminate()
        self._process.join(_ENDS_WITHIN_S)
        self.answers.close()


def _serve(calls: Connection) -> None:
    """Do what comes, until nobody is there who asks for more."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # it reaches all of a terminal's; the parent decides
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    while True:
        try:
            work, item = calls.recv()
        except EOFError:
            return
        try:
            answer = (False, work(item))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for the result
            answer = (True, error)
        try:
            calls.send(answer)
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:  # noqa: BLE001 - it cannot be pickled
            calls.send((True, RuntimeError(f"{answer[1]!r} cannot be sent: {error}")))


def _end_with_the_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


class LocalCrew(Generic[Item, Result]):
    """So many processes, begun when they are needed.

    Each has an item at a time, so when one dies it is known with what. With ``idle``, processes
    come from there and go back there, for whoever needs them next; without it they end with the
    crew.
    """

    patience = 2

    def __init__(self, jobs: int, work: Work[Item, Result], idle: list[Hand] | None = None) -> None:
        self._jobs = jobs
        self._work = work
        self._own: list[Hand] = []
        self._idle = self._own if idle is None else idle
        self._busy: dict[object, tuple[Hand, Item]] = {}

    def room(self) -> int:
        return self._jobs - len(self._busy)

    def size(self, left: int | None) -> int:
        return 1

    def begin(self, items: tuple[Item, ...]) -> None:
        (item,) = items
        try:
            hand = self._idle.pop()
        except IndexError:
            hand = Hand()
        hand.begin(self._work, item)
        self._busy[hand.answers] = (hand, item)

    def ended(self, timeout_s: float) -> list[Ended[Item, Result]]:
        found: list[Ended[Item, Result]] = []
        for ready in connection.wait([hand.answers for hand, _ in self._busy.values()], timeout_s):
            hand, item = self._busy.pop(ready)
            try:
                result: Result = hand.answer()
            except HandGone:
                hand.close()
                found.append(Ended((item,), lost=True))
            except BaseException:
                hand.close()
                raise
            else:
                self._idle.append(hand)
                found.append(Ended((item,), ((item, result),)))
        return found

    def halt(self) -> None:
        """Nothing to do: a batch has one item."""

    def close(self) -> None:
        for hand, _ in self._busy.values():
            hand.close()
        self._busy.clear()
        while self._own:
            self._own.pop().close()

    def lost(self, times: int) -> str:
        return "has ended the process that ran it"

    def strength(self) -> str:
        return ""
