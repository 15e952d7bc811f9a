"""Which files a segment's log consists of, as bytes. Pure: reads and writes no file.

A log is a sequence of numbered files, ``wal-1`` and so on. Each holds frames (see `segments.wal`)
from its first byte on; frames go into the last one, and a full one is followed by another. A number
is never used twice. Which files are the log, and in which order, the file ``manifest`` says and
nothing else: what it does not name is what a crash has left, and is ignored and deleted.

All integers are little-endian. The manifest holds the same bytes twice, in halves of whole blocks,
so that rot in one place leaves one of them.

==========  =====  ==========================================================
offset      bytes  half of a manifest
==========  =====  ==========================================================
0           4      magic, ``C1 4D 41 4E``
4           4      n, the number of files, at least 1
8           8      the lowest number that was never used
16          8      number of the first file
24          8      its length in bytes
...         ...    so for each file; the last one grows, and its length is 0
16 + 16 n   8      xxh3-64 of all before
...         ...    zero, up to the next multiple of 4096
==========  =====  ==========================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from struct import Struct
from typing import Final, NamedTuple

from segments.protocol import codec

MANIFEST: Final = "manifest"
PROMISE: Final = "promise"
"""The promise slots, see `segments.wal`."""

_MAGIC: Final = b"\xc1MAN"
_HEAD: Final = Struct("<4sIQ")
_FILE: Final = Struct("<QQ")
_SUM_BYTES: Final = 8
_BLOCK: Final = 4096
_OURS: Final = re.compile(r"wal-[1-9][0-9]*|manifest\.new", re.ASCII)
"""What a log may have left."""


class LogFile(NamedTuple):
    """A file of the log and its durable length."""

    number: int
    length: int

    @property
    def name(self) -> str:
        """Its name on the disk."""
        return f"wal-{self.number}"


class Manifest(NamedTuple):
    """What a manifest says."""

    files: tuple[LogFile, ...]
    """In the order of the log; the length of the last one is 0, as it grows."""
    next_number: int

    @property
    def bytes_said(self) -> int:
        """Bytes of each half that are not there to fill it."""
        return _HEAD.size + len(self.files) * _FILE.size + _SUM_BYTES


class Stored(NamedTuple):
    """What a disk holds for a restart, as it is: nothing cut, nothing checked."""

    log: bytes
    """All files of the log, one after the other. What is missing of one that is not the last is
    zeros here, so that everything behind it stays where it was."""
    promises: bytes
    """Both slots, one after the other."""
    files: tuple[LogFile, ...] = ()
    """What ``log`` consists of."""
    lost: str = ""
    """Why there is no log at all; empty if there is one."""

    @property
    def last_start(self) -> int:
        """Where in the log its last file begins."""
        return sum(each.length for each in self.files[:-1])


def encode_manifest(files: Sequence[LogFile], next_number: int) -> bytes:
    """The manifest of a log that consists of ``files``."""
    *sealed, last = files
    rows = [_FILE.pack(*each) for each in (*sealed, LogFile(last.number, 0))]
    half = b"".join([_HEAD.pack(_MAGIC, len(rows), next_number), *rows])
    half += codec.checksum(half).to_bytes(_SUM_BYTES, "little")
    return half.ljust(-(-len(half) // _BLOCK) * _BLOCK, b"\0") * 2


def decode_manifest(data: bytes) -> Manifest | None:
    """What either half says; None if neither is sound."""
    middle = len(data) // 2
    return _half(data[:middle]) or _half(data[middle:])


def _half(data: bytes) -> Manifest | None:
    if len(data) < _HEAD.size:
        return None
    magic, count, next_number = _HEAD.unpack_from(data)
    end = _HEAD.size + count * _FILE.size
    if magic != _MAGIC or not count or len(data) < end + _SUM_BYTES:
        return None
    if codec.checksum(data[:end]) != int.from_bytes(data[end : end + _SUM_BYTES], "little"):
        return None
    rows = _FILE.iter_unpack(data[_HEAD.size : end])
    return Manifest(tuple([LogFile(*row) for row in rows]), next_number)


def manifest_in(names: Iterable[str], data: bytes) -> Manifest | None:
    """The manifest of a disk with these files; None if ``data``, what it holds of it, is none.

    No number that a file bears is given out again, whatever has become of the manifest that was to
    name it.
    """
    manifest = decode_manifest(data)
    if manifest is None:
        return None
    ours = [each.removeprefix("wal-") for each in names if _OURS.fullmatch(each)]
    used = [int(each) + 1 for each in ours if each.isdecimal()]
    return manifest._replace(next_number=max([manifest.next_number, *used]))


def is_ours(name: str) -> bool:
    """Whether a file of this name is one of a segment's, or once was; others are nobody's here."""
    return name in (MANIFEST, PROMISE) or _OURS.fullmatch(name) is not None


def leftovers(names: Iterable[str], files: Iterable[LogFile]) -> list[str]:
    """Those of ``names`` that a log made of ``files`` has left behind."""
    live = {each.name for each in files}
    return sorted(each for each in names if _OURS.fullmatch(each) and each not in live)


def log_files_in(files: Mapping[str, bytes | bytearray]) -> tuple[LogFile, ...]:
    """The files of the log on a disk, with their lengths; none if the log is lost."""
    named = decode_manifest(bytes(files.get(MANIFEST, b"")))
    return with_length(named.files, files) if named is not None else ()


def with_length(
    named: tuple[LogFile, ...], files: Mapping[str, bytes | bytearray]
) -> tuple[LogFile, ...]:
    """What a manifest of the disk names, with the length of the last; none if that is lost."""
    last = files.get(named[-1].name) if named else None
    return (*named[:-1], LogFile(named[-1].number, len(last))) if last is not None else ()


def stored_in(files: Mapping[str, bytes | bytearray]) -> Stored:
    """What the files of a disk hold for a restart."""
    promises = bytes(files.get(PROMISE, b""))
    live = log_files_in(files)
    if not live:
        return Stored(b"", promises, lost=_why_lost(files))
    parts = [
        bytes(files.get(name, b"")[:length]).ljust(length, b"\0")
        for name, length in ((each.name, each.length) for each in live)
    ]
    return Stored(b"".join(parts), promises, live)


def _why_lost(files: Mapping[str, bytes | bytearray]) -> str:
    manifest = decode_manifest(bytes(files.get(MANIFEST, b"")))
    if manifest is not None:
        return f"no file {manifest.files[-1].name}: expected it, as the manifest names it last"
    found = "a spoilt manifest" if MANIFEST in files else "no manifest"
    return f"{found}: expected one that names its files"
