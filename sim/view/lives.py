"""The life of each commit: who got it, who synced it, when it was durable, who read it.

One pass over the steps, where `sim.story.evidence` asks all of them for one record; a test compares
the two.

(More than 400 lines: all steps of which such a life is made.)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import attrs

from aurora.events import (
    Acknowledged,
    CommitsAcknowledged,
    MtrAllocated,
    PoolLookedUp,
    RecoveryPlanned,
    VolumeOpened,
)
from segments.protocol.events import (
    AckSent,
    BatchReceived,
    Event,
    GossipReceived,
    Hydrated,
    LayerReceived,
    PageMaterialized,
    RecordsApplied,
    Restored,
    TableAdopted,
    WriteStarted,
    WriteSynced,
)
from segments.protocol.ids import NO_EPOCH, Lsn, PageId, PgId, SegmentId, VolumeEpoch
from segments.protocol.truncation import TruncationTable
from segments.protocol.volume import ProtectionGroup
from sim.check.invariants import WRITE_QUORUM

MOST_READERS: Final = 50
NEVER: Final = -1


@attrs.define
class Holder:
    """One segment's copy of a commit: the number of the event of each stage, or `NEVER`."""

    segment: SegmentId
    lsn: Lsn
    """The last LSN of the commit that this segment's group holds."""
    received: int = NEVER
    dropped: int = NEVER
    """The network has lost the batch with it."""
    above: int = NEVER
    """It is on disk, above a gap: no acknowledgement counts it."""
    applied: int = NEVER
    """The SCL has reached it."""
    synced: int = NEVER
    """It is on disk, and so is all below it."""
    acked: int = NEVER
    heard: int = NEVER
    """Its writer, or a later one whose log has the commit, has counted its acknowledgement."""
    lost: int = NEVER
    """It was annulled there, or is gone after a restart."""


@attrs.define
class Life:
    """One commit."""

    lsn: Lsn
    first_lsn: Lsn
    pages: list[PageId]
    writer: str
    call: int
    allocated: int
    pg_id: PgId
    holders: dict[SegmentId, Holder]
    quorum: int = NEVER
    """The acknowledgement by which its group's PGCL has reached it."""
    durable: int = NEVER
    """Its own writer's VDL has reached it, or a later writer has opened the volume with it."""
    backed: int = NEVER
    """It is durable by right, by a write quorum that has acknowledged it or by that recovery."""
    told: int = NEVER
    """Its writer has told those that wait: everything up to it is durable."""
    kept: bool = False
    """It is durable because a recovery has found and kept it."""
    annulled: int = NEVER
    """A recovery has annulled it; where it was allocated only later: its allocation."""
    annulled_by: VolumeEpoch = NO_EPOCH
    readers: list[int] = attrs.field(factory=list)


@attrs.define
class _Disk:
    """What a segment's steps have said of the write that is under way."""

    started: int = NEVER
    synced: int = NEVER
    began: int = NEVER
    """When the write began that ``synced`` ended."""
    synced_ns: int = NEVER
    above: list[Holder] = attrs.field(factory=list)
    """What has arrived, and neither taken effect nor been seen on disk."""
    unsynced: list[Holder] = attrs.field(factory=list)
    """What has taken effect before its write was synced."""
    unacked: list[Holder] = attrs.field(factory=list)


class Lives:
    """Listens to all steps, in order, and knows the life of each commit."""

    def __init__(
        self, groups: Sequence[ProtectionGroup], highest: Callable[[SegmentId], Lsn]
    ) -> None:
        """``highest`` is the last LSN that a segment holds now, also above a gap."""
        self._highest = highest
        self.lives: list[Life] = []
        self._groups = groups
        self._group_of = {each: group.pg_id for group in groups for each in group.members}
        self._disks: dict[SegmentId, _Disk] = {}
        self._lsns: dict[PgId, list[Lsn]] = {group.pg_id: [] for group in groups}
        self._of: dict[PgId, list[Life]] = {group.pg_id: [] for group in groups}
        """By the last LSN that a commit has in a group, ascending: beside ``_lsns``."""
        self._open: dict[str, list[Life]] = {}
        """Each writer's commits that are not durable, ascending."""
        self._untold: dict[str, list[Life]] = {}
        """Each writer's commits whose callers it has not told that they are durable."""
        self._tables: dict[VolumeEpoch, TruncationTable] = {}
        self._newest = TruncationTable()
        """The table of the highest epoch that was planned."""
        self._parts: dict[str, Life] = {}
        """Mini-transactions that are in the log only in part."""

    def on_step(self, number: int, time_ns: int, source: str, event: Event, call: int) -> None:
        """A core has taken a step, event ``number`` of the film."""
        match event:
            case MtrAllocated():
                self._allocated(number, source, event, call)
            case BatchReceived() | GossipReceived() | LayerReceived():
                self._arrived(number, source, event)
            case WriteStarted():
                disk = self._disk(source)
                disk.started, disk.synced = number, NEVER
            case WriteSynced():
                self._synced(number, time_ns, source)
            case RecordsApplied(before=before, scl=scl):
                self._applied(number, time_ns, source, before, scl)
            case Hydrated(before=before, scl=scl):
                for holder in self._holders(source, before + 1, scl):
                    if holder.received != NEVER and holder.applied == NEVER:
                        holder.applied = holder.synced = number
                        self._disk(source).unacked.append(holder)
            case AckSent(scl=scl):
                self._acked(number, source, scl)
            case TableAdopted() | Restored():
                self._taken_away(number, source, event)
            case RecoveryPlanned(epoch=epoch, plan=plan):
                self._planned(number, epoch, plan.table)
            case Acknowledged():
                self._heard(number, source, event)
            case CommitsAcknowledged(vdl=vdl):
                self._reached(number, source, vdl)
                for life in _up_to(self._untold, source, vdl):
                    life.told = number
            case VolumeOpened(epoch=epoch, vdl=vdl):
                self._opened(number, epoch, vdl)
            case PageMaterialized(page_id=page_id, page_lsn=lsn):
                self._read(number, page_id, lsn)
            case PoolLookedUp(page_id=page_id, page_lsn=lsn) if lsn:
                self._read(number, page_id, lsn)

    # ---- the writer ------------------------------------------------------------------------------

    def _allocated(self, number: int, source: str, event: MtrAllocated, call: int) -> None:
        records = event.records
        first = records[0].lsn
        life = self._parts.pop(source, None) if records[0].mtr_id != first else None
        if life is None:
            life = Life(0, first, [], source, call, number, 0, {})
        life.lsn = records[-1].lsn
        life.pages = list(dict.fromkeys((*life.pages, *(each.page_id for each in records))))
        life.pg_id = event.pg_ids[-1]
        lasts = {pg_id: each.lsn for each, pg_id in zip(records, event.pg_ids, strict=True)}
        for pg_id, last in lasts.items():
            self._ends_at(life, pg_id, last)
        if not records[-1].is_cpl:
            self._parts[source] = life
            return
        if self._newest.annuls(life.lsn):
            life.annulled, life.annulled_by = number, self._newest.epoch
        self.lives.append(life)
        self._open.setdefault(source, []).append(life)
        self._untold.setdefault(source, []).append(life)

    def _ends_at(self, life: Life, pg_id: PgId, last: Lsn) -> None:
        """This is a commit's last record in a group, by which it is found; so far, if in parts."""
        lsns, of = self._lsns[pg_id], self._of[pg_id]
        members = self._groups[pg_id].members
        if (part := life.holders.get(members[0])) is not None:
            at = next(at for at in range(bisect_left(lsns, part.lsn), len(of)) if of[at] is life)
            del lsns[at], of[at]
        at = bisect_left(lsns, last)
        lsns.insert(at, last)
        of.insert(at, life)
        life.holders.update({each: Holder(each, last) for each in members})

    def _heard(self, number: int, source: str, event: Acknowledged) -> None:
        before, after = event.pgcl
        for life in self._between(event.pg_id, before + 1, after):
            if life.quorum == NEVER and _counts(life, source):
                life.quorum = number
        pg_id = self._group_of[event.segment]
        for at in range(bisect_right(self._lsns[pg_id], event.scl) - 1, -1, -1):
            life = self._of[pg_id][at]
            holder = life.holders[event.segment]
            if holder.heard != NEVER:
                break
            if holder.received != NEVER and holder.lost == NEVER and _counts(life, source):
                holder.heard = number
                self._by_right(number, life)
        self._reached(number, source, event.vdl[1])

    def _reached(self, number: int, writer: str, vdl: Lsn) -> None:
        """A writer's VDL is this now: what it says nothing of are others' commits."""
        for life in _up_to(self._open, writer, vdl):
            if life.durable == NEVER:
                life.durable = number
                self._by_right(number, life)

    def _by_right(self, number: int, life: Life) -> None:
        """A commit counts as durable: by right, once a write quorum of each group has said so."""
        if life.durable == NEVER or life.backed != NEVER:
            return
        heard = Counter(
            self._group_of[each.segment] for each in life.holders.values() if each.heard != NEVER
        )
        if all(heard[pg_id] >= WRITE_QUORUM for pg_id in self._groups_of(life)):
            life.backed = number

    def _groups_of(self, life: Life) -> Iterable[PgId]:
        return dict.fromkeys(self._group_of[segment] for segment in life.holders)

    def _planned(self, number: int, epoch: VolumeEpoch, table: TruncationTable) -> None:
        """A recovery has decided what it annuls; it voids one that never opened."""
        self._tables[epoch] = table
        if epoch <= self._newest.epoch:
            return
        self._newest = table
        for life in (each for lives in self._open.values() for each in lives):
            if not table.annuls(life.lsn):
                life.annulled, life.annulled_by = NEVER, NO_EPOCH
            elif life.annulled == NEVER:
                life.annulled, life.annulled_by = number, epoch

    def _opened(self, number: int, epoch: VolumeEpoch, vdl: Lsn) -> None:
        """A later writer has the volume: what it has annulled stays so, and it keeps the rest."""
        table = self._tables.get(epoch, TruncationTable())
        for writer, lives in self._open.items():
            for life in lives:
                if life.lsn <= vdl and not table.annuls(life.lsn):
                    life.durable, life.backed, life.kept = number, number, True
            self._open[writer] = [
                each for each in lives if each.durable == NEVER and not table.annuls(each.lsn)
            ]

    # ---- segments --------------------------------------------------------------------------------

    def _disk(self, segment: SegmentId) -> _Disk:
        return self._disks.setdefault(segment, _Disk())

    def _arrived(
        self, number: int, segment: SegmentId, event: BatchReceived | GossipReceived | LayerReceived
    ) -> None:
        if isinstance(event, LayerReceived):
            lsns: tuple[Lsn, Lsn] | None = (event.start_lsn + 1, event.end_lsn)
        else:
            lsns = event.lsns
        if lsns is None:
            return
        for life in self._between(self._group_of[segment], *lsns):
            if not _carries(event, life):
                continue
            holder = life.holders[segment]
            if holder.received == NEVER or holder.lost != NEVER:
                holder.received, holder.lost = number, NEVER
                holder.above = holder.applied = holder.synced = NEVER
                holder.acked = holder.heard = NEVER
                self._disk(segment).above.append(holder)

    def dropped(self, number: int, writer: str, to: SegmentId, lsns: tuple[Lsn, Lsn]) -> None:
        """The network has lost a writer's batch with these LSNs, both inclusive."""
        for life in self._between(self._group_of[to], *lsns):
            holder = life.holders[to]
            if life.writer == writer and holder.dropped == NEVER:
                holder.dropped = number

    def _applied(self, number: int, time_ns: int, segment: SegmentId, low: Lsn, scl: Lsn) -> None:
        disk = self._disk(segment)
        for holder in self._holders(segment, low + 1, scl):
            if holder.received == NEVER or holder.applied != NEVER:
                continue
            holder.applied = number
            disk.unacked.append(holder)
            just_now = disk.synced != NEVER and disk.synced_ns == time_ns
            if just_now and disk.began > holder.received:
                holder.synced = disk.synced
            if holder.synced == NEVER:
                disk.unsynced.append(holder)
        if disk.synced != NEVER and disk.above:
            self._above_a_gap(segment, disk)

    def _above_a_gap(self, segment: SegmentId, disk: _Disk) -> None:
        """A write has taken effect: what of it stays above a gap, as far as there is room."""
        highest = self._highest(segment)
        left = []
        for holder in disk.above:
            if holder.applied != NEVER or holder.lost != NEVER or holder.received == NEVER:
                continue
            if holder.received < disk.began and holder.lsn <= highest:
                holder.above = disk.synced
            else:
                left.append(holder)
        disk.above = left

    def _synced(self, number: int, time_ns: int, segment: SegmentId) -> None:
        disk = self._disk(segment)
        if disk.started == NEVER:
            return
        disk.synced, disk.began, disk.synced_ns = number, disk.started, time_ns
        for holder in disk.unsynced:
            if holder.synced == NEVER and disk.began > holder.applied:
                holder.synced = number
        disk.unsynced = [each for each in disk.unsynced if each.synced == NEVER]

    def _acked(self, number: int, segment: SegmentId, scl: Lsn) -> None:
        disk = self._disk(segment)
        for holder in disk.unacked:
            if holder.lsn <= scl and holder.lost == NEVER:
                holder.acked = number
        disk.unacked = [each for each in disk.unacked if each.acked == NEVER]

    def _taken_away(self, number: int, segment: SegmentId, event: TableAdopted | Restored) -> None:
        if isinstance(event, TableAdopted):
            for start, end, _ in event.table.ranges:
                for holder in self._holders(segment, start, end - 1):
                    if holder.received != NEVER and holder.lost == NEVER:
                        holder.lost = number
            return
        for holder in self._holders(segment, 0, event.scl):
            if holder.received != NEVER and holder.applied == NEVER:
                holder.applied = number
        for holder in self._holders(segment, event.scl + 1, self._lsns_end(segment)):
            if holder.applied != NEVER:
                holder.lost = number
            elif holder.above == NEVER:
                holder.received = NEVER

    def _read(self, number: int, page_id: PageId, lsn: Lsn) -> None:
        for group in self._groups:
            life = next(self._between(group.pg_id, lsn, None), None)
            if life is not None and life.first_lsn <= lsn and page_id in life.pages:
                if len(life.readers) < MOST_READERS:
                    life.readers.append(number)
                return

    # ---- which ones ------------------------------------------------------------------------------

    def _lsns_end(self, segment: SegmentId) -> Lsn:
        lsns = self._lsns[self._group_of[segment]]
        return lsns[-1] if lsns else 0

    def _between(self, pg_id: PgId, first: Lsn, last: Lsn | None) -> Iterator[Life]:
        """Commits whose last record in a group is in ``[first, last]``, ascending."""
        lsns = self._lsns[pg_id]
        start = bisect_left(lsns, first)
        end = len(lsns) if last is None else bisect_right(lsns, last)
        for at in range(start, end):
            yield self._of[pg_id][at]

    def _holders(self, segment: SegmentId, first: Lsn, last: Lsn) -> Iterator[Holder]:
        """Copies at one segment of the commits whose last record there is in ``[first, last]``."""
        for life in self._between(self._group_of[segment], first, last):
            yield life.holders[segment]


# ---- what counts ---------------------------------------------------------------------------------


def _counts(life: Life, writer: str) -> bool:
    """Whether what a writer hears may be of this commit: it is its own, or in its log."""
    return writer == life.writer or life.annulled == NEVER


def _carries(event: BatchReceived | GossipReceived | LayerReceived, life: Life) -> bool:
    """Whether what has come is of a log with this commit: the LSNs that it spans prove nothing."""
    if life.annulled == NEVER:
        return True
    if isinstance(event, BatchReceived):
        return event.writer == life.writer
    return event.table_epoch < life.annulled_by


def _up_to(open_: dict[str, list[Life]], writer: str, lsn: Lsn) -> list[Life]:
    """Take a writer's commits up to an LSN, inclusive, from those that are left."""
    left = open_.get(writer, [])
    count = bisect_right(left, lsn, key=lambda life: life.lsn)
    taken, left[:count] = left[:count], []
    return taken
