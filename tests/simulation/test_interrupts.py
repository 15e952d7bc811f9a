"""Ctrl-C, as a real signal: a simulation ends at once, with code 130, wherever it was hit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from sim.crews.processes import Hand
from sim.files.scenario import dump
from sim.plan.generate import generate
from sim.plan.shapes.mixed import MIXED
from sim.run import Run
from sim.world.interrupts import deferred
from sim.world.listener import Listener
from sim.world.scheduler import VirtualScheduler
from sim.world.world import World
from tests.busy import BUSY
from tests.patience import PATIENCE_S
from tests.repo.sources import ROOT

HIT_AT_AN_ACTION = """
import os, signal
from sim.world import faults
def apply(world, action, real=faults.apply):
    os.kill(os.getpid(), signal.SIGINT)
    real(world, action)
faults.apply = apply
"""
HIT_THE_SECOND_RUN = """
import os, signal
from sim.world.world import World
runs = 0
def build(world, nursery, real=World.build):
    global runs
    runs += 1
    if runs == 4:
        os.kill(os.getpid(), signal.SIGINT)
    return real(world, nursery)
World.build = build
"""
HIT_AFTER_A_BUG = """
import os, signal
from sim.commands import bugs_command as command
def spread(*arguments, real=command.spread):
    running = real(*arguments)
    try:
        for done in running:
            yield done
            if done is not None:
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        running.close()
command.spread = spread
"""


def hit(prelude: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process that interrupts itself."""
    return subprocess.run(
        [sys.executable, "-c", f"{prelude}\nfrom sim.commands.cli import main; main()", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", ["run", "explain", "record", "shrink"])
def test_a_run_under_way_ends_with_130(command: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    more = ["-o", str(output)] if command in ("record", "shrink") else []
    ended = hit(HIT_AT_AN_ACTION, command, "az-outage", *more)
    assert (ended.returncode, ended.stderr.strip()) == (130, "interrupted")
    assert "PASSED" not in ended.stdout and not output.exists()


def test_shrink_still_writes_the_smallest_so_far(tmp_path: Path) -> None:
    output, drawn = tmp_path / "small.toml", tmp_path / "drawn.toml"
    drawn.write_text(dump(BUSY))
    case = (str(drawn), "--bug", "ack-before-persist", "-o", str(output))
    ended = hit(HIT_THE_SECOND_RUN, "shrink", *case)
    assert ended.returncode == 130, ended.stderr
    assert "stopped by Ctrl-C: the smallest so far" in ended.stderr
    assert "Traceback" not in ended.stderr and output.exists()
    assert " in 3 runs:" in ended.stdout


def test_the_suite_of_bugs_shows_what_it_has() -> None:
    names = ("third-highest-scl", "write-quorum-3")
    ended = hit(HIT_AFTER_A_BUG, "bugs", "run", *names, "--budget", "0", "--jobs", "1")
    assert ended.returncode == 130, ended.stderr
    assert "| third-highest-scl | pgcl-is-backed |" in ended.stdout
    assert "1 of 2 bugs tried" in ended.stdout
    assert "Traceback" not in ended.stderr


def test_a_script_ends_with_130(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(
        "import os, signal\n"
        "from sim.script.api import main\n"
        "async def scenario(s):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    await s.sleep(1e4)\n"
        "main(scenario)\n"
    )
    ended = hit(f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')")
    assert (ended.returncode, ended.stderr.strip()) == (130, "interrupted")


class Pausing:
    """Work without end."""

    def __call__(self, item: object) -> None:
        signal.pause()

    def given_up(self, item: object, why: str) -> None:
        raise AssertionError(why)


def test_what_is_under_way_in_another_process_is_ended() -> None:
    hand = Hand()
    hand.begin(Pausing(), 1)
    assert not hand.answers.poll(0.0)
    hand.close()
    with pytest.raises(ProcessLookupError):
        os.kill(hand.pid, 0)


@pytest.mark.parametrize("steps", [1, 40, 333, 1000])
def test_wherever_it_hits_the_run_raises_it_bare(steps: int) -> None:
    run = Run(World(generate(3, MIXED)))
    seen = 0

    class Counting(Listener):
        def on_step(self, *_: object) -> None:
            nonlocal seen
            seen += 1
            if seen == steps:
                os.kill(os.getpid(), signal.SIGINT)

    run.world.listen(Counting())
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert seen < steps + 500
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_callback_that_is_hit_is_not_taken_for_a_failure() -> None:
    scheduler = VirtualScheduler()

    async def main() -> None:
        for at_ns in range(5, 50):
            scheduler.call_at(at_ns, served.append, at_ns)
        scheduler.call_at(10, os.kill, os.getpid(), signal.SIGINT)
        await trio.sleep_forever()

    served: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        scheduler.run(main, seed=1, deadline_ns=1000)
    assert served[-1] <= 11


def test_a_second_one_does_not_ask() -> None:
    asked: list[int] = []

    def hit_twice() -> None:
        with deferred(lambda: asked.append(1)):
            os.kill(os.getpid(), signal.SIGINT)
            assert asked == [1]
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        hit_twice()
    assert asked == [1]


def test_who_ignores_it_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred(lambda: pytest.fail("asked")):
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
