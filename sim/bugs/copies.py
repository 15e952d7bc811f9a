"""Bugs of what a segment keeps: gossip, pages, compaction, restarts, damage, disks that refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sim.bugs.plan import ALL, Plan
from sim.bugs.registry import Bug, Edit

_STATE: Final = "segments.state:SegmentState"
_CHECKPOINT: Final = f"{_STATE}.checkpoint_frames"
_GOSSIP: Final = "segments.gossip:Gossip"
_WHOLE: Final = f"{_STATE}.whole"
_PERSIST: Final = "segments.server:SegmentServer._persist"

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
        name="pages-of-any-table",
        summary="page images are taken from a peer with an older truncation table",
        section="protocol §8",
        edits=(
            Edit(
                f"{_GOSSIP}.step",
                "if table.epoch < self._state.table.epoch:",
                "older = table.epoch < self._state.table.epoch\n"
                "    if older and not isinstance(message, GossipPages):",
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
    Bug(
        name="torn-tail-cut-too-far",
        summary="a restart cuts the last whole frame off together with the torn one",
        section="protocol §6",
        edits=(
            Edit(
                "segments.restart:plan_restart_steps",
                "        found.durable_length,\n",
                "        found.frames[-1].start if found.torn_bytes else found.durable_length,\n",
            ),
        ),
    ),
    Bug(
        name="failed-sync-forgiven",
        summary="a sync that failed is taken for one that was only slow",
        section="protocol §4, step 3",
        edits=(
            Edit(
                _PERSIST,
                "        except StorageBroken:\n            raise",
                "        except StorageBroken:\n            pass",
            ),
        ),
    ),
    Bug(
        name="failed-promise-forgiven",
        summary="a promise that the disk refuses is not written again",
        section="protocol §8",
        edits=(
            Edit(
                "segments.server:SegmentServer._keep_promise",
                "await trio.sleep(self._config.storage_retry_s)",
                "return",
            ),
        ),
    ),
    Bug(
        name="full-disk-is-lost",
        summary="a segment is given up for good when its disk is full",
        section="protocol §9",
        edits=(
            Edit(
                _PERSIST,
                "        except StorageFailed as error:\n",
                "        except StorageFailed as error:\n"
                "            from segments.protocol.errors import SegmentLost, StorageFull\n"
                "            if isinstance(error, StorageFull):\n"
                "                raise SegmentLost(str(error)) from error\n",
            ),
        ),
    ),
    Bug(
        name="scrub-mends-nothing",
        summary="damage that the scrub meets is counted, and stays",
        section="protocol §6",
        edits=(
            Edit(
                "segments.maintenance:Maintenance.require_rewrite", "self._rewrite = True", "pass"
            ),
        ),
    ),
    Bug(
        name="bad-promise-stays",
        summary="a promise slot that the scrub finds spoilt is counted, and stays",
        section="protocol §8",
        edits=(
            Edit(
                "segments.maintenance:Maintenance.promises_scrubbed",
                "self.promise_due = True",
                "pass",
            ),
        ),
    ),
    Bug(
        name="whole-at-the-vdl",
        summary="a damaged segment calls itself whole when it is at the VDL that it knows",
        section="protocol §8",
        edits=(Edit(_WHOLE, ">= self._repair_lsn and", ">= min(self._repair_lsn, self.vdl) and"),),
    ),
    Bug(
        name="compacts-before-it-is-whole",
        summary="a damaged log is written anew before it is repaired, and looks sound from then on",
        section="protocol §8",
        edits=(
            Edit(
                "segments.maintenance:Maintenance.compaction_due",
                "not self._state.whole or ",
                "",
            ),
        ),
    ),
    Bug(
        name="damaged-votes",
        summary="a segment that is not whole answers a seal",
        section="protocol §8",
        edits=(
            Edit("segments.core:SegmentCore._on_seal", "if self.state.whole:", "if True:"),
            Edit(
                f"{_STATE}.seal_reply", 'assert self.whole, f"{segment} is no witness"', "pass"
            ),
        ),
    ),
    Bug(
        name="waits-for-what-was-annulled",
        summary="a damaged segment waits for peers to bring records that its table annuls",
        section="protocol §8",
        edits=(
            Edit(
                f"{_STATE}.adopt_table",
                "self._repair_lsn = table.survivor(self._repair_lsn)",
                "pass",
            ),
        ),
    ),
)

_FIRST_RECORDS_AT: Final = 70
"""A byte of the frame with the first records in the log of a segment."""


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
    plan.fault(330, "crash", "A")
    plan.fault(331, "restart", "A")
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


def torn_once() -> Plan:
    """F loses power in the middle of a write, and goes on behind what is left of it."""
    plan = Plan(end_ms=300)
    plan.fault(5, "slow_disk", "F", factor=50)
    for turn in range(6):
        start = 10 + 40 * turn
        plan.put(start, turn)
        plan.put(start + 10, turn)
        plan.fault(start + 12, "crash", "F")
        plan.fault(start + 13, "restart", "F")
    return plan


def sync_refused() -> Plan:
    """A's disk refuses to sync a write."""
    plan = Plan()
    plan.fault(5, "fail_syncs", "A", count=1)
    plan.put(10, 0)
    plan.put(20, 1)
    return plan


def promise_refused() -> Plan:
    """A's disk takes a seal, and refuses the promise beside it."""
    plan = Plan()
    plan.put(10, 0)
    plan.fault(20, "recover")
    plan.fault(20.15, "fail_writes", "A", count=1)
    return plan


def three_full() -> Plan:
    """Three disks are full for a while."""
    plan = Plan()
    plan.fault(5, "disk_full", "A,B,C")
    plan.put(10, 0)
    plan.fault(30, "disk_free", "A,B,C")
    return plan


def damaged_above_its_vdl() -> Plan:
    """A holds three records that no quorum has; the first rots, and it restarts."""
    plan = Plan()
    plan.keep_apart(5)
    plan.part(5, "D,E,F", "writer-1")
    for client in range(3):
        plan.put(10 + 2 * client, client, client=client)
    plan.fault(20, "bit_rot", "A", bits=1, offset=_FIRST_RECORDS_AT)
    plan.part(20, "A", "writer-1")
    plan.fault(21, "crash", "A")
    plan.fault(22, "restart", "A")
    return plan


def damaged_and_kept_from_help() -> Plan:
    """A is damaged, restarts alone, has time to scrub its disk, and restarts again."""
    plan = Plan(end_ms=500, scrub_interval_ns=50_000_000)
    for at_ms in (10, 12, 14):
        plan.put(at_ms, 0)
    plan.part(20, "A", "B,C,D,E,F,writer")
    plan.fault(20, "bit_rot", "A", bits=1, offset=_FIRST_RECORDS_AT)
    plan.fault(20, "crash", "A")
    plan.fault(21, "restart", "A")
    plan.fault(400, "crash", "A")
    plan.fault(401, "restart", "A")
    return plan


def damaged_witness() -> Plan:
    """Two writes reach A to D; A is damaged, and answers with E and F."""
    plan = Plan()
    plan.keep_apart(5)
    plan.cut(5, "writer-1", "E,F")
    plan.put(10, 0)
    plan.put(12, 1)
    plan.fault(20, "bit_rot", "A", bits=1, offset=_FIRST_RECORDS_AT)
    plan.fault(20, "crash", "A")
    plan.fault(20, "crash_writer")
    plan.fault(21, "restart", "A")
    plan.part(21, "B,C,D", "writer-2")
    plan.fault(22, "recover")
    return plan


def damage_annulled() -> Plan:
    """A lacks a record that nobody else is to have any more: a recovery annuls it."""
    plan = Plan(end_ms=200)
    plan.put(6, 0)
    plan.keep_apart(9)
    plan.part(9, "D,E,F", "writer-1")
    plan.put(10, 1, client=1)
    plan.put(12, 2, client=2)
    plan.fault(20, "crash_writer")
    plan.fault(20, "bit_rot", "A", bits=1, offset=_FIRST_RECORDS_AT + 61)
    plan.fault(20, "crash", "A")
    plan.fault(21, "restart", "A")
    plan.part(21, "A,B,C", "writer-2")
    plan.fault(22, "recover")
    return plan


PLANS: Final[dict[str, Callable[[], Plan]]] = {
    "gossip-skips-what-is-collected": behind_the_collected,
    "whole-before-the-last-part": compacted_and_restarted,
    "images-over-a-gap": image_over_a_gap,
    "compaction-stops-at-a-gap": compaction_over_a_gap,
    "compaction-forgets-ranges": compacted_with_a_range,
    "compaction-forgets-the-vdl": compacted_and_restarted,
    "torn-tail-cut-too-far": torn_once,
    "failed-sync-forgiven": sync_refused,
    "failed-promise-forgiven": promise_refused,
    "full-disk-is-lost": three_full,
    "whole-at-the-vdl": damaged_above_its_vdl,
    "compacts-before-it-is-whole": damaged_and_kept_from_help,
    "damaged-votes": damaged_witness,
    "waits-for-what-was-annulled": damage_annulled,
}
