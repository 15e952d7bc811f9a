"""What keeps the floor from rising, and so keeps old versions in the store."""

from __future__ import annotations

from enum import StrEnum

import attrs

from segments.protocol.ids import Lsn


class FloorHolder(StrEnum):
    """Who, or what, keeps it where it is."""

    READER = "reader"
    """A read view that is open, or a read under way, is of an older version than must be kept."""
    RETENTION = "retention"
    """So many LSNs behind the VDL stay readable, whether anybody reads or not."""
    EVERYTHING = "everything is kept"
    """No retention is set: versions are kept for ever."""
    EARLIER = "an earlier floor"
    """What a writer before this one has let go of cannot be had again; the VDL is not far above."""
    WRITER = "no writer"
    """No writer has the volume open, and nobody else may raise it."""


@attrs.frozen
class FloorHold:
    """Why the floor is where it is."""

    holder: FloorHolder
    lsn: Lsn
    """Up to where it may rise now; where it is, if there is nothing that tells."""
    text: str
    """The same for people."""

    @classmethod
    def of(
        cls, floor: Lsn, kept_from: Lsn | None, retention: int | None, oldest: Lsn | None
    ) -> FloorHold:
        """Of an open volume.

        ``kept_from``: the oldest version that ``retention`` LSNs keep; both None: all are kept.
        ``oldest``: the oldest read point that somebody holds; None if nobody reads.
        """
        if kept_from is None:
            return cls(FloorHolder.EVERYTHING, floor, "every version is kept: no retention is set")
        if oldest is not None and oldest < kept_from:
            return cls(FloorHolder.READER, oldest, f"a reader holds version {oldest}")
        if kept_from < floor:
            return cls(FloorHolder.EARLIER, floor, f"it was {floor} when the writer came")
        return cls(
            FloorHolder.RETENTION, kept_from, f"{retention:,} LSNs behind the VDL stay readable"
        )
