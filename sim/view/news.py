"""What a server tells its pages as it happens: bounded queues of server-sent events."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import trio

from segments.protocol.errors import Unavailable

News: TypeAlias = Mapping[str, Any]
MOST_READERS: Final = 8
MOST_WAITING: Final = 256
"""News that one reader has not taken yet; one that falls behind by more is let go."""


class TooManyReaders(Unavailable):
    """So many pages listen already."""


class Reader:
    """One page that listens."""

    def __init__(self, known: list[News]) -> None:
        self.behind = False
        """Whether it was too slow: what it has missed it is told when it asks again."""
        self._waiting: deque[News] = deque(known)
        self._more = trio.Event()

    def tell(self, news: News) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self.behind = True
        else:
            self._waiting.append(news)
        self._more.set()

    async def next(self) -> News | None:
        """The next news; None once it has fallen behind. Waits for it."""
        while not self._waiting and not self.behind:
            self._more = trio.Event()
            await self._more.wait()
        return self._waiting.popleft() if self._waiting and not self.behind else None


class NewsRoom:
    """Tells everybody who listens, and whoever comes later what counts by then."""

    def __init__(self) -> None:
        self._readers: dict[Reader, None] = {}
        self._latest: dict[str, News] = {}

    def tell(self, about: str, news: News) -> None:
        """Something is so now; what was said ``about`` the same before no longer counts."""
        self._latest[about] = news
        for reader in self._readers:
            reader.tell(news)

    def open(self) -> Reader:
        """Begin to listen; raises `TooManyReaders`."""
        if len(self._readers) >= MOST_READERS:
            raise TooManyReaders(f"{MOST_READERS} pages listen already: close one of them")
        reader = Reader(list(self._latest.values()))
        self._readers[reader] = None
        return reader

    def close(self, reader: Reader) -> None:
        """Listen no longer."""
        self._readers.pop(reader, None)


def as_event(news: News) -> bytes:
    """One server-sent event; JSON has no line breaks of its own."""
    return b"data: " + json.dumps(news, separators=(",", ":")).encode() + b"\n\n"
