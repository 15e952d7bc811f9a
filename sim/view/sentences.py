"""Each event of a film in words: as the prompt's walk tells steps, and calls beside them."""

from __future__ import annotations

from textwrap import shorten
from typing import Final

from aurora.events import Acknowledged, Sent
from aurora.terminal.narrate import Narrator
from segments.protocol.events import AckSent, BatchReceived, Event
from sim.view.kinds import kind_of
from sim.wording import counted
from sim.world.history import Call

_MOST_STATEMENTS: Final = 12
_STATEMENT: Final = 160
"""Characters of one that are told."""


class Sentences:
    """Tells steps, in the order in which they are taken."""

    def __init__(self) -> None:
        self._narrator = Narrator()

    def of(self, source: str, event: Event) -> str:
        """One or several lines."""
        self._narrator(source, event)
        told = "\n".join(text.plain for _, text in self._narrator.tell(by_party=False))
        return told or _quietly(event)


def client_of(call: Call) -> str:
    """The name of the node that makes a call."""
    return f"client {call.operation.client}"


def statements_of(call: Call) -> list[str]:
    """What a call in SQL has said, with the values bound to it, as far as there is room."""
    said = [*call.sql.script, *(each.statement for each in call.sql.readings)]
    told = [
        shorten(each.text, _STATEMENT, placeholder=" …")
        + (f" {list(each.bindings)}" if each.bindings else "")
        + (f" ({counted(len(each.sets), 'set')} of values)" if each.sets else "")
        for each in said[:_MOST_STATEMENTS]
    ]
    left = len(said) - len(told)
    return [*told, *([f"and {counted(left, 'more statement')}"] if left else [])]


def _quietly(event: Event) -> str:
    """What is said of an event for which the terminal's walk has no words."""
    if isinstance(event, BatchReceived):
        return f"a heartbeat of {event.writer}: no redo"
    if isinstance(event, AckSent):
        return f"acknowledges SCL {event.scl} to {event.writer}"
    if isinstance(event, Acknowledged):
        return f"← {event.segment}: its SCL is {event.scl}, as before"
    if isinstance(event, Sent):
        return f"→ {event.segment}: no redo"
    return kind_of(type(event)).words
