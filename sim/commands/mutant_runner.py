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
from contextlib import closing
from typing import Any, Final, Protocol

import attrs

from sim.commands.mutant_trial import HANG_S
from sim.mutants.cores import ROOT
from sim.show.mutant_tally import Outcome, Trial

_POLL_S: Final = 0.2
_ASKED_TO_END: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PATIENCE: Final = 30
"""Real seconds for each CPU second that is allowed: how busy the machine may be."""


class Named(Protocol):
    """What is to be known of a mutant to try it: a `sim.mutants.sites.Mutant`, or its name."""

    @property
    def module(self) -> str: ...

    @property
    def id(self) -> str: ...


@attrs.frozen
class MutantName:
    """A mutant, as another machine finds it in the same sources."""

    module: str
    id: str


@attrs.define(eq=False)
class _Running:
    """A mutant in its process."""

    mutant: Named
    process: subprocess.Popen[bytes]
    give_up_at: float
    output: bytes = b""
    given_up: bool = False

    def wait(self) -> int:
        """Its exit code; to be called once, when it has closed its output or was killed."""
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait()


def trials(
    mutants: Iterator[Named],
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
                    yield outcome_of(each.mutant, each.wait(), each.output, each.given_up)
            for each in running:
                if time.monotonic() > each.give_up_at and not each.given_up:
                    each.given_up = True
                    each.process.kill()
            if not ready:
                yield None
    finally:
        selector.close()
        for each in running:
            each.process.kill()
            each.wait()


def _start(mutant: Named, first_seed: int, budget_s: float, hang_s: int) -> _Running:
    wanted: dict[str, Any] = {
        "module": mutant.module,
        "id": mutant.id,
        "first_seed": first_seed,
        "budget_s": budget_s,
        "hang_s": hang_s,
    }
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "sim.commands.mutant_trial", json.dumps(wanted)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is ours: we end it
    )
    return _Running(mutant, process, time.monotonic() + _PATIENCE * (budget_s + hang_s))


def outcome_of(mutant: Named, code: int, output: bytes, given_up: bool) -> Trial | None:
    """What a process came to that has ended with ``code`` and printed ``output``.

    ``given_up`` says that it was ended here, as it took too long. None if somebody else ended it.
    """
    try:
        found = json.loads(output)
    except ValueError:
        if -code in _ASKED_TO_END:
            return None
        hung = given_up or code == -signal.SIGXCPU
        outcome = Outcome.HUNG if hung else Outcome.CRASHED
        return Trial(id=mutant.id, outcome=outcome, finding=f"the process ended with {code}")
    return Trial.from_json({**found, "id": mutant.id})


@attrs.frozen(kw_only=True)
class MutantWork:
    """What another machine does with each mutant."""

    first_seed: int
    budget_s: float
    hang_s: int = HANG_S

    def __call__(self, mutant: MutantName) -> Trial | None:
        running = trials(
            iter([mutant]),
            jobs=1,
            first_seed=self.first_seed,
            budget_s=self.budget_s,
            hang_s=self.hang_s,
        )
        with closing(running):
            return next((each for each in running if each is not None), None)

    def given_up(self, mutant: MutantName, why: str) -> Trial | None:
        """Nothing is known of it: its own process is another one."""
        return None
