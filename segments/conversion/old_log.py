"""The log of a segment of format 3, as bytes. Pure, and only read: nothing writes it any more.

It is one file of frames. All integers are little-endian.

==========  =====  ==========================================================
offset      bytes  frame
==========  =====  ==========================================================
0           4      magic, ``C1 57 41 4C``
4           4      n, the number of bytes in the body
8           8      xxh3-64 of the four length bytes and the body
16          n      body: msgpack, stuffed
==========  =====  ==========================================================

Stuffing put a zero byte behind every occurrence of the first three bytes of the magic, so a body
does not contain that, and behind a damaged frame the next magic is the next frame. The msgpack is
``[epoch counter, epoch writer, [[kind, field, ...], ...]]``: entries as in `segments.wal`, but for
a checkpoint (page images in the log, in place of the records that they stand for), and but for runs
of records. These have the same form as now without clocks, and stand in the msgpack.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias

import attrs

from segments.protocol import codec
from segments.protocol.errors import MalformedFrame, MalformedMessage
from segments.protocol.ids import Lsn, VolumeEpoch
from segments.protocol.messages import PageImage
from segments.protocol.record import PAGE_SIZE
from segments.protocol.run import (
    CPL_BIT,
    LENGTH_MASK,
    RUN_HEAD_BYTES,
    WORDS,
    Rows,
    Run,
    join_rows,
    read_run,
    words_of,
)
from segments.protocol.truncation import TruncationTable
from segments.wal import HeldEntry, RecordsEntry, SealEntry, SettledEntry, TableEntry

_MAGIC: Final = b"\xc1WAL"
_STUFFED: Final = _MAGIC[:3]
_STUFFING: Final = _STUFFED + b"\0"
_HEADER: Final = Struct("<4sIQ")
_MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
_NO_CLOCK: Final = bytes(8)


class CheckpointEntry(NamedTuple):
    """Head of a checkpoint; its pages follow in the next ``parts`` `ImagesEntry` of this base."""

    epoch: VolumeEpoch
    table: TruncationTable
    vdl: Lsn
    floor: Lsn
    base_lsn: Lsn
    parts: int


class ImagesEntry(NamedTuple):
    """Page images as of ``base_lsn``, without the zeros that end them."""

    base_lsn: Lsn
    pages: tuple[PageImage, ...]


class RunEntry(NamedTuple):
    """A run of records with what its sender announced; every row is checked, CPLs have clock 0."""

    vdl: Lsn
    floor: Lsn
    run: Run


OldEntry: TypeAlias = (
    RunEntry | SealEntry | TableEntry | SettledEntry | CheckpointEntry | ImagesEntry | HeldEntry
)

_KINDS: Final[dict[int, type[Any]]] = {
    1: RecordsEntry,
    2: SealEntry,
    3: TableEntry,
    4: CheckpointEntry,
    7: HeldEntry,
    8: SettledEntry,
}
_FIELDS: Final = {kind: codec.fields_decoder(entry) for kind, entry in _KINDS.items()}
_IMAGES: Final = 5
_PAGE_FIELDS: Final = codec.fields_decoder(PageImage)
_EPOCH_FIELDS: Final = codec.fields_decoder(VolumeEpoch)


@attrs.frozen
class OldFrame:
    """What one group commit wrote; ``epoch`` is the highest that the segment had sealed."""

    start: int
    end: int
    """Bytes ``start <= at < end`` of the log."""
    epoch: VolumeEpoch
    entries: tuple[OldEntry, ...]


@attrs.frozen
class OldLog:
    """All that a log still says."""

    frames: tuple[OldFrame, ...]
    """Every sound frame, in order."""
    damaged_bytes: int
    """Bytes in front of sound frames that are none, although frames were written there."""
    torn_bytes: int
    """Bytes behind the last frame, which a crash has left unfinished."""


def read_old_log(log: bytes) -> OldLog:
    """Read a log from its start, as far as there are sound frames, across damage.

    What has a sound frame behind it is damage; what has none is a torn tail, since a rotten last
    frame looks like one. A frame whose sum is right but whose body is not one of this format was
    written whole: it is damage, wherever it lies.
    """
    frames: list[OldFrame] = []
    durable = start = damaged = 0
    while start >= 0:
        end = _frame_end(log, start)
        if end is None:
            start = log.find(_MAGIC, start + 1)
            continue
        damaged += start - durable
        try:
            epoch, entries = _decode_body(log[start + _HEADER.size : end])
            frames.append(OldFrame(start, end, epoch, entries))
        except MalformedFrame:
            damaged += end - start
        durable = start = end
    return OldLog(tuple(frames), damaged, len(log) - durable)


def _frame_end(log: bytes, start: int) -> int | None:
    """Where the frame at ``start`` ends; None if there is no sound one."""
    if not log.startswith(_MAGIC, start) or start + _HEADER.size > len(log):
        return None
    _, length, total = _HEADER.unpack_from(log, start)
    body = start + _HEADER.size
    end = body + length
    if end > len(log) or end - start > _MAX_FRAME_BYTES or log.find(_MAGIC, body, end) >= 0:
        return None
    if codec.checksum(log[start + 4 : start + 8] + log[body:end]) != total:
        return None
    return int(end)


def _decode_body(body: bytes) -> tuple[VolumeEpoch, tuple[OldEntry, ...]]:
    """Epoch and entries of the frame with this (stuffed) body; raises `MalformedFrame`."""
    try:
        values = codec.unpack(body.replace(_STUFFING, _STUFFED))
        if type(values) is not tuple or len(values) != 3 or type(values[2]) is not tuple:
            raise MalformedFrame(f"{len(body)} bytes of body: expected [counter, writer, entries]")
        epoch: VolumeEpoch = _EPOCH_FIELDS((0, *values[:2]))
        return epoch, tuple([_entry(each) for each in values[2]])
    except MalformedMessage as error:
        raise MalformedFrame(f"a body of {len(body)} bytes: {error}") from None
    except RecursionError:
        raise MalformedFrame(f"a body of {len(body)} bytes, nested too deeply to show") from None


def _entry(values: Any) -> OldEntry:
    if type(values) is not tuple or not values or type(values[0]) is not int:
        raise MalformedFrame(f"an entry of type {type(values).__name__}: expected [kind, ...]")
    if values[0] == _IMAGES:
        return _images(values)
    fields = _FIELDS.get(values[0])
    if fields is None:
        kinds = sorted([*_FIELDS, _IMAGES])
        raise MalformedFrame(f"entry kind {values[0]}: expected any of {kinds}")
    entry: Any = fields(values)
    if type(entry) is RecordsEntry:
        return RunEntry(entry.vdl, entry.floor, with_clocks(entry.records))
    checked: OldEntry = entry
    return checked


def _images(values: tuple[Any, ...]) -> ImagesEntry:
    if len(values) != 3 or type(values[1]) is not int or type(values[2]) is not tuple:
        raise MalformedFrame(f"{len(values)} values of page images: expected [5, base, [...]]")
    entry = ImagesEntry(values[1], tuple([_page(each) for each in values[2]]))
    for page_id, lsn, image in entry.pages:
        if not 0 < lsn <= entry.base_lsn or len(image) > PAGE_SIZE or image.endswith(b"\0"):
            raise MalformedFrame(
                f"the image of page {page_id} as of LSN {lsn}, of {len(image)} bytes: expected one "
                f"at or below {entry.base_lsn}, of {PAGE_SIZE} bytes at most, without zeros behind"
            )
    return entry


def _page(value: Any) -> PageImage:
    if type(value) is not tuple:
        raise MalformedFrame(f"an image of type {type(value).__name__}: expected [page, LSN, ...]")
    page: PageImage = _PAGE_FIELDS((0, *value))
    return page


def with_clocks(data: bytes) -> Run:
    """The run in ``data``, with the clock 0 where a record ends its mini-transaction.

    That is the time of which nothing is known. Raises `MalformedMessage`, also for rows.
    """
    old = read_run(data)  # what is behind the head is not looked into
    at = RUN_HEAD_BYTES + len(old.lsns) * 8 * WORDS
    rows = data[RUN_HEAD_BYTES:at]
    parts: list[bytes] = []
    for meta in words_of(rows)[4::WORDS]:
        end = at + (meta & LENGTH_MASK)
        parts.append(data[at:end])
        if meta & CPL_BIT:
            parts.append(_NO_CLOCK)
        at = end
    if at != len(data):
        raise MalformedMessage(f"rows whose payloads end at {at}: expected {len(data)}")
    payloads = b"".join(parts)
    run = read_run(join_rows(old.prev_lsn, old.last_lsn, [Rows(rows, payloads)]))
    run.payload_ends()  # checks each row
    return run
