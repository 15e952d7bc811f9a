"""``run``: one run, from a scenario or a seed."""

from __future__ import annotations

import click

from sim import scenario
from sim.exit_codes import EXIT_CODES
from sim.generate import generate
from sim.world import run


@click.command("run")
@click.argument("name", metavar="[SCENARIO|FILE]", required=False)
@click.option("--seed", type=int, help="Seed of everything that is drawn.")
def command(name: str | None = None, seed: int | None = None) -> int:
    """Run a scenario, or the schedule drawn from a seed."""
    if name is None and seed is not None:
        schedule = generate(seed)
    else:
        schedule = scenario.load(scenario.find(name or "default")).schedule(seed)
    result = run(schedule)
    click.echo(f"seed {schedule.seed}: {result.verdict.value} {result.finding} {result.digest}")
    return EXIT_CODES[result.verdict]
