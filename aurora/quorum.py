"""Quorum arithmetic: who must agree, and what a write quorum holds (2017 §2.1, 2018 §2.3).

Nothing here knows of records or messages. A membership change will need a tracker that asks more
than one model (2018 §4.1: a write quorum of the old *and* of the new members); therefore only
`QuorumModel` knows how votes are counted.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

import attrs

from segments.protocol.errors import InvalidConfig
from segments.protocol.ids import Lsn, SegmentId, VolumeEpoch


@attrs.frozen
class QuorumModel:
    """V members, of whom ``write`` make a write quorum and ``read`` a read quorum."""

    members: tuple[SegmentId, ...]
    write: int = 4
    """The write quorum: so many members make what they hold durable (2017 §2.1)."""
    read: int = 3
    """The read quorum: so many members meet every write quorum."""

    def __attrs_post_init__(self) -> None:
        votes = len(self.members)
        if len(set(self.members)) != votes:
            raise InvalidConfig(f"members {self.members!r}: expected different ones")
        if not (0 < self.read <= votes and 0 < self.write <= votes):
            raise InvalidConfig(f"quorums {self.write} and {self.read}: expected 1 to {votes}")
        if self.write + self.read <= votes:
            raise InvalidConfig(f"write {self.write} + read {self.read}: expected above {votes}")
        if 2 * self.write <= votes:
            raise InvalidConfig(f"write {self.write} + write {self.write}: expected above {votes}")

    def has_write(self, segments: Container[SegmentId]) -> bool:
        """Whether the members among ``segments`` make a write quorum."""
        return self._votes(segments) >= self.write

    def has_read(self, segments: Container[SegmentId]) -> bool:
        """Whether the members among ``segments`` make a read quorum."""
        return self._votes(segments) >= self.read

    def spare_for_write(self, segments: Container[SegmentId]) -> int:
        """How many of the members among ``segments`` a write quorum can do without.

        Below 0 if they make none.
        """
        return self._votes(segments) - self.write

    def complete_lsn(self, scls: Mapping[SegmentId, Lsn]) -> Lsn:
        """The highest LSN that a write quorum has reached: the 4th highest of six SCLs."""
        ranked = sorted([scls[member] for member in self.members])
        return ranked[-self.write]

    def _votes(self, segments: Container[SegmentId]) -> int:
        return sum(member in segments for member in self.members)


class QuorumTracker:
    """The PGCL of one protection group, from the acknowledgements of one writer incarnation.

    Watermark ``pgcl``: a write quorum durably holds the group's whole chain up to it (inclusive).
    It moves when an SCL of this epoch arrives, and only forward, since each member's SCL is kept at
    the highest ever heard: late, repeated and reordered acknowledgements change nothing.
    """

    __slots__ = ("_epoch", "_model", "_pgcl", "_scls")

    def __init__(self, model: QuorumModel, epoch: VolumeEpoch) -> None:
        self._model = model
        self._epoch = epoch
        self._scls: dict[SegmentId, Lsn] = dict.fromkeys(model.members, 0)
        self._pgcl: Lsn = 0

    @property
    def epoch(self) -> VolumeEpoch:
        """The volume epoch whose acknowledgements count."""
        return self._epoch

    @property
    def pgcl(self) -> Lsn:
        """Protection group complete LSN, inclusive; 0 until a write quorum has answered."""
        return self._pgcl

    @property
    def scls(self) -> Mapping[SegmentId, Lsn]:
        """The highest SCL heard of each member in this epoch; a live view, not to be changed."""
        return self._scls

    def observe_scl(self, segment: SegmentId, epoch: VolumeEpoch, scl: Lsn) -> Lsn:
        """Count an acknowledgement, unless of another epoch or no member; return the PGCL."""
        scls = self._scls
        known = scls.get(segment)
        if known is None or scl <= known or epoch != self._epoch:
            return self._pgcl
        scls[segment] = scl
        if known <= self._pgcl < scl:  # else the 4th highest is still the same
            self._pgcl = self._model.complete_lsn(scls)
        return self._pgcl
