"""All commands of the prompt: what they are called, what they take, and what they are for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs

from aurora.terminal import chains, faults, figures, language, pages, walking
from aurora.terminal.language import Misuse
from aurora.terminal.session import Session
from segments.protocol.errors import AuroraError, Closed


@attrs.frozen
class Command:
    """One word of the prompt."""

    name: str
    arguments: str
    purpose: str
    run: Callable[[Session, Sequence[str]], Awaitable[None]]
    takes: tuple[str, ...] = ()
    """What completion offers: ``segments``, ``writer``, or words as they are."""

    @property
    def usage(self) -> str:
        """How to type it."""
        return f"{self.name} {self.arguments}".rstrip()


async def _help(session: Session, words: Sequence[str]) -> None:
    language.at_most(words, 1)
    if words:
        command = find(words[0])
        session.screen.say(f"  {command.usage}", "title")
        session.screen.say(f"  {command.purpose}")
        return
    for title, commands in GROUPS.items():
        session.screen.say(title, "title")
        for command in commands:
            session.screen.say(f"  {command.usage:<36}{command.purpose}")
    session.screen.say(
        "SEGMENT is A0 to F0, or A to F; AZ is az1, az2, az3; several with spaces or commas. "
        "Tab completes.",
        "note",
    )


async def _quit(session: Session, words: Sequence[str]) -> None:
    language.at_most(words, 0)
    session.ended = True


_MANY: Final = "SEGMENT|AZ ..."
_ALL: Final = "SEGMENT|AZ|writer ..."

GROUPS: Final[dict[str, tuple[Command, ...]]] = {
    "Pages": (
        Command("put", "PAGE OFFSET DATA", "write to a page; DATA is text or 0x...", pages.put),
        Command("putm", "PAGE OFFSET DATA ...", "several writes, all or nothing", pages.putm),
        Command("get", "PAGE [@LSN|strict]", "read a page, now or then", pages.get, ("strict",)),
        Command("chain", "PAGE [@LSN]", "the page's records, newest first", chains.chain),
    ),
    "Looking": (
        Command("state", "", "a picture of everything", pages.state),
        Command("status", "", "what goes on, what waits, and for what", pages.status),
        Command("segments", "", "a table of the segments", pages.segments),
        Command("statistics", "[--json]", "watermarks, counts and what is stored where",
                figures.statistics, ("--json",)),
        Command("history", "", "what was typed in this session", pages.history),
    ),
    "Breaking and mending": (
        Command("crash", _ALL, "stop at once", faults.crash, ("segments", "writer")),
        Command("restart", _MANY, "start again from disk", faults.restart, ("segments",)),
        Command("pause", _MANY, "hear and say nothing until resumed", faults.pause, ("segments",)),
        Command("resume", _MANY, "end a pause", faults.resume, ("segments",)),
        Command("slow", f"{_MANY} [MS]", "answer late; 0 ends it", faults.slow, ("segments",)),
        Command("wipe", _MANY, "lose disks, for good", faults.wipe, ("segments",)),
        Command(
            "partition", _ALL, "cut off from all others", faults.partition, ("segments", "writer")
        ),
        Command("heal", "", "end all partitions", faults.heal),
        Command("recover", "", "open the volume with a new writer", faults.recover),
        Command("takeover", "", "the same while the old writer goes on", faults.takeover),
    ),
    "Step by step": (
        Command("viz", "on|off", "show every step of what follows", walking.viz, ("on", "off")),
        Command("delay", "MS", "pause after each line shown", walking.delay),
        Command("step", "[on|off|COUNT]", "hold messages; Enter delivers one", walking.step,
                ("on", "off")),
        Command("run", "", "deliver all that is under way", walking.run),
        Command("drop", "[COUNT]", "lose the next message", walking.drop),
        Command("messages", "", "what is under way", walking.messages),
        Command("wait", "MS", "let time pass", walking.wait),
    ),
    "Else": (
        Command("help", "[COMMAND]", "this", _help, ("commands",)),
        Command("quit", "", "leave; also exit, or Ctrl-D", _quit),
    ),
}  # fmt: skip
"""In the order of the help."""

COMMANDS: Final = {each.name: each for group in GROUPS.values() for each in group}
_ALIASES: Final = {"exit": "quit", "?": "help"}


def find(word: str) -> Command:
    """The command called ``word``; raises `Misuse`."""
    command = COMMANDS.get(_ALIASES.get(word.lower(), word.lower()))
    if command is None:
        near = [name for name in COMMANDS if word and name.startswith(word[:2].lower())]
        hint = f": did you mean {' or '.join(near)}?" if near else ": `help` lists all"
        raise Misuse(f"{word!r} is no command{hint}")
    return command


async def execute(session: Session, line: str) -> bool:
    """Run one line; False if it was refused or failed, after saying why. Never raises for input."""
    command: Command | None = None
    try:
        if not line.strip():
            if session.stepping:
                await walking.step(session, ())
            return True
        if line.lstrip().startswith("#"):
            return True
        words = language.split(line)
        command = find(words[0])
        session.remember(line.strip())
        await command.run(session, words[1:])
        if session.viz and not session.stepping and command in _DRAWN:
            session.picture_changes()
    except Misuse as error:
        session.screen.say(f"error: {error}", "bad")
        if command is not None:
            session.screen.say(f"usage: {command.usage}", "note")
        return False
    except Closed as error:
        session.screen.say(f"{session.failed(error)}; `recover` opens the volume again", "bad")
        return False
    except AuroraError as error:
        session.screen.say(session.failed(error), "bad")
        return False
    return True


_DRAWN: Final = (
    *GROUPS["Pages"][:3],
    *(each for each in GROUPS["Breaking and mending"]),
)
"""The commands after which a picture is due when every step is shown."""
