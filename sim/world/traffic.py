"""Who sends what to whom: the last messages of a run, for whoever asks why it does not end."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from segments.protocol import codec
from segments.protocol.errors import AuroraError
from sim.wording import counted
from sim.world.listener import Listener
from sim.world.network import NetworkEvent

_RECENT: Final = 1_000
_KINDS: Final = 4


class Traffic(Listener):
    """Remembers the last messages that were sent."""

    def __init__(self) -> None:
        self._recent: deque[NetworkEvent] = deque(maxlen=_RECENT)

    def on_message(self, event: NetworkEvent) -> None:
        if event[1] == "sent":
            self._recent.append(event)

    def since(self, time_ns: int) -> str:
        """The most frequent kinds of the last messages, as far as they are not older than that."""
        recent = [event for event in self._recent if event.time_ns >= time_ns]
        if not recent:
            return "no message was sent meanwhile"
        kinds = Counter((_name(each.payload), each.source, each.destination) for each in recent)
        told = ", ".join(
            f"{count} {kind} {source} → {destination}"
            for (kind, source, destination), count in kinds.most_common(_KINDS)
        )
        return f"of the last {counted(len(recent), 'message')}: {told}"


def _name(payload: bytes) -> str:
    try:
        return type(codec.decode(payload)).__name__
    except AuroraError:
        return "no message at all"
