"""SQLite's own files, whole, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from aurora.terminal import language
from aurora.terminal.sql.progress import shown_progress
from aurora.terminal.sql.shell import Shell
from aurora.terminal.sql.words import Words, file_of
from aurora.terminal.text import show_size

if TYPE_CHECKING:
    from aurora.sqlite.moments import Moment

FORCE: Final = "--force"


def check_source(path: Path) -> None:
    """Raise what an import of a file would, before there is a volume to import it into."""
    try:
        from aurora.sqlite.bridge import run
        from aurora.sqlite.source_file import SourceFile
    except ModuleNotFoundError:
        return  # opening a database says so

    async def check() -> None:
        with SourceFile(path) as source:
            await run(source.check)

    trio.run(check)


async def export(shell: Shell, words: Words) -> None:
    """Write the database, as of the moment that is read, to a file."""
    force = FORCE in words
    words = [word for word in words if word != FORCE]
    language.at_least(words, 1, "FILE")
    language.at_most(words, 1)
    when = None if shell.snapshot is None else shell.snapshot.lsn
    await export_to(shell, file_of(words[0]), when, replace=force)


async def export_to(shell: Shell, path: Path, when: Moment | None, *, replace: bool) -> None:
    """Write the database as of a moment to a file, and say so."""
    db = await shell.open()
    with shown_progress(shell.aside.console) as tell:
        commit = await db.export(path, at=when, replace=replace, progress=tell)
    size = (await trio.Path(path).stat()).st_size
    lsn = 0 if commit is None else commit.lsn
    shell.tell(f"{path}: {show_size(size)}, as of LSN {lsn}", file=str(path), bytes=size, lsn=lsn)


async def import_from(shell: Shell, path: Path) -> None:
    """Make a SQLite file the database, and say so."""
    db = await shell.open()
    # Its pages are parts that become durable before it: what waits then is not the import.
    committed = False

    with shown_progress(shell.aside.console) as show:

        def tell(what: str, done: int, total: int) -> None:
            nonlocal committed
            committed = done == total > 0
            show(what, done, total)

        try:
            commit = await db.import_file(path, progress=tell)
        except trio.Cancelled:
            if not committed:
                shell.left = "nothing is imported, the database is as it was"
            raise
    pages = await db.query("PRAGMA page_count").value()
    size = show_size(pages * 8_192)
    shell.tell(f"{path}: {size}, at LSN {commit.lsn}", file=str(path), pages=pages, lsn=commit.lsn)
