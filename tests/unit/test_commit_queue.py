"""Who waits for which commit LSN."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from aurora.commit_queue import CommitQueue
from segments.protocol.errors import Closed


async def test_an_advance_wakes_exactly_those_it_has_reached() -> None:
    queue, woken = CommitQueue(), list[int]()

    async def wait(lsn: int) -> None:
        await queue.wait_durable(lsn)
        woken.append(lsn)

    async with trio.open_nursery() as nursery:
        for lsn in (2, 5, 6, 9):
            nursery.start_soon(wait, lsn)
            await wait_all_tasks_blocked()
        for vdl, count, expected in [(1, 0, []), (5, 2, [2, 5]), (5, 0, [2, 5]), (8, 1, [2, 5, 6])]:
            assert queue.advance(vdl) == count
            await wait_all_tasks_blocked()
            assert sorted(woken) == expected
        assert len(queue) == 1
        assert queue.advance(9) == 1


async def test_who_gave_up_is_neither_counted_nor_woken() -> None:
    queue = CommitQueue()
    with trio.move_on_after(0):
        await queue.wait_durable(1)
    assert len(queue) == 0
    assert queue.advance(1) == 0


async def test_everyone_fails_with_an_error_of_his_own() -> None:
    queue, errors = CommitQueue(), list[Closed]()

    async def wait(lsn: int) -> None:
        with pytest.raises(Closed, match="the end") as raised:
            await queue.wait_durable(lsn)
        errors.append(raised.value)

    async with trio.open_nursery() as nursery:
        for lsn in (1, 2, 3):
            nursery.start_soon(wait, lsn)
            await wait_all_tasks_blocked()
        queue.fail_all(Closed("the end"))
    assert len({id(error) for error in errors}) == 3
    assert len(queue) == 0
