"""What a call in SQL has said to its database, and heard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import attrs

from segments.protocol.errors import AuroraError
from segments.protocol.ids import Lsn

SqlRow: TypeAlias = tuple[Any, ...]


@attrs.define(eq=False)
class Statement:
    """One statement, and what came of it as far as its caller knows."""

    text: str
    bindings: tuple[Any, ...] = ()
    sets: Sequence[tuple[Any, ...]] | None = None
    """Of one that is run several times: the values of each."""
    rows: Sequence[SqlRow] | None = None
    """What it returned; None if it did not return."""
    changes: int | None = None
    """Rows that it changed, if that was told."""
    error: type[AuroraError] | None = None
    """SQLite's error, if it ended with one."""


@attrs.define(eq=False)
class Reading:
    """A statement that reads, and as of when: some LSN from ``low`` to ``high``, both inclusive."""

    statement: Statement
    low: Lsn
    high: Lsn
    first: bool = False
    """Whether only the first row was asked for."""


@attrs.define(eq=False)
class SqlPart:
    """All of a call, statement by statement."""

    script: list[Statement] = attrs.field(factory=list)
    """What was said at the head, in one transaction."""
    low: Lsn = 0
    high: Lsn = 0
    """The script has seen the head as of some LSN from ``low`` to ``high``, both inclusive."""
    back_to: Lsn | None = None
    """Of a backtrack: to which LSN."""
    readings: list[Reading] = attrs.field(factory=list)
    """What was read of what is durable."""
    moments: list[tuple[Lsn, Lsn]] = attrs.field(factory=list)
    """LSNs that were asked for, each with the LSN of the commit that this was taken to mean."""
    commits: tuple[Lsn, Lsn, Sequence[Lsn]] | None = None
    """A list of commits, the newest first, as of some LSN from the first to the second."""
    limit: int = 0
    """How many commits were asked for."""
    unsound: Sequence[SqlRow] | None = None
    """What SQLite's own check of the database has said."""
    opened: bool = False
    """Whether it has opened the database on a writer, and looked at all of it."""
    spilled: bool = False
    """Whether SQLite has given out pages before the commit."""
