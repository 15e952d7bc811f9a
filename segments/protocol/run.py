"""A run of redo records as bytes: encoded once, and the same on the wire, on disk and in gossip.

A run is a piece of one protection group's chain. All integers are little-endian, of 8 bytes where
nothing else is said.

==========  =============  =====================================================================
offset      bytes          content
==========  =============  =====================================================================
0           8              xxh3-64 of all that follows
8           4              n, the number of records, 1 or more
12          4              p, the number of payload bytes
16          8              prev_segment_lsn of the first record
24          8              LSN of the last record
32          40 n           rows: lsn, page_id, prev_page_lsn, prev_volume_lsn, meta
32 + 40 n   p              the payloads, in the order of their rows
==========  =============  =====================================================================

``meta`` holds, from its lowest bit upwards, the payload's length (14 bits), its offset in the page
(13), whether the record ends its mini-transaction (1), a bit that is zero, and ``lsn - mtr_id``
(35). Behind the payload of a record that ends its mini-transaction stands its writer's clock, in
microseconds since the epoch of Unix: p counts 8 bytes more for each of these than the lengths say
(`payload_bytes`).

A row's prev_segment_lsn is the LSN of the row before it, so a run cannot fork. The rows are of one
length and the payloads stand behind them, so runs are cut and joined without decoding, and one
column of all rows is read at once.

`read_run` makes the checks that a segment owes before it acknowledges (whole, sound, ascending);
what a row says of its page is checked when rows are looked into (`Run.payload_ends`).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from struct import Struct
from typing import Final, NamedTuple

from segments.protocol import codec
from segments.protocol.columns import lanes, packed, unpacked
from segments.protocol.errors import MalformedMessage
from segments.protocol.ids import MAX_INTEGER, Lsn
from segments.protocol.record import PAGE_SIZE, RECORD_OVERHEAD_BYTES, RedoRecord, as_record

_SUM: Final = Struct("<Q")
_HEAD: Final = Struct("<IIQQ")
_SUMMED_HEAD: Final = Struct("<QIIQQ")
ROW: Final = Struct("<5Q")
WORDS: Final = 5

RUN_HEAD_BYTES: Final = _SUM.size + _HEAD.size
"""What a run takes besides its records."""

OFFSET_SHIFT: Final = 14
CPL_SHIFT: Final = 27
MTR_SHIFT: Final = 29
LENGTH_MASK: Final = (1 << OFFSET_SHIFT) - 1
OFFSET_MASK: Final = PAGE_SIZE - 1
CPL_BIT: Final = 1 << CPL_SHIFT
IMAGE_BIT: Final = 1 << (MTR_SHIFT - 1)
"""Zero in a run; in a layer it marks the image of a page (`segments.layers.block`)."""
_IMAGE_SHIFT: Final = 64 - MTR_SHIFT  # takes that bit to the upper end
MAX_MTR_LSNS: Final = 1 << (64 - MTR_SHIFT)
"""Most LSNs that a mini-transaction can have."""

NO_RECORDS: Final = b""
"""Instead of a run, where there is nothing to say."""

assert RUN_HEAD_BYTES == 32
assert ROW.size == RECORD_OVERHEAD_BYTES
assert PAGE_SIZE <= LENGTH_MASK
assert PAGE_SIZE == 1 << (CPL_SHIFT - OFFSET_SHIFT)


_CLOCK: Final = Struct("<Q")
MAX_CLOCK_US: Final = (1 << 64) - 1
"""The latest time that a record can carry."""
_CLOCK_SHIFT: Final = CPL_SHIFT - _CLOCK.size.bit_length() + 1  # takes the bit to the place of 8

assert _CLOCK.size == CPL_BIT >> _CLOCK_SHIFT


def payload_bytes(meta: int) -> int:
    """How many bytes stand behind the rows for one with this ``meta``: its change, and its clock.

    The change are the first ``meta & LENGTH_MASK`` of them.
    """
    return (meta & LENGTH_MASK) + (meta >> _CLOCK_SHIFT & _CLOCK.size)


def payload_sizes(metas: array[int]) -> array[int]:
    """`payload_bytes` of each, all at once."""
    return packed_sizes(packed(metas), len(metas))


def packed_sizes(metas: int, count: int) -> array[int]:
    """`payload_sizes` of ``count`` that are packed."""
    ones = lanes(count).ones
    sizes = (metas & ones * LENGTH_MASK) + (metas >> _CLOCK_SHIFT & ones * _CLOCK.size)
    return unpacked(sizes, count)


def sound_records(columns: Columns) -> int:
    """Where a row is a record in itself, and no image; nowhere if fields are too large for that.

    That is: within its page, behind what it follows on its page and in the volume, and not before
    its mini-transaction.
    """
    of = lanes(columns.count)
    lsns, pages, prev_pages, prev_volumes, metas = columns.words
    if (lsns | pages | prev_pages | prev_volumes) & of.all:
        return 0
    lengths = metas & of.ones * LENGTH_MASK
    ends = lengths + (metas >> OFFSET_SHIFT & of.ones * OFFSET_MASK)
    distances = metas >> MTR_SHIFT & of.ones * (MAX_MTR_LSNS - 1)
    return (
        of.at_least(prev_volumes, prev_pages)
        & of.above(lsns, prev_volumes)
        & of.above(lsns, distances)
        & of.above(lengths, 0)
        & of.at_least(of.ones * PAGE_SIZE, ends)
        & ~columns.images
    )


def clock_us(meta: int, stored: bytes) -> int:
    """The writer's clock in what is stored for a row with this ``meta``; 0 if it has none."""
    return _CLOCK.unpack_from(stored, meta & LENGTH_MASK)[0] if meta & CPL_BIT else 0


class Columns:
    """The five columns of rows, at least one, each as `segments.protocol.columns.packed` has it."""

    __slots__ = ("count", "images", "words")

    def __init__(self, words: array[int]) -> None:
        """``words`` as `words_of` reads them."""
        self.count = len(words) // WORDS
        self.words = tuple([packed(words[column::WORDS]) for column in range(WORDS)])
        """LSNs, pages, links on the page and in the volume, and metas."""
        self.images = self.words[4] << _IMAGE_SHIFT & lanes(self.count).all
        """Where a row has `IMAGE_BIT`."""


class Rows(NamedTuple):
    """Records that follow each other, encoded, without the head of a run."""

    rows: bytes
    """40 bytes a record."""
    payloads: bytes


def stored_bytes(record: RedoRecord) -> int:
    """How many bytes stand behind the rows for a record, see `payload_bytes`."""
    return len(record[3]) + (_CLOCK.size if record[5] else 0)


def encode_rows(records: Sequence[RedoRecord]) -> Rows:
    """Encode records that follow each other in their group's chain; at least one."""
    rows: list[bytes] = []
    payloads: list[bytes] = []
    pack, pack_clock = ROW.pack, _CLOCK.pack
    for lsn, page_id, offset, payload, mtr_id, is_cpl, prev_volume, _, prev_page, clock in records:
        meta = (
            (lsn - mtr_id) << MTR_SHIFT
            | is_cpl << CPL_SHIFT
            | offset << OFFSET_SHIFT
            | len(payload)
        )
        rows.append(pack(lsn, page_id, prev_page, prev_volume, meta))
        payloads.append(payload)
        if is_cpl:
            payloads.append(pack_clock(clock))
    return Rows(b"".join(rows), b"".join(payloads))


def join_rows(prev_lsn: Lsn, last_lsn: Lsn, pieces: Sequence[Rows]) -> bytes:
    """The run of ``pieces`` that follow each other, behind ``prev_lsn`` and up to ``last_lsn``."""
    rows = b"".join([piece.rows for piece in pieces])
    payloads = b"".join([piece.payloads for piece in pieces])
    head = _HEAD.pack(len(rows) // ROW.size, len(payloads), prev_lsn, last_lsn)
    body = b"".join((head, rows, payloads))
    return _SUM.pack(codec.checksum(body)) + body


def encode_run(records: Sequence[RedoRecord]) -> bytes:
    """The run of records that follow each other in their group's chain; none: `NO_RECORDS`."""
    if not records:
        return NO_RECORDS
    return join_rows(records[0].prev_segment_lsn, records[-1].lsn, [encode_rows(records)])


class Run(NamedTuple):
    """A run that is sound: its sum is right, and its LSNs ascend from head to end."""

    data: bytes
    """The run as it came, head included."""
    prev_lsn: Lsn
    """The record of the chain before the first one."""
    lsns: array[int]
    """The LSNs of its records, ascending; at least one."""

    @property
    def last_lsn(self) -> Lsn:
        """The LSN of its last record."""
        return self.lsns[-1]

    @property
    def size_bytes(self) -> int:
        """What its records take, encoded, without the head."""
        return len(self.data) - RUN_HEAD_BYTES

    def pages(self) -> array[int]:
        """The page of each row."""
        return words_of(self.data[RUN_HEAD_BYTES : self._payloads_at])[1::WORDS]

    def payload_ends(self) -> array[int]:
        """Where each row's payload ends, in bytes from the start of the first one.

        Looks into all rows, each of which is checked; raises `MalformedMessage`.
        """
        rows = self.data[RUN_HEAD_BYTES : self._payloads_at]
        self._check_rows(rows)
        sizes = payload_sizes(words_of(rows)[4::WORDS])
        size = len(self.data) - self._payloads_at
        if sum(sizes) != size:
            raise MalformedMessage(f"rows with {sum(sizes)} bytes of payload: expected {size}")
        return array("I", accumulate(sizes))

    def _check_rows(self, rows: bytes) -> None:
        """Raise `MalformedMessage` if a row has impossible fields, or links to what it cannot."""
        columns = Columns(words_of(rows))
        lsns, _, prev_pages, prev_volumes, _ = columns.words
        of = lanes(columns.count)
        prev_segments = of.behind(lsns, self.prev_lsn)
        if (
            sound_records(columns) == of.all
            and of.at_least(prev_segments, prev_pages) == of.all
            and of.at_least(prev_volumes, prev_segments) == of.all
        ):
            return
        prev_segment = self.prev_lsn
        for row in ROW.iter_unpack(rows):
            lsn, _, prev_page, prev_volume, meta = row
            links = prev_page <= prev_segment <= prev_volume
            if not (links and sound_records(Columns(array("Q", row)))):
                raise MalformedMessage(f"a row with impossible fields at LSN {lsn}: {meta:#x}")
            prev_segment = lsn

    def records(self) -> list[RedoRecord]:
        """All records, each checked; raises `MalformedMessage`."""
        return self.records_at(range(len(self.lsns)), self.payload_ends())

    def records_at(self, rows: Iterable[int], ends: Sequence[int]) -> list[RedoRecord]:
        """The records of ``rows``, numbers from 0; ``ends`` is what `payload_ends` has returned."""
        data, lsns, payloads = self.data, self.lsns, self._payloads_at
        found = []
        for row in rows:
            lsn, page_id, prev_page, prev_volume, meta = ROW.unpack_from(
                data, RUN_HEAD_BYTES + row * ROW.size
            )
            end = payloads + ends[row]
            stored = data[end - payload_bytes(meta) : end]
            values = (
                lsn, page_id, meta >> OFFSET_SHIFT & OFFSET_MASK, stored[: meta & LENGTH_MASK],
                lsn - (meta >> MTR_SHIFT), meta & CPL_BIT != 0,
                prev_volume, lsns[row - 1] if row else self.prev_lsn, prev_page,
                clock_us(meta, stored),
            )  # fmt: skip
            found.append(as_record(values))
        return found

    def rows(self, start: int, stop: int, ends: Sequence[int]) -> Rows:
        """The rows ``start <= row < stop``, at least one; ``ends`` as for `records_at`."""
        at = self._payloads_at
        first = at + (ends[start - 1] if start else 0)
        rows = slice(RUN_HEAD_BYTES + start * ROW.size, RUN_HEAD_BYTES + stop * ROW.size)
        return Rows(self.data[rows], self.data[first : at + ends[stop - 1]])

    def all_rows(self) -> Rows:
        """Every row, none of them looked into."""
        return Rows(self.data[RUN_HEAD_BYTES : self._payloads_at], self.data[self._payloads_at :])

    def cut(self, start: int, stop: int, ends: Sequence[int]) -> Run:
        """The run of the rows ``start <= row < stop``; ``ends`` as for `records_at`."""
        lsns = self.lsns[start:stop]
        prev_lsn = self.lsns[start - 1] if start else self.prev_lsn
        data = join_rows(prev_lsn, lsns[-1], [self.rows(start, stop, ends)])
        return Run(data, prev_lsn, lsns)

    @property
    def _payloads_at(self) -> int:
        return RUN_HEAD_BYTES + len(self.lsns) * ROW.size


def join_runs(runs: Sequence[Run]) -> Run:
    """One run of ``runs`` that follow each other, at least one."""
    if len(runs) == 1:
        return runs[0]
    lsns = array("Q")
    for run in runs:
        lsns += run.lsns
    prev_lsn = runs[0].prev_lsn
    data = join_rows(prev_lsn, lsns[-1], [run.all_rows() for run in runs])
    return Run(data, prev_lsn, lsns)


def read_run(data: bytes) -> Run:
    """The run in ``data``, sound but with its rows not looked into; raises `MalformedMessage`."""
    size = len(data)
    if size < RUN_HEAD_BYTES:
        raise MalformedMessage(f"a run of {size} bytes: expected {RUN_HEAD_BYTES} at least")
    total, count, payload_size, prev_lsn, last_lsn = _SUMMED_HEAD.unpack_from(data)
    expected = RUN_HEAD_BYTES + count * ROW.size + payload_size
    if not count or size != expected:
        raise MalformedMessage(f"a run of {size} bytes for {count} records: expected {expected}")
    if codec.checksum(memoryview(data)[_SUM.size :]) != total:
        raise MalformedMessage(f"a run of {size} bytes with a wrong sum: expected {total:016x}")
    lsns = words_of(data[RUN_HEAD_BYTES : RUN_HEAD_BYTES + count * ROW.size])[::WORDS]
    ascend = prev_lsn < lsns[0] and (count == 1 or _ascend(lsns))
    if not ascend or lsns[-1] != last_lsn or last_lsn > MAX_INTEGER:
        raise MalformedMessage(
            f"a run of LSNs {lsns[0]} to {lsns[-1]}: expected ascending ones, "
            f"above {prev_lsn} and up to {last_lsn}"
        )
    return Run(data, prev_lsn, lsns)


def _ascend(lsns: array[int]) -> bool:
    """Whether each is above the one before it, of two LSNs or more up to `MAX_INTEGER`.

    All at once, as this runs for every batch.
    """
    count = len(lsns) - 1
    of = lanes(count)
    following, preceding = packed(lsns[1:]), packed(lsns[:-1])
    return not (following | preceding) & of.all and of.above(following, preceding) == of.all


def last_lsn_of(data: bytes) -> Lsn:
    """The LSN of the last record of a run that is known to be sound."""
    last_lsn: Lsn = _HEAD.unpack_from(data, _SUM.size)[3]
    return last_lsn


def read_records(data: bytes) -> list[RedoRecord]:
    """The records of a run, or none of `NO_RECORDS`, each checked; raises `MalformedMessage`."""
    return read_run(data).records() if data else []


def words_of(rows: bytes) -> array[int]:
    """The words of ``rows``: every fifth from k on is column k."""
    words = array("Q", rows)
    if sys.byteorder == "big":
        words.byteswap()
    return words


def bytes_of(words: Iterable[int]) -> bytes:
    """What `words_of` reads."""
    packed = array("Q", words)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()
