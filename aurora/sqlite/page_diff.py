"""What has changed between two images of a page, as few and short writes (SQL design, decision 3).

Slices of 512 bytes are compared first, then those of 32 bytes in which they differ, then the edges
of what was found, byte by byte. Two changes with 128 equal bytes or fewer between them are one
write: a record of its own would cost as much.
"""

from __future__ import annotations

from typing import Final

from segments.protocol.record import PAGE_SIZE

COARSE: Final = 512
FINE: Final = 32
MOST_GAP: Final = 128
"""Equal bytes between two changes that still make one write."""
_FINE_BITS: Final = FINE * 8
_SURELY_MERGED: Final = MOST_GAP - 2 * (FINE - 1)
"""Equal bytes between two fine slices that differ, when the edges within them do not matter."""

assert PAGE_SIZE % COARSE == 0
assert COARSE % FINE == 0


def changed_ranges(base: bytes, image: bytes) -> list[tuple[int, int]]:
    """The half-open ranges in which ``image`` differs from ``base``, both 8,192 bytes, ascending.

    Each begins and ends with a byte that differs; more than `MOST_GAP` equal bytes are between any
    two.
    """
    assert len(base) == len(image) == PAGE_SIZE, (len(base), len(image))
    ranges: list[tuple[int, int]] = []
    first = last = -1  # the fine slices that the range under way begins and ends with
    for coarse in range(0, PAGE_SIZE, COARSE):
        if base[coarse : coarse + COARSE] == image[coarse : coarse + COARSE]:
            continue
        for at in range(coarse, coarse + COARSE, FINE):
            if base[at : at + FINE] == image[at : at + FINE]:
                continue
            if first < 0:
                first = at
            elif at - last - FINE > _SURELY_MERGED:
                end, start = _last_change(base, image, last) + 1, _first_change(base, image, at)
                if start - end > MOST_GAP:
                    ranges.append((_first_change(base, image, first), end))
                    first = at
            last = at
    if first >= 0:
        ranges.append((_first_change(base, image, first), _last_change(base, image, last) + 1))
    return ranges


def _difference(base: bytes, image: bytes, at: int) -> int:
    """A number whose bits are set where the fine slices differ, the first byte highest."""
    return int.from_bytes(base[at : at + FINE]) ^ int.from_bytes(image[at : at + FINE])


def _first_change(base: bytes, image: bytes, at: int) -> int:
    return at + (_FINE_BITS - _difference(base, image, at).bit_length()) // 8


def _last_change(base: bytes, image: bytes, at: int) -> int:
    difference = _difference(base, image, at)
    return at + FINE - 1 - ((difference & -difference).bit_length() - 1) // 8
