"""SQLite's files on a volume: a writer at the head, readers at a read point (SQL design).

SQLite numbers pages from 1; page n is the volume's page n. A file's size is what page 1 says, bytes
28 to 31; pages that were never written are zeros. Journals do not exist: the writer buffers, and
gives its changes to the log at `SQLITE_FCNTL_SYNC`, the last point at which a failure is clean,
since the journal is gone when `SQLITE_FCNTL_COMMIT_PHASETWO` comes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

import apsw

from aurora.commit_queue import Commit
from aurora.sqlite.bridge import wait
from aurora.sqlite.commit_page import COMMIT_PAGE, CommitStamp, is_commit_page
from aurora.sqlite.header import HEADER_PAGE, check_header, encoding, size_pages
from aurora.sqlite.page_buffer import PageBuffer
from aurora.sqlite.read_ahead import MOST, ReadAhead
from aurora.sqlite.volume import Volume
from segments.protocol.errors import SqlCorrupt, SqlRefused, Unavailable
from segments.protocol.ids import Lsn, PageId
from segments.protocol.record import EMPTY_PAGE, PAGE_SIZE

_SYNC: Final = apsw.SQLITE_FCNTL_SYNC
_SHARED: Final = apsw.SQLITE_LOCK_SHARED
_UNIX_EPOCH_MS: Final = 210_866_760_000_000
"""The epoch of Unix in milliseconds of SQLite's Julian day."""
_HEADS: Final = 1_024
"""Newest images of pages that the writer keeps, to tell what changes next; 8 MB."""


class VolumeFile:
    """What all files have in common: reads in parts of pages, and no locks against anybody."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self._read_ahead = ReadAhead()

    def page(self, page_id: PageId) -> bytes:
        """A page as this file has it."""
        raise NotImplementedError

    def pages(self) -> int:
        """The file's size."""
        raise NotImplementedError

    def ask(
        self,
        page_id: PageId,
        end: PageId,
        fetch: Callable[[Sequence[PageId]], Coroutine[Any, Any, list[bytes]]],
    ) -> dict[PageId, bytes]:
        """A page, and those after it that a scan will need, all below ``end``.

        That page alone where there is no answer for all of them: nobody may ever need the others,
        which other groups have. Raises as ``fetch``.
        """
        asked: Sequence[PageId] = self._read_ahead.window(page_id, end)
        try:
            images = wait(fetch(asked))
        except Unavailable:
            if len(asked) == 1:
                raise
            asked = [page_id]
            images = wait(fetch(asked))
        return dict(zip(asked, images, strict=True))

    # ---- called by SQLite ------------------------------------------------------------------------

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - apsw calls it
        page_id, start = divmod(offset, PAGE_SIZE)
        page = self.page(page_id + 1)
        return page if amount == PAGE_SIZE else page[start : start + amount]

    def xFileSize(self) -> int:  # noqa: N802
        return self.pages() * PAGE_SIZE

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        raise apsw.ReadOnlyError("a write to a file that is only read")

    def xTruncate(self, size: int) -> None:  # noqa: N802
        raise apsw.ReadOnlyError("a truncation of a file that is only read")

    def xSync(self, flags: int) -> None:  # noqa: N802
        """Never called: synchronous is OFF, and `xFileControl` has its part."""

    def xLock(self, level: int) -> None:  # noqa: N802
        """Nobody else locks this file."""

    def xUnlock(self, level: int) -> None:  # noqa: N802
        """As `xLock`."""

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, operation: int, pointer: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return PAGE_SIZE

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xClose(self) -> None:  # noqa: N802
        self.xUnlock(0)


class ReaderFile(VolumeFile):
    """The database as of the VDL, from `xLock` to `xUnlock`; its versions are held meanwhile.

    SQLite sees by the change counter in page 1 whether the pages that it has cached still hold.
    """

    def __init__(self, volume: Volume) -> None:
        super().__init__(volume)
        self.opened_at = volume.vdl
        """Before anything was read of it."""
        self._read_point: Lsn | None = None
        self._ahead: dict[PageId, bytes] = {}

    @property
    def read_point(self) -> Lsn | None:
        """What is held, if anything is being read."""
        return self._read_point

    def xLock(self, level: int) -> None:  # noqa: N802
        if self._read_point is None:
            self._read_point = self.volume.hold()

    def xUnlock(self, level: int) -> None:  # noqa: N802
        if level < _SHARED and self._read_point is not None:
            self.volume.release(self._read_point)
            self._read_point = None
            self._ahead.clear()

    def page(self, page_id: PageId) -> bytes:
        if self._read_point is None:  # SQLite looks at a new file before it locks it
            with self.volume.held() as vdl:
                return self._page_at(page_id, vdl)
        return self._page_at(page_id, self._read_point)

    def _page_at(self, page_id: PageId, read_point: Lsn) -> bytes:
        page = self.volume.cached(page_id, read_point)
        if page is None:
            page = self._ahead.pop(page_id, None)
        if page is None:
            end = 0 if page_id == HEADER_PAGE else self.pages() + 1
            self._ahead = self.ask(page_id, end, lambda asked: self.volume.fetch(asked, read_point))
            page = self._ahead.pop(page_id)
        return page

    def pages(self) -> int:
        return size_pages(self.page(HEADER_PAGE))


class FixedFile(VolumeFile):
    """The database as of one LSN, which whoever made this keeps held; SQLite never locks it.

    ``read_point`` None stands for a time before the first commit: there is nothing yet.
    """

    def __init__(self, volume: Volume, read_point: Lsn | None) -> None:
        super().__init__(volume)
        self._read_point = read_point
        self._pages: int | None = None if read_point is not None else 0
        self._ahead: dict[PageId, bytes] = {}

    def page(self, page_id: PageId) -> bytes:
        read_point = self._read_point
        if read_point is None:
            return EMPTY_PAGE
        page = self._ahead.pop(page_id, None) or self.volume.cached(page_id, read_point)
        if page is None:
            end = 0 if page_id == HEADER_PAGE else self.pages() + 1
            self._ahead = self.ask(page_id, end, lambda asked: self.volume.fetch(asked, read_point))
            page = self._ahead.pop(page_id)
        return page

    def pages(self) -> int:
        if self._pages is None:
            self._pages = size_pages(self.page(HEADER_PAGE))
        return self._pages

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return apsw.SQLITE_IOCAP_IMMUTABLE


class WriterFile(VolumeFile):
    """The database at its head: with all that is part of the log, durable or not.

    There is one at a time, and nobody else changes its pages. The buffer is SQLite's uncommitted
    pages; `xFileControl` makes them part of the log, and unlocking forgets them.
    """

    def __init__(self, volume: Volume) -> None:
        super().__init__(volume)
        self.last_commit: Commit | None = None
        """The newest commit, durable or not: the head."""
        self.locked = False
        """Whether SQLite takes the pages that it has cached for the newest ones."""
        self.encoded_at: Lsn = 0
        """The commit that has changed the encoding of texts; 0 if none has, here."""
        self._buffer = PageBuffer()
        self._heads: OrderedDict[PageId, bytes] = OrderedDict()
        self._size = 0
        self._pages = 0
        self._time_ns = 0
        self._is_new = True

    async def open(self) -> None:
        """Learn how far the database has come; all of it is durable at an opening."""
        pages = await self.volume.fetch_heads([COMMIT_PAGE, HEADER_PAGE])
        self._is_new = not is_commit_page(pages[0])
        self._time_ns = CommitStamp.decode(pages[0]).time_ns
        self._size = self._pages = size_pages(pages[1])

    def pages(self) -> int:
        return self._pages

    def page(self, page_id: PageId) -> bytes:
        image = self._buffer.get(page_id)
        return self.head(page_id) if image is None else image

    def head(self, page_id: PageId) -> bytes:
        """A page as of the newest commit."""
        heads = self._heads
        image = heads.get(page_id)
        if image is not None:
            heads.move_to_end(page_id)
            return image
        image = self.volume.cached_head(page_id)
        if image is None:
            # Pages beyond the end that were never written are asked about together, too.
            image = self.ask(page_id, 1 << 32, self.volume.fetch_heads)[page_id]
        self._keep(page_id, image)
        return image

    def _keep(self, page_id: PageId, image: bytes) -> None:
        self._heads[page_id] = image
        self._heads.move_to_end(page_id)
        if len(self._heads) > _HEADS:
            oldest, kept = self._heads.popitem(last=False)
            if oldest == HEADER_PAGE:  # stays: a rollback looks at it, and must not wait
                self._heads[oldest] = kept

    def drop_heads(self, page_ids: Iterable[PageId]) -> None:
        """Forget pages that somebody writes who has the turn, and goes past this file."""
        for page_id in page_ids:
            self._heads.pop(page_id, None)

    # ---- called by SQLite ------------------------------------------------------------------------

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        page_id, start = divmod(offset, PAGE_SIZE)
        if start or len(data) != PAGE_SIZE:
            raise SqlCorrupt(
                f"a write of {len(data)} bytes at {offset}: expected {PAGE_SIZE}, a whole page"
            )
        self.put(page_id + 1, bytes(data))

    def put(self, page_id: PageId, image: bytes) -> None:
        """Buffer a page. Never waits: SQLite also writes back pages when it rolls back."""
        if page_id in self._buffer:
            self._buffer.overwrite(page_id, image)
        else:
            self._buffer.put(page_id, image, self._heads.get(page_id))
        self._pages = max(self._pages, page_id)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._pages = size // PAGE_SIZE

    def xLock(self, level: int) -> None:  # noqa: N802
        self.locked = True

    def xUnlock(self, level: int) -> None:  # noqa: N802
        if level <= _SHARED:
            self.forget()
            self.locked = level == _SHARED

    def forget(self) -> None:
        """Give up what was not committed."""
        self._buffer.clear()
        self._pages = self._size

    def xFileControl(self, operation: int, pointer: int) -> bool:  # noqa: N802
        if operation == _SYNC:
            self.commit()
            return True
        return super().xFileControl(operation, pointer)

    def commit(self) -> None:
        """Make what is buffered part of the log, as one mini-transaction.

        Once it is, nothing here can fail: SQLite is about to drop its journal.
        """
        buffer = self._buffer
        header = buffer.get(HEADER_PAGE)
        if header is None or header == self.head(HEADER_PAGE):
            return  # SQLite has rolled back what it had spilled
        other_encoding = encoding(header) != encoding(self.head(HEADER_PAGE))
        check_header(header, self._pages)
        buffer.truncate(size_pages(header))  # spilled, and rolled back to a savepoint
        self._learn_bases()
        time_ns = max(self._time_ns, self.volume.clock())
        writes = buffer.writes(time_ns, first=self._is_new)
        if not writes:
            return
        self.last_commit = wait(self.volume.submit(writes))
        if other_encoding:
            self.encoded_at = self.last_commit.lsn
        self._time_ns = time_ns
        self._is_new = False
        self._size = size_pages(header)
        for page_id, image in buffer.images.items():
            self._keep(page_id, image)

    def _learn_bases(self) -> None:
        """Ask for what buffered pages were, of which that was not at hand as they were written."""
        absent = self._buffer.without_base()
        for start in range(0, len(absent), MOST):
            asked = absent[start : start + MOST]
            images = wait(self.volume.fetch_heads(asked))
            for page_id, image in zip(asked, images, strict=True):
                self._buffer.know_base(page_id, image)


class AuroraVfs(apsw.VFS):
    """The file system of one database: it has the one file that is opened next, and no other."""

    def __init__(self, name: str, clock: Callable[[], int]) -> None:
        super().__init__(name, base="")
        self.name = name
        self._clock = clock
        self._next: VolumeFile | None = None

    def offer(self, file: VolumeFile) -> None:
        """Have the next opening get this file."""
        self._next = file

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802
        file, self._next = self._next, None
        if file is None:
            text = name.filename() if isinstance(name, apsw.URIFilename) else name
            raise SqlRefused(
                f"a file {text!r}, as ATTACH or VACUUM INTO name it: expected none; "
                "ATTACH takes ':memory:'; `.export FILE` of the shell, and `Database.export`, "
                "write a copy"
            )
        flags[1] = flags[0]  # else SQLite takes a file that is only read for one to be written
        return file

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name

    def xAccess(self, name: str, flags: int) -> bool:  # noqa: N802
        return False

    def xDelete(self, name: str, sync_directory: bool) -> None:  # noqa: N802
        """No file but the database is ever there."""

    def xCurrentTimeInt64(self) -> int:  # noqa: N802
        return _UNIX_EPOCH_MS + self._clock() // 1_000_000

    def xCurrentTime(self) -> float:  # noqa: N802
        return self.xCurrentTimeInt64() / 86_400_000
