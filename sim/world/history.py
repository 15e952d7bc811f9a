"""What clients called and what they were told, with the times of both."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import attrs

from segments.protocol.errors import AuroraError
from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import PageImage
from sim.plan.schedule import READS, SQL, Operation
from sim.world.sql_history import SqlPart


class Outcome(Enum):
    """How a call ended, as its caller sees it."""

    OK = "ok"
    NOT_FOUND = "not found"
    """A read of a page that was not written at its read point."""
    REFUSED = "refused"
    """It certainly had no effect."""
    TOO_OLD = "too old"
    """A read of a version that has been collected."""
    UNKNOWN = "unknown"
    """A write whose writer ended first, or that its caller cancelled: it may survive, whole."""
    GAVE_UP = "given up"
    """A read that its caller cancelled."""
    INVALID = "invalid"
    """It was wrong, and its caller was told so."""
    PENDING = "pending"


@attrs.define(eq=False)
class Call:
    """One operation of one client."""

    number: int
    """Index of its operation in the schedule."""
    operation: Operation
    invoked_ns: int
    writer: str
    """The writer it was made through."""
    returned_ns: int | None = None
    outcome: Outcome = Outcome.PENDING
    lsn: Lsn = 0
    """Commit LSN of a write; read point of a read."""
    page: bytes | None = None
    """What a read of a page returned."""
    reads: Sequence[tuple[PageId, bytes | None]] = ()
    """What a view, or a mini-transaction before its own writes, has read so far."""
    own: bytes | None = None
    """The first page of a mini-transaction as it read it after its own writes."""
    held: Lsn = 0
    """The read point that it keeps at the moment: of a view, a mini-transaction, a strict read."""
    snapshot: Lsn = 0
    """The read point of a mini-transaction's reads."""
    submitted: bool = False
    """Of a write by ``submit``: whether that has returned, and only durability is awaited."""
    cancelled: bool = False
    """Whether its caller gave up."""
    raised: type[AuroraError] | None = None
    """The type of the error that it ended with."""
    head: PageImage | None = None
    """What a read of a page's newest version returned."""
    after: Lsn = 0
    """Of a list of changed pages: after which LSN."""
    listed: Sequence[PageId] = ()
    """What a list of pages returned."""
    from_segment: bool = False
    """Whether a read was put to a segment, and not answered from the buffer pool."""
    error: str = ""
    writes: Sequence[tuple[PageId, int, bytes]] = ()
    """What a write writes, in order: page, offset and bytes."""
    in_parts: bool = False
    """Whether these are too much for one step of the writer."""
    lsns: Sequence[Lsn] = ()
    """Of a write that has become part of the log: the LSN of each record."""
    mtrs: int = 0
    """Mini-transactions that it has made."""
    sql: SqlPart = attrs.field(factory=SqlPart)
    """Of a call in SQL: what it has said and heard."""

    @property
    def is_sql(self) -> bool:
        """Whether it is a call on the volume as a database."""
        return self.operation.kind == SQL

    @property
    def may_write(self) -> bool:
        """Whether it may become part of the log, by itself or by SQL."""
        return self.operation.may_write

    @property
    def writes_pages(self) -> bool:
        """Whether it is there to write; a wrong call is not, whatever it asks for."""
        return self.operation.kind == "put"

    @property
    def read_point(self) -> Lsn:
        """As of which LSN it has read pages."""
        return self.snapshot if self.writes_pages else self.lsn

    @property
    def lists(self) -> bool:
        """Whether it asks which pages exist."""
        return self.operation.kind in ("list", "scan", "changes")

    @property
    def reads_pages(self) -> bool:
        """Whether it is there to read pages."""
        return self.operation.kind in READS and not self.lists

    @property
    def logged(self) -> Sequence[tuple[PageId, int, bytes]]:
        """What it writes, in the order of the log.

        What comes in parts has the writes of a page together, where the last of them was.
        """
        if not self.in_parts:
            return self.writes
        pages = [page_id for page_id, _, _ in self.writes]
        last = {page_id: at for at, page_id in enumerate(pages)}
        order = sorted(range(len(pages)), key=lambda at: (last[pages[at]], at))
        return [self.writes[at] for at in order]

    def answers(self) -> Sequence[tuple[PageId, bytes | None]]:
        """The pages that it has read, each with its contents, None for "not written"."""
        if self.operation.kind in ("put", "view", "many"):
            return self.reads
        if self.operation.kind == "head":
            return ()  # it has no read point
        if not self.reads_pages or self.outcome not in (Outcome.OK, Outcome.NOT_FOUND):
            return ()
        return ((self.operation.pages[0], self.page),)
