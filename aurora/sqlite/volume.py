"""The one place where the SQLite layer touches the engine: pages in, mini-transactions out.

Everything asynchronous here is awaited through `aurora.sqlite.bridge`; what can be had at once, out
of the writer's buffer pool, is had without waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random

import trio

from aurora.cluster import Cluster
from aurora.commit_queue import Commit
from aurora.config import EngineConfig
from aurora.core import WriterCore
from aurora.mtr import PageWrite
from aurora.trio_run import check_run
from segments.protocol.errors import AuroraError, DatabaseEnded, ReadOnly
from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import PageImage
from segments.protocol.record import EMPTY_PAGE


class Volume:
    """A cluster's writer of one moment, as SQLite's files see it."""

    def __init__(self, cluster: Cluster) -> None:
        """Serves the latest writer, while that runs; raises `Unavailable` before it is open."""
        self.engine = cluster.engine
        self.read_only = cluster.read_only
        self.config: EngineConfig = cluster.config.engine
        self.clock: Callable[[], int] = cluster.clock
        self._cluster = cluster
        _ = self.engine.vdl  # raises as long as there is none
        self._run = trio.lowlevel.current_trio_token()
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

    def check_caller(self) -> None:
        """Raise `OutsideTrio` for a call from elsewhere than where the volume was opened."""
        check_run(self._run)

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
        page = core.cached.look_up(page_id, read_point, core.vdl)
        return None if page is None else page.image or EMPTY_PAGE

    async def fetch(self, page_ids: Sequence[PageId], read_point: Lsn) -> list[bytes]:
        """Pages at a read point that is held, each in full; zeros for those not written."""
        pages = await self.engine.get_many(page_ids, read_point)
        return [page.image or EMPTY_PAGE for page in pages]

    async def page(self, page_id: PageId, read_point: Lsn) -> PageImage:
        """A page at a read point, with the LSN of its newest change there."""
        (page,) = await self.engine.get_many([page_id], read_point)
        return page

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
        page = core.pool.read_head(page_id)
        if page is None and page_id not in core.pool and not core.bring_in_absent([page_id]):
            return EMPTY_PAGE  # of a volume that is new, or of a page that nobody has written
        return None if page is None else page.image or EMPTY_PAGE

    async def fetch_heads(self, page_ids: Sequence[PageId]) -> list[bytes]:
        """The newest versions of pages, for whoever alone may change them.

        Those that are in the pool are taken from there; the rest comes from segments at the VDL,
        side by side, and one that has left the pool above the VDL once that has passed it.
        """
        heads = {page_id: self.cached_head(page_id) for page_id in page_ids}
        absent = [page_id for page_id, image in heads.items() if image is None]
        errors: list[AuroraError] = []

        async def fetch(page_id: PageId) -> None:
            try:
                page = await self.engine.read_head(page_id)
            except AuroraError as error:
                errors.append(error)
            else:
                heads[page_id] = page.image or EMPTY_PAGE

        if absent:
            async with trio.open_nursery() as nursery:
                for page_id in absent:
                    nursery.start_soon(fetch, page_id)
        if errors:
            raise errors[0]
        return [heads[page_id] or EMPTY_PAGE for page_id in page_ids]

    async def settle(self) -> None:
        """Wait until all that is part of the log is durable."""
        commit = self.engine._shell.commits.newest
        if commit is not None:
            await commit.durable()

    # ---- writing ---------------------------------------------------------------------------------

    async def submit(self, writes: Sequence[PageWrite]) -> Commit:
        """One mini-transaction, part of the log when this returns; does not wait if it need not.

        If it raises or is cancelled, nothing was written. Raises `InvalidWrite` for one that is
        larger than the engine's limits, and `VolumeFull`.
        """
        return await self.engine.submit_inline(writes)

    async def changed_pages(self, end: PageId, after_lsn: Lsn, lsn: Lsn) -> list[PageId]:
        """The pages in ``[1, end)`` with a change in ``(after_lsn, lsn]``, ascending."""
        changed = self.engine.changed_pages(after_lsn, lsn)
        return [page_id async for page_id in changed if 1 <= page_id < end]
