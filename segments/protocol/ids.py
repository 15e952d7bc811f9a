"""Who and where: log sequence numbers, pages, segments, protection groups and volume epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

Lsn: TypeAlias = int
"""Log sequence number: an integer >= 1, allocated by the one writer; 0 means "none" (2017 §4.1)."""

PageId: TypeAlias = int
"""Number of an 8,192-byte page of the volume, 0 <= page_id <= MAX_INTEGER."""

PgId: TypeAlias = int
"""Number of a protection group: six segments that hold the same log (2017 §2.2)."""

SegmentId: TypeAlias = str
"""Identity of one segment, such as ``A0``: a letter for the member, a number for its protection
group. An identity is never used twice: a disk that was lost takes its identity with it."""

Address: TypeAlias = str
"""Where messages go: a segment's identity, or the name of a writer incarnation."""

MAX_INTEGER: Final = 2**63 - 1
"""Upper bound, inclusive, of every integer in a message or on disk."""

MAX_LSN: Final = MAX_INTEGER - 2
"""The highest LSN that is ever allocated. One more can be annulled: a recovery has something to
annul, whatever was committed, and the end of that half-open range can still be written."""


class VolumeEpoch(NamedTuple):
    """Fencing number of a writer incarnation (2017 §4.3).

    Compared as a pair, so that two writers that choose the same counter still differ.
    """

    counter: int
    writer_id: int

    def __str__(self) -> str:
        return self.of(_tag(self.writer_id))

    def of(self, writer: str) -> str:
        """How people read it: ``3 (writer-2)``; whose it is decides between equal counters.

        Where nobody knows the writer's name the last digits of its id stand for it:
        ``3 (id 4f2a91)``. No writer's epoch, `NO_EPOCH`, is ``0``.
        """
        return f"{self.counter} ({writer})" if self.counter else "0"


NO_EPOCH: Final = VolumeEpoch(0, 0)
"""Lower than every epoch of a writer."""


def _tag(writer_id: int) -> str:
    return f"id {writer_id & 0xFF_FFFF:06x}"


def name_writers(text: str, names: Mapping[int, Address]) -> str:
    """``text`` with the writers' names in its epochs; ``names`` has them by ``writer_id``."""
    for writer_id, name in names.items():
        text = text.replace(f"({_tag(writer_id)})", f"({name})")
    return text
