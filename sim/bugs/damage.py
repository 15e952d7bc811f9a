"""Bugs of what befalls disks: torn and rotten frames, restarts, writes that are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sim.bugs.copies import rewritten_with_a_range
from sim.bugs.plan import Plan
from sim.bugs.registry import Bug, Edit

_STATE: Final = "segments.state:SegmentState"
_CYCLE: Final = "segments.write_cycle:WriteCycle"
_GO_ON: Final = f"{_CYCLE}._go_on"

DAMAGE_BUGS: Final = (
    Bug(
        name="torn-tail-cut-too-far",
        summary="a restart cuts the last whole frame off together with the torn one",
        section="protocol §6",
        edits=(
            Edit(
                "segments.restart:restart_job",
                "scan.durable_length - starts[-1])",
                "(scan.frames[-1].start if scan.torn_bytes else scan.durable_length) - starts[-1])",
            ),
        ),
    ),
    Bug(
        name="failed-sync-forgiven",
        summary="a sync that failed is taken for one that was only slow",
        section="protocol §4, step 3",
        edits=(
            Edit(
                _GO_ON,
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
                f"{_CYCLE}._keep_promise",
                "await trio.sleep(self._retry_s)",
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
                _GO_ON,
                "        except StorageFailed as error:\n",
                "        except StorageFailed as error:\n"
                "            from segments.protocol.errors import SegmentLost, StorageFull\n"
                "            if isinstance(error, StorageFull):\n"
                "                raise SegmentLost(str(error)) from error\n",
            ),
        ),
    ),
    Bug(
        name="full-disk-is-given-up",
        summary="a segment whose disk was full does not try to write again",
        section="protocol §9",
        edits=(
            Edit(
                _GO_ON,
                "await trio.sleep(self._retry_s)",
                "await trio.sleep_forever()",
            ),
        ),
    ),
    Bug(
        name="scrub-mends-nothing",
        summary="damage that the scrub meets is counted, and stays",
        section="protocol §6",
        edits=(Edit("segments.scrub:Scrub.checked", "self.log_is_damaged = True", "pass"),),
    ),
    Bug(
        name="bad-promise-stays",
        summary="a promise slot that the scrub finds spoilt is counted, and stays",
        section="protocol §8",
        edits=(
            Edit(
                "segments.scrub:Scrub.promises_checked",
                "self.promise_due = True",
                "pass",
            ),
        ),
    ),
    Bug(
        name="damaged-layer-stays",
        summary="what a damaged layer held is asked of nobody",
        section="protocol §8",
        edits=(Edit("segments.transfer:wanted", "in layers.damaged_layers():", "in ():"),),
    ),
    Bug(
        name="lists-without-a-layer",
        summary="a segment that cannot open a layer lists the pages that it knows",
        section="protocol §8",
        edits=(
            Edit(
                "segments.core:SegmentCore._list_pages",
                "if self.state.layers.damaged:",
                "if False:",
            ),
        ),
    ),
    Bug(
        name="whole-at-the-vdl",
        summary="a damaged segment calls itself whole when it is at the VDL that it knows",
        section="protocol §8",
        edits=(
            Edit(f"{_STATE}.lacks_records", "self._repair_lsn", "min(self._repair_lsn, self.vdl)"),
        ),
    ),
    Bug(
        name="rewrites-before-it-is-whole",
        summary="a damaged log is written anew before it is repaired, and looks sound from then on",
        section="protocol §8",
        edits=(
            Edit(
                "segments.background:Background._rewrite_due",
                "if not state.whole:",
                "if False:",
            ),
        ),
    ),
    Bug(
        name="damaged-votes",
        summary="a segment that is not whole answers a seal",
        section="protocol §8",
        edits=(
            Edit("segments.core:SegmentCore._on_seal", "if self.state.whole:", "if True:"),
            Edit(f"{_STATE}.seal_reply", 'assert self.whole, f"{segment} is no witness"', "pass"),
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
    Bug(
        name="rollback-unseen",
        summary="what others have heard of a segment is not compared with what it has",
        section="protocol §8",
        edits=(Edit("segments.protocol.heard:is_rolled_back", "has < heard", "False"),),
    ),
    Bug(
        name="head-forgets-marks",
        summary="a file of the log begins without what was heard of others",
        section="protocol §8",
        edits=(Edit(f"{_STATE}._first_frame", "*marks, self.head()", "self.head()"),),
    ),
)

_FIRST_RECORDS: Final = 1
"""The frame with the first records in the log of a segment, behind its head."""


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
    plan.fault(20, "bit_rot", "A", bits=1, frame=_FIRST_RECORDS)
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
    plan.fault(20, "bit_rot", "A", bits=1, frame=_FIRST_RECORDS)
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
    plan.fault(20, "bit_rot", "A", bits=1, frame=_FIRST_RECORDS)
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
    plan.fault(20, "bit_rot", "A", bits=1, frame=_FIRST_RECORDS + 1)
    plan.fault(20, "crash", "A")
    plan.fault(21, "restart", "A")
    plan.part(21, "A,B,C", "writer-2")
    plan.fault(22, "recover")
    return plan


def rolled_back_witness() -> Plan:
    """A write reaches A to D, and E hears how far A has come; then A is as before that write."""
    plan = Plan(end_ms=200, gossip_interval_ns=2_000_000)
    plan.put(6, 0)
    plan.fault(9, "copy_disk", "A")
    for at, letter in enumerate("ABCDE"):
        others = [each for each in "ABCDEF"[at + 1 :] if letter + each != "AE"]
        plan.part(9, letter, ",".join(others))
    plan.cut(9, "E", "A")
    plan.part(9, "E,F", "writer-1")
    plan.put(10, 0)
    plan.fault(60, "crash_writer")
    plan.fault(60, "roll_back", "A")
    plan.part(60, "B,C,D", "writer-2")
    plan.fault(66, "recover")
    plan.fault(100, "heal_network")
    return plan


PLANS: Final[dict[str, Callable[[], Plan]]] = {
    "torn-tail-cut-too-far": torn_once,
    "failed-sync-forgiven": sync_refused,
    "failed-promise-forgiven": promise_refused,
    "full-disk-is-lost": three_full,
    "whole-at-the-vdl": damaged_above_its_vdl,
    "rewrites-before-it-is-whole": damaged_and_kept_from_help,
    "damaged-votes": damaged_witness,
    "waits-for-what-was-annulled": damage_annulled,
    "full-disk-is-given-up": three_full,
    "rollback-unseen": rolled_back_witness,
    "head-forgets-marks": rewritten_with_a_range,
}
