"""What a log still says, whatever has become of its bytes. Pure: reads no file.

`scan_steps` reads the frames of all files of a log (see `segments.wal`), `verify` looks at the sums
of a piece of one, `highest_ever_held` says what may be lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import attrs

from segments.protocol.errors import MalformedFrame
from segments.protocol.ids import Lsn
from segments.protocol.run import last_lsn_of
from segments.steps import Pace, Steps, finished
from segments.wal import (
    HEADER_BYTES,
    MAGIC,
    Frame,
    HeadEntry,
    HeldEntry,
    RecordsEntry,
    TableEntry,
    decode_body,
    frame_at,
)


class LogPart(NamedTuple):
    """One file of a log, from its first byte on."""

    salt: int
    data: bytes


class ScannedFrame(NamedTuple):
    """A frame and where it lies: bytes ``start <= at < end`` of the log as a whole."""

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


def scan(parts: Sequence[LogPart], start: int = 0) -> LogScan:
    """What `scan_steps` returns, at once."""
    return finished(scan_steps(parts, start))


def scan_steps(parts: Sequence[LogPart], start: int = 0) -> Steps[LogScan]:
    """Read a log from ``start``, where a frame begins, as far as there are sound ones.

    Across damage: what has a sound frame behind it is damage; what has none is a torn tail, since a
    rotten last frame looks like one. A frame whose sums are right but whose body is not one of this
    format was written whole: it is damage too, wherever it lies, and never cut off.
    """
    frames: list[ScannedFrame] = []
    damage: list[DamagedRange] = []
    pace = Pace()
    durable_length, base = start, 0
    for part in parts:
        at = max(0, durable_length - base)
        while 0 <= at < len(part.data):
            found = frame_at(part.data, at, part.salt ^ at)
            if found is None:
                at = part.data.find(MAGIC, at + 1)
                if pace.ends_step(HEADER_BYTES):
                    yield
                continue
            if durable_length < base + at:
                _add_damage(damage, durable_length, base + at)
            begin, durable_length = base + at, base + found.end
            try:
                body = part.data[at + HEADER_BYTES : found.end]
                frame = decode_body(found.packed_bytes, body)
                frames.append(ScannedFrame(begin, durable_length, frame))
            except MalformedFrame:
                _add_damage(damage, begin, durable_length)
            at = found.end
            if pace.ends_step(durable_length - begin):
                yield
        base += len(part.data)
    return LogScan(tuple(frames), tuple(damage), durable_length, base - durable_length)


class Verified(NamedTuple):
    """What checksums alone say of a piece of a log file that starts with a frame."""

    sound_bytes: int
    """Sound frames from the start of the piece, one after the other, end here."""
    damaged: bool
    """Whether there is a sound frame behind something that is none."""


def verify(piece: bytes, salt: int, offset: int) -> Verified:
    """Check the sums of a piece of a log file from ``offset``, without looking into its frames."""
    start = 0
    while (found := frame_at(piece, start, salt ^ (offset + start))) is not None:
        start = found.end
    sound_bytes = start
    while start >= 0:
        start = piece.find(MAGIC, start + 1)
        if start >= 0 and frame_at(piece, start, salt ^ (offset + start)) is not None:
            return Verified(sound_bytes, damaged=True)
    return Verified(sound_bytes, damaged=False)


def _add_damage(damage: list[DamagedRange], start: int, end: int) -> None:
    if damage and damage[-1].end == start:
        start = damage.pop().start
    damage.append(DamagedRange(start, end))


def highest_ever_held(scan: LogScan) -> Lsn:
    """The highest LSN that a segment with this log can have acknowledged, spoilt in places or not.

    Every frame says what was held before it, and its own entries may have added to that. So the
    last one is enough.
    """
    highest = 0
    for scanned in scan.frames[-1:]:
        for entry in scanned.frame.entries:
            match entry:
                case HeldEntry():
                    highest = entry.highest_lsn
                case RecordsEntry():
                    highest = max(highest, last_lsn_of(entry.records))
                case TableEntry() | HeadEntry():
                    highest = entry.table.survivor(highest)
    return highest
