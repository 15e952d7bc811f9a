"""The write-ahead log of a segment, as bytes. Pure: reads and writes no file.

(More than 400 lines: one format, entry by entry.)

A log is a sequence of frames, one for each group commit, and a frame is written only once the one
before it is durable. So a crash can spoil the last frame alone. All integers are little-endian.

==========  =====  ==========================================================
offset      bytes  frame
==========  =====  ==========================================================
0           4      magic, ``C1 57 41 4C``
4           4      n, the number of bytes in the body
8           8      xxh3-64 of the four length bytes and the body
16          n      body: msgpack, stuffed
==========  =====  ==========================================================

The msgpack is ``[epoch counter, epoch writer, [[kind, field, ...], ...]]`` with the fields of an
entry in the order of its class; a truncation table is ``[epoch, [[start, end, epoch], ...], settled
epoch, [[start, end, live], ...]]``, and a page image loses its trailing zero bytes. Stuffing puts a
zero byte behind every occurrence of the first three bytes of the magic. A body therefore never
contains the magic, and two things follow. Behind a damaged frame, the next magic is the next frame,
even when pages hold what looks like frames (a log that somebody stores in this engine). And looking
for it takes time linear in the log, whatever is in it: nothing is summed beyond the next magic.

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
from segments.protocol.messages import PageImage
from segments.protocol.record import PAGE_SIZE
from segments.protocol.truncation import TruncationTable
from segments.steps import Pace, Steps, finished

MAGIC: Final = b"\xc1WAL"
"""Starts a frame; 0xC1 is the one byte that msgpack never uses."""
_STUFFED: Final = MAGIC[:3]
_STUFFING: Final = _STUFFED + b"\0"

_HEADER: Final = Struct("<4sIQ")
HEADER_BYTES: Final = _HEADER.size
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
"""Longest frame, header included."""
MAX_FRAME_PAGES: Final = MAX_FRAME_BYTES // PAGE_SIZE
"""Most page images in one frame, which bounds what a frame can grow to when it is decoded."""

_PROMISE: Final = Struct("<4sQQQQQ")
_PROMISE_MAGIC: Final = b"\xc1PRM"
PROMISE_BYTES: Final = _PROMISE.size
"""Length of what is in a slot before the zeros."""
PROMISE_SLOT_BYTES: Final = 4096
"""Length of one encoded promise."""

assert HEADER_BYTES == 16
assert PROMISE_BYTES == 44
assert len(set(MAGIC)) == len(MAGIC) == 4, "a magic that overlapped itself could not be stuffed"
assert 0 not in MAGIC, "the stuffing must break the magic"


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


class CheckpointEntry(NamedTuple):
    """Head of a checkpoint; its pages follow in the next ``parts`` `ImagesEntry` of this base."""

    epoch: VolumeEpoch
    table: TruncationTable
    vdl: Lsn
    floor: Lsn
    base_lsn: Lsn
    parts: int


class ImagesEntry(NamedTuple):
    """Page images as of ``base_lsn``, each of exactly `PAGE_SIZE` bytes."""

    base_lsn: Lsn
    pages: tuple[PageImage, ...]


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
    | CheckpointEntry | ImagesEntry | HeldEntry | MarksEntry | LostEntry
)  # fmt: skip

_ENTRIES: Final[dict[int, type[Entry]]] = {
    1: RecordsEntry,
    2: SealEntry,
    3: TableEntry,
    4: CheckpointEntry,
    5: ImagesEntry,
    7: HeldEntry,
    8: SettledEntry,
    9: MarksEntry,
    10: LostEntry,
}
_KINDS: Final = {entry: kind for kind, entry in _ENTRIES.items()}
_FIELDS: Final = {kind: codec.fields_decoder(entry) for kind, entry in _ENTRIES.items()}
_EPOCH_FIELDS: Final = codec.fields_decoder(VolumeEpoch)


def _plain(entry: Entry) -> tuple[object, ...]:
    """``entry`` as the array that is packed."""
    kind = _KINDS[type(entry)]
    match entry:
        case ImagesEntry(base_lsn, pages):
            return (kind, base_lsn, [_stripped(page) for page in pages])
        case TableEntry(vdl, table):
            return (kind, vdl, codec.plain_table(table))
        case CheckpointEntry(epoch, table):
            return (kind, epoch, codec.plain_table(table), *entry[2:])
    return (kind, *entry)


def _stripped(page: PageImage) -> PageImage:
    if len(page.image) != PAGE_SIZE:
        raise Invalid(
            f"image of page {page.page_id} has {len(page.image)} bytes: expected {PAGE_SIZE}"
        )
    return page._replace(image=page.image.rstrip(b"\0"))


def _entry(values: Any) -> Entry:
    if type(values) is not tuple or not values or type(values[0]) is not int:
        raise MalformedFrame(f"an entry of type {type(values).__name__}: expected [kind, ...]")
    fields = _FIELDS.get(values[0])
    if fields is None:
        raise MalformedFrame(f"entry kind {values[0]}: expected any of {sorted(_FIELDS)}")
    if _ENTRIES[values[0]] is ImagesEntry and type(values[-1]) is tuple:
        values = (*values[:-1], tuple([_widened(page) for page in values[-1]]))
    entry: Entry = fields(values)
    return entry


def _widened(page: Any) -> Any:
    """``page`` with its trailing zero bytes restored, if it looks like a page at all."""
    if type(page) is tuple and len(page) == 3 and type(page[2]) is bytes:
        return (*page[:2], page[2].ljust(PAGE_SIZE, b"\0"))
    return page


# ---- frames --------------------------------------------------------------------------------------


@attrs.frozen
class Frame:
    """What one group commit wrote; ``epoch`` is the highest that the segment had sealed."""

    epoch: VolumeEpoch
    entries: tuple[Entry, ...]


def encode_frame(epoch: VolumeEpoch, entries: Iterable[Entry]) -> bytes:
    """One frame; raises `Invalid` if it would exceed `MAX_FRAME_BYTES` or `MAX_FRAME_PAGES`."""
    entries = tuple(entries)
    pages = sum(len(entry.pages) for entry in entries if type(entry) is ImagesEntry)
    if pages > MAX_FRAME_PAGES:
        raise Invalid(f"a frame of {pages} page images: expected at most {MAX_FRAME_PAGES}")
    packed = codec.pack((epoch.counter, epoch.writer_id, [_plain(entry) for entry in entries]))
    body = packed.replace(_STUFFED, _STUFFING)
    if HEADER_BYTES + len(body) > MAX_FRAME_BYTES:
        raise Invalid(
            f"a frame of {HEADER_BYTES + len(body)} bytes: expected at most {MAX_FRAME_BYTES}"
        )
    total = codec.checksum(len(body).to_bytes(4, "little") + body)
    return _HEADER.pack(MAGIC, len(body), total) + body


def decode_body(body: bytes) -> Frame:
    """The frame with this (stuffed) body; raises `MalformedFrame` for anything else."""
    try:
        values = codec.unpack(body.replace(_STUFFING, _STUFFED))
        if type(values) is not tuple or len(values) != 3 or type(values[2]) is not tuple:
            raise MalformedFrame(f"{len(body)} bytes of body: expected [counter, writer, entries]")
        _check_page_count(values[2])
        epoch: VolumeEpoch = _EPOCH_FIELDS((0, *values[:2]))
        return Frame(epoch, tuple([_entry(each) for each in values[2]]))
    except MalformedMessage as error:
        raise MalformedFrame(f"a body of {len(body)} bytes: {error}") from None
    except RecursionError:
        raise MalformedFrame(f"a body of {len(body)} bytes, nested too deeply to show") from None


def _check_page_count(entries: tuple[Any, ...]) -> None:
    """Before any image is widened: a few bytes could ask for 8,192 each."""
    kind = _KINDS[ImagesEntry]
    arrays = (each[-1] for each in entries if type(each) is tuple and each[:1] == (kind,))
    pages = sum(len(array) for array in arrays if type(array) is tuple)
    if pages > MAX_FRAME_PAGES:
        raise MalformedFrame(f"{pages} page images: expected at most {MAX_FRAME_PAGES}")


# ---- logs ----------------------------------------------------------------------------------------


class ScannedFrame(NamedTuple):
    """A frame and where it lies: bytes ``start <= at < end`` of the log."""

    start: int
    end: int
    frame: Frame


class DamagedRange(NamedTuple):
    """Bytes ``start <= at < end`` that are no frame, although frames were written there."""

    start: int
    end: int


@attrs.frozen
class LogScan:
    """All that a log still says."""

    frames: tuple[ScannedFrame, ...]
    """Every sound frame, in order."""
    damage: tuple[DamagedRange, ...]
    """What was durable once and is spoilt now; frames are missing there. Ascending, disjoint."""
    durable_length: int
    """Where the last sound frame ends: cut here, and continue here."""
    torn_bytes: int
    """Length of the tail behind that, which a crash has left unfinished."""


def scan(log: bytes) -> LogScan:
    """What `scan_steps` returns, at once."""
    return finished(scan_steps(log))


def scan_steps(log: bytes) -> Steps[LogScan]:
    """Read a log from its start, as far as there are sound frames, across damage.

    What has a sound frame behind it is damage; what has none is a torn tail, since a rotten last
    frame looks like one. A frame whose checksum is right but whose body is not one of this format
    was written whole: it is damage too, wherever it lies, and never cut off.
    """
    frames: list[ScannedFrame] = []
    damage: list[DamagedRange] = []
    pace = Pace()
    durable_length = start = 0
    while start >= 0:
        end = _frame_end(log, start)
        if end is None:
            start = log.find(MAGIC, start + 1)
            continue
        if durable_length < start:
            _add_damage(damage, durable_length, start)
        try:
            frames.append(ScannedFrame(start, end, decode_body(log[start + HEADER_BYTES : end])))
        except MalformedFrame:
            _add_damage(damage, start, end)
        if pace.ends_step(end - start):
            yield
        durable_length = start = end
    return LogScan(tuple(frames), tuple(damage), durable_length, len(log) - durable_length)


class Verified(NamedTuple):
    """What checksums alone say of a piece of a log that starts with a frame."""

    sound_bytes: int
    """Sound frames from the start of the piece, one after the other, end here."""
    damaged: bool
    """Whether there is a sound frame behind something that is none."""


def verify(piece: bytes) -> Verified:
    """Check the checksums of a piece of a log, without looking into its frames."""
    start = 0
    while (end := _frame_end(piece, start)) is not None:
        start = end
    sound_bytes = start
    while start >= 0:
        start = piece.find(MAGIC, start + 1)
        if start >= 0 and _frame_end(piece, start) is not None:
            return Verified(sound_bytes, damaged=True)
    return Verified(sound_bytes, damaged=False)


def _frame_end(log: bytes, start: int) -> int | None:
    """Where the frame at ``start`` ends; None if there is no sound one."""
    if not log.startswith(MAGIC, start) or start + HEADER_BYTES > len(log):
        return None
    _, length, total = _HEADER.unpack_from(log, start)
    body = start + HEADER_BYTES
    end = body + length
    if end > len(log) or end - start > MAX_FRAME_BYTES or log.find(MAGIC, body, end) >= 0:
        return None
    if codec.checksum(log[start + 4 : start + 8] + log[body:end]) != total:
        return None
    return int(end)


def _add_damage(damage: list[DamagedRange], start: int, end: int) -> None:
    if damage and damage[-1].end == start:
        start = damage.pop().start
    damage.append(DamagedRange(start, end))


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
