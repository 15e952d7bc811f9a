"""The scripted scenario: commands of the prompt, with what there is to see in them.

A line that begins with ``!`` is expected to be refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from aurora.terminal.commands import execute
from aurora.terminal.picture import draw
from aurora.terminal.session import Session


class Act(NamedTuple):
    """A few commands that show one thing."""

    title: str
    about: str
    lines: tuple[str, ...]


_WRITES: Final = Act(
    "The log is the database",
    "A write sends redo to six segments, and is durable when four have synced it.",
    ('put 1 0 "hello"', 'put 1 5 ", world"', "get 1"),
)
_ATOMIC: Final = Act(
    "Several pages, all or nothing",
    "One mini-transaction: its last record is a consistency point, and only there the VDL stops.",
    ('putm 1 0 "HELLO" 2 0 "both pages or neither"', "get 1", "get 2"),
)
_VERSIONS: Final = Act(
    "Every version is still there",
    "A page is its records up to an LSN; an older read point just stops earlier.",
    ("get 1 @1", "get 1 @2", "chain 1"),
)
_DURABILITY: Final = Act(
    "What is durable, and who says so",
    "SCL: what one segment has without a gap. PGCL: what four have. VDL: what readers see.",
    ("state", "statistics"),
)
_DEAD_ZONE: Final = Act(
    "A data centre burns",
    "Two of six copies are gone; four are left, and writes do not even notice.",
    ("crash az3", 'put 3 0 "written without az3"', "get 3", "segments"),
)
_ONE_MORE: Final = Act(
    "One more than that",
    "With three copies segments answer reads, nothing is lost, and writes wait for a fourth.",
    ("crash A", 'put 4 0 "patience"', "get 1 @2", "restart A az3", "wait 2000", "segments"),
)
_LOST_WRITE: Final = Act(
    "The writer dies with a write under way",
    "Two segments get its record, the other messages are lost; then that zone goes down, too.",
    (
        "step on",
        'put 9 0 "nobody was told that this is durable"',
        "messages",
        "step 2",
        "drop 4",
        "crash writer",
        "crash az1",
        "step off",
        "state",
    ),
)
_RECOVERY: Final = Act(
    "Recovery",
    "A new writer seals a higher epoch, finds the last durable point, and annuls the rest.",
    ("recover", "!get 9", "get 1", 'put 5 0 "life goes on"', "restart az1", "wait 2000", "state"),
)

DEMO: Final = (
    _WRITES, _ATOMIC, _VERSIONS, _DURABILITY, _DEAD_ZONE, _ONE_MORE, _LOST_WRITE, _RECOVERY
)  # fmt: skip

VIZ_DEMO: Final = (
    Act("A write", _WRITES.about, ('put 1 0 "hello"',)),
    Act("A second write to the page", "Its record follows the first on all three chains.",
        ('put 1 5 ", world"',)),
    _ATOMIC._replace(lines=('putm 1 0 "HELLO" 2 0 "both pages or neither"',)),
    Act("A read from the buffer pool", "The writer has the page; no segment is asked.",
        ("get 1",)),
    Act("A read of an older version", "The pool has only newer ones: a segment makes the page.",
        ("get 1 @2",)),
    _DEAD_ZONE._replace(lines=("crash az3", 'put 3 0 "written without az3"')),
    Act("The writer dies", "A new writer seals a higher epoch, and continues where it is safe.",
        ("crash writer", "recover")),
    Act("A read after the crash", "The buffer pool is empty: the page comes from its redo alone.",
        ("get 1",)),
)  # fmt: skip


Pause = Callable[[], Awaitable[None]]


async def perform(session: Session, acts: tuple[Act, ...], pause: Pause | None = None) -> int:
    """Play the acts, with ``pause`` between them; returns 0 if every command went as it should.

    If every step is shown, the end is a picture of everything, and all that has changed.
    """
    screen, first = session.screen, session.view()
    wrong = 0
    for number, act in enumerate(acts, 1):
        if pause is not None and number > 1:
            await pause()
        screen.say()
        screen.say(f"{number}. {act.title}", "title")
        screen.say(act.about, "note", head="   ")
        for line in act.lines:
            command = line.removeprefix("!")
            screen.say()
            screen.say(f"aurora> {command}", "compute")
            succeeded = await execute(session, command)
            wrong += succeeded == line.startswith("!")
            session.tell_finished()
    screen.say()
    if session.viz:
        screen.say("The whole picture", "title")
        screen.show(draw(session.view(), screen.width))
        session.tell_changes("since the beginning", first, session.view())
        screen.say()
    return 1 if wrong else 0
