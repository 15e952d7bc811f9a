"""Commits wake when the VDL passes them, in their order, once, and never when it does not."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from aurora.commit_queue import CommitQueue
from segments.protocol.errors import Fenced


async def _wait(queue: CommitQueue, lsn: int, woken: list[int | str]) -> None:
    try:
        await queue.wait_durable(lsn)
        woken.append(lsn)
    except Fenced as error:
        woken.append(f"{lsn}: {error}")


async def _start(nursery: trio.Nursery, queue: CommitQueue, *lsns: int) -> list[int | str]:
    woken: list[int | str] = []
    for lsn in lsns:
        nursery.start_soon(_wait, queue, lsn, woken)
        await trio.testing.wait_all_tasks_blocked()
    return woken


async def test_an_advance_wakes_what_it_reaches() -> None:
    queue = CommitQueue()
    async with trio.open_nursery() as nursery:
        woken = await _start(nursery, queue, 3, 5, 9)
        counts = []
        for vdl in (2, 5, 5, 8, 9):
            counts.append(queue.advance(vdl))
            await trio.testing.wait_all_tasks_blocked()
        assert counts == [0, 2, 0, 0, 1]
    assert sorted(map(str, woken)) == ["3", "5", "9"]
    assert len(queue) == 0


async def test_a_cancelled_wait_is_forgotten() -> None:
    queue = CommitQueue()
    async with trio.open_nursery() as nursery:
        woken = await _start(nursery, queue, 3)
        with trio.move_on_after(0):
            await queue.wait_durable(4)
        assert len(queue) == 1
        assert queue.advance(10) == 1
    assert woken == [3]


async def test_a_failure_reaches_everyone_with_an_error_of_their_own() -> None:
    queue = CommitQueue()
    async with trio.open_nursery() as nursery:
        woken = await _start(nursery, queue, 3, 5)
        with trio.move_on_after(0):
            await queue.wait_durable(7)
        queue.fail_all(Fenced("epoch 2 has been sealed"))
    assert sorted(map(str, woken)) == [f"{lsn}: epoch 2 has been sealed" for lsn in (3, 5)]
    assert queue.advance(10) == 0


async def test_commits_come_in_the_order_of_their_lsns() -> None:
    queue = CommitQueue()
    async with trio.open_nursery() as nursery:
        await _start(nursery, queue, 5)
        with pytest.raises(AssertionError, match="commit LSN 5: expected above 5"):
            await queue.wait_durable(5)
        queue.advance(5)


async def test_hundreds_wake_as_a_plain_list_says() -> None:
    queue, woken = CommitQueue(), list[int | str]()
    async with trio.open_nursery() as nursery:
        for lsn in range(1, 601, 2):
            nursery.start_soon(partial(_wait, queue, lsn, woken))
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        expected = list(range(1, 601, 2))
        for vdl in range(0, 607, 7):
            queue.advance(vdl)
            expected = [lsn for lsn in expected if lsn > vdl]
            assert len(queue) == len(expected)
    assert len(woken) == 300
