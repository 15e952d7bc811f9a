"""A mini-transaction that is too large to be made in one step, in parts. Pure.

A page's writes stand together, in their order, where the last of them was: so that a page is needed
in one part, or in two that follow each other, and what was written last is still the last record.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final, TypeAlias

import attrs

from aurora.mtr import PageWrite
from aurora.pending import AT_ONCE
from segments.protocol.ids import PageId

_WRITES_A_STEP: Final = 16_384

Part: TypeAlias = list[PageWrite]


@attrs.frozen
class PartLimits:
    """The most that one part has. Each is at least one; one write always fits."""

    writes: int
    size_bytes: int
    """Of what is written."""
    pages: int

    def hold(self, writes: Sequence[PageWrite]) -> bool:
        """Whether these are one part."""
        return (
            len(writes) <= self.writes
            and sum([len(write.data) for write in writes]) <= self.size_bytes
            and (
                len(writes) <= self.pages or len({write.page_id for write in writes}) <= self.pages
            )
        )


def in_parts(
    writes: Sequence[PageWrite], limits: PartLimits
) -> Generator[float, float, list[Part]]:
    """The writes in parts, in steps: yields in between, as timers of `aurora.pending`."""
    by_page: dict[PageId, list[PageWrite]] = {}  # both backwards
    for done, write in enumerate(reversed(writes), 1):
        by_page.setdefault(write.page_id, []).append(write)
        if done % _WRITES_A_STEP == 0:
            yield AT_ONCE
    parts: list[Part] = [[]]
    pages = size = done = 0
    for page_writes in reversed(by_page.values()):
        page_bytes = sum(len(write.data) for write in page_writes)
        whole = len(parts[-1]) + len(page_writes) <= limits.writes
        whole &= size + page_bytes <= limits.size_bytes
        if parts[-1] and (pages >= limits.pages or not whole):
            parts.append([])
            pages = size = 0
        pages += 1
        for write in reversed(page_writes):
            part = parts[-1]
            if part and (len(part) >= limits.writes or size + len(write.data) > limits.size_bytes):
                part = []
                parts.append(part)
                pages, size = 1, 0
            part.append(write)
            size += len(write.data)
            done += 1
            if done % _WRITES_A_STEP == 0:
                yield AT_ONCE
    return parts
