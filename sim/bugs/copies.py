"""Bugs of what a segment keeps: what it takes from peers, its images, its log written anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sim.bugs.plan import ALL, Plan
from sim.bugs.registry import Bug, Edit

_STATE: Final = "segments.state:SegmentState"
_CHECKPOINT: Final = f"{_STATE}.checkpoint_frames"
_GOSSIP: Final = "segments.gossip:Gossip"

COPY_BUGS: Final = (
    Bug(
        name="gossip-skips-what-is-collected",
        summary="a peer that is behind the collected log is sent the records that are left",
        section="protocol §8",
        edits=(
            Edit(f"{_GOSSIP}._answer_status", "if status.scl < state.index.base_lsn:", "if False:"),
            Edit(
                f"{_GOSSIP}._answer_status",
                "records_after(status.scl,",
                "records_after(max(status.scl, state.index.base_lsn),",
            ),
        ),
    ),
    Bug(
        name="hydration-waits-for-its-peer",
        summary="a peer that goes away while it sends its pages is waited for",
        section="protocol §8",
        edits=(Edit(f"{_GOSSIP}.tick", "self._hydration = None", "pass"),),
    ),
    Bug(
        name="hydrated-vdl-forgotten",
        summary="with the pages of a peer its VDL is taken over, and is not written down",
        section="protocol §8",
        edits=(Edit(f"{_GOSSIP}._checkpoint", "state.table, state.vdl,", "state.table, 0,"),),
    ),
    Bug(
        name="compaction-amid-hydration",
        summary="a log is written anew while the pages of a peer are in it only in part",
        section="protocol §8",
        edits=(Edit("segments.core:SegmentCore.take_write", " and not self._hydrating", ""),),
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
        name="whole-before-the-last-part",
        summary="a checkpoint counts as whole one part too early",
        section="protocol §6",
        edits=(
            Edit(
                "segments.state:_CheckpointReader.complete",
                "self._missing == 0",
                "self._missing <= 1",
            ),
        ),
    ),
    Bug(
        name="images-over-a-gap",
        summary="page images are made past a gap, without the records that are missing there",
        section="protocol §6",
        edits=(
            Edit(
                "segments.materializer:Materializer.coalesce",
                "end = min(self._vdl, self._index.scl)",
                "end = self._vdl",
            ),
            Edit(
                "segments.materializer:Materializer.coalesce",
                "for record in self._index.linked_after(done):",
                "for record in [each for each in self._index.held() if each.lsn > done]:",
            ),
        ),
    ),
    Bug(
        name="compaction-stops-at-a-gap",
        summary="a log that is written anew leaves out what lies above a gap",
        section="protocol §6",
        edits=(
            Edit(
                "segments.chain_index:ChainIndex.held_in_runs",
                "for lsns in (self._chain, self._unlinked):",
                "for lsns in (self._chain,):",
            ),
        ),
    ),
    Bug(
        name="compaction-forgets-ranges",
        summary="a log that is written anew keeps the epoch of its table, and no range",
        section="protocol §6",
        edits=(
            Edit(
                _CHECKPOINT,
                "self.epoch, self.table, self.vdl,",
                "self.epoch, TruncationTable(self.table.epoch), self.vdl,",
            ),
        ),
    ),
    Bug(
        name="compaction-forgets-the-vdl",
        summary="a log that is written anew leaves out the VDL announced",
        section="protocol §6",
        edits=(Edit(_CHECKPOINT, "self.table, self.vdl,", "self.table, 0,"),),
    ),
)


def behind_the_collected() -> Plan:
    """F is away while the others collect the log, and a new writer has nothing of it either."""
    plan = Plan(end_ms=1_000, retention_lsns=0, collect_records=1)
    plan.part(5, "F", "A,B,C,D,E,writer")
    for at_ms in (6, 8, 10):
        plan.put(at_ms, 0)
    plan.fault(400, "recover")
    plan.put(420, 1, client=1)
    plan.fault(500, "heal_network")
    return plan


def image_over_a_gap() -> Plan:
    """A lacks LSN 1 when it is time to make images, and has LSN 2."""
    plan = Plan(end_ms=400, image_interval=1, resend_min_ns=200_000_000)
    plan.keep_apart(5)
    plan.cut(5, "writer-1", "A")
    plan.put(10, 0)
    plan.fault(11, "heal_network")
    plan.keep_apart(11)
    plan.put(12, 0)
    plan.put(14, 0)
    return plan


def compaction_over_a_gap() -> Plan:
    """A lacks LSN 4 and 5 and has 6 when it writes its log anew; 4 and 5 come alone."""
    plan = _compacting(batch_bytes=16 << 10)
    for at_ms in (6, 8, 10):
        plan.put(at_ms, 0)
    plan.cut(300, "writer-1", "A")
    plan.keep_apart(300)
    for client in (1, 2):
        plan.put(300.5, 0, client=client, length=8_000)
    plan.fault(301.2, "heal_network")
    plan.keep_apart(301.2)
    plan.put(302, 0, client=3, length=5_000)
    plan.fault(350, "crash", "A")
    plan.fault(351, "restart", "A")
    return plan


def _compacting(end_ms: float = 800, **knobs: int) -> Plan:
    """Everything is collected at once, and any log that is not small is soon written anew."""
    return Plan(
        end_ms=end_ms, retention_lsns=0, collect_records=1, compact_records=1,
        compact_bytes=4 << 10, **knobs,
    )  # fmt: skip


def compacted_with_a_range() -> Plan:
    """F has what was annulled; the others compact, lose power, and open to another writer."""
    plan = _compacting(lal=20)
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


def compacted_and_restarted() -> Plan:
    """All compact, and lose power."""
    plan = _compacting()
    for at_ms in (6, 8, 10):
        plan.put(at_ms, 0, length=8_000)
    plan.fault(400, "crash_writer")
    plan.fault(400, "crash", ALL)
    plan.fault(401, "restart", ALL)
    plan.fault(402, "recover")
    return plan


def compacted_amid_its_pages() -> Plan:
    """F takes pages part by part, slowly, when it collects what it has had itself."""
    plan = Plan(
        end_ms=1_200, retention_lsns=0, collect_records=1, compact_records=1, compact_bytes=0,
        write_bytes=1 << 10, gossip_bytes=16 << 10, gossip_interval_ns=20_000_000,
    )  # fmt: skip
    for page in range(4):
        plan.put(5 + page / 4, page)
    plan.part(8, "F", "A,B,C,D,E,writer")
    for page in range(8):
        plan.put(10 + 2 * page, page)
    plan.fault(400, "slow_disk", "F", factor=200)
    plan.fault(500, "heal_network")
    return plan


def peer_lost_amid_its_pages() -> Plan:
    """F takes the pages of A, slowly and in parts, when A loses its disk."""
    plan = Plan(
        end_ms=1_000, retention_lsns=0, collect_records=1, gossip_bytes=16 << 10,
        gossip_interval_ns=20_000_000,
    )  # fmt: skip
    plan.part(5, "F", "A,B,C,D,E,writer")
    for page in range(8):
        plan.put(6 + 2 * page, page)
    plan.fault(400, "recover")
    plan.fault(500, "heal_network")
    plan.part(500, "F", "B,C,D,E,writer")
    plan.fault(500, "slow", "A", factor=100)
    plan.fault(560, "wipe", "A")
    plan.fault(600, "heal_network")
    return plan


PLANS: Final[dict[str, Callable[[], Plan]]] = {
    "gossip-skips-what-is-collected": behind_the_collected,
    "hydrated-vdl-forgotten": behind_the_collected,
    "compaction-amid-hydration": compacted_amid_its_pages,
    "whole-before-the-last-part": compacted_and_restarted,
    "images-over-a-gap": image_over_a_gap,
    "compaction-stops-at-a-gap": compaction_over_a_gap,
    "compaction-forgets-ranges": compacted_with_a_range,
    "compaction-forgets-the-vdl": compacted_and_restarted,
    "hydration-waits-for-its-peer": peer_lost_amid_its_pages,
}
