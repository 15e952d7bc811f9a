"""What has changed between two images of a page, as few and short writes (SQL design, decision 3).

Slices of 512 bytes are compared first. Where several in a row differ, both images are taken as one
large number each, whose difference has a zero byte wherever they are equal: so nothing here loops
over bytes. Two changes with 128 equal bytes or fewer between them are one write: a record of its
own would cost as much.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from segments.protocol.record import PAGE_SIZE

SLICE: Final = 512
MOST_GAP: Final = 128
"""Equal bytes between two changes that still make one write."""
_GAP: Final = bytes(MOST_GAP + 1)

assert PAGE_SIZE % SLICE == 0


def changed_ranges(base: bytes, image: bytes) -> list[tuple[int, int]]:
    """The half-open ranges in which ``image`` differs from ``base``, both 8,192 bytes, ascending.

    Each begins and ends with a byte that differs; more than `MOST_GAP` equal bytes are between any
    two.
    """
    assert len(base) == len(image) == PAGE_SIZE, (len(base), len(image))
    ranges: list[tuple[int, int]] = []
    for at, stop in _differing_slices(base, image):
        difference = int.from_bytes(base[at:stop]) ^ int.from_bytes(image[at:stop])
        for start, end in _changes(difference.to_bytes(stop - at)):
            if ranges and at + start - ranges[-1][1] <= MOST_GAP:
                ranges[-1] = ranges[-1][0], at + end
            else:
                ranges.append((at + start, at + end))
    return ranges


def _differing_slices(base: bytes, image: bytes) -> Iterator[tuple[int, int]]:
    """Where slices differ, all that follow each other as one."""
    start = -1
    for at in range(0, PAGE_SIZE, SLICE):
        if base[at : at + SLICE] == image[at : at + SLICE]:
            if start >= 0:
                yield start, at
            start = -1
        elif start < 0:
            start = at
    if start >= 0:
        yield start, PAGE_SIZE


def _changes(difference: bytes) -> Iterator[tuple[int, int]]:
    """The ranges of bytes that are not all zero, with more than `MOST_GAP` zeros between them."""
    size, last = len(difference), len(difference.rstrip(b"\0"))
    start = size - len(difference.lstrip(b"\0"))
    while (end := difference.find(_GAP, start, last)) >= 0:
        yield start, end
        start = size - len(difference[end:].lstrip(b"\0"))
    yield start, last
