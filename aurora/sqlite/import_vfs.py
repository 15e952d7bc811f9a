"""The files of an import, as SQLite sees them: the source, and a copy without a name.

The system frees what has no name as soon as nobody has it open, however a process ends.
"""

from __future__ import annotations

from itertools import count
from typing import Final

import apsw

_NAMELESS: Final = (
    apsw.SQLITE_OPEN_READWRITE
    | apsw.SQLITE_OPEN_CREATE
    | apsw.SQLITE_OPEN_EXCLUSIVE
    | apsw.SQLITE_OPEN_DELETEONCLOSE
    | apsw.SQLITE_OPEN_TEMP_DB
)
_VERSIONS_AT: Final = slice(18, 20)
ROLLBACK_JOURNAL: Final = b"\1\1"
"""The versions in the header of a file that is not in WAL mode."""
_numbers = count(1)


class ImportVfs(apsw.VFS):
    """Opens what is there for reading, and all else without a name."""

    def __init__(self) -> None:
        self.name = f"aurora-import-{next(_numbers)}"
        self.copy: NamelessFile | None = None
        """The database that was made last."""
        super().__init__(self.name, "")

    def xOpen(  # noqa: N802 - apsw calls it
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        wanted, flags[1] = flags[0], flags[0]
        is_database = wanted & apsw.SQLITE_OPEN_MAIN_DB
        if wanted & apsw.SQLITE_OPEN_READONLY:
            return (_Source if is_database else apsw.VFSFile)("", name, flags)
        if not is_database:
            return apsw.VFSFile("", None, [_NAMELESS, 0])
        self.copy = NamelessFile()
        return self.copy

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        """No log is looked for: an empty one may lie beside the source."""
        return not pathname.endswith("-wal") and super().xAccess(pathname, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        """What has no name is gone already."""


class _Source(apsw.VFSFile):
    """A file that is read as if it were not in WAL mode, which it need not be without a log.

    In WAL mode SQLite would make files beside it, and never change the size of its pages.
    """

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        data = super().xRead(amount, offset)
        if offset:
            return data
        return data[: _VERSIONS_AT.start] + ROLLBACK_JOURNAL + data[_VERSIONS_AT.stop :]


class NamelessFile(apsw.VFSFile):
    """A database that is there until `end`, also when SQLite has closed it."""

    def __init__(self) -> None:
        super().__init__("", None, [_NAMELESS, 0])

    def xClose(self) -> None:  # noqa: N802
        """It is still to be read."""

    def end(self) -> None:
        """Free it."""
        super().xClose()
