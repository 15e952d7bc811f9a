"""The VDL under concurrency: hundreds of tasks, faults all along, and a judge who recounts it all.

The judge hears of every step (the tracer) and computes each watermark again by brute force: PGCL by
sorting, VCL by trying every LSN, VDL by searching, pages by replaying the whole history.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from random import Random

import attrs
import pytest
import trio

from aurora.config import EngineConfig
from aurora.engine import Engine
from aurora.events import Acknowledged, MtrAllocated, RecoveryPlanned
from aurora.recovery_plan import RecoveryPlan
from segments.host import SegmentHost
from segments.layers.job import Read, reader_of
from segments.protocol.errors import AuroraError, Closed, Fenced, PageNotFound
from segments.protocol.events import Event, RecordsApplied, Restored, TableAdopted
from segments.protocol.ids import Lsn, PageId, PgId, SegmentId
from segments.protocol.messages import PageImage
from segments.protocol.record import RedoRecord
from segments.protocol.volume import pg_of_page
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.world.network import NetworkEvent
from tests.compute_oracles import (
    last_at,
    page_by_replay,
    pgcl_by_sorting,
    vcl_by_trial,
    vdl_by_trial,
)
from tests.patience import PATIENCE_S
from tests.worlds import World, run_world

MS = 1_000_000
PAGES = 24
ROUGH = LinkProfile(
    minimum_ns=MS // 10, extra_mean_ns=MS, loss=0.03, duplication=0.05, reordering=0.1
)
DISK = DiskProfile(minimum_ns=MS // 20, extra_mean_ns=MS)
SMALL = EngineConfig(buffer_pool_pages=16, max_mtr_writes=8)


@attrs.define
class Judged:
    """One writer, as the judge sees it."""

    vdl: Lsn
    vcl: Lsn
    scls: dict[PgId, dict[SegmentId, Lsn]]
    outstanding: list[RedoRecord] = attrs.field(factory=list)


class Judge:
    """Knows every record, and believes nobody."""

    def __init__(self, pg_count: int) -> None:
        self.records: list[RedoRecord] = []
        self.acknowledged: list[Lsn] = []
        self.steps = 0
        self.digest = sha256()
        self._pg_count = pg_count
        self._writers = {"writer-1": self._writer(0)}
        self._durable: dict[SegmentId, Lsn] = {}

    def _writer(self, vdl: Lsn) -> Judged:
        scls = {pg: {f"{letter}{pg}": 0 for letter in "ABCDEF"} for pg in range(self._pg_count)}
        return Judged(vdl, vdl, scls)

    def on_network(self, event: NetworkEvent) -> None:
        self.digest.update(repr(event).encode())

    def __call__(self, source: str, event: Event) -> None:
        self.digest.update(f"{source} {type(event).__name__}".encode())
        match event:
            case MtrAllocated(records=records):
                self._on_allocated(source, records)
            case Acknowledged():
                self._on_acknowledged(source, event)
            case RecoveryPlanned(plan=plan):
                self._on_planned(source, plan)
            case RecordsApplied() | Restored() | TableAdopted():
                self._durable[source] = event.scl

    def _on_allocated(self, source: str, records: Sequence[RedoRecord]) -> None:
        assert records[0].lsn > max((each.lsn for each in self.records), default=0)
        self.records.extend(records)
        self._writers[source].outstanding.extend(records)

    def _on_planned(self, source: str, plan: RecoveryPlan) -> None:
        assert plan.vdl >= max(self.acknowledged, default=0), "a recovery lost a commit"
        known = [each.lsn for each in self.records if each.is_cpl]
        assert plan.vdl in [0, *known]
        assert plan.table.last_annulled_lsn >= max((each.lsn for each in self.records), default=0)
        self.records = [each for each in self.records if each.lsn <= plan.vdl]
        for pg, tail in plan.tails.items():
            mine = [
                each.lsn for each in self.records if pg_of_page(each.page_id, self._pg_count) == pg
            ]
            assert tail == max(mine, default=0)
        self._writers[source] = self._writer(plan.vdl)

    def _on_acknowledged(self, source: str, event: Acknowledged) -> None:
        self.steps += 1
        segment, scl, pg_id = event.segment, event.scl, event.pg_id
        assert self._durable.get(segment, 0) >= scl, "acknowledged before it was durable"
        writer = self._writers[source]
        scls = writer.scls[pg_id]
        scls[segment] = max(scl, scls[segment])
        pgcls = {pg: pgcl_by_sorting(each, 4) for pg, each in writer.scls.items()}
        pgs = {each.lsn: pg_of_page(each.page_id, self._pg_count) for each in writer.outstanding}
        vcl = vcl_by_trial(writer.outstanding, pgs, pgcls, writer.vcl)
        vdl = vdl_by_trial(writer.outstanding, vcl, writer.vdl)
        assert event.pgcl[1] == pgcls[pg_id]
        assert (event.vcl, event.vdl[1]) == (vcl, vdl), (pgcls, writer)
        assert vdl >= writer.vdl and vcl >= writer.vcl
        if vdl > writer.vdl:
            self._check_backed(vdl)
        writer.vdl, writer.vcl = vdl, vcl
        writer.outstanding = [each for each in writer.outstanding if each.lsn > vdl]

    def _check_backed(self, vdl: Lsn) -> None:
        """Four disks of each group really hold all of it, whoever said what."""
        for pg in range(self._pg_count):
            mine = [
                each.lsn for each in self.records if pg_of_page(each.page_id, self._pg_count) == pg
            ]
            needed = last_at(mine, vdl)
            holders = [s for s, scl in self._durable.items() if s[1:] == str(pg) and scl >= needed]
            assert needed == 0 or len(holders) >= 4, (pg, needed, self._durable)


class Clients:
    """Tasks that write and read through whichever writer there is."""

    def __init__(self, world: World, judge: Judge, random: Random, patience_s: float = 2.0) -> None:
        self.world, self.judge, self.random = world, judge, random
        self.patience_s = patience_s

    async def run(self, tasks: int, commits: int) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(tasks):
                nursery.start_soon(self._client, number, commits)

    async def _client(self, number: int, commits: int) -> None:
        random = self.random
        for turn in range(commits):
            await trio.sleep(0.05 * random.random())
            writes = [
                (
                    int(random.random() * PAGES),
                    int(random.random() * 64),
                    f"{number}.{turn}".encode(),
                )
                for _ in range(1 + int(random.random() * 4))
            ]
            await self._commit(writes)
            await self._read(int(random.random() * PAGES))

    async def _commit(self, writes: list[tuple[int, int, bytes]]) -> None:
        while True:
            engine = await self._open_engine()
            try:
                with trio.move_on_after(self.patience_s * self.random.random()):
                    lsn = await engine.put_many(writes)
                    self.judge.acknowledged.append(lsn)
                    assert engine.vdl >= lsn
                    own = [
                        each for each in self.judge.records if each.mtr_id == lsn - len(writes) + 1
                    ]
                    assert [(each.page_id, each.offset, each.payload) for each in own] == writes
                return
            except (Closed, Fenced):
                continue  # may have survived or not: written once more, as applications do

    async def _read(self, page_id: int) -> None:
        engine = await self._open_engine()
        read_point = int(self.random.random() * (engine.vdl + 1))
        if read_point < engine.vdl and not any(r.lsn == read_point for r in self.judge.records):
            read_point = engine.vdl
        expected = page_by_replay(self.judge.records, page_id, read_point)
        try:
            found = await engine.get_at(page_id, read_point)
        except PageNotFound:
            assert expected.page_lsn == 0
        except (Closed, Fenced):
            pass
        else:
            assert found == expected.image

    async def _open_engine(self) -> Engine:
        while True:
            engine = self.world.engine
            try:
                assert engine.vdl >= max(self.judge.acknowledged, default=0)
            except AuroraError:
                await trio.sleep(0.01)
            else:
                return engine


async def disturb(world: World, random: Random, pg_count: int) -> None:
    """At most two segments of a group in trouble at a time, and now and then the writer."""
    cluster = world.cluster
    while True:
        victims = [f"{'ABCDEF'[int(random.random() * 6)]}{pg}" for pg in range(pg_count)] * 2
        victims += [f"{'ABCDEF'[int(random.random() * 6)]}{int(random.random() * pg_count)}"]
        kind = int(random.random() * 4)
        for segment in victims:
            if kind == 0:
                world.crash(segment)
            elif kind == 1:
                cluster.pause(segment)
            elif kind == 2:
                cluster.slow(segment, 0.02)
        if kind == 3:
            await cluster.recover()
        await trio.sleep(0.2 * random.random())
        for segment in victims:
            cluster.resume(segment)
            cluster.slow(segment, 0)
            await cluster.restart(segment)


def chaos(seed: int, pg_count: int = 3, tasks: int = 100, commits: int = 2) -> str:
    """One disturbed run; returns the digest of all its events."""
    judge = Judge(pg_count)

    async def main(world: World) -> None:
        random = world.seeds.stream("test")
        clients = Clients(world, judge, random)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(disturb, world, random, pg_count)
            await clients.run(tasks, commits)
            nursery.cancel_scope.cancel()
        await settle(world, judge)

    run_world(
        main, seed=seed, pg_count=pg_count, lal=400, engine=SMALL, link=ROUGH, disk=DISK,
        trace=judge, observer=judge.on_network, deadline_s=600,
    )  # fmt: skip
    assert judge.acknowledged, "a run in which nothing was acknowledged proves nothing"
    assert judge.steps > 100
    return judge.digest.hexdigest()


def page_of(world: World, host: SegmentHost, page_id: PageId, read_point: Lsn) -> PageImage:
    """A page as a segment has it on its disk and in memory."""
    read = reader_of(world.disks[host.segment].peek())
    assert host.core is not None
    return host.core.state.materializer.read_now(
        page_id, read_point, lambda *part: read(Read(*part))
    )


async def settle(world: World, judge: Judge) -> None:
    """Faults end: everybody must agree, with the judge too."""
    world.network.heal_all()
    for segment in world.cluster.hosts:
        world.cluster.resume(segment)
        world.cluster.slow(segment, 0)
        await world.cluster.restart(segment)
    engine = await world.cluster.recover()
    assert engine.vdl >= max(judge.acknowledged)
    hosts = world.cluster.hosts.values()

    def converged() -> bool:
        scls = {(each.group.pg_id, each.core.state.scl) for each in hosts if each.core is not None}
        return len(scls) == len(world.cluster.groups)

    await world.until(converged, within_s=20)
    for page_id in range(PAGES):
        expected = page_by_replay(judge.records, page_id, engine.vdl)
        for host in hosts:
            if host.group.pg_id == world.cluster.geometry.pg_of(page_id):
                page = page_of(world, host, page_id, engine.vdl)
                assert page == expected, f"{host.segment} disagrees"
        if expected.page_lsn:
            assert await engine.get(page_id) == expected.image


@pytest.mark.parametrize(("seed", "pg_count"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 1)])
def test_watermarks_and_pages_are_what_brute_force_gives(seed: int, pg_count: int) -> None:
    chaos(seed, pg_count)


def test_hundreds_of_tasks_at_once_without_faults() -> None:
    judge = Judge(2)

    async def main(world: World) -> None:
        clients = Clients(world, judge, world.seeds.stream("test"), patience_s=1e6)
        await clients.run(400, 1)
        assert len(judge.acknowledged) == 400

    run_world(main, seed=9, pg_count=2, lal=400, engine=SMALL, disk=DISK, trace=judge)


def test_one_seed_one_digest_whatever_the_hash_seed() -> None:
    root = Path(__file__).parents[2]
    code = "from tests.scenarios.test_vdl import chaos; print(chaos(6, 2, 25, 2))"

    def digest(hash_seed: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=root, env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    one = digest("1")
    assert one == digest("2")
    assert one != chaos(7, 2, 20, 1) + "\n"
