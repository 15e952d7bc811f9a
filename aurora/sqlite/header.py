"""SQLite's own header, the first 100 bytes of page 1, as far as it matters here.

Offsets and meanings are those of SQLite's file format, section 1.3; numbers are big-endian.
"""

from __future__ import annotations

from typing import Final

from segments.protocol.errors import SqlCorrupt
from segments.protocol.ids import PageId
from segments.protocol.record import PAGE_SIZE

HEADER_PAGE: Final[PageId] = 1
MAGIC: Final = b"SQLite format 3\0"
_PAGE_SIZE_AT: Final = 16
_VERSIONS_AT: Final = 18
_CHANGES_AT: Final = 24
_PAGES_AT: Final = 28
_SCHEMA_AT: Final = 40
_ENCODING_AT: Final = 56
_VALID_FOR_AT: Final = 92


def has_header(page: bytes) -> bool:
    """Whether a page 1 is that of a SQLite database."""
    return page[: len(MAGIC)] == MAGIC


def size_pages(page: bytes) -> int:
    """Pages of the database (bytes 28 to 31); 0 for a page that was never written."""
    return _number(page, _PAGES_AT) if page else 0


def encoding(page: bytes) -> int:
    """How texts are encoded (bytes 56 to 59): 1 for UTF-8, as it is as long as nobody has chosen.

    SQLite looks at it when it first reads a schema, and never again in that connection.
    """
    return _number(page, _ENCODING_AT) or 1


def check_header(page: bytes, file_pages: int) -> None:
    """Raise `SqlCorrupt` unless this page 1 may be committed (SQL design, decision 6).

    A file may be larger than the database, as it is truncated after the commit, but not smaller.
    """
    page_size = int.from_bytes(page[_PAGE_SIZE_AT : _PAGE_SIZE_AT + 2])
    versions = (page[_VERSIONS_AT], page[_VERSIONS_AT + 1])
    if page_size != PAGE_SIZE:
        raise SqlCorrupt(
            f"a commit of a database with pages of {page_size} bytes: expected {PAGE_SIZE}"
        )
    if versions != (1, 1):
        raise SqlCorrupt(f"a commit with the format versions {versions}: expected (1, 1), no WAL")
    if not 1 <= size_pages(page) <= file_pages:
        raise SqlCorrupt(
            f"a commit of {size_pages(page)} pages: expected from 1 to {file_pages}, those written"
        )


def restored(old: bytes, newest: bytes) -> bytes:
    """The page 1 of an old version, such that it can follow the newest one.

    Connections know by the change counter whether their cached pages still hold, and by the schema
    cookie whether their prepared statements do. Both must never come twice with different contents.
    """
    page = bytearray(old)
    changes = _number(newest, _CHANGES_AT) + 1 & 0xFFFF_FFFF
    schema = max(_number(newest, _SCHEMA_AT), _number(old, _SCHEMA_AT)) + 1 & 0xFFFF_FFFF
    for at, number in ((_CHANGES_AT, changes), (_VALID_FOR_AT, changes), (_SCHEMA_AT, schema)):
        page[at : at + 4] = number.to_bytes(4)
    return bytes(page)


def _number(page: bytes, at: int) -> int:
    return int.from_bytes(page[at : at + 4])
