"""Commits: who waits for them, however often, and who does not."""

from __future__ import annotations

import gc

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from aurora.commit_queue import Commit, CommitQueue
from segments.protocol.errors import Closed


async def test_an_advance_wakes_exactly_those_it_has_reached_in_the_order_of_lsns() -> None:
    """2017 §4.2.2: a commit is acknowledged when the VDL has reached its LSN, and not before."""
    queue, woken = CommitQueue(), list[int]()

    async def wait(commit: Commit) -> None:
        woken.append(await commit.durable())

    async with trio.open_nursery() as nursery:
        for commit in [queue.add(lsn) for lsn in (2, 5, 6, 9)]:
            nursery.start_soon(wait, commit)
        await wait_all_tasks_blocked()
        for vdl, count, expected in [(1, 0, []), (5, 2, [2, 5]), (5, 0, [2, 5]), (8, 1, [2, 5, 6])]:
            assert queue.advance(vdl) == count
            await wait_all_tasks_blocked()
            assert sorted(woken) == expected
        assert len(queue) == 1
        assert queue.advance(9) == 1
    assert woken[-1] == 9


async def test_a_commit_is_awaited_by_many_by_some_again_and_by_late_comers() -> None:
    queue = CommitQueue()
    commit, heard = queue.add(3), list[int]()

    async def wait() -> None:
        heard.append(await commit.durable())
        heard.append(await commit.durable())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        with trio.move_on_after(0) as gave_up:
            await commit.durable()
        assert gave_up.cancelled_caught
        assert repr(commit) == "<Commit 3: pending>"
        assert queue.advance(3) == 1
    assert heard == [3] * 6
    assert await commit.durable() == 3
    queue.fail_all(Closed("too late to matter"))
    assert await commit.durable() == 3
    assert repr(commit) == "<Commit 3: durable>"


async def test_durable_is_a_checkpoint_even_when_it_is_long_since() -> None:
    queue = CommitQueue()
    commit = queue.add(1)
    queue.advance(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await commit.durable()
    assert scope.cancelled_caught


async def test_what_nobody_awaits_is_counted_and_leaves_nothing_behind() -> None:
    queue = CommitQueue()
    for lsn in range(1, 4):
        queue.add(lsn)
    assert len(queue) == 3
    assert queue.advance(3) == 3
    assert len(queue) == 0
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Commit)]


async def test_everyone_fails_with_an_error_of_his_own() -> None:
    queue, errors = CommitQueue(), list[Closed]()

    async def wait(commit: Commit) -> None:
        with pytest.raises(Closed, match="the end") as raised:
            await commit.durable()
        errors.append(raised.value)

    async with trio.open_nursery() as nursery:
        commits = [queue.add(lsn) for lsn in (1, 2, 3)]
        for commit in [*commits, commits[0]]:
            nursery.start_soon(wait, commit)
        await wait_all_tasks_blocked()
        queue.fail_all(Closed("the end"))
    assert len({id(error) for error in errors}) == 4
    assert len(queue) == 0
    with pytest.raises(Closed, match="the end"):
        await commits[1].durable()
    assert repr(commits[1]) == "<Commit 2: not known>"
