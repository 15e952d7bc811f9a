"""``list``: what there is to run, to break and to check."""

from __future__ import annotations

import click

from sim import scenario
from sim.faults import FAULTS


@click.command("list")
def command() -> int:
    """List scenarios and faults."""
    for name, path in scenario.shipped().items():
        click.echo(f"{name:28} {scenario.load(path).description.splitlines()[0]}")
    for fault in FAULTS.values():
        click.echo(f"{fault.name:28} {fault.summary}")
    return 0
