"""An operation of a storage while it is under way: it has its turn, and is counted.

A class, as every append is one, and a context manager made of a generator costs several times that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import trio

Turn: TypeAlias = trio.Lock | trio.Semaphore


class Operation:
    """Runs in an ``async with``."""

    __slots__ = ("_began", "_ended", "_turn")

    def __init__(self, turn: Turn, began: Callable[[], None], ended: Callable[[], None]) -> None:
        """``began`` is called when its turn has come, ``ended`` in the end, even if that raised."""
        self._turn = turn
        self._began = began
        self._ended = ended

    async def __aenter__(self) -> None:
        try:
            self._turn.acquire_nowait()  # the usual case, without a turn of trio's loop
        except trio.WouldBlock:
            await self._turn.acquire()
        try:
            self._began()
        except BaseException:
            self._end()
            raise

    async def __aexit__(self, *_raised: object) -> None:
        self._end()

    def _end(self) -> None:
        try:
            self._ended()
        finally:
            self._turn.release()
