"""The shortcuts of the checkers, each against the long way round."""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from itertools import combinations

import pytest

from aurora.quorum import QuorumModel
from aurora.recovery import adopted_table, announced_vdl, plan_recovery
from segments.config import SegmentConfig
from segments.manifest import log_in
from segments.protocol.ids import Lsn, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import SealReply
from segments.restart import plan_restart
from segments.state import SegmentState
from sim.check import disk_checks, what_if
from sim.check.disk_shadow import DiskShadow
from sim.check.invariants import Broken
from sim.check.reference_model import Reference
from sim.plan.generate import generate
from sim.plan.shapes.mixed import MIXED
from sim.run import Verdict, run

EPOCH = VolumeEpoch(1 << 41, 1)


def test_a_shadow_is_what_a_restart_would_make_of_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = grown = 0

    class Compared(DiskShadow):
        def __init__(self, segment: SegmentId, config: SegmentConfig) -> None:
            super().__init__(segment, config)
            self.segment, self.config = segment, config
            self.before = b""

        def restored(self, files: Mapping[str, bytearray]) -> SegmentState | None:
            nonlocal looks, grown
            found, log = super().restored(files), log_in(files).log
            plan = plan_restart(self.segment, files, self.config)
            expected = plan.state
            if found is None:
                assert plan.damage or plan.torn_bytes
                return None
            looks += 1
            grown += bool(self.before) and log.startswith(self.before) and log != self.before
            self.before = log
            assert (found.scl, found.epoch, found.table) == (
                expected.scl, expected.epoch, expected.table,
            )  # fmt: skip
            assert (found.vdl, found.floor) == (expected.vdl, expected.floor)
            assert found.layers.numbers == expected.layers.numbers
            assert list(found.index.held()) == list(expected.index.held())
            return found

    monkeypatch.setattr(disk_checks, "DiskShadow", Compared)
    let_go = (1601550, 1101450)  # records were let go for want of room, and are in the log
    for schedule in (*(generate(seed, MIXED) for seed in (1, 5, 8)), *map(generate, let_go)):
        assert run(schedule).verdict is Verdict.PASSED
    assert looks > 100 and grown > 10


def lowest_vdl(
    groups: Mapping[PgId, QuorumModel],
    durable: Mapping[SegmentId, SegmentState],
    lal: int,
    shift: int,
) -> Lsn | None:
    """Of the plans from all choices of three of each group, as ``shift`` combines them."""
    choices = {
        pg_id: list(combinations([each for each in model.members if each in durable], 3))
        for pg_id, model in groups.items()
    }
    if not all(choices.values()):
        return None
    found = []
    for combination in what_if.combined({pg: len(each) for pg, each in choices.items()}, shift):
        replies = {}
        for pg_id, each in choices.items():
            states = [(name, durable[name]) for name in each[combination[pg_id]]]
            replies[pg_id] = [
                SealReply(EPOCH, name, 0, s.scl, s.vdl, s.floor, s.table) for name, s in states
            ]
        everyone = [reply for group in replies.values() for reply in group]
        table, anchor = adopted_table(everyone), announced_vdl(everyone)
        fetched = {}
        for pg_id, group in replies.items():
            best = max(group, key=lambda reply: (table.survivor(reply.scl), reply.scl))
            index = durable[best.segment].index
            fetched[pg_id] = list(index.linked_after(max(anchor, index.base_lsn)))
        found.append(plan_recovery(EPOCH, lal, replies, fetched).vdl)
    return min(found)


def test_recoveries_that_are_skipped_would_have_come_to_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, tried = what_if.any_read_quorum_recovers, 0

    @wraps(real)
    def compared(
        reference: Reference,
        groups: Mapping[PgId, QuorumModel],
        durable: Mapping[SegmentId, SegmentState],
        observed: Lsn,
        lal: int,
        shift: int,
        known: what_if.Recoveries,
    ) -> int:
        nonlocal tried
        lowest = lowest_vdl(groups, durable, lal, shift)
        if lowest is not None:
            tried += 1
            with pytest.raises(Broken, match=f"loses {lowest + 1}"):
                real(reference, groups, durable, lowest + 1, lal, shift, known)
        return real(reference, groups, durable, observed, lal, shift, known)

    monkeypatch.setattr(what_if, "any_read_quorum_recovers", compared)
    for seed in (3, 7):
        assert run(generate(seed, MIXED)).verdict is Verdict.PASSED
    assert tried > 20
