"""The one place where the SQLite layer touches the engine: pages in, mini-transactions out.

Everything asynchronous here is awaited through `aurora.sqlite.bridge`; what can be had at once, out
of the writer's buffer pool, is had without waiting.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Final

import trio

from aurora import events
from aurora.cluster import Cluster
from aurora.commit_queue import Commit
from aurora.core import WriterCore
from aurora.mtr import PageWrite
from segments.protocol.errors import AuroraError, DatabaseEnded, InvalidWrite, ReadOnly
from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import PageImage
from segments.protocol.record import EMPTY_PAGE

_OLD_PAGES: Final = 2_048
"""Pages of older versions that are kept, 16 MB: the pool has room for the newest alone."""


class Volume:
    """A cluster's writer of one moment, as SQLite's files see it."""

    def __init__(self, cluster: Cluster) -> None:
        """Serves the latest writer, while that runs; raises `Unavailable` before it is open."""
        self.engine = cluster.engine
        self.read_only = cluster.read_only
        self.clock: Callable[[], int] = cluster.clock
        self._cluster = cluster
        self._config = cluster.config.engine
        self._old: OrderedDict[tuple[PageId, Lsn], bytes] = OrderedDict()
        _ = self.engine.vdl  # raises as long as there is none
        core = self.engine.core
        assert core is not None
        self._core: WriterCore = core

    def new_random(self) -> Random:
        """A stream of numbers of its own, drawn from the volume's."""
        return self._cluster.new_random()

    # ---- state -----------------------------------------------------------------------------------

    @property
    def vdl(self) -> Lsn:
        """The newest read point; raises `DatabaseEnded`."""
        self.check()
        return self._core.vdl

    @property
    def floor(self) -> Lsn:
        """The oldest read point."""
        return self._core.reading.floor

    def check(self) -> None:
        """Raise `DatabaseEnded` if the writer has ended."""
        error = self.engine.error
        if error is not None:
            raise DatabaseEnded(
                f"{self.engine.name}, the writer of this database, has ended ({error}): expected "
                "one that runs; open the database anew, on the writer that follows"
            )

    def check_writable(self) -> None:
        """Raise `ReadOnly`, or `DatabaseEnded`."""
        self.check()
        if self.read_only:
            raise ReadOnly(
                "a statement that writes, on a volume opened for reading alone: expected one "
                "opened to be written"
            )

    def hold(self, lsn: Lsn | None = None) -> Lsn:
        """Keep the versions at a read point, by default the VDL, until `release`; returns it.

        Raises `ReadPointAboveVdl` and `ReadPointBelowFloor`.
        """
        self.check()
        reading = self._core.reading
        read_point = self._core.vdl if lsn is None else reading.checked_read_point(lsn)
        reading.hold(read_point)
        return read_point

    def release(self, lsn: Lsn) -> None:
        """Undo one `hold`."""
        self._core.reading.release(lsn)

    @contextmanager
    def held(self, lsn: Lsn | None = None) -> Iterator[Lsn]:
        """`hold` while the block runs."""
        read_point = self.hold(lsn)
        try:
            yield read_point
        finally:
            self.release(read_point)

    # ---- reading ---------------------------------------------------------------------------------

    def cached(self, page_id: PageId, read_point: Lsn) -> bytes | None:
        """A page at a read point, if it can be had without asking; zeros if it was not written."""
        self.check()
        core = self._core
        page = core.pool.read(page_id, read_point, core.vdl)
        trace = self.engine.trace
        if trace is not None:
            page_lsn = None if page is None else page.page_lsn
            trace(self.engine.name, events.PoolLookedUp(page_id, read_point, page_lsn))
        if page is not None:
            return page.image or EMPTY_PAGE
        old = self._old.get((page_id, read_point))
        if old is not None:
            self._old.move_to_end((page_id, read_point))
        return old

    async def fetch(self, page_ids: Sequence[PageId], read_point: Lsn) -> list[bytes]:
        """Pages at a read point that is held, each in full; zeros for those not written."""
        pages = await self.get_many(page_ids, read_point)
        return [self._kept(page, read_point) for page in pages]

    def _kept(self, page: PageImage, read_point: Lsn) -> bytes:
        """The page in full; kept if the pool cannot serve it from now on, being a later one's."""
        image = page.image or EMPTY_PAGE
        core = self._core
        head = core.pool.head(page.page_id)
        if head is not None and head != page.page_lsn:
            self._old[page.page_id, read_point] = image
            if len(self._old) > _OLD_PAGES:
                self._old.popitem(last=False)
        return image

    async def get_many(self, page_ids: Sequence[PageId], read_point: Lsn) -> list[PageImage]:
        """Pages at a read point, asked for together; LSN 0 and no bytes for those not written."""
        core, engine = self._core, self.engine
        if len(page_ids) == 1:
            return [await engine._version(core, page_ids[0], read_point)]
        found: dict[PageId, PageImage] = {}
        errors: list[AuroraError] = []

        async def get(page_id: PageId) -> None:
            try:
                found[page_id] = await engine._version(core, page_id, read_point)
            except AuroraError as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for page_id in page_ids:
                nursery.start_soon(get, page_id)
        if errors:
            raise errors[0]
        return [found[page_id] for page_id in page_ids]

    async def page(self, page_id: PageId, read_point: Lsn) -> PageImage:
        """A page at a read point, with the LSN of its newest change there."""
        return await self.engine._version(self._core, page_id, read_point)

    async def first_page(self) -> PageId | None:
        """The lowest page that exists at the VDL; None on an empty volume."""
        async for page_id in self.engine.pages():
            return page_id
        return None

    # ---- the head: with redo that is not durable yet ---------------------------------------------

    def cached_head(self, page_id: PageId) -> bytes | None:
        """The newest version of a page, durable or not, if it can be had without asking."""
        self.check()
        core = self._core
        entry = core.pool._entries.get(page_id)
        if entry is None:
            if core.bring_in_absent([page_id]):
                return None
            return EMPTY_PAGE
        if not entry.pending:
            return bytes(entry.image) or EMPTY_PAGE
        image = bytearray(entry.image or EMPTY_PAGE)
        for record in entry.pending:
            image[record.offset : record.offset + len(record.payload)] = record.payload
        return bytes(image)

    async def fetch_heads(self, page_ids: Sequence[PageId]) -> list[bytes]:
        """The newest versions of pages, for whoever alone may change them.

        A page that is not in the pool has no change above the VDL: none leaves it before that.
        """
        heads = {page_id: self.cached_head(page_id) for page_id in page_ids}
        absent = [page_id for page_id, image in heads.items() if image is None]
        if absent:
            for page in await self.get_many(absent, self._core.vdl):
                heads[page.page_id] = page.image
        return [heads[page_id] or EMPTY_PAGE for page_id in page_ids]

    async def settle(self) -> None:
        """Wait until all that is part of the log is durable."""
        commit = self.engine._shell.commits.newest
        if commit is not None:
            await commit.durable()

    # ---- writing ---------------------------------------------------------------------------------

    async def submit(self, writes: Sequence[PageWrite]) -> Commit:
        """One mini-transaction, part of the log when this returns; does not wait if it need not.

        If it raises or is cancelled, nothing was written.
        """
        most = self._config.max_mtr_writes
        if len(writes) > most:
            raise InvalidWrite(
                f"a transaction with {len(writes)} changes: expected at most {most}, max_mtr_writes"
            )
        return await self.engine._shell.commit(writes)

    async def changed_pages(
        self, end: PageId, after_lsn: Lsn, lsn: Lsn, part: int = 64
    ) -> list[PageId]:
        """The pages in ``[1, end)`` with a change in ``(after_lsn, lsn]``, ascending."""
        changed: list[PageId] = []
        for start in range(1, end, part):
            pages = await self.get_many(range(start, min(end, start + part)), lsn)
            changed.extend(page.page_id for page in pages if page.page_lsn > after_lsn)
        return changed
