"""Bugs of what a segment has promised and of what a recovery annuls: epochs, seals and tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from sim.bugs.plan import ALL, LINK, Plan
from sim.bugs.registry import Bug, Edit

_CORE: Final = "segments.core:SegmentCore"
_PLAN: Final = "aurora.recovery:plan_recovery"
_TRUNCATE: Final = "segments.chain_index:ChainIndex.truncate"
_PROMISED: Final = "segments.state:SegmentState.promised"

PROMISE_BUGS: Final = (
    Bug(
        name="seal-reply-before-settled",
        summary="a seal is answered with what was held when it came, not when it was written",
        section="protocol §7, step 2",
        edits=(
            Edit(
                f"{_CORE}._on_seal",
                "    def answer() -> None:\n        if self.state.whole:",
                "    reply = None\n"
                "    if self.state.whole:\n"
                "        epoch, request_id = message.epoch, message.request_id\n"
                "        reply = self.state.seal_reply(self.segment, epoch, request_id)\n\n"
                "    def answer() -> None:\n        if reply is not None:",
            ),
            Edit(
                f"{_CORE}._on_seal",
                "self.state.seal_reply(self.segment, message.epoch, message.request_id),",
                "reply,",
            ),
        ),
    ),
    Bug(
        name="admits-by-durable-epoch",
        summary="until a seal is on the disk, the older writer's batches are admitted behind it",
        section="protocol §7, step 2",
        edits=(
            Edit(
                f"{_CORE}._admit",
                "if epoch == self._promised:",
                "durable = epoch == self.state.epoch and isinstance(message, WriteBatch)\n"
                "    if epoch == self._promised or durable:",
            ),
            Edit(
                f"{_CORE}._apply",
                "acks.append((*pending.ack, pending.epoch))",
                "acks.append((*pending.ack, self.state.table.epoch))",
            ),
        ),
    ),
    Bug(
        name="installed-before-durable",
        summary="a truncation table is acknowledged when it is queued",
        section="protocol §7, step 7",
        edits=(
            Edit(
                f"{_CORE}._on_install_table",
                "self._take_over(message.epoch, message.table, answer)",
                "self._take_over(message.epoch, message.table, None)\n        answer()",
            ),
        ),
    ),
    Bug(
        name="range-starts-late",
        summary="the annulled range leaves out the first LSN behind the VDL",
        section="protocol §7, step 7",
        edits=(Edit(_PLAN, "extended(epoch, vdl,", "extended(epoch, min(vdl + 1, last_lsn),"),),
    ),
    Bug(
        name="range-starts-early",
        summary="the annulled range takes in the VDL",
        section="protocol §7, step 7",
        edits=(Edit(_PLAN, "extended(epoch, vdl,", "extended(epoch, max(0, vdl - 1),"),),
    ),
    Bug(
        name="adopts-and-keeps-the-linked",
        summary="a segment that adopts a table drops only what lies above a gap",
        section="protocol §8; 2017 §4.3",
        edits=(Edit(_TRUNCATE, "count_through(end - 1)", "count_through(start - 1)"),),
    ),
    Bug(
        name="adopts-and-keeps-the-unlinked",
        summary="a segment that adopts a table keeps what lies above a gap",
        section="protocol §8; 2017 §4.3",
        edits=(Edit(_TRUNCATE, "self._waiting.take_all()", "[]"),),
    ),
    Bug(
        name="tail-annulled",
        summary="a segment that adopts a table keeps what stands at the last LSN that it annuls",
        section="protocol §8; 2017 §4.3",
        edits=(
            Edit(
                "segments.protocol.truncation:TruncationTable.annuls",
                "lsn < ranges[index].end_lsn",
                "lsn < ranges[index].end_lsn - 1",
            ),
        ),
    ),
    Bug(
        name="restart-forgets-promises",
        summary="a restart believes the log alone, not the promise beside it",
        section="protocol §8",
        edits=(
            Edit(_PROMISED, "self.epoch = promise.epoch", "pass"),
            Edit(_PROMISED, "self._promised_table = promise.table_epoch", "pass"),
        ),
    ),
    Bug(
        name="promise-before-log",
        summary="the promise is written before what it promises is in the log",
        section="protocol §8",
        edits=(
            Edit(
                "segments.write_cycle:WriteCycle._store",
                "    if write.append is not None:\n"
                "        await log.append(write.append, write.top, head)\n"
                "    if write.promise is not None:\n"
                "        await self._keep_promise(write.promise)",
                "    if write.promise is not None:\n"
                "        await self._keep_promise(write.promise)\n"
                "    if write.append is not None:\n"
                "        await log.append(write.append, write.top, head)",
            ),
        ),
    ),
    Bug(
        name="promise-written-once",
        summary="of the two slots of a promise only the first one is ever written",
        section="protocol §8",
        edits=(
            Edit(
                "sim.world.disk:SimulatedStorage.write_promise",
                "put(data * _SLOTS)",
                "put(data + bytes(slots[len(data) :]))",
            ),
        ),
    ),
    Bug(
        name="seal-replies-counted-twice",
        summary="a seal reply that comes again counts as one more",
        section="protocol §7, step 2",
        edits=(
            Edit(
                "aurora.witnesses:Witnesses.add",
                "self.replies[self._pg_of[reply.segment]][reply.segment] = reply",
                "pg_id = self._pg_of[reply.segment]\n"
                "        replies, members = self.replies[pg_id], self._groups[pg_id].members\n"
                "        free = [x for x in (reply.segment, *members) if x not in replies]\n"
                "        replies[free[0] if free else reply.segment] = reply",
            ),
        ),
    ),
    Bug(
        name="part-of-a-log-believed",
        summary="the first piece of a fetched log is taken for all of it",
        section="protocol §7, step 5",
        edits=(
            Edit(
                "aurora.recovery:Recovery._on_log_reply",
                "fetch.done = fetch.after_lsn >= fetch.target_lsn",
                "fetch.done = True",
            ),
        ),
    ),
    Bug(
        name="lowest-vdl-announced",
        summary="a recovery starts from the lowest VDL announced; the log there may be collected",
        section="protocol §7, step 5",
        edits=(Edit("aurora.recovery:announced_vdl", "max(reply.vdl", "min(reply.vdl"),),
    ),
    Bug(
        name="first-group-rereplicated",
        summary="only the first protection group's records are copied to a write quorum",
        section="protocol §7, step 7",
        edits=(
            Edit(
                _PLAN,
                "if anchor < each.lsn <= vdl and",
                "if pg_id == min(fetched) and anchor < each.lsn <= vdl and",
            ),
            Edit(
                "aurora.core:WriterCore._open_if_replicated",
                "or self.pgcl(pg_id) < self._plan_tails[pg_id]",
                "or pg_id == 0 and self.pgcl(pg_id) < self._plan_tails[pg_id]",
            ),
        ),
    ),
)


def seal_behind_a_write() -> Plan:
    """A to D are busy writing a batch when a seal comes; the batch is acknowledged after that."""
    plan = Plan()
    plan.keep_apart(5)
    plan.cut(5, "writer-1", "E,F")
    plan.fault(6, "slow_disk", "A,B,C,D", factor=100)
    plan.put(10, 0)
    plan.fault(12, "take_over")
    plan.cut(12.5, "writer-2", ALL)
    return plan


def batch_behind_the_seal() -> Plan:
    """Four slow disks are busy; a seal waits for them, and a batch of the old writer comes."""
    plan = Plan(end_ms=100)
    plan.keep_apart(5)
    plan.fault(6, "slow_disk", "C,D,E,F", factor=100)
    plan.put(10, 0, client=0)
    plan.fault(12, "take_over")
    plan.cut(13, "writer-1", "A,B")
    plan.put(14, 1, client=1)
    return plan


def ragged_and_sealed() -> Plan:
    """A write reaches A, B and C; a recovery from D, E and F knows nothing of it, and writes."""
    plan = Plan(lal=20)
    plan.keep_apart(5)
    plan.part(5, "D,E,F", "writer-1")
    plan.put(10, 0)
    plan.fault(20, "crash_writer")
    plan.cut(20, "A,B,C", "writer-2")
    plan.fault(21, "recover")
    plan.fault(30, "heal_network")
    plan.put(40, 1, client=1)
    return plan


def power_lost_while_installing() -> Plan:
    """A table waits for slow disks when all six lose power; its writer has used the LSNs behind."""
    plan = Plan(lal=20)
    plan.put(10, 0)
    plan.fault(20, "recover")
    plan.fault(20.45, "slow_disk", ALL, factor=100)
    plan.put(22, 1, client=1)
    plan.fault(25, "crash", ALL)
    plan.fault(26, "restart", ALL)
    plan.fault(27, "slow_disk", ALL, factor=1)
    plan.fault(30, "recover")
    return plan


def durable_and_recovered() -> Plan:
    """A commit, and a recovery that must not annul it."""
    plan = Plan()
    plan.put(10, 0)
    plan.fault(20, "recover")
    return plan


def annulled_above_a_gap() -> Plan:
    """A lacks LSN 1 and is the only one with LSN 2, which a recovery annuls."""
    plan = Plan(lal=20)
    plan.keep_apart(5)
    plan.cut(5, "writer-1", "A")
    plan.put(10, 0)
    plan.fault(11, "heal_network")
    plan.keep_apart(11)
    plan.cut(11, "writer-1", "B,C,D,E,F")
    plan.put(11.5, 1, client=1)
    plan.fault(15, "crash_writer")
    plan.fault(16, "recover")
    return plan


def table_frame_spoilt() -> Plan:
    """E and F hold what was annulled; A rots where its table stands, restarts, and is asked."""
    plan = Plan(lal=20)
    plan.put(6, 0)
    plan.part(9, "E,F", "A,B,C,D")
    plan.cut(9, "writer-1", "A,B,C,D")
    plan.put(10, 1)
    plan.fault(15, "crash_writer")
    plan.part(15, "E,F", "writer-2")
    plan.fault(16, "recover")
    plan.put(20, 2, client=1)
    plan.put(22, 2, client=1)
    plan.fault(25, "bit_rot", "A", bits=1, frame=3)
    plan.part(25, "A", "B,C,D")
    plan.fault(26, "crash", "A")
    plan.fault(27, "restart", "A")
    plan.fault(30, "crash_writer")
    plan.part(30, "B,C,D", "writer-3")
    plan.fault(31, "recover")
    return plan


def power_lost_at_the_install() -> Plan:
    """All six lose power between the two places where a table is written down."""
    plan = Plan()
    plan.put(10, 0)
    plan.fault(20, "recover")
    plan.fault(20.85, "crash", ALL)
    plan.fault(25, "restart", ALL)
    plan.fault(26, "recover")
    return plan


def two_answer_twice() -> Plan:
    """A write reaches A to D; the next writer hears of E and F, twice of each."""
    plan = Plan(link=attrs.evolve(LINK, duplication=1.0))
    plan.keep_apart(5)
    plan.part(5, "E,F", "writer-1")
    plan.put(10, 0)
    plan.fault(20, "crash_writer")
    plan.part(20, "A,B,C,D", "writer-2")
    plan.fault(21, "recover")
    plan.fault(30, "heal_network")
    return plan


def long_log() -> Plan:
    """What a recovery has to fetch does not fit into one answer."""
    plan = Plan(batch_bytes=16 << 10)
    plan.put(10, 0, 1, 2, 3, length=8_000)
    plan.fault(20, "recover")
    return plan


def collected_meanwhile() -> Plan:
    """F knows an old VDL when the log behind it has been collected by the others."""
    plan = Plan(end_ms=700, retention_lsns=0, fold_bytes=1, collect_ratio=0.01)
    plan.put(6, 0)
    plan.part(9, "F", "A,B,C,D,E,writer")
    for at_ms in (10, 12, 14):
        plan.put(at_ms, 0)
    plan.fault(400, "crash_writer")
    plan.fault(401, "heal_network")
    plan.part(401, "A,B,C", "writer-2")
    plan.keep_apart(401)
    plan.fault(402, "recover")
    return plan


def second_group_on_one() -> Plan:
    """Only A1 has the record; a recovery that hears of it must copy it before it opens."""
    plan = Plan(pg_count=2)
    plan.keep_apart(5)
    plan.cut(5, "writer-1", "B1,C1,D1,E1,F1")
    plan.put(10, 1)
    plan.fault(15, "crash_writer")
    plan.cut(15, "D,E,F", "writer-2")
    plan.fault(16, "recover")
    plan.fault(16.5, "heal_network")
    plan.keep_apart(16.5)
    plan.get(25, 1, client=1)
    return plan


PLANS: Final[dict[str, Callable[[], Plan]]] = {
    "seal-reply-before-settled": seal_behind_a_write,
    "admits-by-durable-epoch": batch_behind_the_seal,
    "installed-before-durable": power_lost_while_installing,
    "range-starts-late": ragged_and_sealed,
    "range-starts-early": durable_and_recovered,
    "adopts-and-keeps-the-linked": ragged_and_sealed,
    "adopts-and-keeps-the-unlinked": annulled_above_a_gap,
    "restart-forgets-promises": table_frame_spoilt,
    "promise-before-log": power_lost_at_the_install,
    "seal-replies-counted-twice": two_answer_twice,
    "part-of-a-log-believed": long_log,
    "lowest-vdl-announced": collected_meanwhile,
    "first-group-rereplicated": second_group_on_one,
}
