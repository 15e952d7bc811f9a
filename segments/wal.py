"""The write-ahead log of a segment, as bytes. Pure: reads and writes no file.

A log is files of frames, a frame for each group commit, and a frame is written only once the one
before it is durable. So a crash can spoil the last frame alone. All integers are little-endian.

==========  =====  ==========================================================
offset      bytes  frame
==========  =====  ==========================================================
0           4      magic, ``C1 57 41 4C``
4           4      n, the number of bytes in the body
8           4      p, how many of them are msgpack
12          4      the lower half of the xxh3-64 of bytes 0 to 12
16          8      xxh3-64 of the body
24          p      msgpack
24 + p      n - p  the runs of records in the order of their entries, as they came
==========  =====  ==========================================================

The msgpack is ``[epoch counter, epoch writer, [[kind, field, ...], ...]]`` with the fields of an
entry in the order of its class, and the length of a run in its place; a truncation table is
``[epoch, [[start, end, epoch], ...], settled epoch, [[start, end, live], ...]]``.

**Both sums are seeded by the place of the frame**: by its offset in its file xor the *salt* of that
file, 64 random bits that only the manifest names. So a frame is one at its own place alone: what a
file held before, what another one holds, and logs that somebody stores in pages are none, whatever
is in them. And as the head has a sum of its own, looking for the next frame behind damage takes
time linear in the log: a body is summed only where a frame was written.

==========  =====  ==========================================================
offset      bytes  promise slot
==========  =====  ==========================================================
0           4      magic, ``C1 50 52 4D``
4           16     sealed epoch: counter, writer
20          16     epoch of the adopted truncation table: counter, writer
36          8      xxh3-64 of bytes 0 to 36
44          4052   zero, so that the two slots never share a disk block
==========  =====  ==========================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias

import attrs

from segments.protocol import codec
from segments.protocol.errors import Invalid, MalformedFrame, MalformedMessage
from segments.protocol.heard import Scls
from segments.protocol.ids import MAX_INTEGER, NO_EPOCH, Lsn, VolumeEpoch
from segments.protocol.truncation import TruncationTable

MAGIC: Final = b"\xc1WAL"
"""Starts a frame; 0xC1 is the one byte that msgpack never uses."""

_SUMMED: Final = Struct("<4sII")
_SUMS: Final = Struct("<IQ")
_HALF: Final = 0xFFFF_FFFF
HEADER_BYTES: Final = _SUMMED.size + _SUMS.size
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
"""Longest frame, header included."""

_PROMISE: Final = Struct("<4sQQQQQ")
_PROMISE_MAGIC: Final = b"\xc1PRM"
PROMISE_BYTES: Final = _PROMISE.size
"""Length of what is in a slot before the zeros."""
PROMISE_SLOT_BYTES: Final = 4096
"""Length of one encoded promise."""

assert HEADER_BYTES == 24
assert PROMISE_BYTES == 44


# ---- entries -------------------------------------------------------------------------------------


class RecordsEntry(NamedTuple):
    """A run of records, kept encoded as it came, with what its sender announced."""

    vdl: Lsn
    floor: Lsn
    records: bytes


class SealEntry(NamedTuple):
    """A promise to accept nothing from epochs below this one (2017 §4.3)."""

    epoch: VolumeEpoch


class TableEntry(NamedTuple):
    """A truncation table was adopted."""

    vdl: Lsn
    table: TruncationTable


class SettledEntry(NamedTuple):
    """All members of the volume have adopted the table of this epoch."""

    epoch: VolumeEpoch


class HeadEntry(NamedTuple):
    """Stands in the first frame of each file: what all before have said, so that they may go."""

    epoch: VolumeEpoch
    table: TruncationTable
    vdl: Lsn
    floor: Lsn
    """That the writer of the table has announced; 0: none yet."""


class HeldEntry(NamedTuple):
    """Stands first in every frame: the highest LSN held when the frame was made, linked or not.

    When a frame is spoilt, the next one thereby tells how far this segment had acknowledged.
    """

    highest_lsn: Lsn


class MarksEntry(NamedTuple):
    """What was heard of other members, under the table of ``epoch``."""

    epoch: VolumeEpoch
    scls: Scls


class LostEntry(NamedTuple):
    """The segment has found out that its disk was rolled back, and why: it must not serve again."""

    why: str


Entry: TypeAlias = (
    RecordsEntry | SealEntry | TableEntry | SettledEntry
    | HeadEntry | HeldEntry | MarksEntry | LostEntry
)  # fmt: skip

_RECORDS: Final = 1
_HELD: Final = 7
_ENTRIES: Final[dict[int, type[Entry]]] = {
    _RECORDS: RecordsEntry,
    2: SealEntry,
    3: TableEntry,
    _HELD: HeldEntry,
    8: SettledEntry,
    9: HeadEntry,
    10: MarksEntry,
    11: LostEntry,
}
_KINDS: Final = {entry: kind for kind, entry in _ENTRIES.items()}
_FIELDS: Final = {
    kind: codec.fields_decoder(entry)
    for kind, entry in _ENTRIES.items()
    if entry is not RecordsEntry
}
_EPOCH_FIELDS: Final = codec.fields_decoder(VolumeEpoch)


class _PackedRecords(NamedTuple):
    """What the msgpack says of a `RecordsEntry`."""

    vdl: Lsn
    floor: Lsn
    length: int


_PACKED_RECORDS_FIELDS: Final = codec.fields_decoder(_PackedRecords)


def _plain(entry: Entry) -> tuple[object, ...]:
    """``entry``, which has no run, as the array that is packed."""
    kind = _KINDS[type(entry)]
    match entry:
        case TableEntry(vdl, table):
            return (kind, vdl, codec.plain_table(table))
        case HeadEntry(epoch, table):
            return (kind, epoch, codec.plain_table(table), *entry[2:])
    return (kind, *entry)


class _Body:
    """A body that is decoded: the runs behind the msgpack are taken one after the other."""

    def __init__(self, body: bytes, packed_bytes: int) -> None:
        self._body = body
        self.at = packed_bytes

    def entry(self, values: Any) -> Entry:
        """What one array of the msgpack stands for."""
        if type(values) is not tuple or not values or type(values[0]) is not int:
            raise MalformedFrame(f"an entry of type {type(values).__name__}: expected [kind, ...]")
        if values[0] == _RECORDS:
            return self._records(_PACKED_RECORDS_FIELDS(values))
        fields = _FIELDS.get(values[0])
        if fields is None:
            raise MalformedFrame(f"entry kind {values[0]}: expected any of {sorted(_FIELDS)}")
        entry: Entry = fields(values)
        return entry

    def _records(self, packed: _PackedRecords) -> RecordsEntry:
        start, self.at = self.at, self.at + packed.length
        if self.at > len(self._body):
            raise MalformedFrame(
                f"a run of {packed.length} bytes, with {len(self._body) - start} left in the body"
            )
        return RecordsEntry(packed.vdl, packed.floor, self._body[start : self.at])


# ---- frames --------------------------------------------------------------------------------------


@attrs.frozen
class Frame:
    """What one group commit wrote; ``epoch`` is the highest that the segment had sealed."""

    epoch: VolumeEpoch
    entries: tuple[Entry, ...]


class FrameBody(NamedTuple):
    """What one group commit writes, encoded: only its place makes a frame of it."""

    packed_bytes: int
    """How much of it is msgpack."""
    data: bytes

    @property
    def frame_bytes(self) -> int:
        """The length of the frame that it makes, wherever that lies."""
        return HEADER_BYTES + len(self.data)

    def at(self, salt: int, offset: int) -> bytes:
        """The frame at byte ``offset`` of the file with this ``salt``."""
        seed = salt ^ offset
        summed = _SUMMED.pack(MAGIC, len(self.data), self.packed_bytes)
        sums = _SUMS.pack(codec.checksum(summed, seed) & _HALF, codec.checksum(self.data, seed))
        return b"".join((summed, sums, self.data))


def encode_body(epoch: VolumeEpoch, entries: Iterable[Entry]) -> FrameBody:
    """The body of one frame; raises `Invalid` if that would exceed `MAX_FRAME_BYTES`."""
    runs = [b""]
    plain: list[tuple[object, ...]] = []
    for entry in entries:
        if type(entry) is RecordsEntry:
            plain.append((_RECORDS, entry.vdl, entry.floor, len(entry.records)))
            runs.append(entry.records)
        elif type(entry) is HeldEntry:
            plain.append((_HELD, entry.highest_lsn))
        else:
            plain.append(_plain(entry))
    packed = runs[0] = codec.pack((epoch.counter, epoch.writer_id, plain))
    body = FrameBody(len(packed), b"".join(runs))
    if body.frame_bytes > MAX_FRAME_BYTES:
        raise Invalid(f"a frame of {body.frame_bytes} bytes: expected at most {MAX_FRAME_BYTES}")
    return body


def decode_body(packed_bytes: int, data: bytes) -> Frame:
    """The frame with this body, as `FrameBody`; raises `MalformedFrame` for anything else."""
    try:
        values = codec.unpack(data[:packed_bytes])
        if type(values) is not tuple or len(values) != 3 or type(values[2]) is not tuple:
            raise MalformedFrame(f"{len(data)} bytes of body: expected [counter, writer, entries]")
        epoch: VolumeEpoch = _EPOCH_FIELDS((0, *values[:2]))
        body = _Body(data, packed_bytes)
        entries = tuple([body.entry(each) for each in values[2]])
        if body.at != len(data):
            raise MalformedFrame(f"{len(data) - body.at} bytes behind the runs: expected none")
        return Frame(epoch, entries)
    except MalformedMessage as error:
        raise MalformedFrame(f"a body of {len(data)} bytes: {error}") from None
    except RecursionError:
        raise MalformedFrame(f"a body of {len(data)} bytes, nested too deeply to show") from None


class FrameHead(NamedTuple):
    """What says the head of a frame whose sums are right."""

    packed_bytes: int
    end: int
    """Where the frame ends, in what it was found in."""


def frame_at(data: bytes, start: int, seed: int) -> FrameHead | None:
    """The head of the frame at ``start`` of ``data``; None if there is no sound one.

    ``seed`` is the place where it is to be one: salt of the file xor offset in it.
    """
    if not data.startswith(MAGIC, start) or start + HEADER_BYTES > len(data):
        return None
    _, length, packed_bytes = _SUMMED.unpack_from(data, start)
    head_sum, body_sum = _SUMS.unpack_from(data, start + _SUMMED.size)
    body = start + HEADER_BYTES
    end = body + length
    if end > len(data) or end - start > MAX_FRAME_BYTES or packed_bytes > length:
        return None
    if codec.checksum(data[start : start + _SUMMED.size], seed) & _HALF != head_sum:
        return None
    if codec.checksum(memoryview(data)[body:end], seed) != body_sum:
        return None
    return FrameHead(packed_bytes, end)


# ---- promises ------------------------------------------------------------------------------------


class Promise(NamedTuple):
    """What must outlive damage to the log: the promises a segment has made, not what it holds."""

    epoch: VolumeEpoch
    """Nothing below this epoch is accepted."""
    table_epoch: VolumeEpoch
    """A truncation table of this epoch was adopted: what a recovery counted on."""

    def raised(self, epoch: VolumeEpoch, table_epoch: VolumeEpoch) -> Promise:
        """The higher of each."""
        return Promise(max(self.epoch, epoch), max(self.table_epoch, table_epoch))


NO_PROMISE: Final = Promise(NO_EPOCH, NO_EPOCH)


def encode_promise(promise: Promise) -> bytes:
    """The promise, to be written to both slots."""
    start = _PROMISE.pack(_PROMISE_MAGIC, *promise.epoch, *promise.table_epoch, 0)[:-8]
    return (start + codec.checksum(start).to_bytes(8, "little")).ljust(PROMISE_SLOT_BYTES, b"\0")


def decode_promises(slots: bytes) -> Promise:
    """The highest promise in the slots; `NO_PROMISE` for no bytes at all.

    Raises `MalformedFrame` if there are bytes, and no promise among them.
    """
    if not slots:
        return NO_PROMISE
    promises = [_promise_at(slots, start) for start in (0, PROMISE_SLOT_BYTES)]
    found = [promise for promise in promises if promise is not None]
    if not found:
        raise MalformedFrame(f"no promise in {len(slots)} bytes: expected one in either slot")
    return max(found)


def _promise_at(slots: bytes, start: int) -> Promise | None:
    if len(slots) < start + _PROMISE.size:
        return None
    magic, *epochs, total = _PROMISE.unpack_from(slots, start)
    if magic != _PROMISE_MAGIC or codec.checksum(slots[start : start + _PROMISE.size - 8]) != total:
        return None
    if max(epochs) > MAX_INTEGER:
        return None
    return Promise(VolumeEpoch(*epochs[:2]), VolumeEpoch(*epochs[2:]))
