"""From options to a session: a cluster on a held network, under a clock that can be stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import attrs
import trio

from aurora.cluster import open_cluster
from aurora.config import ClusterConfig
from aurora.terminal.finishing import PatientFile
from aurora.terminal.narrate import Narrator
from aurora.terminal.network import HeldNetwork
from aurora.terminal.screen import Screen
from aurora.terminal.session import Session
from aurora.terminal.stage import Stage
from aurora.terminal.told_log import ToldLog
from aurora.terminal.watch import TraceFile, Watch

if TYPE_CHECKING:
    from trio.testing import MockClock

_SEED: Final = 2017
_SMALL_LAL: Final = 1_000
"""So that what a recovery annuls can be read. Only for volumes that nobody else ever opens: a
recovery must annul all that any earlier writer's limit allowed it to send."""


@attrs.frozen(kw_only=True)
class Options:
    """What the command line asks for."""

    data_dir: Path | None = None
    """None keeps the volume in memory."""
    read_only: bool = False
    """Copy the volume, and only read it."""
    accept_rollback: bool = False
    """Open what is there, whatever else the volume once had."""
    groups: int | None = None
    """Protection groups; None for one, or for what an existing volume has."""
    color: bool = True
    viz: bool = False
    delay_ms: int = 0
    trace: Path | None = None
    small_lal: bool = True
    """Whether recoveries of a volume in memory annul few enough LSNs to be read."""


def run(options: Options, use: Callable[[Session], Awaitable[int]], *, repeatable: bool) -> int:
    """Open a session and use it; returns what ``use`` returns.

    ``repeatable`` holds time and network from the start, so that one script is one text.
    """
    from trio.testing import MockClock  # which loads all of pytest, where that is there

    clock = MockClock(rate=0.0 if repeatable else 1.0)

    async def main() -> int:
        async with open_session(options, clock, repeatable=repeatable) as session:
            return await use(session)

    try:
        return trio.run(main, clock=clock)
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in nested groups: nurseries wrap what their callers want bare."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


@asynccontextmanager
async def open_session(
    options: Options, clock: MockClock, *, repeatable: bool
) -> AsyncIterator[Session]:
    """A session on an open volume; the volume is closed when the block ends."""
    lal = _SMALL_LAL if options.data_dir is None and options.small_lal else None
    config = ClusterConfig(pg_count=options.groups, lal=lal)
    network = HeldNetwork(config.inbox_messages, config.inbox_bytes)
    narrator = Narrator()
    narrator.listening = options.viz
    watch = Watch(narrator)
    told = ToldLog(Screen(color=options.color))
    async with AsyncExitStack() as stack:
        stack.enter_context(told.attached())
        if options.trace is not None:
            file = stack.enter_context(PatientFile(options.trace))
            watch.listeners.append(TraceFile(file))
        opening = open_cluster(
            options.data_dir, read_only=options.read_only,
            accept_rollback=options.accept_rollback, config=config, trace=watch, network=network,
            random=Random(_SEED) if repeatable else None,
        )  # fmt: skip
        cluster = await stack.enter_async_context(opening)
        stage = Stage(network, clock, watch)
        async with trio.open_nursery() as nursery:
            session = Session(cluster, stage, narrator, told.screen_of(), nursery, held=repeatable)
            told.screen_of = lambda: session.log_screen or session.screen
            session.tell_opening()
            await session.set_mode(viz=options.viz)
            session.delay_s = options.delay_ms / 1000
            yield session
            nursery.cancel_scope.cancel()
