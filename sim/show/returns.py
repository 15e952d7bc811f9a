"""When those whom a fault has hit were back in service: mostly some time after it has ended.

A segment is back when the writer hears from it, after the fault has ended for it, that it has all
that is complete (an SCL not below the PGCL); a writer that was cut off, when it hears from anybody
again; a writer that was crashed or replaced, when another has opened the volume.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aurora.events import Acknowledged
from aurora.targets import WRITER
from segments.protocol.ids import Address
from sim.plan.episodes import Episode

_OPENINGS: Final = ("crash_writer", "recover", "take_over")


def victims_of(episode: Episode) -> dict[Address, int]:
    """Who is to come back after an episode, and from when on that counts."""
    action = episode.action
    if action.kind in _OPENINGS:
        return {WRITER: episode.start_ns}
    if action.kind == "wipe":
        return dict.fromkeys(episode.segments, episode.end_ns)  # they never do
    if not episode.ends and WRITER not in action.target:
        return {}
    return {**episode.ends, **({WRITER: episode.end_ns} if WRITER in action.target else {})}


class Returns:
    """Listens to the steps of a run whose faults are known beforehand."""

    def __init__(self, episodes: Iterable[Episode]) -> None:
        self.found: dict[tuple[int, Address], int] = {}
        """The time at which the victim of a fault, by the number of its action, was back."""
        self._waiting: dict[Address, dict[int, int]] = {}
        """For each victim the faults that it comes back from, and when they end."""
        self._opening: dict[int, int] = {}
        for episode in episodes:
            for victim, end_ns in victims_of(episode).items():
                if episode.action.kind in _OPENINGS:
                    self._opening[episode.number] = end_ns
                else:
                    self._waiting.setdefault(victim, {})[episode.number] = end_ns

    def acknowledged(self, now_ns: int, event: Acknowledged) -> None:
        """A writer has heard how far a segment is."""
        self._back(now_ns, WRITER)
        if event.scl >= event.pgcl[1]:
            self._back(now_ns, event.segment)

    def _back(self, now_ns: int, victim: Address) -> None:
        waiting = self._waiting.get(victim)
        if waiting:
            for number in [each for each, end_ns in waiting.items() if end_ns <= now_ns]:
                del waiting[number]
                self.found[number, victim] = now_ns

    def opened(self, now_ns: int) -> None:
        """A writer has opened the volume."""
        for number in [each for each, start in self._opening.items() if start < now_ns]:
            del self._opening[number]
            self.found[number, WRITER] = now_ns
