"""Runs mutants, each in a fresh process, several at a time; ends those that hang."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from typing import Any, Final

import attrs

from sim.commands.mutant_trial import HANG_S
from sim.mutants.cores import ROOT
from sim.mutants.sites import Mutant
from sim.show.mutant_tally import Outcome, Trial

_POLL_S: Final = 0.2
_PATIENCE: Final = 30
"""Real seconds for each CPU second that is allowed: how busy the machine may be."""


@attrs.define(eq=False)
class _Running:
    """A mutant in its process."""

    mutant: Mutant
    process: subprocess.Popen[bytes]
    give_up_at: float
    output: bytes = b""
    given_up: bool = False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def trials(
    mutants: Iterator[Mutant],
    *,
    jobs: int,
    first_seed: int,
    budget_s: float,
    hang_s: int = HANG_S,
) -> Generator[Trial | None, None, None]:
    """Try the mutants in ``jobs`` processes; each result as it comes, None while there is none.

    ``budget_s`` is CPU time, from the start of the process; a finding that comes later does not
    count. One seed may take ``hang_s`` of CPU time.
    Closing the iterator ends what is under way.
    """
    selector = selectors.DefaultSelector()
    running: set[_Running] = set()
    try:
        while True:
            while len(running) < jobs and (mutant := next(mutants, None)) is not None:
                started = _start(mutant, first_seed, budget_s, hang_s)
                running.add(started)
                assert started.process.stdout is not None
                selector.register(started.process.stdout, selectors.EVENT_READ, started)
            if not running:
                return
            ready = selector.select(timeout=_POLL_S)
            for key, _ in ready:
                each: _Running = key.data
                data = os.read(key.fd, 65536)
                each.output += data
                if not data:
                    selector.unregister(key.fileobj)
                    running.discard(each)
                    yield _ended(each)
            for each in running:
                if time.monotonic() > each.give_up_at and not each.given_up:
                    each.given_up = True
                    each.process.kill()
            if not ready:
                yield None
    finally:
        selector.close()
        for each in running:
            each.kill()


def _start(mutant: Mutant, first_seed: int, budget_s: float, hang_s: int) -> _Running:
    wanted: dict[str, Any] = {
        "module": mutant.module,
        "id": mutant.id,
        "first_seed": first_seed,
        "budget_s": budget_s,
        "hang_s": hang_s,
    }
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, "-m", "sim.commands.mutant_trial", json.dumps(wanted)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is ours: we end it
    )
    return _Running(mutant, process, time.monotonic() + _PATIENCE * (budget_s + hang_s))


def _ended(each: _Running) -> Trial:
    """What a process that has closed its output has come to."""
    code = each.process.wait()
    assert each.process.stdout is not None
    each.process.stdout.close()
    try:
        found = json.loads(each.output)
    except ValueError:
        hung = each.given_up or code == -signal.SIGXCPU
        outcome = Outcome.HUNG if hung else Outcome.CRASHED
        return Trial(id=each.mutant.id, outcome=outcome, finding=f"the process ended with {code}")
    return Trial.from_json({**found, "id": each.mutant.id})
