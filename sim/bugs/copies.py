"""Bugs of what a segment takes from peers, and of its log written anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sim.bugs.plan import Plan, folding
from sim.bugs.registry import Bug, Edit

_STATE: Final = "segments.state:SegmentState"
_GOSSIP: Final = "segments.gossip:Gossip"
_BACKGROUND: Final = "segments.background:Background"

COPY_BUGS: Final = (
    Bug(
        name="gossip-skips-what-is-folded",
        summary="a peer that is behind the log is sent the records that are left of it",
        section="protocol §8",
        edits=(
            Edit(
                "segments.transfer:wanted",
                "if scl < peer.folded and not damaged_only:",
                "if False:",
            ),
            Edit(
                f"{_GOSSIP}._answer_status",
                "if state.folded <= status.scl < state.scl:",
                "if status.scl < state.scl:",
            ),
            Edit(
                f"{_GOSSIP}._answer_status",
                "runs_after(status.scl,",
                "runs_after(max(status.scl, state.folded),",
            ),
        ),
    ),
    Bug(
        name="hydration-waits-for-its-peer",
        summary="a peer that goes away while it sends a layer is waited for",
        section="protocol §8",
        edits=(Edit("segments.transfer:Transfer.pass_time", "self.given_up = True", "pass"),),
    ),
    Bug(
        name="whole-before-the-last-part",
        summary="a layer that comes from a peer counts as whole when its first part is here",
        section="protocol §8",
        edits=(Edit("segments.transfer:layer_job", "if complete:", "if True:"),),
    ),
    Bug(
        name="laggard-never-asked",
        summary="a writer never asks who was left to gossip how far that has come",
        section="protocol §4, step 5",
        edits=(
            Edit(
                "aurora.segment_stream:SegmentStream.heartbeat",
                "waiting = self.acked_lsn < self._log.tail_lsn and not self._in_flight",
                "waiting = False",
            ),
        ),
    ),
    Bug(
        name="rewrite-stops-at-a-gap",
        summary="a log that is written anew leaves out what lies above a gap",
        section="protocol §6",
        edits=(
            Edit(
                f"{_STATE}.log_frames",
                "for run in self.index.waiting_runs(limit):",
                "for run in ():",
            ),
        ),
    ),
    Bug(
        name="head-forgets-ranges",
        summary="a file of the log begins with the epoch of the table, and no range",
        section="protocol §6",
        edits=(
            Edit(
                f"{_STATE}.head",
                "self.epoch, self.table,",
                "self.epoch, TruncationTable(self.table.epoch),",
            ),
        ),
    ),
)


def behind_the_layers() -> Plan:
    """F is away while the others fold the log, and a new writer has nothing of it either."""
    plan = folding(end_ms=1_000, gossip_bytes=1 << 10)
    plan.part(5, "F", "A,B,C,D,E,writer")
    for page in range(5):
        plan.put(6 + 2 * page, page, length=600)
    plan.fault(400, "recover")
    plan.put(420, 1, client=1)
    plan.fault(500, "heal_network")
    return plan


def rewritten_over_a_gap() -> Plan:
    """A lacks LSN 4 and 5 and has 6 when it writes its log anew; 4 and 5 come alone."""
    plan = _rewriting(batch_bytes=16 << 10, resend_min_ns=100_000_000)
    plan.keep_apart(5)
    for client in range(3):
        plan.put(6, 0, client=client, length=8_000)
    plan.cut(8, "writer-1", "A")
    for client in (3, 4):
        plan.put(8.5, 0, client=client, length=8_000)
    plan.fault(9.5, "heal_network")
    plan.keep_apart(9.5)
    plan.put(10, 0, client=5, length=5_000)
    return plan


def _rewriting(end_ms: float = 800, **knobs: Any) -> Plan:
    """Everything is folded at once, and any log that is not small is soon written anew."""
    return folding(end_ms, compact_bytes=0, compact_ratio=1.1, wal_file_bytes=256 << 10, **knobs)


def rewritten_with_a_range() -> Plan:
    """F has what was annulled; the others write their logs anew, and open to another writer."""
    plan = _rewriting(lal=20)
    plan.put(6, 0)
    plan.part(9, "F", "A,B,C,D,E")
    plan.cut(9, "writer-1", "A,B,C,D,E")
    plan.put(10, 1)
    plan.fault(15, "crash_writer")
    plan.part(15, "F", "writer-2")
    plan.fault(16, "recover")
    for at_ms in (20, 22, 24):
        plan.put(at_ms, 0, client=1, length=8_000)
    plan.fault(400, "crash", "A,B,C,D,E")
    plan.fault(401, "restart", "A,B,C,D,E")
    plan.part(402, "F", "writer-3")
    plan.fault(403, "recover")
    plan.fault(500, "heal_network")
    return plan


def peer_lost_amid_its_layer() -> Plan:
    """F takes a layer of A, slowly and in parts, when A loses its disk."""
    plan = folding(
        end_ms=1_300, gossip_bytes=1 << 10, gossip_interval_ns=20_000_000,
        hydration_timeout_ns=1_000_000_000,
    )  # fmt: skip
    plan.part(5, "F", "A,B,C,D,E,writer")
    for page in range(8):
        plan.put(6 + 2 * page, page, length=8_000)
    plan.fault(400, "recover")
    plan.fault(500, "heal_network")
    plan.part(500, "F", "B,C,D,E,writer")
    plan.fault(500, "slow", "A", factor=300)
    plan.fault(1_000, "wipe", "A")
    plan.fault(1_100, "heal_network")
    return plan


PLANS: Final[dict[str, Callable[[], Plan]]] = {
    "gossip-skips-what-is-folded": behind_the_layers,
    "whole-before-the-last-part": behind_the_layers,
    "rewrite-stops-at-a-gap": rewritten_over_a_gap,
    "head-forgets-ranges": rewritten_with_a_range,
    "hydration-waits-for-its-peer": peer_lost_amid_its_layer,
}
