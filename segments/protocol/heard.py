"""What segments have said of themselves, kept by others: disks rolled back contradict it.

While a disk is what it was, its segment's `Mark` never goes down: tables are replaced by those of
higher epochs, and under one table the SCL only rises. So whoever has heard of a higher mark than a
segment has now knows that its disk was replaced by an older copy (protocol §8). Two things excuse
a lower one: damage that the segment reports, and a table of a higher epoch, which may have annulled
records; under that, what was heard before says nothing.

Only statements of a segment's adopted table count that it made before it sealed anything higher.
So none can have been made behind the seal reply that it is compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

from segments.protocol.ids import MAX_INTEGER, NO_EPOCH, Lsn, SegmentId, VolumeEpoch


class Mark(NamedTuple):
    """How far a segment has its group's log, under the truncation table of ``epoch``.

    Marks compare as pairs: a higher table first.
    """

    epoch: VolumeEpoch
    scl: Lsn

    def __str__(self) -> str:
        return f"SCL {self.scl} under the table of epoch {self.epoch}"


NO_MARK: Final = Mark(NO_EPOCH, 0)
"""Nothing was heard."""
LOST: Final = Mark(VolumeEpoch(MAX_INTEGER, MAX_INTEGER), 0)
"""Above whatever a segment can have: who is told this is known to be rolled back, though it may
have caught up with what was heard since. Promises that are gone do not come again."""

Scls: TypeAlias = Mapping[SegmentId, Lsn]
"""SCLs of a group's members, all under one table."""


class Heard(NamedTuple):
    """What was heard of some segments under the table of ``epoch``."""

    epoch: VolumeEpoch
    scls: Scls


def is_rolled_back(has: Mark, heard: Mark) -> bool:
    """Whether a segment that ``has`` this now, and reports no damage, once had ``heard``."""
    return has < heard


class HeardMarks:
    """The highest mark heard of each of some segments, and whether all of it is written down.

    Kept by epochs, as nearly always all of them are of one.
    """

    def __init__(self) -> None:
        self.unwritten = False
        """Whether there is news since the last `take_unwritten`."""
        self._groups: dict[VolumeEpoch, dict[SegmentId, Lsn]] = {}
        self._all: tuple[Heard, ...] | None = ()

    @property
    def all(self) -> tuple[Heard, ...]:
        """What was heard of all of them, each once; a value that does not change."""
        if self._all is None:
            self._all = tuple([Heard(epoch, {**scls}) for epoch, scls in self._groups.items()])
        return self._all

    @property
    def marks(self) -> dict[SegmentId, Mark]:
        """The same by segments."""
        return marks_of(self.all)

    def of(self, segment: SegmentId) -> Mark:
        """What was heard of one segment."""
        return next(
            (Mark(epoch, scls[segment]) for epoch, scls in self._groups.items() if segment in scls),
            NO_MARK,
        )

    def hear(self, segment: SegmentId, mark: Mark) -> None:
        """Remember what a segment has said, or others of it; a lower mark changes nothing."""
        epoch, scl = mark
        group = self._groups.get(epoch)
        if group is not None and segment in group:  # as nearly always
            if scl > group[segment]:
                group[segment], self._all, self.unwritten = scl, None, True
            return
        known = self.of(segment)
        if mark <= known:
            return
        if known != NO_MARK:
            del self._groups[known.epoch][segment]
            if not self._groups[known.epoch]:
                del self._groups[known.epoch]
        self._groups.setdefault(epoch, {})[segment] = scl
        self._all, self.unwritten = None, True

    def hear_scls(self, epoch: VolumeEpoch, scls: Scls, segments: Iterable[SegmentId]) -> None:
        """As `hear`, of those of ``segments`` that the writer of ``epoch`` has heard; 0 is none."""
        group = self._groups.get(epoch, {})
        for segment in segments:
            scl = scls.get(segment)
            if scl and scl > group.get(segment, 0):
                if segment in group:
                    group[segment], self._all, self.unwritten = scl, None, True
                else:
                    self.hear(segment, Mark(epoch, scl))
                    group = self._groups.get(epoch, {})

    def hear_all(self, heard: Iterable[Heard], segments: Iterable[SegmentId]) -> None:
        """As `hear`, of those of ``segments`` that somebody has heard of."""
        for epoch, scls in heard:
            group = self._groups.get(epoch)
            if group is None or not scls.items() <= group.items():
                for segment in segments:
                    if segment in scls:
                        self.hear(segment, Mark(epoch, scls[segment]))

    def take_unwritten(self) -> tuple[Heard, ...]:
        """What is to be written down next: nothing, or all of it; it counts as written then."""
        if not self.unwritten:
            return ()
        self.unwritten = False
        return self.all


def marks_of(heard: Iterable[Heard]) -> dict[SegmentId, Mark]:
    """What was heard, by segments."""
    return {segment: Mark(epoch, scl) for epoch, scls in heard for segment, scl in scls.items()}


def mark_in(heard: Iterable[Heard], segment: SegmentId) -> Mark:
    """What was heard of one segment."""
    return marks_of(heard).get(segment, NO_MARK)
