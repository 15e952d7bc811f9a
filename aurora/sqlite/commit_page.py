"""Page 0, the commit page: when each transaction was committed (SQL design, decision 5).

The last record of every mini-transaction is a stamp at the start of this page, so the page's LSN at
any read point is that of the newest commit at or below it, and a search over LSNs finds the commit
of a time. The very first commit's goes on with what tells a database from other volumes.

    offset  size  what
    0       8     wall clock, nanoseconds since the epoch of Unix; never less than that of the
                  commit before
    8       4     pages changed, this one not counted
    12      4     bytes written to them, at most 2**32 - 1
    16      16    what a database begins with: `MAGIC`

All numbers are big-endian, as SQLite's own.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from segments.protocol.ids import PageId
from segments.protocol.record import PAGE_SIZE

COMMIT_PAGE: Final[PageId] = 0
MAGIC: Final = b"aurora sqlite 1\0"
MAGIC_OFFSET: Final = 16
_STAMP: Final = struct.Struct(">QII")
_MOST_BYTES: Final = 2**32 - 1
assert _STAMP.size == MAGIC_OFFSET
assert len(MAGIC) == 16


class CommitStamp(NamedTuple):
    """What a commit says of itself."""

    time_ns: int
    """Wall clock, nanoseconds since the epoch of Unix."""
    pages: int
    size_bytes: int

    def encode(self) -> bytes:
        """The first bytes of the commit page."""
        return _STAMP.pack(self.time_ns, self.pages, min(self.size_bytes, _MOST_BYTES))

    @classmethod
    def decode(cls, page: bytes) -> CommitStamp:
        """The stamp on a commit page."""
        return cls(*_STAMP.unpack_from(page))


def is_commit_page(page: bytes) -> bool:
    """Whether a page 0 is that of a database."""
    return len(page) == PAGE_SIZE and page[MAGIC_OFFSET : MAGIC_OFFSET + len(MAGIC)] == MAGIC
