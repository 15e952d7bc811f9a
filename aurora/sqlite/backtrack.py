"""A database made what it was: the pages that have changed since, written once more.

It is a commit like any other, so nothing is lost by it, and whoever reads sees it like any other.
"""

from __future__ import annotations

from typing import Final

from aurora.sqlite.header import HEADER_PAGE, restored, size_pages
from aurora.sqlite.history import CommitInfo, commit_of
from aurora.sqlite.volume import Volume
from aurora.sqlite.writer import Writer
from segments.protocol.ids import PageId

_PART: Final = 64
"""Pages asked for together."""


async def restore(volume: Volume, writer: Writer, when: object) -> CommitInfo:
    """Commit the database as of a moment; returns the commit that it was taken from.

    With the writer's connection: nobody else commits meanwhile. Pages beyond the old end are left:
    they are not part of the database any more.
    """
    await writer.settle()
    await volume.settle()  # what an import has left behind is no commit, and to be overwritten
    target = await commit_of(volume, when)
    with volume.held(target.lsn), volume.held() as vdl:
        (old_header,) = await volume.fetch([HEADER_PAGE], target.lsn)
        (new_header,) = await volume.fetch([HEADER_PAGE], vdl)
        end = size_pages(old_header) + 1
        changed = await volume.changed_pages(end, target.lsn, vdl)
        pages: list[tuple[PageId, bytes]] = [(HEADER_PAGE, restored(old_header, new_header))]
        others = [page_id for page_id in changed if page_id != HEADER_PAGE]
        for start in range(0, len(others), _PART):
            part = others[start : start + _PART]
            pages.extend(zip(part, await volume.fetch(part, target.lsn), strict=True))
        if changed:
            await writer.connection.run(writer.replace, pages, end - 1)
    return target
