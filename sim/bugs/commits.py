"""Bugs of the way of a commit: sent, sent again, acknowledged, counted, reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sim.bugs.plan import ALL, Plan
from sim.bugs.registry import Bug, Edit

_STREAM: Final = "aurora.segment_stream:SegmentStream"
_OBSERVE: Final = "aurora.quorum:QuorumTracker.observe_scl"

COMMIT_BUGS: Final = (
    Bug(
        name="never-resends",
        summary="a batch that is not acknowledged in time is left to gossip",
        section="protocol §4, step 5",
        edits=(
            Edit(f"{_STREAM}.on_timer", "self._rewind()", "self._in_flight.clear()"),
            Edit(f"{_STREAM}.on_need_table", "self._rewind()", "self._in_flight.clear()"),
        ),
    ),
    Bug(
        name="resends-all-but-the-first",
        summary="a stream that falls back goes on behind the oldest batch in flight",
        section="protocol §4, step 5",
        edits=(
            Edit(
                f"{_STREAM}._rewind",
                "    self._in_flight.clear()\n    self.sent_lsn = self.acked_lsn",
                "    lost = self._in_flight\n"
                "    self.sent_lsn = lost[0].last_lsn if lost else self.acked_lsn\n"
                "    lost.clear()",
            ),
        ),
    ),
    Bug(
        name="ack-settles-by-number",
        summary="an acknowledgement settles all earlier batches, whatever the SCL in it says",
        section="protocol §4, step 5",
        edits=(
            Edit(
                f"{_STREAM}.on_ack",
                "in_flight[0].last_lsn <= self.acked_lsn",
                "in_flight[0].seq <= ack.seq",
            ),
        ),
    ),
    Bug(
        name="pgcl-follows-scls",
        summary="the last SCL heard of a segment counts, not the highest",
        section="protocol §3",
        edits=(
            Edit(
                _OBSERVE,
                "known is None or scl <= known or epoch != self._epoch",
                "known is None or epoch != self._epoch",
            ),
            Edit(_OBSERVE, "if known <= self._pgcl < scl:", "if True:"),
        ),
    ),
    Bug(
        name="vcl-by-whole-mtrs",
        summary="the VCL falls back to the last whole mini-transaction",
        section="protocol §3",
        edits=(
            Edit(
                "aurora.consistency:VolumeConsistency._complete",
                "    self._complete_lsn = last_lsn\n"
                "    if not ends_mtr:\n"
                "        self._unfinished.append(run)\n"
                "        return\n",
                "    if not ends_mtr:\n"
                "        self._unfinished.append(run)\n"
                "        return\n"
                "    self._complete_lsn = last_lsn\n",
            ),
        ),
    ),
    Bug(
        name="room-for-one",
        summary="a mini-transaction is let into the log when one record of it has room",
        section="protocol §4, step 1",
        edits=(
            Edit("aurora.commit:PendingCommit._go", "has_room(len(writes))", "has_room(1)"),
            Edit(
                "aurora.commit:PendingCommit._stand_in_line",
                "while not core.has_room(count):",
                "while not core.has_room(1):",
            ),
            Edit(
                "aurora.lsn_allocator:LsnAllocator.allocate",
                "not self.can_allocate(count, vdl)",
                "not self.can_allocate(1, vdl)",
            ),
        ),
    ),
    Bug(
        name="fenced-commits-succeed",
        summary="commits that wait when their writer is deposed are reported as durable",
        section="protocol §7",
        edits=(Edit("aurora.commit_queue:CommitQueue.fail_all", ".settle(error)", ".settle()"),),
    ),
    Bug(
        name="deaf-to-refusals",
        summary="a writer that is refused for its epoch goes on",
        section="protocol §7",
        edits=(
            Edit("aurora.core:WriterCore._on_refused", "self.fenced = message.sealed", "return"),
        ),
    ),
    Bug(
        name="heartbeat-announces-vcl",
        summary="the VCL is announced to segments in place of the VDL",
        section="protocol §3",
        edits=(Edit("aurora.core:WriterCore._announce", "self.vdl if", "self.vcl if"),),
    ),
    Bug(
        name="plan-announced-as-durable",
        summary="the VDL that a recovery has planned is announced before the volume is open",
        section="protocol §7, step 7",
        edits=(
            Edit("aurora.core:WriterCore._announce", "self.vdl if self.opened else 0", "self.vdl"),
        ),
    ),
)


def lost_to_all() -> Plan:
    """The one batch there is reaches nobody, while its writer lives."""
    plan = Plan(end_ms=300)
    plan.cut(5, "writer-1", ALL)
    plan.put(10, 0)
    plan.fault(11, "heal_network")
    return plan


def lost_and_followed() -> Plan:
    """The first of two batches reaches nobody, the second everybody."""
    plan = lost_to_all()
    plan.put(12, 1, client=1)
    return plan


def acks_overtake() -> Plan:
    """Group 0's acknowledgements of LSN 2 are slow, and come after those of 3; then 1 is there."""
    group = "A0,B0,C0,D0,E0,F0"
    plan = Plan(pg_count=2)
    plan.part(5, "A1,B1,C1,D1,E1,F1", "writer-1")
    plan.put(10, 1, client=0)
    plan.put(11, 0, client=1)
    plan.fault(11.15, "slow", group, factor=100)
    plan.fault(12, "slow", group, factor=1)
    plan.put(13, 0, client=2)
    plan.fault(25, "heal_network")
    return plan


def half_in_steps() -> Plan:
    """A mini-transaction fills two batches of one group; the other group's part waits."""
    plan = Plan(pg_count=2, batch_bytes=16 << 10, batches_in_flight=1)
    plan.part(5, "A1,B1,C1,D1,E1,F1", "writer-1")
    plan.put(10, 0, 2, 4, 1, length=8_000)
    return plan


def two_for_one() -> Plan:
    """At an allocation limit of two, while no quorum answers: a write of one, and one of two."""
    plan = Plan(lal=2)
    plan.part(5, "D,E,F", "writer-1")
    plan.put(10, 0, client=0)
    plan.put(11, 1, 2, client=1)
    return plan


def deposed_while_committing() -> Plan:
    """A writer that is cut off waits for a commit when it hears that it was deposed."""
    plan = Plan()
    plan.put(6, 0, client=0)
    plan.part(10, "writer-1", ALL)
    plan.fault(11, "take_over")
    plan.put(20, 0, client=0)
    plan.fault(25, "heal_network")
    return plan


def half_an_mtr_announced() -> Plan:
    """Half a mini-transaction is complete for longer than a heartbeat; then its writer crashes."""
    plan = Plan(end_ms=400, pg_count=2)
    plan.part(5, "A1,B1,C1,D1,E1,F1", "writer-1")
    plan.put(10, 0, 1)
    plan.fault(300, "recover")
    return plan


def planned_and_gone() -> Plan:
    """LSN 1 is on A0 alone. Writer 2 finds it, tells group 1 of its plan, and crashes."""
    plan = Plan(end_ms=600, pg_count=2, lal=20)
    plan.keep_apart(5)
    plan.cut(5, "writer-1", "B0,C0,D0,E0,F0")
    plan.put(10, 0)
    plan.fault(15, "crash_writer")
    plan.cut(15, "D0,E0,F0", "writer-2")
    plan.fault(16, "recover")
    plan.cut(16.55, "writer-2", "A0,B0,C0,D0,E0,F0")
    plan.fault(300, "crash_writer")
    plan.part(300, "A0", "writer-3")
    plan.fault(301, "recover")
    return plan


PLANS: Final[dict[str, Callable[[], Plan]]] = {
    "never-resends": lost_to_all,
    "resends-all-but-the-first": lost_to_all,
    "ack-settles-by-number": lost_and_followed,
    "pgcl-follows-scls": acks_overtake,
    "vcl-by-whole-mtrs": half_in_steps,
    "room-for-one": two_for_one,
    "fenced-commits-succeed": deposed_while_committing,
    "deaf-to-refusals": deposed_while_committing,
    "heartbeat-announces-vcl": half_an_mtr_announced,
    "plan-announced-as-durable": planned_and_gone,
}
