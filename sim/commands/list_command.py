"""The command ``list``: what there is to run, to break, to check, to reach and to plant."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import click
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aurora.terminal.console import new_console
from sim.bugs import BUGS
from sim.check.findings import OTHER_FINDINGS
from sim.check.invariants import INVARIANTS
from sim.check.marks import MARKS
from sim.commands.exit_codes import HELP, PASSED
from sim.files import scenario
from sim.files.knob_edits import known_knobs
from sim.plan.knob_words import KNOB_WORDS, SHORT_NAMES
from sim.plan.shapes import SHAPES
from sim.show.report_text import show
from sim.world.faults import FAULTS, Fault

_TITLES = {
    "scenarios": "python -m aurora.sim run NAME",
    "shapes": "what a seed draws its run from, with the share of seeds that draw it",
    "knobs": "of the world: --knob NAME=VALUE; in brackets what is taken by default",
    "faults": "actions of scenarios: fault = NAME; in brackets what is taken if missing",
    "invariants": "held in every run",
    "findings": "what else a run can end with, and the rule that broke",
    "marks": "what a run may reach; fleet counts them",
    "bugs": "to be planted: --bug NAME",
}


@click.command("list", epilog=HELP)
@click.argument("what", type=click.Choice(list(_TITLES)), metavar="[KIND]", required=False)
@click.option("--json", "in_json", is_flag=True, help="Print it as JSON, and nothing else.")
def command(what: str | None = None, in_json: bool = False) -> int:
    """List scenarios, shapes, knobs, faults, invariants, findings, marks and bugs.

    Everything, or only the KIND that is named.
    """
    found = {kind: _items(kind) for kind in _TITLES if what in (None, kind)}
    if in_json:
        click.echo(json.dumps(found, indent=2))
    else:
        parts: list[RenderableType] = []
        for kind, items in found.items():
            parts += ["", *_section(kind, items)] if parts else _section(kind, items)
        show(new_console(), Group(*parts))
    return PASSED


def _items(kind: str) -> dict[str, str]:
    """Names and summaries of one kind."""
    if kind == "scenarios":
        return {name: _summary(scenario.load(path)) for name, path in scenario.shipped().items()}
    if kind == "shapes":
        total = sum(each.weight for each in SHAPES)
        return {each.name: f"{each.summary} ({each.weight / total:.0%})" for each in SHAPES}
    if kind == "knobs":
        return dict(_knobs())
    if kind == "faults":
        return {each.name: f"{each.summary}{_params(each)}" for each in FAULTS.values()}
    if kind == "invariants":
        return {each.name: f"{each.number}. {each.text}" for each in INVARIANTS.values()}
    if kind == "findings":
        return dict(OTHER_FINDINGS)
    if kind == "marks":
        return {each.name: each.summary for each in MARKS.values()}
    return {each.name: each.summary for each in BUGS.values()}


def _knobs() -> Iterator[tuple[str, str]]:
    """What each knob is; parts that two profiles share are told once."""
    for name, value in known_knobs().items():
        if name in KNOB_WORDS:
            yield name, f"{KNOB_WORDS[name]} ({value})"
    for name, meant in SHORT_NAMES.items():
        yield name, f"short for {' and '.join(meant)}"


def _params(fault: Fault) -> str:
    """What each parameter of a fault has to be, and is taken to be if it is missing."""
    return "".join(
        f"; {name}: {param.expected} ({param.missing})" for name, param in fault.params.items()
    )


def _summary(found: scenario.ScenarioFile) -> str:
    """The first sentence of a scenario's description."""
    text = " ".join(found.description.split())
    return text.split(". ")[0].rstrip(".")


def _section(kind: str, items: dict[str, str]) -> Iterable[RenderableType]:
    yield Text.assemble((kind.capitalize(), "bold cyan"), (f"  {_TITLES[kind]}", "dim"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, summary in items.items():
        table.add_row(name, summary)
    yield Padding(table, (0, 0, 0, 2))
