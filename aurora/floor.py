"""What keeps the floor from rising, and so keeps old versions in the store."""

from __future__ import annotations

from enum import StrEnum

import attrs

from aurora.retention import Kept
from segments.protocol.ids import Lsn


class FloorHolder(StrEnum):
    """Who, or what, keeps it where it is."""

    READER = "reader"
    """A read view that is open, or a read under way, is of an older version than must be kept."""
    RETENTION = "retention"
    """So many LSNs behind the VDL stay readable, whether anybody reads or not."""
    AGE = "retention in time"
    """What is younger than that stays readable, whether anybody reads or not."""
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
    def of(cls, floor: Lsn, kept: Kept | None, oldest: Lsn | None) -> FloorHold:
        """Of an open volume.

        ``kept``: what retention keeps; None: everything.
        ``oldest``: the oldest read point that somebody holds; None if nobody reads.
        """
        if kept is None:
            return cls(FloorHolder.EVERYTHING, floor, "every version is kept: no retention is set")
        if oldest is not None and oldest < kept.lsn:
            return cls(FloorHolder.READER, oldest, f"a reader holds version {oldest}")
        if kept.by_time:
            return cls(FloorHolder.AGE, max(floor, kept.lsn), kept.text)
        if kept.lsn < floor:
            return cls(FloorHolder.EARLIER, floor, f"it was {floor} when the writer came")
        return cls(FloorHolder.RETENTION, kept.lsn, kept.text)
