"""Mini-transactions: how writes become a group of linked redo records (2017 §4.1, 2018 §2.2).

A caller collects writes in a `MiniTransaction`. When it ends, the writer allocates LSNs and
`VolumeChains` makes all its records in one step that nothing can interrupt: the heads of the three
chains move together or not at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from segments.protocol.errors import Invalid, InvalidConfig, InvalidWrite, PageNotFound
from segments.protocol.ids import Lsn, PageId, PgId
from segments.protocol.messages import PageImage
from segments.protocol.record import (
    EMPTY_PAGE,
    BytesLike,
    RedoRecord,
    checked_page_id,
    checked_write,
)
from segments.protocol.showing import shown

if TYPE_CHECKING:
    from aurora.commit_queue import Commit

# What RedoRecord._make does, without its length check: half the time, for each record written.
_as_record: Callable[[tuple[object, ...]], RedoRecord] = partial(tuple.__new__, RedoRecord)


class PageWrite(NamedTuple):
    """Bytes to be written at an offset of a page; not yet part of the log."""

    page_id: PageId
    offset: int
    data: bytes

    @classmethod
    def checked(cls, page_id: PageId, offset: int, data: BytesLike) -> PageWrite:
        """A write out of what a caller gave, copied; raises `InvalidPage` or `InvalidWrite`."""
        return _as_write(checked_write(page_id, offset, data))


_as_write: Callable[[tuple[object, ...]], PageWrite] = partial(tuple.__new__, PageWrite)


class MiniTransaction:
    """Writes that become visible and durable together, in the order they were made."""

    __slots__ = (
        "_ended", "_max_bytes", "_max_writes", "_read_page", "_size_bytes", "_writes", "commit"
    )  # fmt: skip

    def __init__(
        self,
        max_writes: int,
        max_bytes: int,
        read_page: Callable[[PageId], Awaitable[PageImage]] | None = None,
    ) -> None:
        """An empty MTR of at most ``max_writes`` writes, of ``max_bytes`` together.

        ``read_page`` gives a page without this MTR's writes, for `read`.
        """
        if max_writes < 1:
            raise InvalidConfig(f"max_writes is {max_writes!r}: expected >= 1")
        self.commit: Commit | None = None
        """What can be awaited; None before the MTR is part of the log, and if it has no writes."""
        self._max_writes = max_writes
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._read_page = read_page
        self._writes: list[PageWrite] = []
        self._ended = False

    def __len__(self) -> int:
        return len(self._writes)

    @property
    def ended(self) -> bool:
        """Whether `end` was called; nothing can be written any more."""
        return self._ended

    @property
    def commit_lsn(self) -> Lsn | None:
        """The LSN of the MTR's last record; None as long as, and if, `commit` is None."""
        return None if self.commit is None else self.commit.lsn

    def write(self, page_id: PageId, offset: int, data: BytesLike) -> None:
        """Add a change: ``data`` at ``offset`` of the 8,192-byte page; it is copied now.

        Raises `InvalidPage` or `InvalidWrite` for a write that does not fit, or one too many, and
        `Invalid` when the MTR has ended. The MTR is then what it was before.
        """
        self._check_open()
        write = PageWrite.checked(page_id, offset, data)
        if len(self._writes) >= self._max_writes:
            raise InvalidWrite(
                f"write {len(self._writes) + 1} of a mini-transaction: "
                f"expected at most {self._max_writes}"
            )
        size = self._size_bytes + len(write.data)
        if size > self._max_bytes:
            raise InvalidWrite(
                f"a mini-transaction of {size} bytes: expected at most {self._max_bytes}"
            )
        self._size_bytes = size
        self._writes.append(write)

    async def read(self, page_id: PageId) -> bytes:
        """The page with this mini-transaction's own writes on it: 8,192 bytes.

        Beneath them lies the page as of one read point, the VDL at the block's first `read`: all
        reads of a mini-transaction see one state of the volume, and no later commit.
        A page never written is zeros under the own writes; without any, raises `PageNotFound`.

        This is no isolation. Nothing is locked, nothing is checked at the commit: what others write
        between this read and the commit stays, byte for byte, wherever this mini-transaction does
        not write, and where both do the higher LSN counts. To read, change and write back safely,
        hold a lock of your own around the block.

        Raises as `Engine.get`, and `Invalid` when the block has ended.
        """
        page_id = checked_page_id(page_id)
        self._check_open()
        assert self._read_page is not None, "this mini-transaction cannot read"
        page = await self._read_page(page_id)
        writes = [write for write in self._writes if write.page_id == page_id]
        if not page.image and not writes:
            raise PageNotFound(f"page {page_id}: expected one that was written, or is written here")
        if not writes:
            return page.image
        image = bytearray(page.image or EMPTY_PAGE)
        for _, offset, data in writes:
            image[offset : offset + len(data)] = data
        return bytes(image)

    def end(self) -> list[PageWrite]:
        """Close the MTR, whether to commit it or to give it up, and return its writes in order."""
        self._check_open()
        self._ended = True
        return self._writes

    def _check_open(self) -> None:
        if self._ended:
            raise Invalid("the mini-transaction has ended: expected one whose block is running")


class VolumeChains:
    """The newest record of the volume and of each protection group: where new records link to.

    The newest record of a page is known to the buffer pool, which holds every page that is written.
    """

    __slots__ = ("_last_segment_lsn", "_last_volume_lsn")

    def __init__(self, last_volume_lsn: Lsn, last_segment_lsn: Mapping[PgId, Lsn]) -> None:
        """Continue after these records; 0 stands for a chain without any."""
        newest = max(last_segment_lsn.values(), default=0)
        if newest != last_volume_lsn or min(last_segment_lsn.values(), default=0) < 0:
            raise InvalidConfig(
                f"last_volume_lsn is {last_volume_lsn}: expected {newest}, the newest of the groups"
            )
        self._last_volume_lsn = last_volume_lsn
        self._last_segment_lsn = dict(last_segment_lsn)

    @property
    def last_volume_lsn(self) -> Lsn:
        """The newest record of the volume."""
        return self._last_volume_lsn

    def last_segment_lsn(self, pg_id: PgId) -> Lsn:
        """The newest record of a protection group."""
        return self._last_segment_lsn[pg_id]

    def chain(
        self,
        first_lsn: Lsn,
        writes: Sequence[PageWrite],
        pg_ids: Sequence[PgId],
        page_head: Callable[[PageId], Lsn | None],
        clock_us: int = 0,
        *,
        mtr_id: Lsn | None = None,
        ends: bool = True,
    ) -> list[RedoRecord]:
        """Make the records of one MTR, with LSNs from ``first_lsn`` on, and move the chains' heads.

        Or of a part of one: ``mtr_id`` is then the first LSN of the first part, and ``ends`` says
        whether this is the last, so that its last record is the CPL. ``pg_ids`` are the groups of
        the writes, ``page_head`` gives a page's newest change (0 for none); ``clock_us`` is the
        writer's clock.
        Two writes of the MTR on one page
        chain to each other: the second follows the first, not what was there before.
        """
        assert writes, "an MTR without a write has no records"
        assert first_lsn > self._last_volume_lsn, (first_lsn, self._last_volume_lsn)
        page_heads: dict[PageId, Lsn] = {}
        for page_id, _, _ in writes:
            head = page_head(page_id)
            assert head is not None, f"page {page_id} is written without being in the buffer pool"
            page_heads[page_id] = head
        segment_heads = self._last_segment_lsn
        prev_volume_lsn = self._last_volume_lsn
        last_lsn = first_lsn + len(writes) - 1
        cpl = last_lsn if ends else 0
        first_of_mtr = first_lsn if mtr_id is None else mtr_id
        records = []
        lsn = first_lsn
        for (page_id, offset, data), pg_id in zip(writes, pg_ids, strict=True):
            is_cpl = lsn == cpl
            fields = (
                lsn, page_id, offset, data, first_of_mtr, is_cpl,
                prev_volume_lsn, segment_heads[pg_id], page_heads[page_id],
                clock_us if is_cpl else 0,
            )  # fmt: skip
            records.append(_as_record(fields))
            segment_heads[pg_id] = page_heads[page_id] = prev_volume_lsn = lsn
            lsn += 1
        self._last_volume_lsn = last_lsn
        return records


def gathered(
    writes: Iterable[tuple[PageId, int, BytesLike]], max_writes: int, max_bytes: int
) -> list[PageWrite]:
    """``(page_id, offset, data)``, any number of them, as the writes of one MTR: checked, copied.

    Raises as `MiniTransaction.write`, and `InvalidWrite` for what is not made of three values.
    """
    mtr = MiniTransaction(max_writes, max_bytes)
    for page_id, offset, data in _triples(writes):
        mtr.write(page_id, offset, data)
    return mtr.end()


def _triples(
    writes: Iterable[tuple[PageId, int, BytesLike]],
) -> Iterator[tuple[PageId, int, BytesLike]]:
    """The writes, one by one; raises `InvalidWrite` for what is not made of three values."""
    try:
        iterator = iter(writes)
    except TypeError:
        raise InvalidWrite(
            f"writes is {shown(writes)}: expected (page_id, offset, data), any number of them"
        ) from None
    for write in iterator:
        try:
            page_id, offset, data = write
        except (TypeError, ValueError):
            raise InvalidWrite(
                f"a write is {shown(write)}: expected (page_id, offset, data)"
            ) from None
        yield page_id, offset, data
