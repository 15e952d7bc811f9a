"""Virtual time: order, determinism, and every way in which a run can end."""

from __future__ import annotations

import os
import subprocess
import sys
from random import Random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio._core import _run as trio_internals

from segments.protocol.errors import Invalid
from sim.plan.seeds import Seeds
from sim.world.scheduler import MAX_TIME_NS, Deadlock, Undecided, VirtualScheduler
from tests.patience import PATIENCE_S

SECOND = 1_000_000_000


async def _pass_time(scheduler: VirtualScheduler, delay_ns: int = SECOND) -> int:
    await scheduler.sleep_ns(delay_ns)
    return scheduler.now_ns


def test_an_hour_passes_at_once_and_to_the_nanosecond() -> None:
    scheduler = VirtualScheduler()
    end = scheduler.run(_pass_time, scheduler, 3600 * SECOND + 1, seed=1, deadline_ns=MAX_TIME_NS)
    assert end == 3600 * SECOND + 1
    assert scheduler.now == end / SECOND


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from("ets"))))
def test_events_sleeps_and_deadlines_share_one_time_line(plan: list[tuple[int, str]]) -> None:
    scheduler = VirtualScheduler()
    seen: list[tuple[int, int]] = []

    async def sleep(index: int, delay_ms: int, kind: str) -> None:
        if kind == "t":
            await trio.sleep(delay_ms / 1000)
        else:
            await scheduler.sleep_ns(delay_ms * 1_000_000)
        seen.append((scheduler.now_ns, index))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for index, (delay_ms, kind) in enumerate(plan):
                if kind == "e":
                    at_ns = delay_ms * 1_000_000
                    scheduler.call_at(at_ns, lambda i=index: seen.append((scheduler.now_ns, i)))
                else:
                    nursery.start_soon(sleep, index, delay_ms, kind)
            await scheduler.sleep_ns(SECOND)

    scheduler.run(main, seed=3, deadline_ns=SECOND)
    # The oracle: each at its own time, to the nanosecond, and time never goes back.
    assert [now_ns for now_ns, _ in seen] == sorted(now_ns for now_ns, _ in seen)
    assert sorted(seen, key=lambda event: event[1]) == [
        (delay_ms * 1_000_000, index) for index, (delay_ms, _) in enumerate(plan)
    ]


def test_events_of_one_instant_keep_their_order_and_cancelled_ones_do_not_happen() -> None:
    scheduler = VirtualScheduler()
    seen: list[int] = []
    handles = [scheduler.call_at(5, seen.append, number) for number in range(3000)]
    for handle in handles[::3]:
        scheduler.cancel(handle)
        scheduler.cancel(handle)
    assert scheduler.pending == 2000
    for handle in handles[1::3]:
        scheduler.cancel(handle)
    assert scheduler.pending == 1000
    scheduler.run(_pass_time, scheduler, seed=1, deadline_ns=SECOND)
    assert seen == list(range(2, 3000, 3))
    scheduler.cancel(handles[2])  # over: harmless
    assert scheduler.pending == 0


def test_a_cancelled_event_does_not_move_time() -> None:
    scheduler = VirtualScheduler()

    async def main() -> None:
        scheduler.cancel(scheduler.call_at(7, print))
        await trio.sleep_forever()

    with pytest.raises(Deadlock) as caught:
        scheduler.run(main, seed=1, deadline_ns=SECOND)
    assert caught.value.now_ns == 0


def test_a_timeout_cuts_a_longer_sleep() -> None:
    scheduler = VirtualScheduler()

    async def main() -> int:
        with trio.move_on_after(0.1 + 0.2):
            await scheduler.sleep_ns(SECOND)
        return scheduler.now_ns

    # 0.1 + 0.2 is a little more than 0.3: the first nanosecond that is not before it.
    assert scheduler.run(main, seed=1, deadline_ns=SECOND) == 300_000_001
    assert scheduler.pending == 0


def test_an_event_that_moves_a_deadline_is_heeded() -> None:
    scheduler = VirtualScheduler()

    async def main() -> int:
        with trio.CancelScope() as scope:
            scheduler.call_at(5, setattr, scope, "deadline", 0.1)
            await trio.sleep_forever()
        return scheduler.now_ns

    assert scheduler.run(main, seed=1, deadline_ns=SECOND) == SECOND // 10


def test_waiting_until_all_are_blocked_takes_no_time() -> None:
    scheduler = VirtualScheduler()

    async def main() -> int:
        scheduler.call_at(5, print)
        await trio.testing.wait_all_tasks_blocked()
        return scheduler.now_ns

    assert scheduler.run(main, seed=1, deadline_ns=SECOND) == 0


def _interleaving(seed: int) -> list[int]:
    scheduler = VirtualScheduler()
    seen: list[int] = []

    async def step(number: int) -> None:
        for _ in range(3):
            seen.append(number)
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(step, number)

    scheduler.run(main, seed=seed, deadline_ns=SECOND)
    return seen


def test_the_seed_draws_the_order_of_tasks_and_nothing_else_does() -> None:
    assert _interleaving(1) == _interleaving(1)
    assert _interleaving(1) != _interleaving(2)


def _python(program: str, hash_seed: str = "0") -> str:
    environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        timeout=PATIENCE_S,
    ).stdout.strip()


def test_the_order_is_the_same_in_another_process() -> None:
    program = f"import runpy; print(runpy.run_path({__file__!r})['_interleaving'](7))"
    outputs = {_python(program, hash_seed) for hash_seed in "12"}
    assert outputs == {str(_interleaving(7))}


@pytest.mark.parametrize("flag", [False, True])
def test_a_run_leaves_trio_as_it_was(monkeypatch: pytest.MonkeyPatch, flag: bool) -> None:
    monkeypatch.setattr(trio_internals, "_ALLOW_DETERMINISTIC_SCHEDULING", flag)
    state = trio_internals._r.getstate()

    async def flag_within() -> bool:
        return trio_internals._ALLOW_DETERMINISTIC_SCHEDULING

    assert VirtualScheduler().run(flag_within, seed=1, deadline_ns=SECOND)
    with pytest.raises(Deadlock):
        VirtualScheduler().run(trio.sleep_forever, seed=1, deadline_ns=SECOND)
    assert flag == trio_internals._ALLOW_DETERMINISTIC_SCHEDULING
    assert trio_internals._r.getstate() == state


async def _wait_for_a_friend() -> None:
    await trio.Event().wait()


def test_a_deadlock_names_who_waits_and_where() -> None:
    scheduler = VirtualScheduler()
    cleaned: list[str] = []

    async def main() -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_wait_for_a_friend, name="lonely")
                await scheduler.sleep_ns(12)
        finally:
            cleaned.append("main")

    with pytest.raises(Deadlock) as caught:
        scheduler.run(main, seed=1, deadline_ns=SECOND)
    assert caught.value.now_ns == 12
    main_line, lonely_line = caught.value.blocked
    assert "main" in main_line
    assert lonely_line.startswith("lonely waits in _wait_for_a_friend (test_scheduler.py:")
    assert lonely_line in str(caught.value)
    assert cleaned == ["main"]


def test_a_deadlock_behind_a_shield_still_ends() -> None:
    cleaned: list[str] = []

    async def main() -> None:
        try:
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                cleaned.append("once")
                await trio.sleep(1)
                cleaned.append("not reached: the world stands still")

    with pytest.raises(Deadlock):
        VirtualScheduler().run(main, seed=1, deadline_ns=SECOND)
    assert cleaned == ["once"]


def test_a_task_that_cannot_be_cancelled_does_not_hang_the_run() -> None:
    async def main() -> None:
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    with pytest.raises(Deadlock):
        VirtualScheduler().run(main, seed=1, deadline_ns=SECOND)


def test_a_system_task_may_outlive_the_main_one_for_a_while() -> None:
    scheduler = VirtualScheduler()
    seen: list[int] = []

    async def linger() -> None:
        with trio.CancelScope(shield=True):
            await scheduler.sleep_ns(9)
            seen.append(scheduler.now_ns)

    async def main() -> str:
        trio.lowlevel.spawn_system_task(linger)
        await trio.lowlevel.checkpoint()
        return "done"

    assert scheduler.run(main, seed=1, deadline_ns=SECOND) == "done"
    assert seen == [9]


def test_events_left_over_are_not_served() -> None:
    scheduler = VirtualScheduler()
    seen: list[int] = []

    def again() -> None:
        seen.append(scheduler.now_ns)
        scheduler.call_after(10, again)

    scheduler.call_at(0, again)
    assert scheduler.run(_pass_time, scheduler, 25, seed=1, deadline_ns=SECOND) == 25
    assert seen == [0, 10, 20]


class Violation(BaseException):
    """Not even an `Exception`, as those of pytest."""


@pytest.mark.parametrize("kind", [ValueError, Violation])
def test_an_exception_in_an_event_leaves_run(kind: type[BaseException]) -> None:
    scheduler = VirtualScheduler()
    served: list[int] = []

    def violate() -> None:
        raise kind("acknowledged twice")

    async def stubborn() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("while cleaning up")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stubborn)
            await trio.sleep_forever()

    scheduler.call_at(3, violate)
    scheduler.call_at(3, served.append, 1)
    with pytest.raises(kind, match="acknowledged twice"):
        scheduler.run(main, seed=1, deadline_ns=SECOND)
    assert served == [], "the world stands still after a failure"


def test_fail_ends_the_run_even_if_the_tasks_swallow_everything() -> None:
    scheduler = VirtualScheduler()

    async def main() -> str:
        try:
            scheduler.fail(ValueError("first"))
            scheduler.fail(ValueError("second"))
            await trio.sleep(1)
        except BaseException:  # noqa: BLE001 - the point of this test
            return "all is well"
        return "not reached"

    with pytest.raises(ValueError, match="first"):
        scheduler.run(main, seed=1, deadline_ns=SECOND)


def test_an_exception_of_the_main_task_is_its_own() -> None:
    async def main() -> None:
        raise KeyError("page")

    with pytest.raises(KeyError, match="page"):
        VirtualScheduler().run(main, seed=1, deadline_ns=SECOND)


def test_beyond_the_virtual_deadline_is_undecided() -> None:
    scheduler = VirtualScheduler()
    with pytest.raises(Undecided, match="not finished by 1000000000 ns"):
        scheduler.run(_pass_time, scheduler, SECOND + 1, seed=1, deadline_ns=SECOND)
    assert scheduler.now_ns == SECOND
    with pytest.raises(Undecided, match="not finished by 1000000000 ns"):
        VirtualScheduler().run(trio.sleep, 1.001, seed=1, deadline_ns=SECOND)
    scheduler = VirtualScheduler()
    assert scheduler.run(_pass_time, scheduler, seed=1, deadline_ns=SECOND) == SECOND


def test_events_without_end_are_undecided() -> None:
    scheduler = VirtualScheduler()

    def again() -> None:
        scheduler.call_after(0, again)

    again()
    with pytest.raises(Undecided, match="100 events served"):
        scheduler.run(trio.sleep_forever, seed=1, deadline_ns=SECOND, step_limit=100)
    assert scheduler.events == 100


async def _spin() -> None:
    while True:
        await trio.lowlevel.checkpoint()


def test_tasks_that_run_without_end_are_undecided() -> None:
    with pytest.raises(Undecided, match="100 turns"):
        VirtualScheduler().run(_spin, seed=1, deadline_ns=SECOND, step_limit=100)


SPIN_AND_SWALLOW = """
import trio, sim.world.scheduler
kept = []  # the task: the collector would throw its coroutine away at a time of its own
async def spin():
    kept.append(trio.lowlevel.current_task())
    while True:
        try:
            await trio.lowlevel.checkpoint()
        except BaseException:
            continue
try:
    sim.world.scheduler.VirtualScheduler().run(spin, seed=1, deadline_ns=1, step_limit=100)
except sim.world.scheduler.Undecided as error:
    print(error, flush=True)
import os
os._exit(0)  # the task cannot be killed in any other way
"""


def test_even_if_they_swallow_their_cancellation() -> None:
    assert "100 turns" in _python(SPIN_AND_SWALLOW)


def test_misuse_is_refused() -> None:
    scheduler = VirtualScheduler()
    with pytest.raises(Invalid, match="-1"):
        scheduler.call_after(-1, print)
    with pytest.raises(Invalid, match="deadline"):
        scheduler.run(trio.sleep, 0, seed=1, deadline_ns=MAX_TIME_NS + 1)
    with pytest.raises(Invalid, match="step limit"):
        scheduler.run(trio.sleep, 0, seed=1, deadline_ns=1, step_limit=0)
    scheduler.run(trio.sleep, 0, seed=1, deadline_ns=1)
    with pytest.raises(Invalid, match="fresh"):
        scheduler.run(trio.sleep, 0, seed=1, deadline_ns=1)


def test_streams_are_named_independent_and_the_same_everywhere() -> None:
    seeds = Seeds(42)
    first = [seeds.stream("network").random() for _ in range(3)]
    assert Seeds(42).stream("disk").random() not in first
    assert [Seeds(43).stream("network").random()] != first[:1]
    again = Seeds(42)
    again.stream("disk").random()
    assert [again.stream("network").random() for _ in range(3)] == first
    assert seeds.within("A0").number("disk") != seeds.within("B0").number("disk")
    assert seeds.within("A0").number("disk") != seeds.number("disk")
    # Fixed for ever: what a seed stands for must not change with the version.
    assert seeds.number("network") == EXPECTED_NUMBER
    assert first[0] == Random(EXPECTED_NUMBER).random()
    with pytest.raises(Invalid, match="'a/b'"):
        seeds.stream("a/b")


EXPECTED_NUMBER = 252994190699676423096965282492973988457
