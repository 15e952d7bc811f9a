"""The redo record: one change to one page, the unit of the log (2018 §2.2).

A record is linked backwards three times, because three parties ask three questions: the recovering
writer walks the volume, a segment looks for its own gaps, the materializer follows one page.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from segments.protocol.errors import InvalidWrite
from segments.protocol.ids import MAX_INTEGER, Lsn, PageId

PAGE_SIZE: Final = 8192
"""Bytes in a page."""

EMPTY_PAGE: Final = bytes(PAGE_SIZE)
"""What a page holds before its first record."""


class RedoRecord(NamedTuple):
    """Bytes written at an offset of a page. A tuple, as millions are made and most are only kept.

    ``lsn``               its own log sequence number
    ``page_id``           the page it changes
    ``offset``            first byte changed, 0 <= offset
    ``payload``           the new bytes, 1 or more; ``offset + len(payload) <= PAGE_SIZE``
    ``mtr_id``            first LSN of the mini-transaction it belongs to
    ``is_cpl``            whether it ends its mini-transaction (a consistency point LSN)
    ``prev_volume_lsn``   the record before it in the volume; LSNs have holes, so it is not lsn - 1
    ``prev_segment_lsn``  the record before it in its protection group
    ``prev_page_lsn``     the record before it on its page
    """

    lsn: Lsn
    page_id: PageId
    offset: int
    payload: bytes
    mtr_id: Lsn
    is_cpl: bool
    prev_volume_lsn: Lsn
    prev_segment_lsn: Lsn
    prev_page_lsn: Lsn


def check_page_id(page_id: object) -> None:
    """Raise `InvalidWrite` unless ``page_id`` can name a page."""
    if type(page_id) is not int or not 0 <= page_id <= MAX_INTEGER:
        raise InvalidWrite(f"page_id is {page_id!r}: expected an integer from 0 to {MAX_INTEGER}")


def check_write(page_id: object, offset: object, data: object) -> None:
    """Raise `InvalidWrite` unless ``data`` at ``offset`` is a change within one page."""
    check_page_id(page_id)
    if type(data) is not bytes:
        raise InvalidWrite(f"data is of type {type(data).__name__}: expected bytes")
    if not data:
        raise InvalidWrite(f"data for page {page_id} is empty: expected at least one byte")
    if type(offset) is not int or offset < 0:
        raise InvalidWrite(f"offset is {offset!r}: expected an integer >= 0")
    if offset + len(data) > PAGE_SIZE:
        raise InvalidWrite(
            f"offset {offset} + {len(data)} bytes is {offset + len(data)}: "
            f"expected to end within the {PAGE_SIZE}-byte page"
        )
