"""Ctrl-C amid any step that the engine takes in its caller's task: that step is done, or undone."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import trio
from trio.testing import MockClock

import aurora

_OURS = ("aurora.", "segments.")


class Interrupting:
    """Sends Ctrl-C before the line of this number, of those that the caller's task runs of ours."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.where = ""
        self._seen: set[tuple[object, int]] = set()
        self._caller: trio.lowlevel.Task | None = None

    @contextmanager
    def armed(self) -> Iterator[None]:
        self._caller = trio.lowlevel.current_task()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(None)

    def _enter(self, frame: FrameType, _event: str, _arg: object) -> Any:
        return self._line if frame.f_globals.get("__name__", "").startswith(_OURS) else None

    def _line(self, frame: FrameType, event: str, _arg: object) -> Any:
        place = (frame.f_code, frame.f_lineno)
        if event != "line" or place in self._seen or self.left < 0:
            return self._line
        if trio.lowlevel.current_task() is self._caller:
            self._seen.add(place)
            self.left -= 1
            if self.left < 0:
                self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
                signal.raise_signal(signal.SIGINT)
        return self._line


async def _calls(interrupting: Interrupting) -> None:
    async with aurora.open_cluster() as cluster:
        with interrupting.armed():
            await cluster.engine.put(1, 0, b"x")
            await cluster.engine.get(1, strict=True, cached=False)


def test_amid_any_line_of_a_call_nothing_but_the_interrupt_comes_out() -> None:
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    wrong, number = [], 0
    try:
        while True:
            interrupting = Interrupting(number)
            try:
                trio.run(_calls, interrupting, clock=MockClock(autojump_threshold=0))
            except KeyboardInterrupt:
                pass
            except BaseException as error:  # noqa: BLE001 - that is what is looked for
                wrong.append((interrupting.where, repr(error)))
            if interrupting.left >= 0:
                break
            number += 1
    finally:
        sys.settrace(None)
        signal.signal(signal.SIGINT, usual)
    assert number > 150, "lines"
    assert wrong == []
