"""A SQLite database and its write-ahead log, read as a stream of committed transactions.

Nothing here does I/O or knows the engine: bytes go in, page images come out. The layout is the
public one (https://www.sqlite.org/fileformat2.html, "The Write-Ahead Log"); integers are
big-endian unless said otherwise.

==============  ============================================================================
log header      32 bytes: magic, version 3007000, page size, checkpoint number, salt 1,
                salt 2, checksum of the first 24 bytes (two words)
frame header    24 bytes: page number (from 1), pages in the database after this commit (0:
                not a commit), salt 1, salt 2, checksum (two words)
frame           its header, then one page
magic           0x377f0682: checksums read words little-endian; 0x377f0683: big-endian
==============  ============================================================================

A frame is valid if its salts are the header's and its checksum continues the one before: over the
first 8 bytes of its header and its page. **The log ends at the first frame that is not valid**, as
in SQLite, and what stands after the last commit before it is no transaction. SQLite leaves such
tails in ordinary running, and they are ignored here too:

- frames of an older generation (other salts), when a log was begun anew over a longer one;
- frames of this generation that were never committed, when a transaction larger than the cache
  was rolled back: overwritten in front, their checksums continue nothing;
- an incomplete frame at the end of the file: the process died while it was appending.

SQLite ignores *everything* after the first bad frame, and so loses committed transactions
silently if a byte in the middle is damaged. A replay must not: if the bad frame, or a whole one
after it, carries this generation's salts **and** a commit mark, then something was committed there,
and the log is refused as damaged. (A power failure with unsynced frames can look the same: it
is refused as well, since nothing tells the two apart.)

Memory: page images are views into the bytes given, so a log costs its own size and about 300 bytes
a frame. Files above `MAX_FILE_BYTES` and databases above `MAX_DATABASE_BYTES` are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

import attrs

from segments.protocol.errors import Corrupt, Invalid
from segments.protocol.record import PAGE_SIZE

LOG_MAGIC: Final = 0x377F0682
LOG_VERSION: Final = 3007000
PAGE_SIZES: Final = (512, 1024, 2048, 4096, 8192)
"""SQLite page sizes that fit a page of the engine, one in one."""

MAX_FILE_BYTES: Final = 256 * 1024 * 1024
"""Largest log or database file that is read, inclusive."""

MAX_DATABASE_BYTES: Final = 256 * 1024 * 1024
"""Largest database that a log may describe, inclusive. SQLite's lock page, at 1 GiB, lies above."""

_LOG_HEADER: Final = Struct(">8I")
_FRAME_HEADER: Final = Struct(">6I")
_DATABASE_MAGIC: Final = b"SQLite format 3\0"
_DATABASE_HEADER_BYTES: Final = 100
_FOREIGN: Final = (
    (_DATABASE_MAGIC, "a SQLite database"),
    (bytes.fromhex("d9d505f920a163d7"), "a SQLite rollback journal"),
    (LOG_MAGIC.to_bytes(4, "big"), "a SQLite write-ahead log"),
    ((LOG_MAGIC + 1).to_bytes(4, "big"), "a SQLite write-ahead log"),
    (LOG_VERSION.to_bytes(4, "little"), "a SQLite shared-memory index"),
    (LOG_VERSION.to_bytes(4, "big"), "a SQLite shared-memory index"),
)
assert _LOG_HEADER.size == 32
assert _FRAME_HEADER.size == 24
assert PAGE_SIZES[-1] == PAGE_SIZE


class UnsupportedFile(Invalid):
    """A file that is not what it was given as, or is beyond what can be replayed."""


class DamagedFile(Corrupt):
    """A file of the right kind whose bytes are not what SQLite wrote."""


class Frame(NamedTuple):
    """One page as a transaction left it."""

    page_number: int
    """SQLite's page number, from 1."""
    image: memoryview
    """The whole page, read-only."""


@attrs.frozen
class Transaction:
    """What one commit wrote, in order. A page may occur twice: its last frame counts."""

    frames: tuple[Frame, ...]
    db_pages_after: int
    """Pages in the database after the commit, >= 1; fewer than before when it shrinks."""


@attrs.frozen
class SqliteWal:
    """The committed part of a write-ahead log."""

    name: str
    page_size: int
    transactions: tuple[Transaction, ...]
    tail_bytes: int
    """Bytes after the last commit that SQLite ignores too: see the top of this module."""


@attrs.frozen
class SqliteBase:
    """A database file as a log finds it: ``pages[0]`` is SQLite's page 1."""

    name: str
    page_size: int
    pages: tuple[memoryview, ...]


def read_wal(data: bytes, name: str) -> SqliteWal:
    """Read the transactions that SQLite itself would recover from the log ``data``.

    ``name`` stands in the errors. Raises `UnsupportedFile` for anything but a log with a page size
    of `PAGE_SIZES` within the limits, and `DamagedFile` if the header, or what was committed
    in this generation of the log, is not as it was written.
    """
    _check_size(data, name, "log")
    header = _read_log_header(data, name)
    view = memoryview(data)
    max_pages = MAX_DATABASE_BYTES // header.page_size
    transactions: list[Transaction] = []
    pending: list[Frame] = []
    committed_end = _LOG_HEADER.size
    for offset, page_number, db_pages in _valid_frames(view, name, header):
        if max(page_number, db_pages) > max_pages:
            raise UnsupportedFile(
                f"{name}: the frame at offset {offset} names page {page_number} of a database of "
                f"{db_pages} pages: expected at most {max_pages} pages of {header.page_size} bytes"
            )
        end = offset + _FRAME_HEADER.size + header.page_size
        pending.append(Frame(page_number, view[offset + _FRAME_HEADER.size : end]))
        if db_pages:
            transactions.append(Transaction(tuple(pending), db_pages))
            pending.clear()
            committed_end = end
    return SqliteWal(name, header.page_size, tuple(transactions), len(data) - committed_end)


def read_base(data: bytes, name: str) -> SqliteBase:
    """Read the database file that lies beside a log.

    An empty one is refused: SQLite writes page 1 before it starts a log, and throws away a log that
    it finds beside an empty database. Raises `UnsupportedFile` and `DamagedFile` as `read_wal`.
    """
    _check_size(data, name, "database")
    if data[:16] != _DATABASE_MAGIC:
        raise UnsupportedFile(
            f"{name}: not an unencrypted SQLite database: found {_describe_start(data)} "
            f"at offset 0, expected {_DATABASE_MAGIC!r}"
        )
    if len(data) < _DATABASE_HEADER_BYTES:
        raise DamagedFile(
            f"{name}: {len(data)} bytes long: expected a header of {_DATABASE_HEADER_BYTES}"
        )
    stored = int.from_bytes(data[16:18], "big")
    page_size = 65536 if stored == 1 else stored
    _check_page_size(page_size, name, offset=16)
    if len(data) % page_size:
        raise DamagedFile(
            f"{name}: {len(data)} bytes long, which ends {len(data) % page_size} bytes into "
            f"page {len(data) // page_size + 1}: expected a multiple of the page size {page_size}"
        )
    view = memoryview(data)
    pages = tuple(view[at : at + page_size] for at in range(0, len(data), page_size))
    return SqliteBase(name, page_size, pages)


class _LogHeader(NamedTuple):
    page_size: int
    salts: tuple[int, int]
    words: Struct
    """One page, as the words that the checksum reads."""
    frame_words: Struct
    """The part of a frame header that the checksum reads."""
    checksum: tuple[int, int]


def _read_log_header(data: bytes, name: str) -> _LogHeader:
    if int.from_bytes(data[:4], "big") not in (LOG_MAGIC, LOG_MAGIC + 1):
        raise UnsupportedFile(
            f"{name}: not a SQLite write-ahead log: found {_describe_start(data)} at offset 0, "
            f"expected {LOG_MAGIC:08x} or {LOG_MAGIC + 1:08x}"
        )
    if len(data) < _LOG_HEADER.size:
        raise DamagedFile(
            f"{name}: {len(data)} bytes long: expected a log header of {_LOG_HEADER.size}"
        )
    magic, version, page_size, _, *salts, sum_0, sum_1 = _LOG_HEADER.unpack_from(data)
    order = "<" if magic == LOG_MAGIC else ">"
    checksum = _checksum(Struct(order + "6I").unpack_from(data), (0, 0))
    if checksum != (sum_0, sum_1):
        raise DamagedFile(
            f"{name}: the log header's checksum at offset 24 is {_pair((sum_0, sum_1))}: "
            f"expected {_pair(checksum)}"
        )
    if version != LOG_VERSION:
        raise UnsupportedFile(
            f"{name}: log format version {version} at offset 4: expected {LOG_VERSION}"
        )
    _check_page_size(page_size, name, offset=8)
    words = Struct(f"{order}{page_size // 4}I")
    return _LogHeader(page_size, (salts[0], salts[1]), words, Struct(order + "2I"), checksum)


def _valid_frames(
    view: memoryview, name: str, header: _LogHeader
) -> Iterator[tuple[int, int, int]]:
    """Yield (offset, page number, database pages) up to the end of the log.

    An incomplete frame at the end is not looked at. Raises `DamagedFile` if the log ends before
    something that was committed.
    """
    checksum = header.checksum
    frame_bytes = _FRAME_HEADER.size + header.page_size
    for offset in range(_LOG_HEADER.size, len(view) - frame_bytes + 1, frame_bytes):
        page_number, db_pages, salt_1, salt_2, *stored = _FRAME_HEADER.unpack_from(view, offset)
        if (salt_1, salt_2) != header.salts:
            problem = f"salts {_pair((salt_1, salt_2))}, expected {_pair(header.salts)}"
        elif page_number == 0:
            problem = "page number 0, expected 1 or more"
        else:
            checksum = _checksum(header.frame_words.unpack_from(view, offset), checksum)
            words = header.words.unpack_from(view, offset + _FRAME_HEADER.size)
            checksum = _checksum(words, checksum)
            if checksum == (stored[0], stored[1]):
                yield offset, page_number, db_pages
                continue
            problem = f"checksum {_pair((stored[0], stored[1]))}, expected {_pair(checksum)}"
        _refuse_commit_beyond(view, offset, problem, name, header)
        return


def _refuse_commit_beyond(
    view: memoryview, bad_offset: int, problem: str, name: str, header: _LogHeader
) -> None:
    """Raise `DamagedFile` if this generation committed a whole frame from ``bad_offset`` on."""
    frame_bytes = _FRAME_HEADER.size + header.page_size
    for offset in range(bad_offset, len(view) - frame_bytes + 1, frame_bytes):
        _, db_pages, *salts, _, _ = _FRAME_HEADER.unpack_from(view, offset)
        if db_pages and (salts[0], salts[1]) == header.salts:
            bad, commit = (
                (at - _LOG_HEADER.size) // frame_bytes + 1 for at in (bad_offset, offset)
            )
            raise DamagedFile(
                f"{name}: frame {bad} at offset {bad_offset} has {problem}; it is not the "
                f"end of the log, since frame {commit} at offset {offset} carries a commit"
            )


def _checksum(words: tuple[int, ...], start: tuple[int, int]) -> tuple[int, int]:
    """Continue SQLite's checksum over an even number of 32-bit words.

    Two running sums that feed each other, so that the order of the words counts.
    """
    sum_0, sum_1 = start
    for even, odd in zip(words[::2], words[1::2], strict=True):
        sum_0 = sum_0 + even + sum_1 & 0xFFFFFFFF
        sum_1 = sum_1 + odd + sum_0 & 0xFFFFFFFF
    return sum_0, sum_1


def _check_size(data: bytes, name: str, kind: str) -> None:
    if not data:
        raise UnsupportedFile(f"{name}: the {kind} is empty: there is nothing to replay")
    if len(data) > MAX_FILE_BYTES:
        raise UnsupportedFile(f"{name}: {len(data)} bytes long: expected at most {MAX_FILE_BYTES}")


def _check_page_size(page_size: int, name: str, offset: int) -> None:
    if page_size not in PAGE_SIZES:
        supported = ", ".join(map(str, PAGE_SIZES))
        raise UnsupportedFile(
            f"{name}: page size {page_size} at offset {offset}: expected one of {supported}"
        )


def _describe_start(data: bytes) -> str:
    for magic, kind in _FOREIGN:
        if data.startswith(magic):
            return kind
    return data[:16].hex(" ", -4)


def _pair(words: tuple[int, int]) -> str:
    return f"{words[0]:08x} {words[1]:08x}"
