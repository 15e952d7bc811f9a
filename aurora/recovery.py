"""Opening a volume that another writer has left: the eight steps of protocol §7, decided purely.

`plan_recovery` is steps 3 to 6: seal replies and fetched records in, the decision out. `Recovery`
is the conversation around it, steps 1, 2 and 5: it seals, fetches, and ends with a plan. Steps 7
and 8 are a writer's: `WriterCore` opened with the plan installs the table, re-replicates, and lets
nobody in until a write quorum of every protection group has both.

(More than 400 lines: the conversation is one state machine.)

Nothing here reads an SCL that was not sent after its segment's seal, and any read quorum will do:
if the segment that holds most falls silent, the whole round starts over with those that answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain as chained
from typing import Final, ParamSpec

import attrs

from aurora import events
from aurora.config import EngineConfig
from aurora.lsn_allocator import lsn_limit
from aurora.quorum import QuorumModel
from aurora.recovery_plan import RecoveryPlan
from aurora.witnesses import Witnesses
from segments.protocol.errors import Fenced, MalformedMessage, VolumeRolledBack
from segments.protocol.events import Event, Tracer
from segments.protocol.heard import marks_of
from segments.protocol.ids import MAX_LSN, NO_EPOCH, Lsn, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import (
    EpochRefused,
    FetchLog,
    LogReply,
    Message,
    Seal,
    SealReply,
)
from segments.protocol.record import RedoRecord
from segments.protocol.run import read_records
from segments.protocol.truncation import TruncationTable

P = ParamSpec("P")

OVERRIDE: Final = (
    "nothing was changed, and accept_rollback=True (--accept-rollback) opens what is there all the "
    "same, as if nothing else had ever been"
)
"""What who knows better than a `VolumeRolledBack` may do."""


def adopted_table(replies: Sequence[SealReply]) -> TruncationTable:
    """The table of the highest epoch among the replies: never a union, never none (§7, step 3).

    What anyone knows to be settled is settled: whoever answers had adopted that table before.
    """
    highest = max((reply.table for reply in replies), key=lambda table: table.epoch)
    return highest.with_settled(max(reply.table.settled for reply in replies))


def announced_vdl(replies: Sequence[SealReply]) -> Lsn:
    """The highest VDL announced: every record up to it is at a write quorum of its group."""
    return max(reply.vdl for reply in replies)


def log_sources(replies: Sequence[SealReply], table: TruncationTable) -> list[SealReply]:
    """Those of a group's ``replies`` whose segments hold most of its log; any may be asked for it.

    What survives ``table``, the adopted one, decides (§7, step 4): three replies cannot disprove an
    acknowledged record, so the highest counts. All that are returned have the same SCL.
    """
    held = [(table.survivor(reply.scl), reply.scl) for reply in replies]
    most = max(held)
    return [reply for reply, each in zip(replies, held, strict=True) if each == most]


def plan_recovery(
    epoch: VolumeEpoch,
    lal: int,
    replies: Mapping[PgId, Sequence[SealReply]],
    fetched: Mapping[PgId, Sequence[RedoRecord]],
    retention: int | None = None,
) -> RecoveryPlan:
    """Decide VCL, VDL and the truncation range from a read quorum of seal replies in every group.

    ``fetched`` holds, for each group, the records above the announced VDL of one of `log_sources`.
    Records that the adopted table annuls may be among them and do not count. ``lal`` is the
    volume's LSN allocation limit, and ``retention`` what the writer retains, in LSNs.
    """
    everyone = [reply for group in replies.values() for reply in group]
    table = adopted_table(everyone)
    anchor = announced_vdl(everyone)
    followers = {
        record.prev_volume_lsn: record
        for record in chained.from_iterable(fetched.values())
        if record.lsn > anchor and not table.annuls(record.lsn)
    }
    vcl = vdl = anchor
    while (record := followers.get(vcl)) is not None:
        vcl = record.lsn
        if record.is_cpl:
            vdl = vcl
    last_lsn = min(lsn_limit(vdl, table.last_annulled_lsn, lal), MAX_LSN + 1)  # none lies beyond
    tails = {pg_id: _tail(group, fetched[pg_id], table, vdl) for pg_id, group in replies.items()}
    records = {
        pg_id: [each for each in group if anchor < each.lsn <= vdl and not table.annuls(each.lsn)]
        for pg_id, group in fetched.items()
    }
    floor = max(reply.floor for reply in everyone)
    clock_us = max((each.clock_us for group in records.values() for each in group), default=0)
    needed = table.without_settled(vdl, retention)
    return RecoveryPlan(
        epoch, needed.extended(epoch, vdl, last_lsn), vcl, vdl, tails, records, floor, clock_us
    )


def _tail(
    replies: Sequence[SealReply], fetched: Sequence[RedoRecord], table: TruncationTable, vdl: Lsn
) -> Lsn:
    """The group's last record at or below ``vdl``: fetched, or linked to, or the highest SCL.

    Not the bound on an annulled SCL: that is an LSN of the volume, perhaps of another group. When
    nothing was fetched, all is below an announced VDL. Then one of any read quorum has taken part
    in the opening before it, and has the last record and no annulled one.
    """
    for record in reversed(fetched):
        if record.lsn <= vdl and not table.annuls(record.lsn):
            return record.lsn
    if fetched:
        return fetched[0].prev_segment_lsn
    return max(reply.scl for reply in replies if not table.annuls(reply.scl))


# ---- the conversation ----------------------------------------------------------------------------


@attrs.define
class _Fetch:
    """The log of one group on its way, from one of the segments that hold most of it."""

    sources: list[SegmentId]
    target_lsn: Lsn
    after_lsn: Lsn
    records: list[RedoRecord] = attrs.field(factory=list)
    ask_at: float = 0.0
    attempts: int = 0
    done: bool = False


class Recovery:
    """One attempt of one writer to open the volume. `done` when there is a plan or an error."""

    def __init__(
        self,
        writer_id: int,
        groups: Mapping[PgId, QuorumModel],
        lal: int,
        config: EngineConfig,
        *,
        counter: int = 2,
        read_only: bool = False,
        known_vdl: Lsn = 0,
        accepts_rollback: bool = False,
        lost: Callable[[], Collection[SegmentId]] = tuple,
        trace: Tracer | None = None,
        name: str = "writer",
    ) -> None:
        """``groups`` and ``lal`` are the volume's.

        ``counter`` is a guess at an epoch that is high enough; refusals correct it. ``known_vdl``
        is one that the volume has surely reached, and ``lost`` tells who need not be waited for.
        With ``accepts_rollback`` segments and volume may have less than they once had. Then all
        who may answer are waited for, as long as a read may take: what nobody says is annulled.
        """
        self.plan: RecoveryPlan | None = None
        self.error: Fenced | VolumeRolledBack | None = None
        self.found_vdl: Lsn | None = None
        """What those who have answered would open at, if that is below the known VDL."""
        self.known_vdl = MAX_LSN if accepts_rollback else known_vdl
        self._groups = groups
        self._lal = lal
        self._config = config
        self._trace = trace
        self._name = name
        self._read_only = read_only
        self._lost = lost
        self._accepts_rollback = accepts_rollback
        self._pg_of = {each: pg_id for pg_id, model in groups.items() for each in model.members}
        self._witnesses = Witnesses(groups, accepts_rollback=accepts_rollback)
        self._search_until: float | None = None
        self._epoch = VolumeEpoch(counter, writer_id)
        self._seal_attempts = 0
        self._given_up = 0
        self._request_id = 0
        self._fetches: dict[PgId, _Fetch] = {}
        self._seal_at = 0.0
        self._sends: list[tuple[SegmentId, Message]] = []
        self._begin_sealing()

    @property
    def epoch(self) -> VolumeEpoch:
        """The epoch being sealed."""
        return self._epoch

    @property
    def done(self) -> bool:
        return self.plan is not None or self.error is not None

    @property
    def sealing(self) -> bool:
        """Whether a read quorum of some group has yet to answer."""
        return not self._fetches

    def missing(self) -> dict[PgId, int]:
        """How many more seal replies each group needs."""
        return {
            pg_id: max(0, model.read - len(self._witnesses.replies[pg_id]))
            for pg_id, model in self._groups.items()
        }

    @property
    def answered(self) -> frozenset[SegmentId]:
        """Who has sealed the epoch, as far as was heard in this round."""
        return self._witnesses.answered

    @property
    def rolled_back(self) -> Mapping[SegmentId, str]:
        """Segments whose disks were rolled back, and how that is known."""
        return self._witnesses.rolled_back

    def take_sends(self) -> list[tuple[SegmentId, Message]]:
        """Messages to send now."""
        sends, self._sends = self._sends, []
        return sends

    def step(self, message: Message, now: float) -> None:
        """Take one answer."""
        if self.done:
            return
        match message:
            case SealReply() if message.epoch == self._epoch:
                self._on_seal_reply(message, now)
            case LogReply() if message.epoch == self._epoch:
                self._on_log_reply(message, now)
            case EpochRefused() if message.epoch == self._epoch:
                self._on_refused(message, now)

    def tick(self, now: float) -> None:
        """Ask the silent again."""
        if self.done:
            return
        if self.sealing:
            if now >= self._seal_at:
                self._seal_at = now + self._config.seal_retry_s
                self._send_seals()
            self._end_search(now)
            return
        for fetch in self._fetches.values():
            if not fetch.done and now >= fetch.ask_at:
                if fetch.attempts >= 4 * len(fetch.sources) + self._given_up:
                    self._given_up += 1  # if it was only slow, it is given twice as long next time
                    self._begin_sealing()  # if it is gone, any other read quorum will do
                    return
                self._ask(fetch, now)

    # ---- step 2: seal ----------------------------------------------------------------------------

    def _begin_sealing(self) -> None:
        """Start a round. Its requests share one id, so that answers to an earlier one are told."""
        self._request_id += 1
        self._witnesses.begin_round()
        self._fetches = {}
        self.found_vdl = None
        self._seal_at = 0.0
        self._note(events.SealingStarted, self._epoch)

    def _send_seals(self) -> None:
        for pg_id, model in self._groups.items():
            for segment in model.members:
                if segment not in self._witnesses.replies[pg_id]:
                    self._seal(segment)

    def _seal(self, segment: SegmentId) -> None:
        heard = self._witnesses.heard_of(segment)
        self._sends.append((segment, Seal(self._epoch, self._request_id, heard)))

    def _on_refused(self, refusal: EpochRefused, now: float) -> None:
        """A higher epoch is about."""
        if refusal.sealed > self._epoch:
            self._go_above(refusal.sealed, f"{refusal.segment} has sealed", now)

    def _go_above(self, epoch: VolumeEpoch, why: str, now: float) -> None:
        """Choose an epoch above one that is about, unless we had already passed the seal."""
        self._seal_attempts += 1
        if not self.sealing or self._seal_attempts > self._config.seal_attempts:
            self.error = Fenced(f"epoch {self._epoch.of(self._name)}: segment {why} epoch {epoch}")
            return
        self._epoch = VolumeEpoch(epoch.counter + 1, self._epoch.writer_id)
        self._begin_sealing()
        self.tick(now)

    def _on_seal_reply(self, reply: SealReply, now: float) -> None:
        pg_id = self._pg_of.get(reply.segment)
        if pg_id is None or reply.request_id != self._request_id:
            return
        heard = max((mark.epoch for mark in marks_of(reply.heard).values()), default=NO_EPOCH)
        if heard > self._epoch:
            # That was said behind the answers to this seal: next to them it would look as if those
            # who answered had since been rolled back.
            self._go_above(heard, f"{reply.segment} has heard of", now)
            return
        if self.sealing:
            self._note_answer(reply)
        gone = self._witnesses.add(reply, late=not self.sealing)
        for segment in gone:
            self._note(events.RollbackFound, segment, self.rolled_back[segment])
            self._seal(segment)  # which tells it so
        too_few = gone and self._witnesses.too_few_left(self._lost(), read_only=self._read_only)
        if too_few:
            self.error = VolumeRolledBack(f"{too_few}; {OVERRIDE}")
        elif self.sealing:
            self._fetch_if_sealed(now)
        elif gone:
            self._begin_sealing()  # it may have counted

    def _note_answer(self, reply: SealReply) -> None:
        self._note(
            events.SealAnswered,
            self._epoch, reply.segment, reply.scl, reply.vdl, reply.table.epoch,
            reply.table.settled,
        )  # fmt: skip

    def _fetch_if_sealed(self, now: float) -> None:
        if self._witnesses.has_read_quorums():
            self._begin_fetching(now)

    # ---- step 5: fetch ---------------------------------------------------------------------------

    def _begin_fetching(self, now: float) -> None:
        groups = self._witnesses.replies
        everyone = [reply for group in groups.values() for reply in group.values()]
        table, anchor = adopted_table(everyone), announced_vdl(everyone)
        for pg_id, replies in groups.items():
            sources = log_sources([*replies.values()], table)
            target = sources[0].scl
            fetch = _Fetch([each.segment for each in sources], target, anchor)
            fetch.done = target <= anchor
            self._fetches[pg_id] = fetch
            if not fetch.done:
                self._ask(fetch, now)
        self._finish_if_fetched(now)

    def _ask(self, fetch: _Fetch, now: float) -> None:
        """Ask a source; a slow one is given more time each round, and may answer still."""
        rounds, turn = divmod(fetch.attempts, len(fetch.sources))
        fetch.attempts += 1
        fetch.ask_at = now + self._config.seal_retry_s * 2.0**rounds
        request = FetchLog(self._epoch, self._request_id, fetch.after_lsn, self._config.batch_bytes)
        self._sends.append((fetch.sources[turn], request))

    def _on_log_reply(self, reply: LogReply, now: float) -> None:
        """Take the next records. A reply that brings none is left to the next attempt."""
        pg_id = self._pg_of.get(reply.segment)
        fetch = self._fetches.get(pg_id) if pg_id is not None else None
        if fetch is None or fetch.done or reply.request_id != self._request_id:
            return
        if reply.after_lsn != fetch.after_lsn or reply.through_lsn <= fetch.after_lsn:
            return
        try:
            records = read_records(reply.records)
        except MalformedMessage:
            return
        fetch.records.extend(records)
        self._note(events.LogFetched, self._epoch, reply.segment, records)
        fetch.after_lsn = reply.through_lsn
        fetch.done = fetch.after_lsn >= fetch.target_lsn
        fetch.attempts = 0
        if fetch.done:
            self._finish_if_fetched(now)
        else:
            self._ask(fetch, now)

    def _finish_if_fetched(self, now: float) -> None:
        if not all(fetch.done for fetch in self._fetches.values()):
            return
        groups = self._witnesses.replies
        replies = {pg_id: list(group.values()) for pg_id, group in groups.items()}
        fetched = {pg_id: fetch.records for pg_id, fetch in self._fetches.items()}
        plan = plan_recovery(self._epoch, self._lal, replies, fetched, self._config.retention_lsns)
        if plan.vdl < self.known_vdl:
            self._search(plan.vdl, now)
            return
        witnesses = self._witnesses
        heard = {each: witnesses.heard_of(each) for each in self._pg_of}
        self.plan = attrs.evolve(plan, heard=heard, rolled_back=dict(witnesses.rolled_back))
        self._note(events.RecoveryPlanned, self._epoch, self.plan)

    # ---- less than the volume once had -----------------------------------------------------------

    def _search(self, vdl: Lsn, now: float) -> None:
        """Those who have answered know of less than the volume had: wait for the others."""
        self.found_vdl = vdl
        self._fetches = {}
        if self._search_until is None:
            self._search_until = now + self._config.read_timeout_s
        late = self._witnesses.add_late()
        for reply in late:
            self._note_answer(reply)
        if late:
            self._fetch_if_sealed(now)
        else:
            self._end_search(now)

    def _end_search(self, now: float) -> None:
        """Give up once all have answered who can, or patience has run out."""
        if self.found_vdl is None or self._search_until is None:
            return
        missing = self._witnesses.silent(self._lost())
        if missing and now < self._search_until:
            return
        if self._accepts_rollback:
            self.known_vdl = 0  # they know of all that is left
            self._fetch_if_sealed(now)
        else:
            found = self._witnesses.found(missing)
            self.error = VolumeRolledBack(
                f"the volume had reached VDL {self.known_vdl}, and {found} of VDL "
                f"{self.found_vdl} at most: expected the disks as they were; {OVERRIDE}"
            )

    def _note(self, event: Callable[P, Event], *values: P.args, **named: P.kwargs) -> None:
        if self._trace is not None:
            self._trace(self._name, event(*values, **named))
