"""Whether there is room to write: back-pressure long before a disk is full.

Segments say in acknowledgements when they are short of space (`segments.space`). While fewer than a
write quorum of a group are known not to be, the volume is full: mini-transactions are refused, and
have no LSNs yet. What is part of the log goes on to become durable, so that nothing waits for room
that only its own progress could make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aurora.floor import FloorHold
from aurora.quorum import QuorumModel
from aurora.segment_stream import SegmentStream
from segments.protocol.errors import VolumeFull
from segments.protocol.ids import PgId
from segments.protocol.messages import TableInstalled, WriteAck
from segments.protocol.space import Space


class VolumeSpace:
    """What the segments of a volume have said, as far as a writer has heard."""

    def __init__(
        self,
        groups: Mapping[PgId, QuorumModel],
        streams_of: Mapping[PgId, Sequence[SegmentStream]],
    ) -> None:
        self.full: tuple[PgId, ...] = ()
        """Groups of which fewer than a write quorum have room."""
        self._groups = groups
        self._streams_of = streams_of

    def heard(self, stream: SegmentStream, message: WriteAck | TableInstalled) -> None:
        """A segment says how much space it needs."""
        before, stream.space = stream.space, Space(message.needed_bytes, message.limit_bytes)
        if stream.space.short is not before.short:
            self._count()

    def check(
        self, held_by: Callable[[], FloorHold], added: Mapping[PgId, int] | None = None
    ) -> None:
        """Raise `VolumeFull` if nothing new can be written; ``held_by``: what keeps versions.

        Nor can what would leave too few with room: ``added`` bytes of log, in each group.
        """
        if self.full:
            raise self._error(self.full, held_by())
        if added is None:
            return
        full = tuple(pg_id for pg_id in self._groups if not self._has_room(pg_id, added[pg_id]))
        if full:
            raise self._error(full, held_by(), added)

    @property
    def is_limited(self) -> bool:
        """Whether any segment has said that there is a limit."""
        return any(
            each.space.limit_bytes for streams in self._streams_of.values() for each in streams
        )

    def _count(self) -> None:
        self.full = tuple(pg_id for pg_id in self._groups if not self._has_room(pg_id))

    def _has_room(self, pg_id: PgId, added_bytes: int = 0) -> bool:
        roomy = [
            each.segment
            for each in self._streams_of[pg_id]
            if not _with(each.space, added_bytes).short
        ]
        return self._groups[pg_id].has_write(roomy)

    def _error(
        self, full: Sequence[PgId], hold: FloorHold, added: Mapping[PgId, int] | None = None
    ) -> VolumeFull:
        spaces = {
            each.segment: _with(each.space, 0 if added is None else added[pg_id])
            for pg_id in full
            for each in self._streams_of[pg_id]
        }
        short = {segment: space for segment, space in spaces.items() if space.short}
        said = ", ".join(
            f"{segment} needs {space.needed_bytes:,} of {space.limit_bytes:,} bytes"
            for segment, space in short.items()
        )
        needed = min(self._groups[pg_id].write for pg_id in full)
        return VolumeFull(
            f"{said}: expected less, at {needed} segments of each group at least; old versions are "
            f"kept from LSN {hold.lsn} on, as {hold.text}",
            {segment: (space.needed_bytes, space.limit_bytes) for segment, space in short.items()},
            hold.text,
        )


def _with(space: Space, added_bytes: int) -> Space:
    """What a segment will need with so much more log, which is there twice while it is folded."""
    return space._replace(needed_bytes=space.needed_bytes + 2 * added_bytes)
