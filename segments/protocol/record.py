"""The redo record: one change to one page, the unit of the log (2018 §2.2).

A record is linked backwards three times, because three parties ask three questions: the recovering
writer walks the volume, a segment looks for its own gaps, the materializer follows one page.
"""

from __future__ import annotations

import operator
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, SupportsIndex, TypeAlias, cast

from segments.protocol.errors import InvalidPage, InvalidWrite
from segments.protocol.ids import MAX_INTEGER, Lsn, PageId
from segments.protocol.showing import shown

PAGE_SIZE: Final = 8192
"""Bytes in a page."""

RECORD_OVERHEAD_BYTES: Final = 40
"""What a record takes in a run besides its payload (`segments.protocol.run`)."""

EMPTY_PAGE: Final = bytes(PAGE_SIZE)
"""What a page holds before its first record."""

BytesLike: TypeAlias = "bytes | bytearray | memoryview | array[Any]"
"""What gives its memory as bytes: these are named, and anything else that does is taken, too."""


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
    ``clock_us``          if it is a CPL, its writer's clock at the commit, in microseconds since
                          the epoch of Unix; else 0
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
    clock_us: int = 0


class Change(NamedTuple):
    """What a record does to its page."""

    lsn: Lsn
    offset: int
    payload: bytes


as_record: Final[Callable[[tuple[object, ...]], RedoRecord]] = partial(tuple.__new__, RedoRecord)
"""What `RedoRecord._make` does, without its length check: half the time, for millions of them."""


def whole_number(value: object) -> int | None:
    """``value`` as an integer, also of another type that counts as one, or None; no bool is one."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(cast("SupportsIndex", value))
    except TypeError:
        return None


def checked_page_id(page_id: object) -> PageId:
    """``page_id`` as a plain integer; raises `InvalidPage` unless it can name a page."""
    number = page_id if type(page_id) is int else whole_number(page_id)
    if number is None or not 0 <= number <= MAX_INTEGER:
        raise InvalidPage(
            f"page_id is {shown(page_id)}: expected an integer from 0 to {MAX_INTEGER}"
        )
    return number


def checked_write(page_id: object, offset: object, data: object) -> tuple[PageId, int, bytes]:
    """A change within one page, as plain values: its bytes are copied now.

    ``data`` is bytes, or anything `BytesLike`, also a memoryview with steps.
    Raises `InvalidPage`, and `InvalidWrite` for all else.
    """
    number = checked_page_id(page_id)
    payload = data if type(data) is bytes else _copied(data)
    if not payload:
        raise InvalidWrite(f"data for page {number} is empty: expected at least one byte")
    at = offset if type(offset) is int else whole_number(offset)
    if at is None or at < 0:
        raise InvalidWrite(f"offset is {shown(offset)}: expected an integer >= 0")
    if at + len(payload) > PAGE_SIZE:
        raise _too_long(at, len(payload))
    return number, at, payload


def _copied(data: object) -> bytes:
    if isinstance(data, str):
        raise InvalidWrite(
            f"data is the text {shown(data)}: expected bytes, such as text.encode() gives"
        )
    try:
        with memoryview(cast("BytesLike", data)) as view:
            if view.nbytes > PAGE_SIZE:
                raise _too_long(0, view.nbytes)  # without copying it
            return view.tobytes()
    except (TypeError, ValueError, BufferError):  # no buffer, or one that is not to be had
        raise InvalidWrite(
            f"data is of type {type(data).__name__}: expected bytes, or what gives its memory as "
            "bytes, such as a bytearray or a memoryview"
        ) from None


def _too_long(offset: int, size: int) -> InvalidWrite:
    return InvalidWrite(
        f"offset {shown(offset)} + {size} bytes is {shown(offset + size)}: "
        f"expected to end within the {PAGE_SIZE}-byte page"
    )
