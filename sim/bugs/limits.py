"""Bugs of what is bounded, and of waiting and refusing for no reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sim.bugs.plan import ALL, Plan
from sim.bugs.registry import Bug, Edit
from sim.plan.profiles import LinkProfile
from sim.plan.schedule import MS

_OPEN_WRITER: Final = "aurora.cluster:Cluster.open_writer"
_INSERT: Final = "segments.chain_index:ChainIndex._insert"
_PENDING: Final = "aurora.read_router:PendingRead"

LIMIT_BUGS: Final = (
    # ---- what is bounded -------------------------------------------------------------------------
    Bug(
        name="pool-without-bound",
        summary="the buffer pool evicts nothing",
        section="protocol §5",
        edits=(
            Edit(
                "aurora.buffer_pool:BufferPool.make_room",
                "    if len(entries) <= target:\n        return True\n    if self",
                "    if True:\n        return True\n    if self",
            ),
        ),
    ),
    Bug(
        name="queue-without-bound",
        summary="a segment queues whatever comes, however slow its disk is",
        section="protocol §4, step 5",
        edits=(
            Edit(
                "segments.core:SegmentCore._queue_records",
                "if self._queue and self._queue_bytes + size > self._config.queue_bytes:",
                "if False:",
            ),
        ),
    ),
    Bug(
        name="log-without-bound",
        summary="commits are let into the outgoing log, however full it is",
        section="protocol §4, step 5",
        edits=(
            Edit(
                "aurora.core:WriterCore.has_room",
                "if log.size_bytes >= limit:",
                "if False:",
            ),
        ),
    ),
    Bug(
        name="log-waits-for-the-last",
        summary="the outgoing log keeps what one segment lacks, however full it is",
        section="protocol §4, step 5",
        edits=(
            Edit(
                "aurora.core:WriterCore._release",
                "if log.size_bytes > self._config.outgoing_bytes:",
                "if False:",
            ),
        ),
    ),
    Bug(
        name="space-is-not-told",
        summary="acknowledgements say of a segment's space what it was when the segment came up",
        section="protocol §6",
        edits=(Edit("segments.space:SpaceWatch.look", "was, self.space = self.space,", "was ="),),
    ),
    Bug(
        name="writes-into-a-full-volume",
        summary="only when all six segments of a group are short of space the volume is full",
        section="protocol §6",
        edits=(
            Edit(
                "aurora.volume_space:VolumeSpace._has_room",
                "self._groups[pg_id].has_write(roomy)",
                "bool(roomy)",
            ),
        ),
    ),
    Bug(
        name="full-for-ever",
        summary="a writer does not ask segments that were short of space whether they have some",
        section="protocol §6",
        edits=(
            Edit(
                "aurora.segment_stream:SegmentStream.heartbeat",
                "waiting |= self.space.short",
                "pass",
            ),
        ),
    ),
    Bug(
        name="window-without-bound",
        summary="batches are sent to a segment that acknowledges none",
        section="protocol §4, step 5",
        edits=(
            Edit(
                "aurora.segment_stream:SegmentStream.next_message",
                "or len(self._in_flight) >= window or",
                "or",
            ),
        ),
    ),
    Bug(
        name="unlinked-without-bound",
        summary="a segment keeps any number of records above a gap",
        section="protocol §6",
        edits=(Edit(_INSERT, "if self._max_unlinked is not None:", "if False:"),),
    ),
    Bug(
        name="images-without-bound",
        summary="the cache of versions of pages is never emptied",
        section="protocol §6",
        edits=(
            Edit(
                "segments.layers.page_cache:PageCache.put",
                "while self.size > self._limit_bytes:",
                "while False:",
            ),
        ),
    ),
    Bug(
        name="blocks-without-bound",
        summary="the cache of blocks is never emptied",
        section="protocol §6",
        edits=(
            Edit(
                "segments.layers.block_cache:BlockCache.put",
                "while self.size > self._limit_bytes:",
                "while False:",
            ),
        ),
    ),
    Bug(
        name="log-never-rewritten",
        summary="a log is written anew only when damage was found in it",
        section="protocol §6",
        edits=(
            Edit(
                "segments.background:Background._rewrite_due",
                "return size > least and",
                "return False and",
            ),
        ),
    ),
    Bug(
        name="equals-answer-each-other",
        summary="gossip of a segment that has just as much is answered, and that answer too",
        section="protocol §8",
        edits=(
            Edit(
                "segments.gossip:Gossip._answer_status",
                "if status.scl != state.scl and status.reply_wanted:",
                "if status.scl >= state.scl:",
            ),
        ),
    ),
    # ---- waiting and refusing for no reason ------------------------------------------------------
    Bug(
        name="write-quorum-5",
        summary="a commit waits for 5 of 6",
        section="protocol §9; 2017 §2.1",
        edits=(
            Edit(_OPEN_WRITER, "QuorumModel(group.members)", "QuorumModel(group.members, write=5)"),
        ),
    ),
    Bug(
        name="recovery-seals-all",
        summary="a recovery waits until all segments have answered its seals",
        section="protocol §9",
        edits=(
            Edit(
                "aurora.witnesses:Witnesses.has_read_quorums",
                "model.has_read(self.replies[each])",
                "len(self.replies[each]) == len(model.members)",
            ),
        ),
    ),
    Bug(
        name="patience-without-bound",
        summary="the time between two resends doubles without end",
        section="protocol §9",
        edits=(
            Edit(
                "aurora.segment_stream:SegmentStream._timeout_s",
                "return min(config.resend_max_s, doubled)",
                "return doubled",
            ),
        ),
    ),
    Bug(
        name="strict-by-all",
        summary="a strict read waits for every member of the group",
        section="protocol §9",
        edits=(
            Edit(
                "aurora.reading:Confirmation.on_confirmed",
                "watermarks.has_read_quorum(self._pg_id, self.confirmed_by)",
                "len(self.confirmed_by) >= len(watermarks.members(self._pg_id))",
            ),
        ),
    ),
    Bug(
        name="opens-when-all-have-installed",
        summary="a recovery waits until all segments have its truncation table",
        section="protocol §9",
        edits=(
            Edit(
                "aurora.core:WriterCore._open_if_replicated",
                "not model.has_write(installed)",
                "len(installed) < len(model.members)",
            ),
        ),
    ),
    Bug(
        name="reads-ask-the-first",
        summary="a read asks the first segment that has enough, and no other",
        section="protocol §5; 2018 §3.1",
        edits=(
            Edit(
                "aurora.read_router:ReadRouter.candidates",
                "    if not complete:\n        return complete\n",
                "    return complete[:1]\n",
            ),
        ),
    ),
    Bug(
        name="refused-at-once",
        summary="a read fails when the first segment that it asks refuses",
        section="protocol §9",
        edits=(
            Edit(
                f"{_PENDING}._failed",
                "return self._ask_next(now)",
                "self.error = self._unavailable()\n    return []",
            ),
        ),
    ),
    Bug(
        name="gives-up-after-one-round",
        summary="a read fails when all candidates have been asked once",
        section="protocol §9",
        edits=(
            Edit(
                f"{_PENDING}._ask_next",
                "        self._plan_restart(now)\n        return []",
                "        self.error = self._unavailable()\n        return []",
            ),
            Edit(
                f"{_PENDING}.on_timer",
                "    return self._start_round(now) if now >= self._restart_at_s else []",
                "    if now >= self._restart_at_s:\n"
                "        self.error = self._unavailable()\n"
                "    return []",
            ),
        ),
    ),
    Bug(
        name="recovery-asks-once",
        summary="a recovery sends its seals once, whoever was away then",
        section="protocol §9",
        edits=(
            Edit(
                "aurora.recovery:Recovery.tick",
                "self._seal_at = now + self._config.seal_retry_s",
                "self._seal_at = float('inf')",
            ),
        ),
    ),
    Bug(
        name="recovery-fetches-once",
        summary="a recovery asks for a log once, whatever is lost on the way",
        section="protocol §9",
        edits=(
            Edit(
                "aurora.recovery:Recovery.tick",
                "if not fetch.done and now >= fetch.ask_at:",
                "if False:",
            ),
        ),
    ),
    Bug(
        name="recovery-stays-with-its-source",
        summary="a recovery asks the segment whose log it wants, until that one answers",
        section="protocol §9",
        edits=(
            Edit(
                "aurora.recovery:Recovery.tick",
                "fetch.attempts >= 4 * len(fetch.sources) + self._given_up",
                "False",
            ),
            Edit(
                "aurora.recovery:Recovery._begin_fetching",
                "[each.segment for each in sources]",
                "[sources[0].segment]",
            ),
        ),
    ),
)


def messages_that_come_twice() -> Plan:
    """Every other message is repeated, and gossip is frequent."""
    link = LinkProfile(minimum_ns=20_000, extra_mean_ns=0, duplication=0.5)
    plan = Plan(link=link, gossip_interval_ns=5 * MS)
    plan.put(6, 0)
    return plan


def two_disks_lost() -> Plan:
    """Two disks are lost for good; four segments are left."""
    plan = Plan()
    plan.put(6, 0)
    plan.fault(10, "wipe", "A,B")
    plan.put(20, 1)
    return plan


def two_lost_and_a_new_writer() -> Plan:
    """Two disks are lost for good, and a writer opens the volume."""
    plan = Plan()
    plan.put(6, 0)
    plan.fault(10, "wipe", "A,B")
    plan.fault(20, "recover")
    return plan


def nobody_there_at_first() -> Plan:
    """All segments are away when a recovery sends its seals."""
    plan = Plan()
    plan.put(6, 0)
    plan.part(10, "writer-2", ALL)
    plan.fault(11, "recover")
    plan.fault(20, "heal_network")
    return plan


def the_source_is_lost() -> Plan:
    """The one segment with the last record answers a seal, and loses its disk."""
    plan = Plan()
    plan.keep_apart(5)
    plan.cut(5, "writer-1", "B,C,D,E,F")
    plan.put(10, 0)
    plan.fault(15, "crash_writer")
    plan.cut(15, "D,E,F", "writer-2")
    plan.fault(16, "recover")
    plan.fault(16.35, "wipe", "A")
    return plan


def log_lost_on_the_way() -> Plan:
    """A recovery has been answered its seals; the log that it asks for gets lost."""
    plan = Plan()
    plan.put(6, 0)
    plan.fault(16, "recover")
    plan.cut(16.45, ALL, "writer-2")
    plan.fault(17, "heal_network")
    return plan


PLANS: Final[dict[str, Callable[[], Plan]]] = {
    "equals-answer-each-other": messages_that_come_twice,
    "write-quorum-5": two_disks_lost,
    "recovery-seals-all": two_lost_and_a_new_writer,
    "opens-when-all-have-installed": two_lost_and_a_new_writer,
    "recovery-asks-once": nobody_there_at_first,
    "recovery-stays-with-its-source": the_source_is_lost,
    "recovery-fetches-once": log_lost_on_the_way,
}
