#!/usr/bin/env python3
"""Measure the engine, each figure beside a limit that is measured in the same run.

    python scripts/bench.py                           # all figures
    python scripts/bench.py memory-commits cold-read  # some
    python scripts/bench.py --quick --json            # smaller sizes, as JSON
    python scripts/bench.py small-records --records 1000000

Machines are noisy, so a figure and its limit are measured in turns, several times. What is shown is
the median of each, and the median of their ratios, turn by turn; only the ratio is judged.

(More than 400 lines: a figure and its limit are best read together, and all are told in one place.)
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import Final, TypeAlias

import attrs
import trio
from rich.console import Console
from rich.table import Table

import aurora
from aurora.config import ClusterConfig, EngineConfig
from aurora.engine import Engine
from aurora.transport import InProcessNetwork
from segments.config import SegmentConfig
from segments.core import SegmentCore
from segments.disks import format_storage
from segments.hot_log import HotLog
from segments.manifest import Stored
from segments.protocol import codec
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import WriteBatch
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import encode_run
from segments.restart import plan_restart
from segments.server import SegmentServer
from segments.state import format_log
from segments.storage import Identity, MemoryStorage
from sim.plan.generate import generate
from sim.run import Run
from sim.world.listener import Listener
from sim.world.network import NetworkEvent
from sim.world.world import World

PAYLOAD: Final = b"x" * 100
COPIES: Final = 6
WRITE_QUORUM: Final = 4
SYNCED_BYTES: Final = 150
"""What the limits on files write before each sync: about one such record, encoded and framed."""

_sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)

# ---- figures -------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Sizes:
    """How much is measured."""

    turns: int = 5
    writers: int = 64
    memory_commits: int = 6_400
    file_commits: int = 3_200
    single_commits: int = 150
    cold_reads: int = 200
    short_page_history: int = 10
    long_page_history: int = 10_000
    live_pages: int = 10_000
    short_history: int = 100_000
    long_history: int = 1_000_000
    retained_records: int = 200_000
    small_records: int = 200_000
    simulated_seeds: int = 20


FULL: Final = Sizes()
QUICK: Final = Sizes(
    turns=3, memory_commits=1_920, file_commits=1_280, single_commits=50, cold_reads=50,
    live_pages=1_000, long_history=300_000, retained_records=20_000, small_records=40_000,
    simulated_seeds=5,
)  # fmt: skip


@attrs.frozen
class Bound:
    """What the ratio of a figure to its limit must be."""

    factor: float
    at_least: bool

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.factor:g} x"

    def holds(self, ratio: float) -> bool:
        return ratio >= self.factor if self.at_least else ratio <= self.factor


@attrs.frozen
class Figure:
    """One measurement; without a limit it is only reported, without a value it could not be made.

    ``name``, ``what``  what was measured, shortly and in words
    ``unit``            of ``value`` and ``limit``
    ``limit_what``      what the limit is, in words
    ``bound``           what ``ratio`` must be, such as ``>= 1.0 x``
    ``ratio``           median of ``value / limit``, turn by turn
    """

    name: str
    what: str
    unit: str
    value: float | None
    limit_what: str = ""
    limit: float | None = None
    bound: str = ""
    ratio: float | None = None
    holds: bool | None = None
    note: str = ""


_Measure: TypeAlias = Callable[[], float]


def compare(
    name: str, what: str, unit: str, limit_what: str, bound: Bound,
    turns: int, engine: _Measure, limit: _Measure, note: str = "",
) -> Figure:  # fmt: skip
    """Measure the engine and its limit in turns."""
    pairs = [(engine(), limit()) for _ in range(turns)]
    ratio = median(value / against for value, against in pairs)
    value, against = (median(column) for column in zip(*pairs, strict=True))
    return Figure(
        name, what, unit, value, limit_what, against, str(bound), ratio, bound.holds(ratio), note
    )


# ---- commits -------------------------------------------------------------------------------------


async def _commit_rate(commits: int, writers: int, directory: Path | None = None) -> float:
    """Commits per second of MTRs with one 100-byte record each."""
    each = commits // writers

    async def write(engine: Engine, writer: int) -> None:
        for turn in range(each):
            page_id = (writer * 31 + turn) % 997
            await engine.put(page_id, turn * 100 % 8_000, PAYLOAD)

    async with aurora.open_cluster(directory) as cluster:
        started = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for writer in range(writers):
                nursery.start_soon(write, cluster.engine, writer)
        return each * writers / (time.perf_counter() - started)


async def _fan_out_rate(rounds: int, in_flight: int) -> float:
    """Rounds per second in which an int goes to six tasks and six answers come back."""
    each = rounds // in_flight
    inboxes = [trio.open_memory_channel[int](in_flight) for _ in range(COPIES)]
    answers = [trio.open_memory_channel[int](COPIES) for _ in range(in_flight)]

    async def answer(inbox: trio.MemoryReceiveChannel[int]) -> None:
        async for number in inbox:
            await answers[number][0].send(number)

    async def ask(number: int) -> None:
        for _ in range(each):
            for sender, _ in inboxes:
                await sender.send(number)
            for _ in range(COPIES):
                await answers[number][1].receive()

    async with trio.open_nursery() as answering:
        for _, inbox in inboxes:
            answering.start_soon(answer, inbox)
        started = time.perf_counter()
        async with trio.open_nursery() as asking:
            for number in range(in_flight):
                asking.start_soon(ask, number)
        rate = each * in_flight / (time.perf_counter() - started)
        answering.cancel_scope.cancel()
    return rate


def memory_commits(sizes: Sizes) -> Figure:
    """(a) Commits in memory against a bare fan-out of trio."""
    commits, writers = sizes.memory_commits, sizes.writers
    return compare(
        "memory-commits", f"commits in memory, {writers} writers", "MTR/s",
        "bare six-way fan-out over trio channels", Bound(1.0, at_least=True), sizes.turns,
        lambda: trio.run(_commit_rate, commits, writers),
        lambda: trio.run(_fan_out_rate, commits, writers),
    )  # fmt: skip


def _open_scratch(directory: Path) -> int:
    number, _ = tempfile.mkstemp(dir=directory)
    return number


def _write_and_sync(file: int) -> None:
    os.write(file, b"y" * SYNCED_BYTES)
    _sync(file)


def _one_file_rate(syncs: int, directory: Path) -> float:
    """Writes with a sync each, per second, one after the other on one file."""
    file = _open_scratch(directory)
    try:
        started = time.perf_counter()
        for _ in range(syncs):
            _write_and_sync(file)
        return syncs / (time.perf_counter() - started)
    finally:
        os.close(file)


def file_commits(sizes: Sizes) -> Figure:
    """(b) Commits on files against one file that is written and synced in a row."""
    with tempfile.TemporaryDirectory() as scratch:
        turn = iter(range(sizes.turns))
        return compare(
            "file-commits", f"commits on files, {sizes.writers} writers", "MTR/s",
            f"one file, {SYNCED_BYTES} bytes and a sync in a row", Bound(2.5, at_least=True),
            sizes.turns,
            lambda: trio.run(
                _commit_rate, sizes.file_commits, sizes.writers, Path(scratch, f"v{next(turn)}")
            ),
            lambda: _one_file_rate(max(64, sizes.file_commits // 4), Path(scratch)),
        )  # fmt: skip


async def _commit_latency(commits: int, directory: Path) -> float:
    """Median milliseconds of a commit while nobody else writes."""
    taken = []
    async with aurora.open_cluster(directory) as cluster:
        for turn in range(commits):
            started = time.perf_counter()
            await cluster.engine.put(turn % 97, 0, PAYLOAD)
            taken.append(time.perf_counter() - started)
    return 1_000 * median(taken)


async def _fourth_of_six(rounds: int, directory: Path) -> float:
    """Median milliseconds until four of six threads have written and synced, each its own file."""
    files = [_open_scratch(directory) for _ in range(COPIES)]
    taken = []

    async def job(file: int, ends: list[float]) -> None:
        await trio.to_thread.run_sync(_write_and_sync, file)
        ends.append(time.perf_counter())

    try:
        for _ in range(rounds):
            ends: list[float] = []
            started = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for file in files:
                    nursery.start_soon(job, file, ends)
            taken.append(ends[WRITE_QUORUM - 1] - started)
    finally:
        for file in files:
            os.close(file)
    return 1_000 * median(taken)


def file_latency(sizes: Sizes) -> Figure:
    """(c) One writer's commit on files against the fourth of six threads to sync."""
    count = sizes.single_commits
    with tempfile.TemporaryDirectory() as scratch:
        turn = iter(range(sizes.turns))
        return compare(
            "file-latency", "commit latency on files, one writer", "ms",
            f"fourth of six threads to write and sync {SYNCED_BYTES} bytes",
            Bound(1.5, at_least=False), sizes.turns,
            lambda: trio.run(_commit_latency, count, Path(scratch, f"v{next(turn)}")),
            lambda: trio.run(_fourth_of_six, count, Path(scratch)),
        )  # fmt: skip


# ---- reads ---------------------------------------------------------------------------------------


async def _cold_reads(sizes: Sizes) -> tuple[float, float]:
    """Median milliseconds to read a page after a long and after a short history."""
    config = ClusterConfig(engine=EngineConfig(buffer_pool_pages=1))  # so each read evicts the last
    short_page, long_page = 1, 2
    taken: dict[int, list[float]] = {short_page: [], long_page: []}
    async with aurora.open_cluster(config=config) as cluster:
        engine = cluster.engine
        histories = ((short_page, sizes.short_page_history), (long_page, sizes.long_page_history))
        for page_id, count in histories:
            writes = [(page_id, at * 101 % (PAGE_SIZE - 100), PAYLOAD) for at in range(count)]
            for at in range(0, count, 100):
                await engine.put_many(writes[at : at + 100])
        before = engine.statistics().pool.misses
        for _ in range(sizes.cold_reads):
            for page_id, durations in taken.items():
                started = time.perf_counter()
                await engine.get(page_id)
                durations.append(time.perf_counter() - started)
        misses = engine.statistics().pool.misses - before
    assert misses == 2 * sizes.cold_reads, f"{misses} misses: expected every read to be one"
    return 1_000 * median(taken[long_page]), 1_000 * median(taken[short_page])


def cold_read(sizes: Sizes) -> Figure:
    """(d) A page read from a segment, whose cost is not to grow with the page's history."""
    turns = [trio.run(_cold_reads, sizes) for _ in range(sizes.turns)]
    long_reads, short_reads = (iter(column) for column in zip(*turns, strict=True))
    return compare(
        "cold-read", f"cold read of a page after {sizes.long_page_history:,} records", "ms",
        f"after {sizes.short_page_history:,} records", Bound(2.0, at_least=False), sizes.turns,
        partial(next, long_reads), partial(next, short_reads),
    )  # fmt: skip


# ---- the simulator -------------------------------------------------------------------------------


def simulated_messages(sizes: Sizes) -> Figure:
    """(e) Messages that the simulator delivers per second, all checkers on.

    The limit is what remains when all else costs nothing: the same messages, only encoded and
    decoded.
    """
    payloads: list[bytes] = []
    failed, taken = 0, 0.0
    for seed in range(sizes.simulated_seeds):
        run, sent = Run(World(generate(seed))), _Sent()
        run.world.listen(sent)
        started = time.perf_counter()
        failed += run.run().verdict.value != "passed"
        taken += time.perf_counter() - started
        payloads += sent.payloads
    started = time.perf_counter()
    for payload in payloads:
        codec.encode(codec.decode(payload))
    coding = time.perf_counter() - started
    note = f"{len(payloads):,} messages, {sizes.simulated_seeds} seeds"
    return Figure(
        "simulator", "simulated messages, random faults, all checkers on", "messages/s",
        len(payloads) / taken, "the same messages, encoded and decoded, nothing else",
        len(payloads) / coding, ratio=coding / taken,
        note=note + (f", {failed} failed" if failed else ""),
    )  # fmt: skip


class _Sent(Listener):
    """Keeps what is sent in a world."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def on_message(self, event: NetworkEvent) -> None:
        if event.kind == "sent":
            self.payloads.append(event.payload)


# ---- restart and recovery ------------------------------------------------------------------------

_EPOCH: Final = VolumeEpoch(1, 1)
_SEGMENT: Final = "A0"
_BATCH: Final = 500
"""Records in one batch of a made-up history, and in one of its mini-transactions."""
_RETAINED: Final = 1_000
"""LSNs of history that stay readable in the segment that is restarted."""


class _History:
    """A segment's life, made by driving its core and its storage without any waiting."""

    def __init__(self, live_pages: int) -> None:
        self._lsn = 0
        self._heads = [0] * live_pages
        self._random = Random(1)
        log, promise = format_log(_EPOCH)
        stored = Stored(log, promise * 2)
        state = plan_restart(_SEGMENT, stored, SegmentConfig()).state
        self._core = SegmentCore(
            _SEGMENT, 0, (), state, SegmentConfig(), Random(2), log_bytes=len(log)
        )
        self.storage = MemoryStorage(Identity("bench", _SEGMENT))
        self._log = HotLog(self.storage, SegmentConfig().wal_file_bytes)

    async def write(self, records: int) -> None:
        """Begin with every page written whole, then make ``records`` small changes."""
        await format_storage(self.storage, _EPOCH)
        await self._log.load()
        pages = len(self._heads)
        for start in range(0, pages, _BATCH):
            part = range(start, min(start + _BATCH, pages))
            await self._batch([(page, 0, self._random.randbytes(PAGE_SIZE)) for page in part])
        for start in range(0, records, _BATCH):
            count = min(_BATCH, records - start)
            await self._batch([self._change() for _ in range(count)])

    def _change(self) -> tuple[int, int, bytes]:
        draw = self._random.randrange
        return draw(len(self._heads)), draw(PAGE_SIZE - len(PAYLOAD)), PAYLOAD

    async def _batch(self, writes: list[tuple[int, int, bytes]]) -> None:
        vdl, records = self._lsn, []
        last_lsn = vdl + len(writes)
        for lsn, (page, offset, data) in enumerate(writes, vdl + 1):
            head, self._heads[page] = self._heads[page], lsn
            is_cpl = lsn == last_lsn
            records.append(
                RedoRecord(lsn, page, offset, data, vdl + 1, is_cpl, lsn - 1, lsn - 1, head)
            )
        self._lsn = last_lsn
        floor = max(0, vdl - _RETAINED)
        batch = WriteBatch(_EPOCH, last_lsn, vdl, floor, last_lsn, False, encode_run(records))
        core = self._core
        core.step("writer", batch, 0.0)
        while (write := core.take_write()) is not None:
            if write.replace is not None:
                await self._log.replace(write.replace)
            else:
                await self._log.append(write.append)
            core.wrote()
            while core.applying:
                core.apply_more()
        core.tick(0.0)
        core.take_sends()


async def _restart(storage: MemoryStorage) -> float:
    """Milliseconds from nothing to a segment that serves."""
    endpoint = InProcessNetwork(64).attach(_SEGMENT)
    server = SegmentServer(_SEGMENT, 0, (), storage, endpoint, SegmentConfig(), Random(3))
    started = time.perf_counter()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        taken = time.perf_counter() - started
        nursery.cancel_scope.cancel()
    return 1_000 * taken


def segment_restart(sizes: Sizes) -> Figure:
    """(f) A segment's restart, whose cost is to follow live data and not history."""
    storages = []
    for records in (sizes.long_history, sizes.short_history):
        history = _History(sizes.live_pages)
        trio.run(history.write, records)
        storages.append(history.storage)
    long_log, short_log = storages
    return compare(
        "segment-restart",
        f"restart of a segment, {sizes.live_pages:,} pages, {sizes.long_history:,} records", "ms",
        f"after {sizes.short_history:,} records", Bound(2.0, at_least=False), sizes.turns,
        lambda: trio.run(_restart, long_log), lambda: trio.run(_restart, short_log),
        f"logs of {_size(long_log) >> 20} and {_size(short_log) >> 20} MiB",
    )  # fmt: skip


def _size(storage: MemoryStorage) -> int:
    return sum(map(len, storage.files.values()))


async def _recover(records: int) -> float:
    """Microseconds per retained record until a second writer has opened the volume."""
    config = ClusterConfig(engine=EngineConfig(retention_lsns=None))
    async with aurora.open_cluster(config=config) as cluster:
        for start in range(0, records, _BATCH):
            count = min(_BATCH, records - start)
            writes = [((start + at) % 4_000, at * 16, PAYLOAD) for at in range(count)]
            await cluster.engine.put_many(writes)
        started = time.perf_counter()
        await cluster.recover()
        return 1e6 * (time.perf_counter() - started) / records


def writer_recovery(sizes: Sizes) -> Figure:
    """(g) A writer's recovery from six segments that keep their whole log."""
    records = sizes.retained_records
    value = median(trio.run(_recover, records) for _ in range(sizes.turns))
    return Figure(
        "writer-recovery", f"recovery of the writer, {records:,} records retained", "us/record",
        value, note=f"{value * records / 1e6:.2f} s in all",
    )  # fmt: skip


# ---- small records, for long ---------------------------------------------------------------------


class _Pauses:
    """How long trio's loop has kept a task waiting that wants to run every millisecond."""

    _EVERY_S: Final = 0.001

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.cpu_s = 0.0
        """The most that this thread has computed between two turns of that task."""

    async def watch(self) -> None:
        while True:
            started, computed = time.perf_counter(), time.thread_time()
            await trio.sleep(self._EVERY_S)
            self.longest_s = max(self.longest_s, time.perf_counter() - started - self._EVERY_S)
            self.cpu_s = max(self.cpu_s, time.thread_time() - computed)


async def _small_records(records: int, directory: Path, pauses: _Pauses) -> str:
    """Write that many records of eight bytes with default settings, and open the volume again."""
    per_mtr, largest = 50, 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pauses.watch)
        started = time.perf_counter()
        async with aurora.open_cluster(directory) as cluster:
            for start in range(0, records, per_mtr):
                count = min(per_mtr, records - start)
                await cluster.engine.put_many(
                    [(at % 4, 8 * at, b"8 bytes!") for at in range(count)]
                )
                if start % (100 * per_mtr) == 0:
                    largest = max(largest, await trio.to_thread.run_sync(_size_of, directory))
            rate = records / (time.perf_counter() - started)
        started = time.perf_counter()
        async with aurora.open_cluster(directory) as cluster:
            reopened = time.perf_counter() - started
            assert cluster.engine.vdl == records, f"VDL {cluster.engine.vdl}: expected {records}"
        nursery.cancel_scope.cancel()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return (
        f"{rate:,.0f} records/s, at most {max(largest, _size_of(directory)) >> 20} MiB on disk, "
        f"reopened in {reopened:.2f} s, peak of the process {peak} MiB; "
        f"at most {1_000 * pauses.cpu_s:.0f} ms of computing at a time"
    )


def _size_of(directory: Path) -> int:
    sizes = []
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # a replacement that has just taken its place
            sizes.append(path.stat().st_size)
    return sum(sizes)


def small_records(sizes: Sizes) -> Figure:
    """(h) The longest pause of trio's loop while many small records are written and read again."""
    pauses, limit_ms = _Pauses(), 100.0
    with tempfile.TemporaryDirectory() as scratch:
        note = trio.run(_small_records, sizes.small_records, Path(scratch, "volume"), pauses)
    value, bound = 1_000 * pauses.longest_s, Bound(1.0, at_least=False)
    return Figure(
        "small-records",
        f"longest pause of the loop, {sizes.small_records:,} records of 8 bytes on files", "ms",
        value, "as long as anyone may be kept waiting", limit_ms,
        str(bound), value / limit_ms, bound.holds(value / limit_ms), note,
    )  # fmt: skip


# ---- the command line ----------------------------------------------------------------------------

FIGURES: Final[dict[str, Callable[[Sizes], Figure]]] = {
    "memory-commits": memory_commits,
    "file-commits": file_commits,
    "file-latency": file_latency,
    "cold-read": cold_read,
    "simulator": simulated_messages,
    "segment-restart": segment_restart,
    "writer-recovery": writer_recovery,
    "small-records": small_records,
}

_COLUMNS: Final = ("name", "figure", "measured", "limit", "measured", "ratio", "must be", "verdict")
_ABOUT_RATIOS: Final = (
    "ratio: the median of the ratios turn by turn, not that of the two medians shown"
)


def _cells(figure: Figure) -> tuple[str, ...]:
    """The figure as a row of `_COLUMNS`."""
    verdict = {True: "ok", False: "FALLS SHORT", None: "reported"}[figure.holds]
    return (
        figure.name,
        figure.what,
        _amount(figure.value, figure.unit) or "-",
        figure.limit_what,
        _amount(figure.limit, figure.unit),
        "" if figure.ratio is None else f"{figure.ratio:.2f} x",
        figure.bound,
        f"{verdict}; {figure.note}" if figure.note else verdict,
    )


def _amount(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:,.{0 if value >= 100 else 2}f} {unit}"


def report(figures: Sequence[Figure], console: Console) -> None:
    """Print the figures: a table on a terminal, else plain lines."""
    if not console.is_terminal:
        print("; ".join(_COLUMNS))
        for figure in figures:
            print("; ".join(cell or "-" for cell in _cells(figure)))
        print(_ABOUT_RATIOS)
        return
    table = Table(caption=_ABOUT_RATIOS, caption_justify="left")
    for column in _COLUMNS:
        table.add_column(column, no_wrap=column == "name")
    for figure in figures:
        style = "red" if figure.holds is False else ""
        table.add_row(*_cells(figure), style=style)
    console.print(table)


def as_json(figures: Sequence[Figure]) -> str:
    """The figures as a JSON document."""
    values = [attrs.asdict(figure) for figure in figures]
    return json.dumps({"figures": values}, indent=2)


def main(arguments: Sequence[str] | None = None, sizes: Sizes | None = None) -> int:
    """Measure what the command line names. Falling short is reported, and is no failure."""
    parser = argparse.ArgumentParser(description="Measure the engine beside its limits.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(FIGURES)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--records", type=int, metavar="N", help="for small-records: how many")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in FIGURES]
    if unknown:
        parser.error(f"no figure {unknown[0]!r}: expected any of {', '.join(FIGURES)}")
    if options.records is not None and options.records < 1:
        parser.error(f"--records is {options.records}: expected at least 1")
    sizes = sizes or (QUICK if options.quick else FULL)
    if options.records is not None:
        sizes = attrs.evolve(sizes, small_records=options.records)
    progress = Console(stderr=True)
    figures = []
    for name in options.names or FIGURES:
        with progress.status(f"measuring {name}"):
            figures.append(FIGURES[name](sizes))
    if options.json:
        print(as_json(figures))
    else:
        report(figures, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
