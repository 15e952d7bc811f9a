"""Commands about how things happen: shown or not, by themselves or step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aurora.terminal import language
from aurora.terminal.language import Misuse
from aurora.terminal.session import Session, describe
from aurora.terminal.text import counted

Words = Sequence[str]

MAX_DELAY_MS: Final = 60_000
_MAX_STEPS: Final = 10_000
_MAX_WAIT_MS: Final = 60_000


async def viz(session: Session, words: Words) -> None:
    """Show every step, or not."""
    language.at_least(words, 1, "on or off")
    language.at_most(words, 1)
    on = language.on_off(words[0])
    await session.set_mode(viz=on)
    session.screen.say("every step is shown" if on else "steps are not shown", "note")


async def delay(session: Session, words: Words) -> None:
    """Set the pause after each line shown."""
    language.at_least(words, 1, "MS")
    language.at_most(words, 1)
    milliseconds = language.integer(words[0], "milliseconds", 0, MAX_DELAY_MS)
    session.delay_s = milliseconds / 1000
    session.screen.say(f"{milliseconds} ms after each line", "note")


async def step(session: Session, words: Words) -> None:
    """Turn stepping on or off, or take steps."""
    language.at_most(words, 1)
    if words and words[0].lower() in ("on", "off"):
        on = language.on_off(words[0])
        await session.set_mode(stepping=on)
        about = "nothing arrives until you press Enter" if on else "things happen by themselves"
        session.screen.say(about, "note")
        return
    count = language.integer(words[0], "a number of steps", 1, _MAX_STEPS) if words else 1
    _check_stepping(session)
    for _ in range(count):
        if await session.stage.step() is None:
            session.screen.say("no message is under way; `wait MS` lets time pass", "note")
            return


async def run(session: Session, words: Words) -> None:
    """Deliver until nothing is under way."""
    language.at_most(words, 0)
    _check_stepping(session)
    count = await session.stage.settle()
    session.screen.say(f"{counted(count, 'message')} delivered", "note")


async def drop(session: Session, words: Words) -> None:
    """Lose the next messages."""
    language.at_most(words, 1)
    count = language.integer(words[0], "a number of messages", 1, _MAX_STEPS) if words else 1
    _check_stepping(session)
    for _ in range(count):
        held = session.stage.network.drop_next()
        if held is None:
            session.screen.say("no message is under way", "note")
            return
        session.screen.say(f"lost: {describe(held)}", "warn")


async def messages(session: Session, words: Words) -> None:
    """List what is under way."""
    language.at_most(words, 0)
    _check_stepping(session)
    held = session.stage.network.under_way()
    for number, each in enumerate(held[:40], 1):
        session.screen.say(f"{number:>4}  {describe(each)}")
    if not held or len(held) > 40:
        session.screen.say(f"{counted(len(held), 'message')} under way", "note")


async def wait(session: Session, words: Words) -> None:
    """Let time pass."""
    language.at_least(words, 1, "MS")
    language.at_most(words, 1)
    milliseconds = language.integer(words[0], "milliseconds", 1, _MAX_WAIT_MS)
    await session.pass_time(milliseconds / 1000)
    session.screen.say(f"{milliseconds} ms have passed", "note")


def _check_stepping(session: Session) -> None:
    if not session.stepping:
        raise Misuse("nothing is held: expected `step on` before this")
