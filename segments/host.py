"""The place where one segment runs: its disk, and its server while that serves.

A segment ends in three ways. It is crashed. Its disk is lost, for good. Or its disk refuses to go
on, or the machine has no memory, thread or descriptor for it, and then everything but the disk
starts over: the storage is closed, and after a pause opened anew, as often as it takes. Whatever
else goes wrong is this segment's own mistake; it stays down and says why, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import PurePath
from traceback import extract_tb
from typing import Final

import attrs
import trio

from segments.core import SegmentCore
from segments.disks import Disk
from segments.pausing import PausableEndpoint
from segments.protocol import events
from segments.protocol.errors import SegmentLost, SegmentRolledBack, VolumeLocked
from segments.protocol.events import Event, Tracer
from segments.protocol.ids import SegmentId
from segments.protocol.refusal import Refusal, is_passing
from segments.protocol.volume import ProtectionGroup
from segments.server import SegmentServer
from segments.storage import Storage

_MOMENT_S: Final = 1.0
"""A disk that works for less than this, and refuses again, counts as having refused all along."""


@attrs.define(eq=False)
class SegmentHost:
    """One segment's place, for as long as its cluster is open."""

    segment: SegmentId
    group: ProtectionGroup
    disk: Disk
    _new_server: Callable[[SegmentHost, Storage], SegmentServer]
    _retry_s: float
    """Seconds between two openings of a disk that refuses."""
    _trace: Tracer | None = None
    server: SegmentServer | None = None
    endpoint: PausableEndpoint | None = None
    """What the server speaks through: a new one each time, neither paused nor slow."""
    lost: str | None = None
    """Why this segment can never come back, if its disk was lost."""
    rolled_back: bool = False
    """Whether it was lost because its disk is known to be an older copy of itself."""
    mistake: str | None = None
    """What it did wrong, if that took it down."""
    since_s: float = inf
    """When it last came up, went down or was lost, in trio's time; infinite before."""
    _refusal: Refusal | None = None
    """Why its disk cannot be opened, or not be used; it is tried again and again."""
    _before: Refusal | None = None
    """What its disk refused before it last came up."""
    _scope: trio.CancelScope | None = None
    _ended: trio.Event | None = None

    @property
    def az(self) -> int:
        """Availability zone: 1, 2 or 3."""
        return self.group.az_of(self.segment)

    @property
    def started(self) -> bool:
        """Whether it runs, even if it is only waiting for its disk."""
        return self._scope is not None

    @property
    def up(self) -> bool:
        """Whether it runs and answers, even if its disk takes no writes at the moment."""
        return self.started and self._refusal is None and self.mistake is None

    @property
    def paused_since_s(self) -> float | None:
        """Since when it runs and is paused, in trio's time."""
        return self.endpoint.paused_since_s if self.up and self.endpoint is not None else None

    @property
    def delay_s(self) -> float:
        """How long each round of messages is kept from it; 0 unless it was slowed."""
        return self.endpoint.delay_s if self.up and self.endpoint is not None else 0.0

    @property
    def refusal(self) -> Refusal | None:
        """Why and since when its disk takes no writes, or cannot even be opened."""
        if self._refusal is not None or not self.up or self.server is None:
            return self._refusal
        return self.server.refusal

    @property
    def failure(self) -> str | None:
        """Why it takes no writes: its disk refuses, and is tried again; or its own mistake."""
        return self.mistake or (self.refusal.detail if self.refusal is not None else None)

    @property
    def core(self) -> SegmentCore | None:
        """The running segment's core, to look at."""
        return self.server.core if self.server is not None else None

    async def start(self, nursery: trio.Nursery) -> None:
        """Start unless started; returns when it serves, or has failed to for the first time.

        A lost segment stays down and says why. Raises `VolumeLocked` if somebody has its disk.
        """
        while self._ended is not None and not self.started:
            # The disk is given back only when the crash has run its course.
            await self._ended.wait()
        if self.started or self.lost is not None:
            return
        storage = self._open()
        if self.lost is not None:
            return
        tried = trio.Event()
        scope, ended = self._scope, self._ended = trio.CancelScope(), trio.Event()
        nursery.start_soon(self._run, storage, scope, tried, ended, name=f"host {self.segment}")
        await tried.wait()

    def crash(self) -> None:
        """Stop at once; only what is synced survives."""
        if self._scope is not None:
            self._scope.cancel()
            self._scope = self._refusal = self.mistake = None
            self.since_s = trio.current_time()

    def _open(self) -> Storage | None:
        """The disk's storage; None, and the reason kept, if it is lost or refuses."""
        try:
            return self.disk.open()
        except SegmentLost as error:
            self._lose(error)
        except VolumeLocked:
            raise
        except Exception as error:
            if not is_passing(error):
                raise
            self._refuse(error)
        return None

    def _lose(self, error: BaseException) -> None:
        self.lost, self.since_s = str(error), trio.current_time()
        self.rolled_back = isinstance(error, SegmentRolledBack)

    def _refuse(self, error: BaseException) -> None:
        """Remember why the disk refuses; since the first time, if it worked only for a moment."""
        now = trio.current_time()
        recent = now - self.since_s < _MOMENT_S
        self._refusal = Refusal.of(error, now, self._refusal or (self._before if recent else None))

    @trio.lowlevel.enable_ki_protection
    async def _run(
        self, storage: Storage | None, scope: trio.CancelScope, tried: trio.Event, ended: trio.Event
    ) -> None:
        try:
            with scope:
                while True:
                    if storage is not None and not await self._serve(storage, scope, tried):
                        return
                    tried.set()
                    await trio.sleep(self._retry_s)
                    storage = self._open_again()
                    if self.lost is not None:
                        return
        finally:
            if self._scope is scope:
                self._scope = None
            tried.set()
            ended.set()
            self._ended = None

    def _open_again(self) -> Storage | None:
        try:
            return self._open()
        except VolumeLocked as error:  # somebody was quicker; perhaps not for long
            self._refuse(error)
            return None

    async def _serve(self, storage: Storage, scope: trio.CancelScope, tried: trio.Event) -> bool:
        """Serve from an open storage to its end; returns whether to open it anew."""
        server = self.server = self._new_server(self, storage)
        refused: BaseException | None = None
        mistake: str | None = None
        try:
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(server.run)
                    if self._scope is scope:
                        self._before, self._refusal, self.mistake = self._refusal, None, None
                        self.since_s = trio.current_time()
                    tried.set()
            finally:
                server.endpoint.close()
                storage.close()
        except* SegmentLost as errors:
            self._lose(_first_of(errors))
        except* Exception as errors:  # noqa: BLE001 - must not take the others along
            passing, wrong = errors.split(is_passing)
            refused = _first_of(passing) if passing is not None else None
            mistake = describe_error(wrong) if wrong is not None else None
        if self._scope is not scope or self.lost is not None:
            return False  # crashed, or lost: what else went wrong no longer matters
        if mistake is not None:
            self.mistake, self.since_s = mistake, trio.current_time()
            self._note(events.SegmentFailed(mistake))
        elif refused is not None:
            self._refuse(refused)
            assert self._refusal is not None
            self._note(events.StorageRefused(self._refusal.detail))
        return mistake is None

    def _note(self, event: Event) -> None:
        if self._trace is not None:
            self._trace(self.segment, event)


def describe_error(error: BaseException) -> str:
    """The first error in a group of groups: what it is, where it was raised, what it says."""
    error = _first_of(error)
    places = extract_tb(error.__traceback__)
    if not places:
        return f"{type(error).__name__}: {error}"
    where = f"{places[-1].name}, {PurePath(places[-1].filename).name} line {places[-1].lineno}"
    return f"{type(error).__name__} in {where}: {error}"


def _first_of(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
