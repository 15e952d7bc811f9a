"""Whether a layer may have rows of a page: answered from memory, so that reads skip most layers.

A Bloom filter of 10 to 20 bits a page, four of which a page sets: about one page in a hundred that
is not there seems to be.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from segments.protocol.codec import checksum
from segments.protocol.ids import PageId

_BITS_A_PAGE: Final = 10
_PROBES: Final = 4
_LEAST_BYTES: Final = 8
_LOW: Final = (1 << 32) - 1


def _hash(page: PageId) -> int:
    return checksum(page.to_bytes(8, "little"))


class Bloom:
    """A filter that has been read or built; its size is a power of two of bytes."""

    __slots__ = ("_mask", "packed")

    def __init__(self, packed: bytes) -> None:
        """Raises `ValueError` for a size that no filter has."""
        size = len(packed)
        if size < _LEAST_BYTES or size & (size - 1):
            raise ValueError(
                f"a filter of {size} bytes: expected a power of two, >= {_LEAST_BYTES}"
            )
        self.packed = packed
        self._mask = size * 8 - 1

    def may_hold(self, page: PageId) -> bool:
        """Whether ``page`` may be among those that were added: True for all that were."""
        digest = _hash(page)
        at, step, packed, mask = digest & _LOW, digest >> 32 | 1, self.packed, self._mask
        for _ in range(_PROBES):
            bit = at & mask
            if not packed[bit >> 3] >> (bit & 7) & 1:
                return False
            at += step
        return True


class BloomBuilder:
    """Begins large enough for the most pages that may come, and is halved to what has come."""

    def __init__(self, most_pages: int) -> None:
        self._bits = bytearray(_bytes_for(most_pages))
        self._mask = len(self._bits) * 8 - 1
        self.count = 0
        """How many pages have been added."""

    def add(self, pages: Iterable[PageId]) -> None:
        """Take in pages, each of which comes once."""
        bits, mask = self._bits, self._mask
        for page in pages:
            digest = _hash(page)
            at, step = digest & _LOW, digest >> 32 | 1
            for _ in range(_PROBES):
                bit = at & mask
                bits[bit >> 3] |= 1 << (bit & 7)
                at += step
            self.count += 1

    def packed(self) -> bytes:
        """The filter for the pages added. A bit's place is a remainder, so halves can be joined."""
        bits, size = bytes(self._bits), _bytes_for(self.count)
        while len(bits) > size:
            half = len(bits) // 2
            low, high = (int.from_bytes(each, "little") for each in (bits[:half], bits[half:]))
            bits = (low | high).to_bytes(half, "little")
        return bits


def _bytes_for(pages: int) -> int:
    size = max(_LEAST_BYTES, pages * _BITS_A_PAGE // 8 + 1)
    return 1 << (size - 1).bit_length()
