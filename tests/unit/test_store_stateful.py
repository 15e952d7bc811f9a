"""One segment's store, whatever happens in whatever order, against a list of records."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from segments.cloning.boundary import mtr_of_job
from segments.cloning.cut import CutFiles, Genesis, cut_at, glance_job, tail_known_to
from segments.config import SegmentConfig
from segments.layers.job import Wait
from segments.layers.materializer import Reading
from segments.layers.page_read import Need
from segments.protocol.events import JobFailed
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import InstallTable, PageImage, Seal
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.truncation import TruncationTable
from tests.oracles import chained, naive_page, naive_scl
from tests.store_rig import FIRST, StoreRig, batch, durable

PAGES = range(4)
CONFIGS = st.builds(
    SegmentConfig,
    wal_file_bytes=st.sampled_from([1 << 10, 4 << 10]),
    fold_bytes=st.sampled_from([1 << 10, 2 << 10]),
    block_bytes=st.sampled_from([1 << 8, 1 << 12]),
    fan_out=st.sampled_from([2, 3]),
    image_interval=st.sampled_from([2, 16]),
    collect_ratio=st.sampled_from([0.01, 0.3]),
    image_cache_bytes=st.sampled_from([0, 1 << 20]),
    block_cache_bytes=st.sampled_from([0, 1 << 10, 1 << 20]),
    compact_bytes=st.sampled_from([0, 1 << 40]),
    gossip_bytes=st.just(1 << 10),
    unlinked_limit=st.sampled_from([30, 65_536]),
)
SIZES = st.sampled_from([1, 9, 60, 60, 300, PAGE_SIZE])
SEEDS = st.integers(0, 1 << 32)


class Store(RuleBasedStateMachine):
    """A writer's chain, what it has announced, and the segment."""

    @initialize(config=CONFIGS)
    def begin(self, config: SegmentConfig) -> None:
        self.rig = StoreRig(config=config)
        self.chain: list[RedoRecord] = []
        self.next_lsn = 1
        self.vdl = self.floor = 0
        self.table = TruncationTable(FIRST)
        self.now = 0.0

    # ---- what a writer does ----------------------------------------------------------------------

    @rule(count=st.integers(1, 60), size=SIZES, seed=SEEDS)
    def write(self, count: int, size: int, seed: int) -> None:
        """Add to the chain, and send it, or not; what was there before is announced, or most."""
        random = Random(seed)
        self.announce(random.choice([0.0, 0.9, 1.0]), random.choice([0.0, 0.5, 1.0]))
        writes: list[tuple[int, int, int, bytes]] = []
        for _ in range(count):
            self.next_lsn += random.choice([0, 0, 3])
            payload = random.randbytes(random.randint(1, size if len(writes) < 8 else 60))
            offset = random.randint(0, PAGE_SIZE - len(payload))
            writes.append((self.next_lsn, random.choice(PAGES), offset, payload))
            self.next_lsn += 1
        new = chained(writes, after=self.chain)
        self.chain += new
        if random.random() < 0.8:
            self.send([each for each in self.chain if each.lsn > self.rig.state.scl])

    @rule(count=st.integers(30, 60), size=SIZES, seed=SEEDS)
    def write_much(self, count: int, size: int, seed: int) -> None:
        """So that there is something to fold."""
        self.write(count, size, seed)

    @rule(start=st.integers(0, 400), count=st.integers(1, 60))
    def send_again(self, start: int, count: int) -> None:
        """Any part of what is not collected anywhere."""
        self.send(self.chain[start : start + count])

    @rule()
    def send_all(self) -> None:
        """What is missing."""
        self.send([each for each in self.chain if each.lsn > self.rig.state.scl])

    def send(self, run: list[RedoRecord]) -> None:
        message = batch(run, epoch=self.table.epoch, vdl=self.vdl, floor=self.floor)
        self.rig.step(message._replace(heard={"B0": 1}))
        self.rig.settle()

    @rule(share=st.floats(0, 1), floor=st.floats(0, 1))
    def announce(self, share: float, floor: float) -> None:
        """The VDL is a record of the chain; the floor is at or below it."""
        if self.chain:
            at = self.chain[int(share * (len(self.chain) - 1))].lsn
            self.vdl = max(self.vdl, at)
            self.floor = max(self.floor, int(floor * self.vdl))
            self.send([])

    @precondition(lambda self: self.vdl > self.table.last_annulled_lsn)
    @rule(beyond=st.sampled_from([0, 5, 1_000]))
    def recover(self, beyond: int) -> None:
        """Another writer annuls what is above the VDL."""
        epoch = VolumeEpoch(self.table.epoch.counter + 1, 9)
        last = self.next_lsn + beyond
        self.table = self.table.extended(epoch, self.vdl, last)
        self.rig.step(Seal(epoch, 1))
        self.rig.settle()
        self.rig.step(InstallTable(epoch, 2, self.table))
        self.rig.settle()
        self.chain = [each for each in self.chain if each.lsn <= self.vdl]
        self.next_lsn = last + 1
        self.floor = min(self.floor, self.rig.state.floor)

    # ---- what the segment does -------------------------------------------------------------------

    @rule(steps=st.integers(1, 40))
    def work(self, steps: int) -> None:
        """Some steps of what is due."""
        for _ in range(steps):
            if not self.rig.take_job(self.now):
                return
            if isinstance(self.rig.step_job(), Wait):
                self.rig.settle()

    @rule()
    def work_on(self) -> None:
        """All that is due."""
        while self.rig.take_job(self.now):
            self.work(1)

    @rule()
    def damage_is_found(self) -> None:
        """The log is to be written anew."""
        self.rig.core.scrub.log_is_damaged = True
        self.now += 100.0

    @rule(seed=SEEDS)
    def crash(self, seed: int) -> None:
        """And come back with whatever of what is not durable."""
        before, heard = durable(self.rig), self.rig.state.heard
        marks = None if heard.unwritten else heard.marks
        self.rig.restart(self.rig.disk.crashed(Random(seed)))
        assert durable(self.rig) == before
        assert marks is None or self.rig.state.heard.marks == marks

    @precondition(lambda self: bool(self.chain))
    @rule(page_id=st.sampled_from(PAGES), share=st.floats(0, 1), steps=st.integers(0, 30))
    def read(self, page_id: int, share: float, steps: int) -> None:
        """A page at any read point, while other work goes on between its rounds."""
        state = self.rig.state
        read_point = state.floor + int(share * (state.scl - state.floor))
        if read_point > self.vdl:
            return
        expected = naive_page(self.chain, page_id, read_point)
        assert self.rig.page(page_id, read_point) == expected
        reading = Reading(page_id, read_point)
        while isinstance(need := state.materializer.read(reading), Need):
            blocks = [(ref, self.rig.disk.read(*ref[2:])) for ref in need.blocks]
            self.work(steps)
            if read_point < state.floor:
                return
            for ref, data in blocks:
                state.materializer.blocks_read(reading, ref, data)
        assert isinstance(need, PageImage) and need == expected

    @rule(share=st.floats(0, 1), seed=SEEDS)
    def clone(self, share: float, seed: int) -> None:
        """A segment of what is there up to an LSN, and a history of its own from there on."""
        random, state = Random(seed), self.rig.state
        lsn = state.floor + int(share * (min(self.vdl, state.scl) - state.floor))
        tail = tail_known_to(state, lsn)
        end = lsn if tail is None else tail
        cut, genesis = cut_at(state, end), Genesis.of(self.table, end, 5)
        self.narrow = any(end < each.end for each in state.layers.between(0, end))
        self.rig.run(glance_job(cut))
        made = CutFiles(cut, genesis, random.getrandbits(64))
        files = {each.name: bytes(self.rig.disk.files[each.name]) for each in cut.layers}
        files |= {made.log_name: b"".join(made.log())} | made.others()
        clone = StoreRig(config=self.rig.config, files=files)
        assert (clone.plan.torn_bytes, clone.plan.damage, clone.plan.leftovers) == (0, (), [])
        chain = [each for each in self.chain if each.lsn <= lsn]
        self.check_clone(clone, chain, end, random)
        writes = [
            (end + random.randint(1, 3) + 4 * at, random.choice(PAGES), at, random.randbytes(40))
            for at in range(random.randint(1, 200))
        ]
        first, *others = chained(writes, after=chain)
        run = [first._replace(prev_segment_lsn=end, prev_volume_lsn=end), *others]
        vdl = random.choice(run).lsn
        floor = random.randint(state.floor, vdl)
        clone.step(batch(run, epoch=genesis.epoch, vdl=vdl, floor=floor))
        clone.settle()
        clone.work()
        assert not [each for each in clone.events if isinstance(each, JobFailed)]
        numbers = {each.number for each in cut.layers if each.end == end}
        self.merged = self.narrow and not numbers & clone.state.layers.numbers
        for _ in range(2):
            self.check_clone(clone, chain + run, run[-1].lsn, random)
            clone.restart()

    def check_clone(
        self, clone: StoreRig, chain: list[RedoRecord], scl: int, random: Random
    ) -> None:
        """All of ``chain`` is in it, and nothing else."""
        state = clone.state
        assert (state.scl, state.whole) == (scl, True)
        for read_point in {scl, state.floor, random.randint(state.floor, scl)}:
            written = {each.page_id for each in chain if each.lsn <= read_point}
            assert state.materializer.existing_pages(0, 9, read_point, 99) == (sorted(written), 9)
            for page_id in PAGES:
                expected = naive_page(chain, page_id, read_point)
                assert clone.page(page_id, read_point) == expected
                assert clone.read(page_id, read_point) == expected.image.rstrip(b"\0")

    @precondition(lambda self: self.rig.state.scl > self.rig.state.floor)
    @rule(share=st.floats(0, 1))
    def where_a_mini_transaction_begins(self, share: float) -> None:
        """Each record is one of its own here."""
        state = self.rig.state
        lsn = state.floor + 1 + int(share * (state.scl - state.floor - 1))
        there = any(each.lsn == lsn for each in self.chain)
        assert self.rig.run(mtr_of_job(state, lsn)) == (lsn if there else None)

    # ---- what holds all the time -----------------------------------------------------------------

    @invariant()
    def watermarks(self) -> None:
        """2017 §4.3: what is in layers is at or below what was announced, and what is held."""
        if not hasattr(self, "rig"):
            return
        state = self.rig.state
        assert state.floor <= state.folded <= min(self.vdl, state.scl)
        assert state.index.base_lsn == state.folded
        assert state.whole
        held = state.index.held()
        known = {each.lsn: each for each in self.chain}
        assert all(known[each.lsn] == each for each in held)
        assert state.scl == naive_scl(held, state.folded)

    @invariant()
    def files(self) -> None:
        """What is there is what the manifest names, and what a job under way has made."""
        if not hasattr(self, "rig"):
            return
        others = set(self.rig.names) - self.rig.files.manifest.names
        assert len(others) <= (1 if self.rig.job is not None else 0) or self.deleting(others)
        for each in self.rig.files.manifest.logs:
            assert len(self.rig.disk.files[each.name]) == each.length
        for layer in self.rig.files.manifest.layers:
            assert len(self.rig.disk.files[layer.name]) == layer.length

    def deleting(self, others: set[str]) -> bool:
        """Whether a job is about to delete what its manifest has just replaced."""
        return self.rig.job is not None and self.rig.disk.asked[-1] == "publish manifest"

    @invariant()
    def pages(self) -> None:
        """Which there are, and what is kept of them."""
        if not hasattr(self, "rig"):
            return
        state = self.rig.state
        written = {each.page_id for each in self.chain if each.lsn <= state.scl}
        found = state.materializer.existing_pages(0, 9, state.scl, 99)
        assert found == (sorted(written), 9)
        for page_id, version in state.materializer.page_cache.versions():
            expected = naive_page(self.chain, page_id, version.through)
            assert (version.lsn, version.image) == (
                expected.page_lsn, expected.image.rstrip(b"\0"),
            )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_clones_of_a_long_history(seed: int) -> None:
    """Most of them end amid a layer, some of them where a recovery has annulled something."""
    random = Random(seed)
    store = Store()
    config = SegmentConfig(
        wal_file_bytes=1 << 10, fold_bytes=1 << 10, block_bytes=1 << 8, image_interval=2,
        fan_out=random.choice([2, 3]), collect_ratio=0.3,
    )  # fmt: skip
    store.begin(config)
    narrow = merged = 0
    for step in range(24):
        store.write(random.randint(1, 60), 60, step)
        store.announce(1.0, 0.0)
        if random.random() < 0.2:
            store.recover(random.choice([0, 5, 1_000]))
        store.work_on()
        if random.random() < 0.2:
            store.announce(1.0, 0.5 * random.random())
        for _ in range(2):
            store.clone(random.random(), random.getrandbits(30))
            narrow += store.narrow
            merged += store.merged
            if store.rig.state.scl > store.rig.state.floor:
                store.where_a_mini_transaction_begins(random.random())
    assert narrow > 10
    assert merged > 3


TestStore = Store.TestCase
TestStore.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
