"""What came of a statement."""

from __future__ import annotations

import attrs

from aurora.sqlite.connections import Columns, Row
from segments.protocol.ids import Lsn


@attrs.frozen(kw_only=True)
class Outcome:
    """A statement that has been run, and, if it stood by itself, is durable."""

    rows: list[Row] = attrs.Factory(list)
    """What it returned, as a SELECT or a RETURNING clause does."""
    columns: Columns = ()
    """The names of its columns, if it returned any row."""
    changes: int = 0
    """Rows inserted, updated or deleted, those of triggers and foreign keys included."""
    last_insert_rowid: int | None = None
    """The rowid of the row inserted last; None if none was."""
    lsn: Lsn | None = None
    """Its commit; None if it changed nothing, and within a transaction."""
