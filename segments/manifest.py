"""Which files a segment consists of, as bytes. Pure: reads and writes no file.

A segment is a *hot log*, files ``wal-N`` that hold frames (see `segments.wal`) from their first
byte on, and *layers*, files ``layer-N`` (see `segments.layers.layer`), which tile the chain from
its beginning up to where the log takes over. Frames go into the last file of the log. No number is
used twice, for whatever kind of file. Which files are live, and in which order, the file
``manifest`` says and nothing else: what it does not name is what a crash has left, and is ignored
and deleted.

All integers are little-endian. The manifest holds the same bytes twice, in halves of whole blocks,
so that rot in one place leaves one of them.

===========  =====  =======================================================
offset       bytes  half of a manifest
===========  =====  =======================================================
0            4      magic, ``C1 4D 41 4E``
4            4      n, the number of files of the log, at least 1
8            4      m, the number of layers
12           4      zero
16           8      the lowest number that was never used
24           8      number of the first file of the log
32           8      its length in bytes
40           8      its salt, see `segments.wal`
...          ...    so for each file; the last one grows, and its length is 0
24 + 24 n    8      number of the first layer
...          8      its length in bytes
...          8      start: it holds records above this LSN
...          8      end: and up to this one, inclusive
...          8      1 for a base layer, the first one alone; else 0
...          ...    so for each layer, ascending
...          8      xxh3-64 of all before
...          ...    zero, up to the next multiple of 4096
===========  =====  =======================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from struct import Struct
from typing import Final, NamedTuple

from segments.protocol import codec
from segments.protocol.ids import Lsn
from segments.wal import FrameBody
from segments.wal_scan import LogPart

MANIFEST: Final = "manifest"
PROMISE: Final = "promise"
"""The promise slots, see `segments.wal`."""

SALT_BITS: Final = 64
"""Of the salt of a file of the log."""

WHOLE: Final = 1 << 62
"""As a length to read: all there is."""

_MAGIC: Final = b"\xc1MAN"
_HEAD: Final = Struct("<4sIIIQ")
_LOG: Final = Struct("<QQQ")
_LAYER: Final = Struct("<QQQQQ")
_SUM_BYTES: Final = 8
_BLOCK: Final = 4096
_OURS: Final = re.compile(r"(?:wal|layer)-[1-9][0-9]*|manifest\.new", re.ASCII)
"""What a segment may have left."""


class LogFile(NamedTuple):
    """A file of the log and its durable length."""

    number: int
    length: int
    salt: int
    """Seeds the sums of its frames: any 64 bits, drawn for it alone."""

    @property
    def name(self) -> str:
        """Its name on the disk."""
        return f"wal-{self.number}"


def filled(file: LogFile, bodies: Iterable[FrameBody]) -> tuple[LogFile, list[bytes]]:
    """``file`` with a frame more for each of ``bodies``; and these frames."""
    frames: list[bytes] = []
    for body in bodies:
        frames.append(body.at(file.salt, file.length))
        file = file._replace(length=file.length + body.frame_bytes)
    return file, frames


class LayerFile(NamedTuple):
    """A layer, and the records of the chain that it stands for: those in ``(start, end]``."""

    number: int
    length: int
    start: Lsn
    end: Lsn
    base: bool
    """Whether it holds the newest version of each page at ``end`` in place of records."""

    @property
    def name(self) -> str:
        """Its name on the disk."""
        return f"layer-{self.number}"


class Manifest(NamedTuple):
    """What a manifest says."""

    logs: tuple[LogFile, ...]
    """In the order of the log; the length of the last one is 0, as it grows."""
    layers: tuple[LayerFile, ...]
    """Ascending; each starts where the one before ends, the first at 0."""
    next_number: int

    @property
    def names(self) -> frozenset[str]:
        """The names of all live files that have a number."""
        return frozenset([*(each.name for each in self.logs), *(each.name for each in self.layers)])

    @property
    def bytes_said(self) -> int:
        """Bytes of each half that are not there to fill it."""
        size = _HEAD.size + len(self.logs) * _LOG.size + len(self.layers) * _LAYER.size
        return size + _SUM_BYTES


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of ``manifest``; the length of its last log file is left out."""
    *sealed, last = manifest.logs
    head = _HEAD.pack(_MAGIC, len(manifest.logs), len(manifest.layers), 0, manifest.next_number)
    logs = [_LOG.pack(*each) for each in (*sealed, last._replace(length=0))]
    half = b"".join([head, *logs, *(_LAYER.pack(*each) for each in manifest.layers)])
    half += codec.checksum(half).to_bytes(_SUM_BYTES, "little")
    return half.ljust(-(-len(half) // _BLOCK) * _BLOCK, b"\0") * 2


def decode_manifest(data: bytes) -> Manifest | None:
    """What either half says; None if neither is sound."""
    middle = len(data) // 2
    return _half(data[:middle]) or _half(data[middle:])


def _half(data: bytes) -> Manifest | None:
    if len(data) < _HEAD.size:
        return None
    magic, logs, layers, zero, next_number = _HEAD.unpack_from(data)
    layers_at = _HEAD.size + logs * _LOG.size
    end = layers_at + layers * _LAYER.size
    if magic != _MAGIC or not logs or zero or len(data) < end + _SUM_BYTES:
        return None
    if codec.checksum(data[:end]) != int.from_bytes(data[end : end + _SUM_BYTES], "little"):
        return None
    manifest = Manifest(
        tuple([LogFile(*row) for row in _LOG.iter_unpack(data[_HEAD.size : layers_at])]),
        tuple([_layer(*row) for row in _LAYER.iter_unpack(data[layers_at:end])]),
        next_number,
    )
    return manifest if _tile(manifest.layers) else None


def _layer(number: int, length: int, start: Lsn, end: Lsn, base: int) -> LayerFile:
    return LayerFile(number, length, start, end, bool(base))


def _tile(layers: Sequence[LayerFile]) -> bool:
    """Whether each starts where the one before ends, and only the first may be a base."""
    if not layers:
        return True
    return (
        layers[0].start == 0
        and all(each.start < each.end for each in layers)
        and all(before.end == after.start for before, after in pairwise(layers))
        and not any(each.base for each in layers[1:])
    )


def numbered_above(manifest: Manifest, names: Iterable[str]) -> Manifest:
    """``manifest``, of a disk with files of these names: no number that one bears comes again.

    Whatever has become of the manifest that was to name it.
    """
    ours = [each.rpartition("-")[2] for each in names if _OURS.fullmatch(each)]
    used = [int(each) + 1 for each in ours if each.isdecimal()]
    return manifest._replace(next_number=max([manifest.next_number, *used]))


def is_ours(name: str) -> bool:
    """Whether a file of this name is one of a segment's, or once was; others are nobody's here."""
    return name in (MANIFEST, PROMISE) or _OURS.fullmatch(name) is not None


def leftovers(names: Iterable[str], manifest: Manifest) -> list[str]:
    """Those of ``names`` that ``manifest`` does not name, and that a crash has left behind."""
    live = manifest.names
    return sorted(each for each in names if _OURS.fullmatch(each) and each not in live)


# ---- a disk that is all in memory ----------------------------------------------------------------


class StoredLog(NamedTuple):
    """The log on a disk, as it is: nothing cut, nothing checked."""

    parts: tuple[LogPart, ...]
    """What is missing of a file that is not the last is zeros, so that everything behind it stays
    where it was."""
    files: tuple[LogFile, ...]
    """What it consists of, with their lengths; none if the manifest or the last file is lost."""

    @property
    def log(self) -> bytes:
        """All files of the log, one after the other."""
        return b"".join([each.data for each in self.parts])


def log_in(files: Mapping[str, bytes | bytearray]) -> StoredLog:
    """The log of a disk with these files."""
    live = log_files_in(files)
    parts = tuple([log_part(each, bytes(files.get(each.name, b""))) for each in live])
    return StoredLog(parts, live)


def log_part(file: LogFile, data: bytes) -> LogPart:
    """A file of which ``data`` has been read, as long as it is to be."""
    return LogPart(file.salt, data[: file.length].ljust(file.length, b"\0"))


def log_files_in(files: Mapping[str, bytes | bytearray]) -> tuple[LogFile, ...]:
    """The files of the log on a disk, with their lengths; none if the log is lost."""
    manifest = decode_manifest(bytes(files.get(MANIFEST, b"")))
    return with_length(manifest.logs, files) if manifest is not None else ()


def with_length(
    named: tuple[LogFile, ...], files: Mapping[str, bytes | bytearray]
) -> tuple[LogFile, ...]:
    """What a manifest of the disk names, with the length of the last; none if that is lost."""
    *sealed, growing = named
    last = files.get(growing.name)
    return (*sealed, growing._replace(length=len(last))) if last is not None else ()
