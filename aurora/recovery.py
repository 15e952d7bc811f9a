"""Opening a volume that another writer has left: the eight steps of protocol §7, decided purely.

`plan_recovery` is steps 3 to 6: seal replies and fetched records in, the decision out. `Recovery`
is the conversation around it, steps 1, 2 and 5: it seals, fetches, and ends with a plan. Steps 7
and 8 are a writer's: `WriterCore` opened with the plan installs the table, re-replicates, and lets
nobody in until a write quorum of every protection group has both.

Nothing here reads an SCL that was not sent after its segment's seal, and any read quorum will do:
if the segment that holds most falls silent, the whole round starts over with those that answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain as chained
from typing import ParamSpec

import attrs

from aurora import events
from aurora.config import EngineConfig
from aurora.lsn_allocator import lsn_limit
from aurora.quorum import QuorumModel
from aurora.recovery_plan import RecoveryPlan
from segments.protocol.errors import Fenced, MalformedMessage
from segments.protocol.events import Event, Tracer
from segments.protocol.ids import MAX_LSN, Lsn, PgId, SegmentId, VolumeEpoch
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
        trace: Tracer | None = None,
        name: str = "writer",
    ) -> None:
        """``groups`` and ``lal`` are the volume's.

        ``counter`` is a guess at an epoch that is high enough; refusals correct it.
        """
        self.plan: RecoveryPlan | None = None
        self.error: Fenced | None = None
        self._groups = groups
        self._lal = lal
        self._config = config
        self._trace = trace
        self._name = name
        self._pg_of = {each: pg_id for pg_id, model in groups.items() for each in model.members}
        self._epoch = VolumeEpoch(counter, writer_id)
        self._seal_attempts = 0
        self._given_up = 0
        self._request_id = 0
        self._replies: dict[PgId, dict[SegmentId, SealReply]] = {}
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
            pg_id: max(0, model.read - len(self._replies[pg_id]))
            for pg_id, model in self._groups.items()
        }

    @property
    def answered(self) -> frozenset[SegmentId]:
        """Who has sealed the epoch, as far as was heard in this round."""
        return frozenset(chained.from_iterable(self._replies.values()))

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
        self._replies = {pg_id: {} for pg_id in self._groups}
        self._fetches = {}
        self._seal_at = 0.0
        self._note(events.SealingStarted, self._epoch)

    def _send_seals(self) -> None:
        seal = Seal(self._epoch, self._request_id)
        for pg_id, model in self._groups.items():
            for segment in model.members:
                if segment not in self._replies[pg_id]:
                    self._sends.append((segment, seal))

    def _on_refused(self, refusal: EpochRefused, now: float) -> None:
        """A higher epoch is about: go above it, unless we had already passed the seal."""
        if refusal.sealed <= self._epoch:
            return
        self._seal_attempts += 1
        if not self.sealing or self._seal_attempts > self._config.seal_attempts:
            self.error = Fenced(
                f"epoch {self._epoch.of(self._name)}: segment {refusal.segment} has sealed "
                f"epoch {refusal.sealed}"
            )
            return
        self._epoch = VolumeEpoch(refusal.sealed.counter + 1, self._epoch.writer_id)
        self._begin_sealing()
        self.tick(now)

    def _on_seal_reply(self, reply: SealReply, now: float) -> None:
        pg_id = self._pg_of.get(reply.segment)
        if pg_id is None or not self.sealing or reply.request_id != self._request_id:
            return
        self._replies[pg_id][reply.segment] = reply
        self._note(
            events.SealAnswered,
            self._epoch, reply.segment, reply.scl, reply.vdl, reply.table.epoch,
            reply.table.settled,
        )  # fmt: skip
        if all(model.has_read(self._replies[each]) for each, model in self._groups.items()):
            self._begin_fetching(now)

    # ---- step 5: fetch ---------------------------------------------------------------------------

    def _begin_fetching(self, now: float) -> None:
        everyone = [reply for group in self._replies.values() for reply in group.values()]
        table, anchor = adopted_table(everyone), announced_vdl(everyone)
        for pg_id, replies in self._replies.items():
            sources = log_sources([*replies.values()], table)
            target = sources[0].scl
            fetch = _Fetch([each.segment for each in sources], target, anchor)
            fetch.done = target <= anchor
            self._fetches[pg_id] = fetch
            if not fetch.done:
                self._ask(fetch, now)
        self._finish_if_fetched()

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
            self._finish_if_fetched()
        else:
            self._ask(fetch, now)

    def _finish_if_fetched(self) -> None:
        if not all(fetch.done for fetch in self._fetches.values()):
            return
        replies = {pg_id: list(group.values()) for pg_id, group in self._replies.items()}
        fetched = {pg_id: fetch.records for pg_id, fetch in self._fetches.items()}
        self.plan = plan_recovery(
            self._epoch, self._lal, replies, fetched, self._config.retention_lsns
        )
        self._note(events.RecoveryPlanned, self._epoch, self.plan)

    def _note(self, event: Callable[P, Event], *values: P.args, **named: P.kwargs) -> None:
        if self._trace is not None:
            self._trace(self._name, event(*values, **named))
