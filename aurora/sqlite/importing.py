"""A plain SQLite file becomes the database of a volume.

Its pages are written in many mini-transactions that no reader sees, since each reads no further
than the size in page 1 says, which is that of an empty database until the last of them: that has
page 1, and the commit. So memory is bounded, whatever the size; and a crash in between leaves an
empty database, and pages beyond its end that the next import overwrites.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from os import PathLike
from typing import Final

from aurora.arguments import path_of
from aurora.commit_queue import Commit
from aurora.mtr import PageWrite
from aurora.sqlite.bridge import run
from aurora.sqlite.header import HEADER_PAGE, restored
from aurora.sqlite.history import CommitInfo, commit_at
from aurora.sqlite.page_diff import changed_ranges
from aurora.sqlite.source_file import (
    CHANGE_COUNTER,
    SCHEMA_COOKIE,
    Progress,
    SourceFile,
    new_database,
)
from aurora.sqlite.volume import Volume
from aurora.sqlite.writer import Writer
from segments.protocol.errors import DatabaseNotEmpty
from segments.protocol.ids import PageId
from segments.protocol.record import EMPTY_PAGE, PAGE_SIZE

_PART: Final = 64
"""Pages in a mini-transaction."""
_UNDER_WAY: Final = 4
"""Mini-transactions that are not durable yet."""


async def import_file(
    volume: Volume, writer: Writer, path: str | PathLike[str], progress: Progress | None
) -> CommitInfo:
    """As `Database.import_file`."""
    file = path_of("path", path)
    tell = progress or _silent
    volume.check_writable()
    await writer.turns.take(short=False)
    commit: Commit | None = None
    failure: DatabaseNotEmpty | None = None
    try:
        await writer.connection.run(_check_empty, writer)
        with SourceFile(file) as source:
            tell("checking", 0, 0)
            await run(source.check)
            tell("converting", 0, 0)
            await run(source.convert)
            commit = await _write(volume, writer, source, tell)
    except DatabaseNotEmpty as error:
        failure = error
    finally:
        writer.turns.give()
    with volume.held():  # so that nothing above it falls below the floor meanwhile
        await writer.settle(commit)  # of what is there, too, before it is told
        if failure is not None:
            raise failure
        assert commit is not None
        found = await commit_at(volume, commit.lsn)
    assert found is not None
    return found


def _silent(_: str, __: int, ___: int) -> None:
    """Nobody wants to know."""


def _check_empty(writer: Writer) -> None:
    """Raise `DatabaseNotEmpty` if there is anything; in a greenlet."""
    rows = writer.connection.fetch_all("SELECT count(*), min(tbl_name) FROM sqlite_schema", None)
    ((count, name),) = rows
    if count:
        raise DatabaseNotEmpty(
            f"a database that has tables already, {name!r} among them: expected an empty one, to "
            "import into"
        )


async def _write(volume: Volume, writer: Writer, source: SourceFile, tell: Progress) -> Commit:
    """Write all pages, the first one last; with the turn."""
    await writer.connection.run(_shrink, writer)
    pages = source.pages()
    unwritten = await _is_unwritten(volume)
    limits = volume.config
    most = min(_PART, limits.part_bytes // PAGE_SIZE, limits.part_writes)
    commits: deque[Commit] = deque()
    for first in range(HEADER_PAGE + 1, pages + 1, most):
        tell("writing", first - 1, pages)
        count = min(most, pages + 1 - first)
        images = source.read(first, count)
        writes = _writes(first, images, unwritten=unwritten, most=limits.part_writes)
        if writes:
            commits.append(await writer.connection.run(writer.write_beyond, writes))
        if len(commits) > _UNDER_WAY:
            await commits.popleft().durable()
    (header,) = source.read(HEADER_PAGE, 1)
    (newest,) = await volume.fetch_heads([HEADER_PAGE])
    header = _carried_on(header, newest)
    await writer.connection.run(writer.replace, [(HEADER_PAGE, header)], pages)
    tell("writing", pages, pages)
    commit = writer.file.last_commit
    assert commit is not None
    return commit


def _shrink(writer: Writer) -> None:
    """Make the empty database one page; in a greenlet. What is beyond may then be overwritten."""
    if not writer.file.pages():
        writer.replace([(HEADER_PAGE, new_database())], 1)
    elif writer.file.pages() > 1:
        writer.connection.fetch_all("VACUUM", None)
    assert writer.file.pages() == 1, writer.file.pages()


async def _is_unwritten(volume: Volume) -> bool:
    """Whether no page beyond the first one has ever been written."""
    await volume.settle()  # what an import has left behind may not be durable yet
    async for _ in volume.engine.pages(HEADER_PAGE + 1):
        return False
    return True


def _writes(
    first: PageId, images: Sequence[bytes], *, unwritten: bool, most: int
) -> list[PageWrite]:
    """What makes pages these images: all of each, or, if they are zeros, what is not."""
    writes: list[PageWrite] = []
    if unwritten:
        for page_id, image in enumerate(images, first):
            for start, end in changed_ranges(EMPTY_PAGE, image):
                writes.append(PageWrite(page_id, start, image[start:end]))
        if len(writes) <= most:
            return writes
    return [PageWrite(page_id, 0, image) for page_id, image in enumerate(images, first)]


def _carried_on(header: bytes, newest: bytes) -> bytes:
    """The file's page 1 as it is, if that can follow the newest one; else with its counters raised.

    Connections know by the change counter that their cached pages are old, and by the schema cookie
    that their statements are: neither may have been there before (`header.restored`).
    """
    follows = all(header[each] > newest[each] for each in (CHANGE_COUNTER, SCHEMA_COOKIE))
    return header if follows else restored(header, newest)
