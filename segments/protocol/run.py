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
(35). A row's prev_segment_lsn is the LSN of the row before it, so a run cannot fork. The rows are
of one length and the payloads stand behind them, so runs are cut and joined without decoding, and
one column of all rows is read at once.

`read_run` makes the checks that a segment owes before it acknowledges (whole, sound, ascending);
what a row says of its page is checked when the row is read (`Run.records`).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from operator import lt
from struct import Struct
from typing import Final, NamedTuple

from segments.protocol import codec
from segments.protocol.errors import MalformedMessage
from segments.protocol.ids import MAX_INTEGER, Lsn
from segments.protocol.record import PAGE_SIZE, RECORD_OVERHEAD_BYTES, RedoRecord, as_record

_SUM: Final = Struct("<Q")
_HEAD: Final = Struct("<IIQQ")
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
MAX_MTR_LSNS: Final = 1 << (64 - MTR_SHIFT)
"""Most LSNs that a mini-transaction can have."""

NO_RECORDS: Final = b""
"""Instead of a run, where there is nothing to say."""

assert RUN_HEAD_BYTES == 32
assert ROW.size == RECORD_OVERHEAD_BYTES
assert PAGE_SIZE <= LENGTH_MASK
assert PAGE_SIZE == 1 << (CPL_SHIFT - OFFSET_SHIFT)


def payload_bytes(meta: int) -> int:
    """How long the payload of a row with this ``meta`` is, in bytes."""
    return meta & LENGTH_MASK


class Rows(NamedTuple):
    """Records that follow each other, encoded, without the head of a run."""

    rows: bytes
    """40 bytes a record."""
    payloads: bytes


def encode_rows(records: Sequence[RedoRecord]) -> Rows:
    """Encode records that follow each other in their group's chain."""
    words: list[int] = []
    for lsn, page_id, offset, payload, mtr_id, is_cpl, prev_volume, _, prev_page in records:
        meta = (
            (lsn - mtr_id) << MTR_SHIFT
            | is_cpl << CPL_SHIFT
            | offset << OFFSET_SHIFT
            | len(payload)
        )
        words += (lsn, page_id, prev_page, prev_volume, meta)
    return Rows(bytes_of(words), b"".join([record[3] for record in records]))


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

    def records(self) -> list[RedoRecord]:
        """All records, each checked; raises `MalformedMessage`."""
        data = self.data
        at = RUN_HEAD_BYTES + len(self.lsns) * ROW.size
        prev_segment = self.prev_lsn
        found = []
        rows = memoryview(data)[RUN_HEAD_BYTES:at]
        for lsn, page_id, prev_page, prev_volume, meta in ROW.iter_unpack(rows):
            length, offset = payload_bytes(meta), meta >> OFFSET_SHIFT & OFFSET_MASK
            mtr_id = lsn - (meta >> MTR_SHIFT)
            if not (
                mtr_id > 0
                and page_id <= MAX_INTEGER
                and 0 < length <= PAGE_SIZE - offset
                and prev_page <= prev_segment <= prev_volume < lsn
                and not meta & IMAGE_BIT
            ):
                raise MalformedMessage(f"a row with impossible fields at LSN {lsn}: {meta:#x}")
            is_cpl = meta & CPL_BIT != 0
            values = (
                lsn, page_id, offset, data[at : at + length], mtr_id, is_cpl,
                prev_volume, prev_segment, prev_page,
            )  # fmt: skip
            found.append(as_record(values))
            prev_segment = lsn
            at += length
        if at != len(data):
            raise MalformedMessage(
                f"rows with {at - RUN_HEAD_BYTES - len(rows)} bytes of payload: "
                f"expected {len(data) - RUN_HEAD_BYTES - len(rows)}"
            )
        return found


def read_run(data: bytes) -> Run:
    """The run in ``data``, sound but with its rows not looked into; raises `MalformedMessage`."""
    size = len(data)
    if size < RUN_HEAD_BYTES:
        raise MalformedMessage(f"a run of {size} bytes: expected {RUN_HEAD_BYTES} at least")
    (total,) = _SUM.unpack_from(data)
    count, payload_size, prev_lsn, last_lsn = _HEAD.unpack_from(data, _SUM.size)
    expected = RUN_HEAD_BYTES + count * ROW.size + payload_size
    if not count or size != expected:
        raise MalformedMessage(f"a run of {size} bytes for {count} records: expected {expected}")
    if codec.checksum(memoryview(data)[_SUM.size :]) != total:
        raise MalformedMessage(f"a run of {size} bytes with a wrong sum: expected {total:016x}")
    lsns = words_of(data[RUN_HEAD_BYTES : RUN_HEAD_BYTES + count * ROW.size])[::WORDS]
    ascending = prev_lsn < lsns[0] and all(map(lt, lsns, lsns[1:]))
    if not ascending or lsns[-1] != last_lsn or last_lsn > MAX_INTEGER:
        raise MalformedMessage(
            f"a run of LSNs {lsns[0]} to {lsns[-1]}: expected ascending ones, "
            f"above {prev_lsn} and up to {last_lsn}"
        )
    return Run(data, prev_lsn, lsns)


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
