"""A caller's way through several stations, as a generator; see `aurora.pending`.

Some stations wait until the writer has made progress, others for a segment's answer. Whoever waits
for progress is `stuck` until something has changed that it may wait for, and is then woken.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterable
from typing import TypeAlias

from aurora.core import WriterCore
from aurora.health import WaitKind
from aurora.pending import WHEN_WOKEN, WaitSnapshot
from aurora.reading import SegmentRead
from segments.protocol.errors import AuroraError
from segments.protocol.ids import PageId

Stations: TypeAlias = Generator[float, float, None]
"""Yields timers, as `Pending.next_timer` gives them, and is sent the time when it may go on."""


class WaitingRoom:
    """Who goes on when more is durable, unpinned, or gone from the outgoing logs."""

    def __init__(self, core: WriterCore) -> None:
        self.core = core
        self.stuck: dict[Way, None] = {}
        self.woken: list[Way] = []
        """Who is to be looked at again, in order."""

    def progress(self) -> None:
        """Something has changed that somebody may wait for."""
        if self.stuck:
            self.woken.extend(self.stuck)
            self.stuck.clear()

    def take_woken(self) -> list[Way]:
        """Who is to be looked at again, in order."""
        woken = self.woken
        if woken:
            self.woken = []
        return woken


class Line:
    """Who waits for the same thing, first come, first served: only the first looks for it.

    So one that wants much is not starved by many that want little.
    """

    __slots__ = ("_room", "_ways")

    def __init__(self, room: WaitingRoom) -> None:
        self._room = room
        self._ways: OrderedDict[Way, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ways)

    def __contains__(self, way: object) -> bool:
        return way in self._ways

    def join(self, way: Way) -> None:
        """Stand behind all others; `leave` must follow."""
        self._ways[way] = None

    def is_behind(self, way: object) -> bool:
        """Whether it stands behind another, and goes on when that one has left."""
        return way in self._ways and next(iter(self._ways)) is not way

    def leave(self, way: Way) -> None:
        """Its turn is over, or it has given up: the next one's turn, if it was the first."""
        was_first = not self.is_behind(way)
        del self._ways[way]
        if was_first and self._ways:
            self._room.woken.append(next(iter(self._ways)))


class Way:
    """One caller on its way; `done` when it has arrived, or failed with ``error``."""

    __slots__ = ("_room", "_timer", "_way", "error", "wait")

    def __init__(self, room: WaitingRoom) -> None:
        """Nothing begins before `_begin`."""
        self.wait: WaitSnapshot
        self.error: AuroraError | None = None
        self._room = room
        self._timer: float | None = None
        self._way: Stations

    @property
    def done(self) -> bool:
        return self._timer is None

    def next_timer(self) -> float | None:
        return self._timer

    def on_timer(self, now: float) -> None:
        """Go on as far as it gets."""
        if not self.done:
            self._advance(now)

    def end(self) -> None:
        """Give up its place, wherever that is."""
        self._way.close()

    def _begin(self, way: Stations) -> None:
        self._way = way
        self._advance(None)

    def _advance(self, now: float | None) -> None:
        try:
            self._timer = next(self._way) if now is None else self._way.send(now)
        except StopIteration:
            self._timer = None
        except AuroraError as error:
            self._timer, self.error = None, error

    @staticmethod
    def _answered(read: SegmentRead, now: float) -> Generator[float, float, float]:
        """See a read through to its end."""
        while (timer := read.next_timer()) is not None:
            now = yield timer
            if not read.done:
                read.on_timer(now)
        return now

    def _progress(self) -> Generator[float, float, float]:
        """Wait until something has changed; returns the time."""
        stuck = self._room.stuck
        stuck[self] = None
        try:
            return (yield WHEN_WOKEN)
        finally:
            stuck.pop(self, None)

    def _waits_for(self, kind: WaitKind, now: float, page_ids: Iterable[PageId] = ()) -> None:
        """Say what it waits for, in the groups of some pages or else in all."""
        core = self._room.core
        groups = tuple(sorted({core.pg_of(page_id) for page_id in page_ids}))
        self.wait = WaitSnapshot(kind=kind, since_s=now, pg_ids=groups or core.pg_ids)
