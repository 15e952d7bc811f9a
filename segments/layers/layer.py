"""A layer: an immutable file of sorted blocks, and the little of it that stays in memory.

A delta layer has all records with ``start < LSN <= end``, and images behind some of them. A base
layer, whose start is 0, has one image of each page, the newest at ``end``, and nothing else.

==================  ==========  ==================================================================
part                bytes       content
==================  ==========  ==================================================================
header              64          magic, format (4), base (4), start, end, zeros, sum
blocks                          `segments.layers.block`
index               24 a block  page and LSN of its first row, its offset
filter                          `segments.layers.bloom`
new pages           16 a page   page and LSN of its first record ever: of each that is in here, by
                                page; of a base layer, each page and the LSN of its image
footer              112         magic, format (4), base (4), start, end, rows, payload bytes of
                                records, pages, blocks, sum of the index, bytes and sum of the
                                filter, new pages, sum of the new pages, sum of the footer
==================  ==========  ==================================================================

Integers are little-endian, of 8 bytes where nothing else is said; sums are xxh3-64 of what stands
before them in their part, or of the part that they name, seeded by that part's offset in the file.
A layer's number is its name only, so layers of the same content are the same bytes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from itertools import compress
from operator import le, lt, sub
from struct import Struct
from typing import Any, Final, NamedTuple

import attrs

from segments.layers.block import BLOCK_HEAD_BYTES
from segments.layers.bloom import Bloom
from segments.layers.job import PAUSE, Job, Read
from segments.protocol import codec
from segments.protocol.errors import DamagedLayer
from segments.protocol.ids import MAX_INTEGER, Lsn, PageId
from segments.protocol.record import RECORD_OVERHEAD_BYTES
from segments.protocol.run import words_of

_MAGIC: Final = b"AURORALR"
_FORMAT: Final = 1
_HEADER: Final = Struct("<8sIIQQ24s")
_FOOTER: Final = Struct("<8sII11Q")
_SUM: Final = Struct("<Q")
_ENTRY_WORDS: Final = 3
_LEAST_BLOCK: Final = BLOCK_HEAD_BYTES + RECORD_OVERHEAD_BYTES
_PAGES_A_STEP: Final = 50_000

HEADER_BYTES: Final = _HEADER.size + _SUM.size
FOOTER_BYTES: Final = _FOOTER.size + _SUM.size
ENTRY_BYTES: Final = 24
"""Of each block in the index."""
PAGE_BYTES: Final = 16
"""Of each of the new pages."""

assert HEADER_BYTES == 64
assert FOOTER_BYTES == 112


class NewPages(NamedTuple):
    """Pages, ascending, and an LSN for each: of its first record, or of its image in a base."""

    pages: array[int]
    lsns: array[int]


@attrs.frozen
class Layer:
    """What is known of a layer's file without reading it. Its number tells it from all others."""

    number: int
    start: Lsn = attrs.field(eq=False)
    """Its records are above this LSN; 0 of a base layer."""
    end: Lsn = attrs.field(eq=False)
    """Its records are at or below this LSN; its file may have others above, in a clone."""
    base: bool = attrs.field(eq=False)
    """Whether it has images only: the newest version at `end` of each page."""
    length: int = attrs.field(eq=False)
    """Bytes of its file."""
    count: int = attrs.field(eq=False)
    """How many rows it has, images included."""
    user_bytes: int = attrs.field(eq=False)
    """Payload bytes of its records: what their writers wrote, and when."""
    page_count: int = attrs.field(eq=False)
    """How many pages have rows in it."""
    new_page_count: int = attrs.field(eq=False)
    """How many of them have their first record ever in it; all of a base layer."""
    first_pages: array[int] = attrs.field(eq=False, repr=False)
    """The page of each block's first row."""
    first_lsns: array[int] = attrs.field(eq=False, repr=False)
    """The LSN of each block's first row."""
    offsets: array[int] = attrs.field(eq=False, repr=False)
    """Where each block starts in the file; one more, where the last one ends."""
    bloom: Bloom = attrs.field(eq=False, repr=False)

    @property
    def name(self) -> str:
        """Of its file."""
        return layer_name(self.number)

    def blocks_of(self, page: PageId, low: Lsn, high: Lsn) -> range:
        """The blocks that may hold rows of ``page`` with ``low < lsn <= high``, ascending."""
        pages, lsns = self.first_pages, self.first_lsns
        start = bisect_left(pages, page)
        end = bisect_right(pages, page, start)
        # A block may begin with the image of a record that ends the block before it.
        first = bisect_left(lsns, low + 1, start, end) - 1
        return range(max(0, first), bisect_right(lsns, high, start, end))

    def read_blocks(self, first: int, count: int = 1) -> Read:
        """What reads ``count`` blocks from number ``first`` on."""
        at = self.offsets[first]
        return Read(self.name, at, self.offsets[first + count] - at)


def unreadable(number: int, start: Lsn, end: Lsn, base: bool, length: int) -> Layer:
    """What stands for a layer of which nothing can be known: whatever is read of it is damaged."""
    nothing, ends = array("Q", (0,)), array("Q", (0, HEADER_BYTES))
    return Layer(
        number, start, end, base, length, 0, 0, 0, 0,
        nothing, nothing, ends, Bloom(bytes([255] * 8)),
    )  # fmt: skip


def layer_name(number: int) -> str:
    """The name of the file of layer ``number``."""
    return f"layer-{number}"


# ---- its file ------------------------------------------------------------------------------------


class Tail(NamedTuple):
    """What stands behind the blocks of a file, before the footer."""

    entries: bytes
    bloom: bytes
    new_pages: bytes


def encode_header(start: Lsn, end: Lsn, base: bool) -> bytes:
    """What a file begins with."""
    return _summed(_HEADER.pack(_MAGIC, _FORMAT, base, start, end, bytes(24)), 0)


def encode_tail(layer: Layer, tail: Tail) -> bytes:
    """``tail`` and the footer, as they stand behind the last block."""
    at, sums = layer.offsets[-1], []
    for part in tail:
        sums.append(codec.checksum(part, at))
        at += len(part)
    index_sum, bloom_sum, new_pages_sum = sums
    footer = _FOOTER.pack(
        _MAGIC, _FORMAT, layer.base, layer.start, layer.end, layer.count, layer.user_bytes,
        layer.page_count, len(layer.first_pages), index_sum, len(tail.bloom), bloom_sum,
        len(tail.new_pages) // PAGE_BYTES, new_pages_sum,
    )  # fmt: skip
    return b"".join((*tail, _summed(footer, at)))


def open_layer(number: int, length: int) -> Job[tuple[Layer, NewPages]]:
    """What is to be known of layer ``number``, a file of ``length`` bytes, and its new pages.

    All of the file but its blocks is read and checked; raises `DamagedLayer`.
    """
    name, tail_at = layer_name(number), length - FOOTER_BYTES
    if tail_at < HEADER_BYTES:
        raise DamagedLayer(number, f"has {length} bytes: expected {HEADER_BYTES + FOOTER_BYTES}")
    footer = _fields(number, _FOOTER, (yield Read(name, tail_at, FOOTER_BYTES)), tail_at)
    (
        _, _, base, start, end, count, user_bytes, page_count,
        blocks, index_sum, bloom_bytes, bloom_sum, new, new_pages_sum,
    ) = footer  # fmt: skip
    header = _fields(number, _HEADER, (yield Read(name, 0, HEADER_BYTES)), 0)
    if header[:5] != footer[:5] or base > 1 or base * start or not start <= end <= MAX_INTEGER:
        raise DamagedLayer(number, f"begins with {header[:5]} and ends with {footer[:5]}")
    new_at = tail_at - new * PAGE_BYTES
    bloom_at = new_at - bloom_bytes
    index_at = bloom_at - blocks * ENTRY_BYTES
    if index_at < HEADER_BYTES:
        raise DamagedLayer(number, f"has no room for {blocks} blocks and {new} new pages")
    data = yield Read(name, index_at, tail_at - index_at)
    index, packed, pages = (
        _part(number, data, at - index_at, end_at - index_at, at, total)
        for at, end_at, total in (
            (index_at, bloom_at, index_sum),
            (bloom_at, new_at, bloom_sum),
            (new_at, tail_at, new_pages_sum),
        )
    )
    yield PAUSE
    first_pages, first_lsns, offsets = (words_of(index)[k::_ENTRY_WORDS] for k in range(3))
    offsets.append(index_at)
    _check_index(number, first_pages, first_lsns, offsets)
    yield PAUSE
    new_pages = NewPages(*(words_of(pages)[k::2] for k in range(2)))
    yield from _check_pages(number, new_pages, start, end)
    try:
        bloom = Bloom(packed)
    except ValueError as error:
        raise DamagedLayer(number, str(error)) from None
    layer = Layer(
        number, start, end, base == 1, length, count, user_bytes, page_count, new,
        first_pages, first_lsns, offsets, bloom,
    )  # fmt: skip
    return layer, new_pages


def narrowed(layer: Layer, new: NewPages, start: Lsn, end: Lsn) -> Job[tuple[Layer, NewPages]]:
    """A layer that stands for ``(start, end]`` alone, whatever else is in its file; its new pages.

    A clone shares layers with the volume that it was made of, and holds less than some of them. A
    newer layer takes over what an older one has begun. Raises `DamagedLayer` if it has less.
    """
    if layer.start > start or layer.end < end or (layer.base and layer.end > end):
        raise DamagedLayer(
            layer.number, f"holds {layer.start} to {layer.end}: expected {start} to {end}"
        )
    if layer.start < start or layer.end > end:
        pages, lsns = array("Q"), array("Q")
        for at in range(0, len(new.pages), _PAGES_A_STEP):
            step = new.lsns[at : at + _PAGES_A_STEP]
            kept = [start < lsn <= end for lsn in step]
            pages.extend(compress(new.pages[at : at + _PAGES_A_STEP], kept))
            lsns.extend(compress(step, kept))
            yield PAUSE
        new = NewPages(pages, lsns)
        layer = attrs.evolve(layer, start=start, end=end, new_page_count=len(pages))
    return layer, new


def glance_at(layer: Layer) -> Job[None]:
    """See that a layer's file is there and ends as it must; raises `DamagedLayer`."""
    tail_at = layer.length - FOOTER_BYTES
    data = yield Read(layer.name, tail_at, FOOTER_BYTES)
    _, _, base, start, end, count, *_ = _fields(layer.number, _FOOTER, data, tail_at)
    if (base, count) != (layer.base, layer.count) or start > layer.start or end < layer.end:
        raise DamagedLayer(
            layer.number, f"holds {count} rows of {start} to {end}: expected {layer}"
        )


def verify_layer(layer: Layer) -> Job[None]:
    """See that all of a layer's file but its blocks says what is known of it.

    Raises `DamagedLayer`: it has rotted, or another file stands in its place.
    """
    found, new_pages = yield from open_layer(layer.number, layer.length)
    if found.start <= layer.start and found.end >= layer.end and not found.base:
        found, _ = yield from narrowed(found, new_pages, layer.start, layer.end)
    if _known(found) != _known(layer):
        raise DamagedLayer(layer.number, f"is another one, {found}: expected {layer}")


def _known(layer: Layer) -> tuple[object, ...]:
    """All that is known of a layer."""
    return (
        layer.start, layer.end, layer.base, layer.length, layer.count, layer.user_bytes,
        layer.page_count, layer.new_page_count, layer.first_pages, layer.first_lsns,
        layer.offsets, layer.bloom.packed,
    )  # fmt: skip


def _summed(data: bytes, offset: int) -> bytes:
    return data + _SUM.pack(codec.checksum(data, offset))


def _fields(number: int, form: Struct, data: bytes, offset: int) -> tuple[Any, ...]:
    """The fields of the header or the footer."""
    if len(data) != form.size + _SUM.size:
        raise DamagedLayer(number, f"ends within {form.size + _SUM.size} bytes from {offset} on")
    if _summed(data[: form.size], offset) != data:
        raise DamagedLayer(number, f"has a wrong sum of {form.size} bytes from {offset} on")
    fields = form.unpack_from(data)
    if fields[:2] != (_MAGIC, _FORMAT):
        raise DamagedLayer(number, f"is of the format {fields[:2]}: expected {_MAGIC!r} {_FORMAT}")
    return fields


def _part(number: int, data: bytes, start: int, stop: int, offset: int, total: int) -> bytes:
    """``data[start:stop]``, which stands at ``offset`` and has the sum ``total``."""
    part = data[start:stop]
    if len(part) != stop - start or codec.checksum(part, offset) != total:
        raise DamagedLayer(
            number, f"has a wrong sum of {stop - start} bytes from {offset} on: expected {total:x}"
        )
    return part


def _check_index(number: int, pages: array[int], lsns: array[int], offsets: array[int]) -> None:
    keys = list(zip(pages, lsns, strict=True))
    sizes = list(map(sub, offsets[1:], offsets))
    if not all(map(le, keys, keys[1:])):
        raise DamagedLayer(number, "has an index that does not ascend")
    if offsets[0] != HEADER_BYTES or min(sizes, default=_LEAST_BLOCK) < _LEAST_BLOCK:
        raise DamagedLayer(number, f"has blocks from {offsets[0]} on that overlap, or leave a gap")


def _check_pages(number: int, new: NewPages, start: Lsn, end: Lsn) -> Job[None]:
    for at in range(0, len(new.pages), _PAGES_A_STEP):
        part = new.pages[at : at + _PAGES_A_STEP + 1]
        lsns = new.lsns[at : at + _PAGES_A_STEP]
        if not (all(map(lt, part, part[1:])) and start < min(lsns) and max(lsns) <= end):
            raise DamagedLayer(
                number, f"has new pages that do not ascend, or are not in {start} to {end}"
            )
        yield PAUSE
