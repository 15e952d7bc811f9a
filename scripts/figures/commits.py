"""Commits: how many a second, and how long one takes."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

import trio

import aurora
from aurora.engine import Engine
from scripts.figures.figure import PAYLOAD, Bound, Figure, Sizes, compare, judge
from scripts.figures.life import scratch

_COPIES: Final = 6
_WRITE_QUORUM: Final = 4
_SYNCED_BYTES: Final = 150
"""What the limit of one writer writes before each sync: about a record, encoded and framed."""

_sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


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
    inboxes = [trio.open_memory_channel[int](in_flight) for _ in range(_COPIES)]
    answers = [trio.open_memory_channel[int](_COPIES) for _ in range(in_flight)]

    async def answer(inbox: trio.MemoryReceiveChannel[int]) -> None:
        async for number in inbox:
            await answers[number][0].send(number)

    async def ask(number: int) -> None:
        for _ in range(each):
            for sender, _ in inboxes:
                await sender.send(number)
            for _ in range(_COPIES):
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
    """Commits in memory against a bare fan-out of trio."""
    commits, writers = sizes.memory_commits, sizes.writers
    return compare(
        "memory-commits", f"commits in memory, {writers} writers", "MTR/s",
        "bare six-way fan-out over trio channels", Bound(2.5, at_least=True), sizes.turns,
        lambda: trio.run(_commit_rate, commits, writers),
        lambda: trio.run(_fan_out_rate, commits, writers),
    )  # fmt: skip


def sustained_commits(sizes: Sizes) -> Figure:
    """The same for so long that all work in the background is in it."""
    writers, commits = sizes.writers, sizes.memory_commits

    def limit() -> float:
        return trio.run(_fan_out_rate, commits, writers)

    before = [limit() for _ in range(sizes.turns)]
    value = trio.run(_commit_rate, sizes.sustained_records, writers)
    after = [limit() for _ in range(sizes.turns)]
    return judge(
        "sustained-commits",
        f"commits in memory, {writers} writers, {sizes.sustained_records:,} records", "MTR/s",
        value, "bare six-way fan-out, before and after", median(before + after),
        Bound(2.0, at_least=True),
    )  # fmt: skip


def _open_scratch(directory: Path) -> int:
    number, _ = tempfile.mkstemp(dir=directory)
    return number


def _write_and_sync(file: int) -> None:
    os.write(file, b"y" * _SYNCED_BYTES)
    _sync(file)


def file_commits(sizes: Sizes) -> Figure:
    """Commits on files against those in memory."""
    commits, writers = sizes.file_commits, sizes.writers
    with scratch() as name:
        return compare(
            "file-commits", f"commits on files, {writers} writers", "MTR/s",
            "the same in memory", Bound(0.8, at_least=True), sizes.turns,
            lambda: trio.run(_commit_rate, commits, writers, name()),
            lambda: trio.run(_commit_rate, commits, writers),
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
    files = [_open_scratch(directory) for _ in range(_COPIES)]
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
            taken.append(ends[_WRITE_QUORUM - 1] - started)
    finally:
        for file in files:
            os.close(file)
    return 1_000 * median(taken)


def file_latency(sizes: Sizes) -> Figure:
    """One writer's commit on files against the fourth of six threads to sync."""
    count = sizes.single_commits
    with scratch() as name:
        limit_directory = name()
        limit_directory.mkdir()
        return compare(
            "file-latency", "commit latency on files, one writer", "ms",
            f"fourth of six threads to write and sync {_SYNCED_BYTES} bytes",
            Bound(1.35, at_least=False), sizes.turns,
            lambda: trio.run(_commit_latency, count, name()),
            lambda: trio.run(_fourth_of_six, count, limit_directory),
        )  # fmt: skip
