"""The gate: format, lint, types and tests, each timed; fails if any of them does.

``python scripts/check.py`` runs all of it, ``--fast`` leaves out the tests.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent


class Step(NamedTuple):
    """One tool, run as ``python -m`` with this interpreter."""

    name: str
    arguments: tuple[str, ...]


CHECKS: Final = (
    Step("format", ("ruff", "format", "--check", ".")),
    Step("lint", ("ruff", "check", ".")),
    Step("types", ("mypy",)),
)
TESTS: Final = Step("tests", ("pytest", "-n", "2", "--dist", "worksteal"))


class Outcome(NamedTuple):
    """How a step ended."""

    step: Step
    exit_code: int
    seconds: float

    def __str__(self) -> str:
        verdict = "ok" if self.exit_code == 0 else f"FAILED (exit code {self.exit_code})"
        return f"{self.step.name:<8}{self.seconds:>8.1f} s  {verdict}"


def run(step: Step) -> Outcome:
    """Run ``step`` in the project's root, its output going straight through."""
    print(f"\n==> {step.name}: {' '.join(step.arguments)}", flush=True)
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", *step.arguments], cwd=ROOT, check=False)
    return Outcome(step, done.returncode, time.perf_counter() - started)


def check(steps: Iterable[Step]) -> int:
    """Run every step, also after a failure, so that one run shows all there is to mend.

    Returns the exit code: 0 if all passed, else 1.
    """
    outcomes = [run(step) for step in steps]
    print("\n==> summary")
    for outcome in outcomes:
        print(outcome)
    failed = [outcome.step.name for outcome in outcomes if outcome.exit_code != 0]
    print(f"\nFAILED: {', '.join(failed)}" if failed else "\nAll checks passed.")
    return 1 if failed else 0


def main() -> int:
    """Check the project as the command line asks."""
    parser = argparse.ArgumentParser(description="Check the project: format, lint, types, tests.")
    parser.add_argument("--fast", action="store_true", help="leave out the tests")
    return check(CHECKS if parser.parse_args().fast else (*CHECKS, TESTS))


if __name__ == "__main__":
    sys.exit(main())
