"""What a caller waits for, as a pure object: it decides, and a shell sleeps in between.

There are three: a page or a list of pages that a segment is asked for (`aurora.reading`), the
confirmation of a strict read (there, too), and a commit on its way into the log (`aurora.commit`).
One loop drives them all:

    while (timer := pending.next_timer()) is not None:
        sleep until ``timer``, or until the writer says that it is to be looked at again
        if not pending.done:
            pending.on_timer(now)
    pending.end()  # whatever happened: also if the caller has given up
"""

from __future__ import annotations

from typing import Final, Protocol

import attrs

from aurora.health import WaitKind
from segments.protocol.ids import PgId

AT_ONCE: Final = float("-inf")
"""A timer that has run out: others have their turn, and then it goes on."""
WHEN_WOKEN: Final = float("inf")
"""A timer that never runs out: only the writer can say when it is time."""


@attrs.frozen(kw_only=True)
class WaitSnapshot:
    """Calls that wait for the same thing, in the protection groups that it depends on."""

    kind: WaitKind
    since_s: float
    pg_ids: tuple[PgId, ...]
    missing: str = ""
    """What is missing, where no segment stands in the way."""


class Pending(Protocol):
    """Something that goes on until it is `done`. Times are points in time, in seconds."""

    wait: WaitSnapshot
    """What it waits for at the moment; meaningful while `next_timer` is a number."""

    @property
    def done(self) -> bool:
        """Whether there is a result, or an error in its place."""
        ...

    def next_timer(self) -> float | None:
        """When to call `on_timer`, at the latest; None when done.

        A finite time means that segments have been asked: what the writer has to send goes now.
        """
        ...

    def on_timer(self, now: float) -> None:
        """Go on: the timer has run out, or something has happened."""
        ...

    def end(self) -> None:
        """Nobody waits for it any longer."""
        ...
