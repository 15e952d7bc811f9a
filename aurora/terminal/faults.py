"""Commands that break things, and mend them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from aurora.targets import names_writer, words_of
from aurora.terminal import language
from aurora.terminal.language import Misuse
from aurora.terminal.session import CallKind, Session
from aurora.terminal.text import joined
from segments.host import SegmentHost
from segments.protocol.errors import Closed, Invalid, Unavailable
from segments.protocol.ids import Address, SegmentId

Words = Sequence[str]

SLOW_MS: Final = 100
"""How slow ``slow`` makes a segment unless told otherwise."""
_MAX_MS: Final = 60_000


def _targets(session: Session, words: Words) -> list[SegmentId]:
    """The segments that the words name; an error names the word that names none."""
    writers = [word for word in words_of(list(words)) if names_writer(word)]
    if writers:
        raise Misuse(
            f"{writers[0]!r} names a writer: expected segments or zones; a writer can be crashed "
            "or cut off (`partition`), and `recover` opens the volume with a new one"
        )
    try:
        return session.cluster.targets(list(words))
    except Invalid as error:
        raise Misuse(str(error)) from None


def _addresses(session: Session, words: Words) -> list[Address]:
    """The segments and writers that the words name."""
    try:
        return session.cluster.addresses(list(words))
    except Invalid as error:
        raise Misuse(str(error)) from None


# ---- commands without effect ---------------------------------------------------------------------

Idle = Callable[[SegmentHost], str]
"""Why a command does nothing to a segment, in words; empty if it does something."""


def _without(session: Session, segments: list[SegmentId], *idle: Idle) -> list[SegmentId]:
    """The segments for which a command does something; of the others it is said why not."""
    reasons: dict[str, list[SegmentId]] = {}
    for segment in segments:
        found = (each(session.cluster.hosts[segment]) for each in idle)
        reasons.setdefault(next(filter(None, found), ""), []).append(segment)
    acted_on = reasons.pop("", [])
    for reason, names in reasons.items():
        session.screen.say(f"no effect on {joined(names)}: {reason}", "note")
    return acted_on


def _is_lost(host: SegmentHost) -> str:
    return "lost for good already" if host.lost is not None else ""


def _is_away(host: SegmentHost) -> str:
    return _is_lost(host) or ("" if host.started else "down already")


def _is_paused(host: SegmentHost) -> str:
    return "paused already" if host.paused_since_s is not None else ""


def _is_not_paused(host: SegmentHost) -> str:
    return _is_away(host) or ("" if _is_paused(host) else "not paused")


def _is_not_slow(host: SegmentHost) -> str:
    return "" if host.delay_s else "not slow"


def _has_been(session: Session, name: Address) -> bool:
    """Whether there is, or has been, a writer of this name."""
    return int(name.rpartition("-")[2]) < int(session.cluster.next_writer.rpartition("-")[2])


# ---- segments and writers ------------------------------------------------------------------------


async def crash(session: Session, words: Words) -> None:
    """Stop segments or the writer at once."""
    language.at_least(words, 1, "SEGMENT, AZ or writer")
    addresses = _addresses(session, words)
    segments = [each for each in addresses if each in session.cluster.hosts]
    for name in addresses:
        if name not in segments:
            _crash_writer(session, name)
    segments = _without(session, segments, _is_away)
    for segment in segments:
        session.cluster.crash(segment)
    await session.after_change()
    if segments:
        session.screen.say(f"down: {joined(segments)}; what they have synced stays", "warn")


def _crash_writer(session: Session, name: Address) -> None:
    engine = next((each for each in session.cluster.engines if each.name == name), None)
    if engine is None and not _has_been(session, name):
        session.screen.say(f"there is no {name}: nothing is crashed", "note")
        return
    if engine is None or engine.error is not None or name in session.crashed:
        latest = name == session.cluster.engine.name
        hint = "; `recover` opens the volume again" if latest else ""
        session.screen.say(f"{name} is down already{hint}", "note")
        return
    session.cluster.crash_writer(engine)
    session.crashed.add(name)
    session.screen.say(f"{name} is gone, and all that it knew", "warn")


async def restart(session: Session, words: Words) -> None:
    """Stop segments, if they run, and start them from their disks."""
    language.at_least(words, 1, "SEGMENT or AZ")
    targets = _targets(session, words)
    lost = [each for each in targets if session.cluster.hosts[each].lost is not None]
    if lost:
        raise Unavailable(
            f"{joined(lost)}: lost for good, and the promises made there; "
            "a segment never comes back under its old name from an empty disk"
        )

    running = [each for each in targets if session.cluster.hosts[each].started]
    if running:
        session.screen.say(f"{joined(running)}: up, and stopped first", "note")

    async def call() -> str:
        for segment in targets:
            session.cluster.crash(segment)
            await session.cluster.restart(segment)
        return f"up: {joined(targets)}"

    await session.perform("restart", CallKind.RESTART, call)


async def pause(session: Session, words: Words) -> None:
    """Have segments hear and say nothing."""
    language.at_least(words, 1, "SEGMENT or AZ")
    targets = _without(session, _targets(session, words), _is_away, _is_paused)
    for segment in targets:
        session.cluster.pause(segment)
    if targets:
        session.screen.say(f"paused: {joined(targets)}", "warn")


async def resume(session: Session, words: Words) -> None:
    """Let paused segments go on."""
    language.at_least(words, 1, "SEGMENT or AZ")
    targets = _without(session, _targets(session, words), _is_not_paused)
    for segment in targets:
        session.cluster.resume(segment)
    await session.after_change()
    if targets:
        session.screen.say(f"running: {joined(targets)}", "good")


async def slow(session: Session, words: Words) -> None:
    """Make segments slow to answer."""
    language.at_least(words, 1, "SEGMENT or AZ")
    last = words[-1].isdigit() and len(words) > 1
    milliseconds = language.integer(words[-1], "milliseconds", 0, _MAX_MS) if last else SLOW_MS
    targets = _targets(session, words[:-1] if last else words)
    targets = _without(session, targets, _is_away, *(() if milliseconds else (_is_not_slow,)))
    for segment in targets:
        session.cluster.slow(segment, milliseconds / 1000)
    pace = f"answer after {milliseconds} ms" if milliseconds else "as fast as they can"
    if targets:
        session.screen.say(f"{pace}: {joined(targets)}", "warn" if milliseconds else "good")


async def wipe(session: Session, words: Words) -> None:
    """Lose the disks of segments."""
    language.at_least(words, 1, "SEGMENT or AZ")
    targets = _without(session, _targets(session, words), _is_lost)
    for segment in targets:
        session.cluster.wipe(segment)
    await session.after_change()
    if targets:
        session.screen.say(f"lost for good: {joined(targets)}", "bad")


async def partition(session: Session, words: Words) -> None:
    """Cut some off from all others."""
    language.at_least(words, 1, "SEGMENT, AZ or writer")
    side = _addresses(session, words)
    known = [each for each in side if each in session.cluster.hosts or _has_been(session, each)]
    absent = [each for each in side if each not in known]
    if absent:
        session.screen.say(f"there is no {joined(absent)} yet: cut off when it comes", "note")
    session.isolated.append(tuple(side))
    _cut(session, tuple(side))
    session.screen.say(f"cut off from all others: {joined(side)}", "warn")


def _cut(session: Session, side: tuple[str, ...], *newcomers: str) -> None:
    writers = [engine.name for engine in session.cluster.engines]
    everyone = [*session.cluster.hosts, *writers, *newcomers]
    others = [each for each in everyone if each not in side]
    session.stage.network.cut(side, others)
    session.stage.network.cut(others, side)


async def heal(session: Session, words: Words) -> None:
    """End all partitions."""
    language.at_most(words, 0)
    if not session.isolated:
        session.screen.say("nothing to heal: nobody is cut off", "note")
        return
    session.isolated.clear()
    session.stage.network.heal()
    await session.after_change()
    session.screen.say("everyone can reach everyone", "good")


async def recover(session: Session, words: Words) -> None:
    """Open the volume with a new writer, in place of the latest."""
    language.at_most(words, 0)
    await _open_writer(session, crash_first=True)


async def takeover(session: Session, words: Words) -> None:
    """Open the volume with a second writer while the first one still runs."""
    language.at_most(words, 0)
    await _open_writer(session, crash_first=False)


async def _supersede(session: Session) -> None:
    """End what still waits to open the volume: the writer that comes now is in its place."""
    for each in [each for each in session.pending if each.kind is CallKind.OPENING]:
        if not each.done.is_set():
            session.pending.remove(each)
            each.scope.cancel()
            await each.done.wait()
            session.screen.say(f"{each.title} of before, still waiting: superseded", "warn")


async def _open_writer(session: Session, *, crash_first: bool) -> None:
    cluster = session.cluster
    newcomer = cluster.next_writer
    if crash_first:
        await _supersede(session)
    for side in session.isolated:
        _cut(session, side, newcomer)

    async def call() -> str:
        opening = cluster.recover if crash_first else cluster.open_writer
        engine = await opening()
        if engine.core is None:
            raise Closed(f"{newcomer} has ended")
        start = engine.core.last_allocated_lsn + 1
        return (
            f"{engine.name} has opened the volume: epoch {engine.core.epoch.counter}, "
            f"VDL {engine.vdl}, next LSN {start}"
        )

    await session.perform("recover" if crash_first else "takeover", CallKind.OPENING, call)
