"""Bugs of reading: strict reads, views and the floor, the cache, lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sim.bugs.plan import ALL, Plan
from sim.bugs.registry import Bug, Edit

_READING: Final = "aurora.reading:Reading"

READER_BUGS: Final = (
    Bug(
        name="strict-by-two",
        summary="two segments are enough to confirm a strict read",
        section="protocol §5",
        edits=(
            Edit(
                "aurora.reading:Confirmation.on_confirmed",
                "watermarks.has_read_quorum(self._pg_id, self.confirmed_by)",
                "len(self.confirmed_by) >= 2",
            ),
        ),
    ),
    Bug(
        name="confirms-any-epoch",
        summary="a segment confirms the epoch of a writer that was deposed",
        section="protocol §5",
        edits=(
            Edit(
                "segments.core:SegmentCore._admit",
                "if epoch == self._promised:",
                "if epoch == self._promised or isinstance(message, ConfirmEpoch):",
            ),
            Edit(
                "segments.core:SegmentCore._on_confirm_epoch",
                "if message.epoch == self.state.epoch:",
                "if True:",
            ),
        ),
    ),
    Bug(
        name="confirmed-in-advance",
        summary="a strict read counts who has confirmed any earlier one",
        section="protocol §5",
        edits=(
            Edit(
                f"{_READING}.confirm",
                "    self._confirmations[confirmation.request_id] = confirmation\n",
                "    known = self.__dict__.setdefault('confirmed', {}).setdefault(pg_id, {})\n"
                "    confirmation.confirmed_by = known\n"
                "    confirmation.whole = self.watermarks.has_read_quorum(pg_id, known)\n"
                "    self._confirmations[confirmation.request_id] = confirmation\n",
            ),
        ),
    ),
    Bug(
        name="strict-read-not-kept",
        summary="the version that a strict read asks for may be collected while it is confirmed",
        section="protocol §5",
        edits=(
            Edit(
                "aurora.engine:Engine.read",
                "nullcontext() if lsn is None else self._kept(core, lsn)",
                "nullcontext()",
            ),
        ),
    ),
    Bug(
        name="refusal-at-floor",
        summary="a segment refuses reads at just the floor, as if that version were collected",
        section="protocol §5",
        edits=(
            Edit(
                "segments.core:SegmentCore._can_answer",
                "read_point >= state.floor",
                "read_point > state.floor",
            ),
        ),
    ),
    Bug(
        name="floor-follows-the-newest-reader",
        summary="the floor is held down by the newest read point, not by the oldest",
        section="protocol §6; 2017 §4.2.3",
        edits=(
            Edit(
                f"{_READING}.update_floor",
                "min([kept_from, *self._read_points])",
                "min([kept_from, max(self._read_points, default=kept_from)])",
            ),
        ),
    ),
    Bug(
        name="holds-are-not-counted",
        summary="of two readers at one read point the first to end lets the floor pass",
        section="protocol §6; 2017 §4.2.3",
        edits=(
            Edit(f"{_READING}.hold", "self._read_points.get(read_point, 0) + 1", "1"),
            Edit(
                f"{_READING}.release",
                "    self._read_points[read_point] -= 1\n"
                "    if not self._read_points[read_point]:\n"
                "        del self._read_points[read_point]",
                "    self._read_points.pop(read_point, None)",
            ),
        ),
    ),
    Bug(
        name="floor-never-rises",
        summary="the floor stays where the volume was opened",
        section="protocol §6; 2017 §4.2.3",
        edits=(Edit("aurora.core:WriterCore._update_floor", "if kept is not None:", "if False:"),),
    ),
    Bug(
        name="retention-by-the-wrong-clock",
        summary="how old a version is, the clock on the wall tells, which somebody sets",
        section="protocol §6",
        edits=(
            Edit(
                "aurora.core:WriterCore._update_floor",
                "tick(self.vdl, now)",
                "tick(self.vdl, self._clock.now_us() / 1e6)",
            ),
        ),
    ),
    Bug(
        name="what-is-found-counts-as-old",
        summary="a writer lets go of what it finds at its opening before that is old enough",
        section="protocol §6",
        edits=(
            Edit(
                "aurora.retention:Retention.tick",
                "marks.append((vdl, now))",
                "marks.append((vdl, now if marks else now - self._seconds))",
            ),
        ),
    ),
    Bug(
        name="retention-counts-annulled",
        summary="LSNs that recoveries have annulled count as versions that are retained",
        section="protocol §6",
        edits=(
            Edit(
                "segments.protocol.truncation:TruncationTable.lsn_behind",
                "behind -= end - start - live",
                "pass",
            ),
        ),
    ),
    Bug(
        name="retention-counts-forgotten",
        summary="what a table need not annul any more counts as versions that are retained",
        section="protocol §8",
        edits=(
            Edit(
                "segments.protocol.truncation:TruncationTable.without_settled",
                "if each.end_lsn > lowest]",
                "if False]",
            ),
        ),
    ),
    Bug(
        name="old-floor-outlives-its-writer",
        summary="a segment goes on collecting up to the floor that a former writer has announced",
        section="protocol §6",
        edits=(
            Edit(
                "segments.state:SegmentState.adopt_table",
                "self.announced_floor = 0",
                "pass",
            ),
        ),
    ),
    Bug(
        name="stale-page-cached",
        summary="a page that comes late is cached, although it was changed and evicted meanwhile",
        section="protocol §5",
        edits=(
            Edit(
                "aurora.buffer_pool:BufferPool.install",
                "read_point < since_lsn or not self.make_room",
                "not self.make_room",
            ),
        ),
    ),
    Bug(
        name="half-an-mtr-cached",
        summary="of a mini-transaction that writes a page twice, the cache applies the first write",
        section="protocol §5",
        edits=(
            Edit(
                "aurora.buffer_pool:BufferPool.apply",
                "pending.append(record)",
                "if not pending or pending[-1].mtr_id != record.mtr_id:\n"
                "            pending.append(record)",
            ),
        ),
    ),
    Bug(
        name="list-of-the-newest",
        summary="a list of pages at an old read point has those that were written since",
        section="protocol §5",
        edits=(
            Edit(
                "segments.layers.materializer:Materializer.existing_pages",
                "existing(first, last, read_point, limit)",
                "existing(first, last, self._index.scl, limit)",
            ),
        ),
    ),
)


def strict_read_through_two() -> Plan:
    """A deposed writer reaches A and B, which have heard of no other; its client reads strictly."""
    plan = Plan()
    plan.put(6, 0, client=0)
    plan.keep_apart(9)
    plan.part(9, "writer-1", "C,D,E,F")
    plan.part(9, "writer-2", "A,B")
    plan.fault(10, "take_over")
    plan.put(20, 0, client=1)
    plan.strict_get(25, 0, client=0)
    return plan


def strict_read_of_a_zombie(*, before: bool = False) -> Plan:
    """A writer that was deposed behind its back is asked for a strict read."""
    plan = Plan()
    plan.put(6, 0, client=0)
    if before:
        plan.strict_get(8, 0, client=0)
    plan.part(9, "writer-1", ALL)
    plan.fault(10, "take_over")
    plan.put(20, 0, client=1)
    plan.fault(24, "heal_network")
    plan.strict_get(24.1, 0, client=0)
    return plan


def strict_read_after_another() -> Plan:
    """The same, and the writer was confirmed before it was deposed."""
    return strict_read_of_a_zombie(before=True)


def _views(at_ms: tuple[float, float], holds_s: tuple[float, float]) -> Plan:
    """Two views stay open while writes pass; nothing is retained but for readers."""
    plan = Plan(end_ms=900, retention_lsns=0, buffer_pool_pages=1, fold_bytes=1, collect_ratio=0.01)
    for put_ms in (6, 8, 10):
        plan.put(put_ms, 0)
    for client, view_ms, hold_s in zip((1, 2), at_ms, holds_s, strict=True):
        plan.view(view_ms, 0, hold_s=hold_s, client=client)
    for put_ms in range(40, 240, 20):
        plan.put(put_ms, 1 + put_ms // 20 % 2, client=9)
    return plan


def two_views() -> Plan:
    """Of two views one is at an older read point."""
    return _views((80, 140), (0.4, 0.39))


def two_views_at_one_point() -> Plan:
    """Of two views at one read point one ends early."""
    return _views((80, 80), (0.4, 0.1))


def floor_of_a_former_writer() -> Plan:
    """F alone hears of a floor; the next writer opens without F, and below that."""
    plan = Plan(end_ms=700, retention_lsns=0, fold_bytes=1, collect_ratio=0.01)
    for at_ms in (6, 8, 10):
        plan.put(at_ms, 0)
    plan.cut(11, "writer-1", "A,B,C,D,E")
    plan.keep_apart(11)
    plan.fault(123, "crash_writer")
    plan.part(123, "F", "writer-2")
    plan.fault(123.5, "recover")
    plan.view(124.9, 0, hold_s=0.4, client=1, age=0.4)
    plan.put(126, 1, client=2)
    plan.fault(128, "heal_network")
    return plan


def late_page() -> Plan:
    """A page is asked for, changed, evicted, and comes as it was before."""
    plan = Plan(end_ms=200, buffer_pool_pages=1)
    plan.put(6, 0)
    plan.put(8, 1, client=1)
    plan.fault(10, "slow", ALL, factor=20)
    plan.get(10.05, 0, client=2)
    plan.fault(10.1, "slow", ALL, factor=1)
    plan.put(10.2, 0)
    plan.put(11.2, 1, client=1)
    plan.get(20, 0)
    return plan


def twice_in_one_mtr() -> Plan:
    """One mini-transaction writes a page twice, which is then read from the cache."""
    plan = Plan()
    plan.put(8, 2)  # the first call writes nothing but zeros
    plan.put(10, 0, 0)
    plan.get(14, 0)
    return plan


def list_of_old() -> Plan:
    """The pages that there were before the last was written."""
    plan = Plan()
    plan.put(8, 0)
    plan.put(10, 1)
    plan.listed(14, 0, age=0.5)
    return plan


PLANS: Final[dict[str, Callable[[], Plan]]] = {
    "strict-by-two": strict_read_through_two,
    "confirms-any-epoch": strict_read_of_a_zombie,
    "confirmed-in-advance": strict_read_after_another,
    "floor-follows-the-newest-reader": two_views,
    "holds-are-not-counted": two_views_at_one_point,
    "old-floor-outlives-its-writer": floor_of_a_former_writer,
    "stale-page-cached": late_page,
    "half-an-mtr-cached": twice_in_one_mtr,
    "list-of-the-newest": list_of_old,
}
