"""Who counts in a recovery: the seal replies of a round, less those of disks that were rolled back.

Every reply says what its segment has heard of the others. What was heard once stays true, so it is
kept from round to round, and each reply is held against all of it (`segments.protocol.heard`). A
segment that has less than was heard of it is lost: it is no witness, and its name is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain as chained

from aurora.quorum import QuorumModel
from segments.protocol.heard import LOST, NO_MARK, Mark, is_rolled_back, marks_of
from segments.protocol.ids import NO_EPOCH, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import SealReply


class Witnesses:
    """The seal replies that count, by protection group."""

    def __init__(
        self, groups: Mapping[PgId, QuorumModel], *, accepts_rollback: bool = False
    ) -> None:
        """``accepts_rollback``: an older copy of a disk counts as if it were the disk."""
        self.replies: dict[PgId, dict[SegmentId, SealReply]] = {}
        self.rolled_back: dict[SegmentId, str] = {}
        """Segments that are lost, and how that is known."""
        self._groups = groups
        self._accepts_rollback = accepts_rollback
        self._pg_of = {each: pg_id for pg_id, model in groups.items() for each in model.members}
        self._late: dict[SegmentId, SealReply] = {}
        self._heard: dict[SegmentId, tuple[Mark, SegmentId]] = {}
        """The highest mark of each segment, and who has heard it."""
        self._settled: tuple[VolumeEpoch, SegmentId] = (NO_EPOCH, "")
        self.begin_round()

    def begin_round(self) -> None:
        """Forget all replies; what was heard stays."""
        self.replies = {pg_id: {} for pg_id in self._groups}
        self._late = {}

    def heard_of(self, segment: SegmentId) -> Mark:
        """What a segment is to be told of its own past."""
        if self._accepts_rollback:
            return NO_MARK
        if segment in self.rolled_back:
            return LOST
        return max(self._heard.get(segment, (NO_MARK, ""))[0], Mark(self._settled[0], 0))

    @property
    def answered(self) -> frozenset[SegmentId]:
        """Whose replies count."""
        return frozenset(chained.from_iterable(self.replies.values()))

    def has_read_quorums(self) -> bool:
        """Whether a read quorum of every group counts."""
        return all(model.has_read(self.replies[each]) for each, model in self._groups.items())

    def add(self, reply: SealReply, *, late: bool = False) -> list[SegmentId]:
        """Take a reply; returns whose turn out not to count, its sender's or those of others.

        A ``late`` one counts from `add_late` on.
        """
        if not self._accepts_rollback:
            self._hear(reply)
        if late:
            self._late[reply.segment] = reply
        else:
            self.replies[self._pg_of[reply.segment]][reply.segment] = reply
        found = [each for each in self._all() if self._is_rolled_back(each)]
        for each in found:
            self._late.pop(each.segment, None)
            self.replies[self._pg_of[each.segment]].pop(each.segment, None)
        return [each.segment for each in found]

    def add_late(self) -> list[SealReply]:
        """Let those count that came late, and return them."""
        late, self._late = self._late, {}
        for segment, reply in late.items():
            self.replies[self._pg_of[segment]][segment] = reply
        return list(late.values())

    def silent(self, lost: Collection[SegmentId]) -> list[SegmentId]:
        """Who may answer yet: neither rolled back nor one of the ``lost``."""
        answered = self.answered
        return [
            each
            for each in self._pg_of
            if each not in answered and each not in self.rolled_back and each not in lost
        ]

    def found(self, silent: Sequence[SegmentId]) -> str:
        """``A0, B0, C0 (D0 does not answer; ...) know``: who counts, and what became of others."""
        one = len(silent) == 1
        others = [f"{', '.join(silent)} {'does' if one else 'do'} not answer"] if silent else []
        others += self.rolled_back.values()
        besides = f" ({'; '.join(others)})" if others else ""
        return f"{', '.join(sorted(self.answered))}{besides} know"

    def too_few_left(self, lost: Collection[SegmentId], *, read_only: bool) -> str:
        """Why nobody can ever open the volume, or read it alone; empty if that is possible.

        ``lost`` are the segments that are known to be lost, and not because of what was heard.
        """
        for pg_id, model in self._groups.items():
            gone = [each for each in model.members if each in self.rolled_back or each in lost]
            left = [each for each in model.members if each not in gone]
            if not (model.has_read(left) if read_only else model.has_write(left)):
                why = "; ".join(self.rolled_back.get(each, f"{each} is lost") for each in gone)
                return (
                    f"protection group {pg_id} has lost {', '.join(gone)}: expected the disks as "
                    f"they were ({why})"
                )
        return ""

    def _all(self) -> list[SealReply]:
        counted = chained.from_iterable(group.values() for group in self.replies.values())
        return [*counted, *self._late.values()]

    def _hear(self, reply: SealReply) -> None:
        for segment, mark in marks_of(reply.heard).items():
            if mark > self._heard.get(segment, (NO_MARK, ""))[0]:
                self._heard[segment] = mark, reply.segment
        self._settled = max(self._settled, (reply.table.settled, reply.segment))

    def _is_rolled_back(self, reply: SealReply) -> bool:
        segment, has = reply.segment, Mark(reply.table.epoch, reply.scl)
        heard, by = self._heard.get(segment, (NO_MARK, ""))
        settled, told_by = self._settled
        if is_rolled_back(has, heard):
            why = f"{by} has heard of {heard}"
        elif is_rolled_back(has, Mark(settled, 0)):
            why = f"{told_by} knows that all members had the table of epoch {settled}"
        else:
            return False
        self.rolled_back[segment] = f"the disk of {segment} was rolled back to {has}: {why}"
        return True
