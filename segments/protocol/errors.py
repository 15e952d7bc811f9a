"""Every error this project raises, under one root, in few kinds named by what the caller can do.

=================  ==========================================================
`Invalid`          the call is wrong: correct it; nothing has changed
`NotFound`         there is no such thing at that point
`Unavailable`      not now: wait, or try again
`Fenced`           this writer has been deposed: open the volume again
`Corrupt`          bytes are not what was written: restore or repair
=================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Mapping


class AuroraError(Exception):
    """Root of all errors raised on purpose."""


class Invalid(AuroraError):
    """The call or its arguments are wrong; nothing has changed."""


class NotFound(AuroraError):
    """What was asked for does not exist at that point."""


class Unavailable(AuroraError):
    """The answer cannot be had at the moment. A commit that ends so may be durable, or not."""


class Fenced(AuroraError):
    """A higher volume epoch has been sealed: this writer never commits again (2017 §4.3)."""


class Corrupt(AuroraError):
    """Bytes that are not what was once written."""


class InvalidWrite(Invalid):
    """A write that does not fit its page, or an MTR that cannot be allocated."""


class InvalidConfig(Invalid):
    """A limit or a setting out of its range, or at odds with another."""


class LsnsExhausted(Invalid):
    """The volume has no LSNs left to write with; it can be read, and copied into a new one."""


class OtherFormat(Invalid):
    """A volume of a format that this version neither reads nor changes."""


class InvalidPage(Invalid):
    """A page id that no page can have."""


class InvalidLsn(Invalid):
    """A read point that is no LSN at all."""


class NotShareable(Invalid):
    """A place that cannot have the files of a volume under a second name, as a clone needs them."""


class OutsideTrio(Invalid):
    """A call from outside of trio, or from another run or thread than the volume was opened in."""


class InvalidTarget(Invalid):
    """A target that names no segment, zone or writer that there can be."""


class ReadOnly(Invalid):
    """A call that would write, or vouch for what others write, where a volume is only read."""


class ReadPointAboveVdl(Invalid):
    """A read point that is not durable yet."""


class ReadPointBelowFloor(Invalid):
    """A read point below the floor: its page versions are no longer kept."""


class PageNotFound(NotFound):
    """The page had not been written at the read point."""


class VolumeFull(Unavailable):
    """Too few segments have room: nothing was written, and nothing is until space is freed.

    It frees itself once old versions need not be kept any more; `disk_bytes` is the limit.
    """

    def __init__(self, text: str, segments: Mapping[str, tuple[int, int]], kept_for: str) -> None:
        super().__init__(text, segments, kept_for)
        self.segments = segments
        """Of each that is short: the bytes it needs, room for its own work included, and may."""
        self.kept_for = kept_for
        """What keeps old versions, which would free space."""

    def __str__(self) -> str:
        return str(self.args[0])


class VolumeLocked(Unavailable):
    """Another process, or another cluster of this one, has the directory open."""


class NotOpened(Unavailable):
    """No write quorum of segments took part in time for the volume to be opened."""


class Closed(Unavailable):
    """The engine, the cluster or the storage has been closed."""


class VolumeRolledBack(Corrupt):
    """The segments that can be heard have less than the volume once had: older copies of disks."""


class SegmentLost(Corrupt):
    """A directory without its segment's identity: the promises made there are gone."""


class SegmentRolledBack(SegmentLost):
    """A disk that is known to be an older copy of itself: promises made since then are gone."""


class MalformedMessage(Corrupt):
    """Bytes that do not decode to a message or a record."""


class SpoiltRun(MalformedMessage):
    """A run of a log with rows that no writer makes; what it stood for can be had from peers."""

    def __init__(self, prev_lsn: int, last_lsn: int, what: str) -> None:
        super().__init__(f"the run of ({prev_lsn}, {last_lsn}]: {what}")
        self.prev_lsn = prev_lsn
        """The record before its first one."""
        self.last_lsn = last_lsn
        """Its last record."""


class MalformedFrame(Corrupt):
    """Bytes that are not a frame of the write-ahead log."""


class DamagedLayer(Corrupt):
    """A layer with bytes that are not what was written; what they say can be had from peers."""

    def __init__(self, layer: int, what: str) -> None:
        super().__init__(f"layer-{layer}: {what}")
        self.layer = layer
        """Its number."""


class ReadUnfinished(Unavailable):
    """A read whose layers were replaced so often that it came to no end; the next one may."""


class StorageFailed(Unavailable):
    """A write or sync that the disk refused; what it carried counts as never written."""


class StorageFull(StorageFailed):
    """No space, or no quota, is left on the disk; a write that finds some again succeeds."""


class StorageForbidden(StorageFailed):
    """The disk may not be written or read: permissions, or a read-only file system."""


class StorageBroken(StorageFailed):
    """A storage that refuses everything until it is closed and opened anew."""


class SqlError(AuroraError):
    """What SQLite itself said of a statement; raised as one of the kinds below.

    Its text is SQLite's message, as SQLite wrote it.
    """

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text, code)
        self.code = code
        """SQLite's extended result code, as https://sqlite.org/rescode.html lists them."""

    def __str__(self) -> str:
        return str(self.args[0])


class SqlInvalid(SqlError, Invalid):
    """A statement that SQLite does not understand, or values that it cannot take."""


class SqlConstraint(SqlInvalid):
    """A change that a constraint of the schema forbids."""


class SqlReadOnly(SqlError, ReadOnly):
    """A statement that writes, where the database is only read."""


class SqlBusy(SqlError, Unavailable):
    """A table that the same transaction still reads: end that query first."""


class SqlInterrupted(SqlError, Unavailable):
    """A statement that was stopped before its end; its transaction may have been rolled back."""


class SqlFailed(SqlError, Unavailable):
    """A statement for which SQLite had no memory, or no room within its own limits."""


class SqlCorrupt(SqlError, Corrupt):
    """Pages that are no database, or a damaged one."""

    def __init__(self, text: str, code: int = 11) -> None:
        super().__init__(text, code)


class SqlRefused(Invalid):
    """A statement that SQLite would run, and a database on a volume cannot let it."""


class TransactionEnded(Invalid):
    """A transaction that has been rolled back already, or whose block has ended."""


class NotADatabase(Invalid):
    """A volume whose pages are something else than a database of `open_database`."""


class NotSqlite(Invalid):
    """A file that is no SQLite database."""


class UnmergedJournal(Invalid):
    """A log or a journal beside a SQLite file, with changes that the file does not have."""


class DatabaseNotEmpty(Invalid):
    """A database that has something in it, where an import needs an empty one."""


class FileInTheWay(Invalid):
    """A file that is there already, and would be replaced."""


class NoSuchCommit(NotFound):
    """A time, or an LSN, at which there was no database yet."""


class DatabaseEnded(Unavailable):
    """The database's writer has ended: open the database anew, on the writer that follows."""


class ExtraMissing(Invalid):
    """A part of the project whose own dependencies are not installed."""
