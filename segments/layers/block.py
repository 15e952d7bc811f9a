"""Rows sorted by (page, LSN), and their form in a layer's file: a block, read and checked as one.

==========  =============  =====================================================================
offset      bytes          content
==========  =============  =====================================================================
0           8              xxh3-64 of all that follows, seeded by the block's offset in its file
8           4              codec: 0, as the rows and payloads are
12          4              n, the number of rows, 1 or more
16          4              p, the number of payload bytes
20          40 n           rows (`segments.protocol.run`), by page, and by LSN within a page
20 + 40 n   p              the payloads, in the order of their rows
==========  =============  =====================================================================

A row with `IMAGE_BIT` is an image: its page as of its LSN, without the zeros that end it. It stands
directly behind the record of its page and LSN, or without one in a base layer, and says nothing
else: no offset, no links, no mini-transaction.

A layer has all the records of a page between its ends. So in rows of one page each record names the
row before it as its predecessor, which is checked wherever rows are read or written: a lost record
cannot go unnoticed, nor a wrong order.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, compress, count
from struct import Struct
from typing import Final

from segments.protocol import codec
from segments.protocol.columns import lanes, packed
from segments.protocol.errors import Corrupt, DamagedLayer
from segments.protocol.ids import MAX_INTEGER, Lsn, PageId
from segments.protocol.record import PAGE_SIZE, RECORD_OVERHEAD_BYTES
from segments.protocol.run import (
    IMAGE_BIT,
    LENGTH_MASK,
    MTR_SHIFT,
    OFFSET_MASK,
    OFFSET_SHIFT,
    ROW,
    WORDS,
    Columns,
    Rows,
    bytes_of,
    clock_us,
    packed_sizes,
    sound_records,
    words_of,
)

_SUM: Final = Struct("<Q")
_HEAD: Final = Struct("<III")
_RAW: Final = 0

BLOCK_HEAD_BYTES: Final = _SUM.size + _HEAD.size

NO_ROW: Final[tuple[PageId, Lsn]] = (-1, 0)
"""Page and LSN of what is in front of all rows."""

_COLUMN_BYTES: Final = 28  # of a row, beside it: page, LSN, meta, and where its payload starts

assert BLOCK_HEAD_BYTES == 20


class Block:
    """Rows sorted by (page, LSN), at least one, with their columns. Nothing in it ever changes."""

    __slots__ = ("images", "lsns", "metas", "pages", "payloads", "rows", "starts")

    def __init__(
        self,
        data: Rows,
        pages: array[int],
        lsns: array[int],
        metas: array[int],
        starts: array[int],
        images: Sequence[int],
    ) -> None:
        self.rows, self.payloads = data
        self.pages = pages
        self.lsns = lsns
        self.metas = metas
        self.starts = starts
        """Where each row's payload starts in `payloads`; one more, where the last one ends."""
        self.images = images
        """Which rows are images, ascending."""

    def __len__(self) -> int:
        return len(self.pages)

    @property
    def size(self) -> int:
        """Bytes of memory that it takes, about."""
        return len(self.rows) + len(self.payloads) + len(self.pages) * _COLUMN_BYTES

    def stored_bytes(self, start: int, stop: int) -> int:
        """Bytes that the rows ``start <= row < stop`` take in a file."""
        return (stop - start) * RECORD_OVERHEAD_BYTES + self.starts[stop] - self.starts[start]

    def cut(self, start: int, stop: int) -> Rows:
        """The rows ``start <= row < stop``."""
        size = RECORD_OVERHEAD_BYTES
        return Rows(
            self.rows[start * size : stop * size],
            self.payloads[self.starts[start] : self.starts[stop]],
        )

    def of_page(self, page: PageId) -> tuple[int, int]:
        """The rows of ``page``: from a first one, inclusive, to a last one, exclusive."""
        start = bisect_left(self.pages, page)
        return start, bisect_right(self.pages, page, start)

    def behind(self, page: PageId, lsn: Lsn, start: int = 0) -> int:
        """The first row from ``start`` on behind (``page``, ``lsn``), or how many there are.

        An image is not behind the record that it stands behind.
        """
        low = bisect_left(self.pages, page, start)
        return bisect_right(self.lsns, lsn, low, bisect_right(self.pages, page, low))

    def only(self, kept: Sequence[bool]) -> Block | None:
        """The rows that are ``kept``, or None if none is; what they follow is not checked."""
        rows = [row for row, keep in enumerate(kept) if keep]
        if not rows:
            return None
        parts = [self.cut(row, row + 1) for row in rows]
        images = set(self.images)
        starts = array("I", accumulate((len(part.payloads) for part in parts), initial=0))
        return Block(
            join(parts),
            array("Q", [self.pages[row] for row in rows]),
            array("Q", [self.lsns[row] for row in rows]),
            array("Q", [self.metas[row] for row in rows]),
            starts,
            [place for place, row in enumerate(rows) if row in images],
        )

    def payload(self, row: int) -> bytes:
        """The payload of one row: of an image, the page without the zeros that end it."""
        start = self.starts[row]
        return self.payloads[start : start + (self.metas[row] & LENGTH_MASK)]

    def clock_us(self, row: int) -> int:
        """The writer's clock when the mini-transaction that ends with ``row`` was committed.

        In microseconds; 0 for a row that ends none.
        """
        return clock_us(self.metas[row], self.payloads[self.starts[row] : self.starts[row + 1]])

    def page_offset(self, row: int) -> int:
        """Where in its page a record begins to write."""
        return self.metas[row] >> OFFSET_SHIFT & OFFSET_MASK

    def apply(self, page: bytearray, start: int, stop: int) -> None:
        """Make the changes of the records ``start <= row < stop``, none an image, to ``page``."""
        payloads, starts = self.payloads, self.starts
        at = starts[start]
        for meta, end in zip(self.metas[start:stop], starts[start + 1 : stop + 1], strict=True):
            offset = meta >> OFFSET_SHIFT & OFFSET_MASK
            page[offset : offset + (meta & LENGTH_MASK)] = payloads[at : at + (meta & LENGTH_MASK)]
            at = end


def image_row(page: PageId, lsn: Lsn, image: bytes) -> Rows:
    """The row of a page's ``image`` as of ``lsn``, whose last byte is not zero."""
    return Rows(bytes_of((lsn, page, 0, 0, IMAGE_BIT | len(image))), image)


def join(pieces: Sequence[Rows]) -> Rows:
    """All of ``pieces``, one behind the other."""
    if len(pieces) == 1:
        return pieces[0]
    rows, payloads = zip(*pieces, strict=True)
    return Rows(b"".join(rows), b"".join(payloads))


def sorted_block(
    data: Rows, before: tuple[PageId, Lsn] = NO_ROW, start: Lsn = MAX_INTEGER
) -> Block:
    """``data``, at least one row, with every row checked: its fields, its place, its predecessor.

    ``before`` is the page and LSN of the row in front of it. All records above ``start`` are known:
    so the first one of a page follows none above it. Raises `Corrupt`.
    """
    words = words_of(data.rows)
    columns = Columns(words)
    block = _block(data, words, columns.words[4])
    if not _is_sorted(columns, before, start):
        _check_rows(data, before, start)
    for row in block.images:
        if block.payload(row).endswith(b"\0"):
            raise Corrupt(f"page {block.pages[row]}: an image that ends in a zero: expected none")
    return block


def _is_sorted(columns: Columns, before: tuple[PageId, Lsn], start: Lsn) -> bool:
    """Whether rows are what can follow ``before`` and each other; all of them at once."""
    lsns, pages, prev_pages, _, _ = columns.words
    of = lanes(columns.count)
    if (lsns | pages) & of.all:
        return False
    page, lsn = before
    last_pages = of.behind(pages, max(0, page))
    begins, goes_on = of.above(pages, last_pages), of.equal(pages, last_pages)
    if before == NO_ROW:  # any page is above that
        begins |= of.first
    last_lsns = of.behind(lsns, lsn)
    records = sound_records(columns) & (
        (begins & of.at_least(of.ones * start, prev_pages))
        | (goes_on & of.equal(prev_pages, last_lsns))
    )
    if records == of.all:
        return True
    repeats = goes_on & of.equal(lsns, last_lsns) & ~of.behind(columns.images, 0)
    return records | (_sound_images(columns) & (begins | repeats)) == of.all


def _sound_images(columns: Columns) -> int:
    """Where a row is an image, and says nothing else."""
    lsns, _, prev_pages, prev_volumes, metas = columns.words
    of = lanes(columns.count)
    lengths = metas & of.ones * LENGTH_MASK
    return (
        columns.images
        & of.equal(metas ^ lengths, of.ones * IMAGE_BIT)
        & ~metas
        & of.equal(prev_pages | prev_volumes, 0)
        & ~(prev_pages | prev_volumes)
        & of.above(lsns, 0)
        & of.at_least(of.ones * PAGE_SIZE, lengths)
    )


def _check_rows(data: Rows, before: tuple[PageId, Lsn], start: Lsn) -> None:
    """Raise `Corrupt` for the first row for which `_is_sorted` does not hold, one by one."""
    last_page, last_lsn = before
    imaged = False  # whether the row before is an image
    for lsn, page, prev_page, prev_volume, meta in ROW.iter_unpack(data.rows):
        length = meta & LENGTH_MASK
        if (
            prev_page <= prev_volume < lsn <= MAX_INTEGER
            and 0 < length <= PAGE_SIZE - (meta >> OFFSET_SHIFT & OFFSET_MASK)
            and meta >> MTR_SHIFT < lsn
            and not meta & IMAGE_BIT
            and (
                (last_page < page <= MAX_INTEGER and prev_page <= start)
                or (page == last_page and prev_page == last_lsn)
            )
        ):
            imaged = False
        elif (
            meta == IMAGE_BIT | length
            and length <= PAGE_SIZE
            and not prev_page
            and not prev_volume
            and 0 < lsn <= MAX_INTEGER
            and (
                last_page < page <= MAX_INTEGER
                or (page == last_page and lsn == last_lsn and not imaged)
            )
        ):
            imaged = True
        else:
            raise Corrupt(
                f"page {page}: row {lsn} with {meta:#x}, which follows {prev_page}, stands behind "
                f"row {last_lsn} of page {last_page}: expected it to follow that, or a later page"
            )
        last_page, last_lsn = page, lsn


def unchecked_block(data: Rows) -> Block:
    """``data`` with its columns, to be checked later; raises `Corrupt` if bytes are missing."""
    words = words_of(data.rows)
    return _block(data, words, packed(words[4::WORDS]))


def _block(data: Rows, words: array[int], packed_metas: int) -> Block:
    metas = words[4::WORDS]
    starts = array("I", accumulate(packed_sizes(packed_metas, len(metas)), initial=0))
    if starts[-1] != len(data.payloads):
        raise Corrupt(f"rows with {starts[-1]} bytes of payload: expected {len(data.payloads)}")
    images: list[int] = []
    if packed_metas & lanes(len(metas)).ones * IMAGE_BIT:
        images += compress(count(), map(IMAGE_BIT.__and__, metas))
    return Block(data, words[1::WORDS], words[::WORDS], metas, starts, images)


def encode_block(data: Rows, offset: int) -> bytes:
    """``data``, sorted and at least one row, as it stands at ``offset`` of a layer's file."""
    rows = len(data.rows) // ROW.size
    body = b"".join((_HEAD.pack(_RAW, rows, len(data.payloads)), *data))
    return _SUM.pack(codec.checksum(body, offset)) + body


def check_sum(data: bytes | memoryview, length: int, offset: int, layer: int) -> None:
    """Raise `DamagedLayer` unless ``data`` is a block of ``length`` bytes, as its sum says.

    It stands at ``offset`` of layer number ``layer``. What is in its rows is not looked at.
    """
    where = f"the block at {offset}"
    if len(data) != length or length < BLOCK_HEAD_BYTES:
        expected = max(length, BLOCK_HEAD_BYTES)
        raise DamagedLayer(layer, f"{where} has {len(data)} bytes: expected {expected}")
    (total,) = _SUM.unpack_from(data)
    found = codec.checksum(memoryview(data)[_SUM.size :], offset)
    if found != total:
        raise DamagedLayer(layer, f"{where} has the sum {found:016x}: expected {total:016x}")


def read_block(data: bytes, offset: int, layer: int) -> Block:
    """The block in ``data``, which stands at ``offset`` of layer number ``layer``.

    Everything in it is checked; raises `DamagedLayer`.
    """
    try:
        return sorted_block(_stored_rows(data, offset, layer))
    except DamagedLayer:
        raise
    except Corrupt as error:
        raise DamagedLayer(layer, f"the block at {offset}: {error}") from None


def read_blocks(blocks: Sequence[tuple[bytes, int]], layer: int) -> Block:
    """The rows of blocks that follow each other, with their offsets, as of one: see `read_block`.

    That one follows the other is checked, too.
    """
    rows = join([_stored_rows(data, offset, layer) for data, offset in blocks])
    try:
        return sorted_block(rows)
    except Corrupt as error:
        for data, offset in blocks:
            read_block(data, offset, layer)
        raise DamagedLayer(layer, f"the blocks from {blocks[0][1]} on: {error}") from None


def _stored_rows(data: bytes, offset: int, layer: int) -> Rows:
    """What is in a block whose sum is right; the rows are not looked into."""
    check_sum(data, len(data), offset, layer)
    form, rows, size = _HEAD.unpack_from(data, _SUM.size)
    at = BLOCK_HEAD_BYTES + rows * ROW.size
    if form != _RAW or not rows or len(data) != at + size:
        raise DamagedLayer(
            layer,
            f"the block at {offset} has {len(data)} bytes of codec {form}: "
            f"expected {at + size} of 0",
        )
    return Rows(data[BLOCK_HEAD_BYTES:at], data[at:])
