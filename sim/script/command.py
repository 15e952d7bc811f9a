"""The command line of a scenario in Python: ``python scripts/az_plus_one.py --seed 7``."""

from __future__ import annotations

import json
import sys
from typing import NoReturn

import click

from sim.commands.case import SEED
from sim.commands.cli import end_with
from sim.commands.exit_codes import EXIT_CODES, HELP
from sim.plan.schedule import Knobs
from sim.script.errors import Body
from sim.script.play import DEFAULT_LIMIT_S, ScenarioResult, run_scenario
from sim.show.report import as_json
from sim.wording import counted


def main(
    scenario: Body, *, knobs: Knobs | None = None, limit_s: float = DEFAULT_LIMIT_S
) -> NoReturn:
    """A script's whole `main`: run as the command line says, tell, and exit with the verdict."""
    about = (sys.modules[scenario.__module__].__doc__ or scenario.__name__).strip()

    @click.command(help=f"\b\n{about}", epilog=HELP)
    @click.option(
        "--seed", type=SEED, default=1, show_default=True, metavar="N",
        help="The seed of everything that is drawn.",
    )  # fmt: skip
    @click.option("--json", "in_json", is_flag=True, help="Print the report as JSON only.")
    def command(seed: int, in_json: bool) -> int:
        if in_json:
            result = run_scenario(scenario, seed=seed, knobs=knobs, limit_s=limit_s)
            click.echo(json.dumps(_as_json(result), indent=2))
        else:
            _tell(f"seed {seed}: {about.splitlines()[0]}")
            result = run_scenario(scenario, seed=seed, knobs=knobs, limit_s=limit_s, tell=_tell)
            _conclude(result)
        return EXIT_CODES[result.run.verdict]

    end_with(command, f"python {sys.argv[0]}")


def _as_json(result: ScenarioResult) -> dict[str, object]:
    """As `run --json` has it, and the story."""
    return as_json(result.report) | {"bug": None, "story": list(result.story)}


def _conclude(result: ScenarioResult) -> None:
    run = result.run
    _tell(
        f"{run.verdict.value}: {counted(run.commits, 'commit')}, "
        f"{counted(run.messages, 'message')}, {counted(sum(run.checks.values()), 'check')}, "
        f"digest {run.digest}"
    )
    if run.finding:
        _tell(f"{run.invariant}: {run.finding}")


def _tell(line: str) -> None:
    """One line, at once."""
    click.echo(line)
    sys.stdout.flush()
