"""The command ``run``: one run of a scenario, of a drawn schedule, or of a database's log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from typing import Final

import attrs
import click
from rich.console import Console

from aurora.terminal.console import new_console
from aurora.terminal.finishing import PatientFile
from segments.protocol.errors import Invalid
from sim.bugs import planted
from sim.commands import replay_sqlite
from sim.commands.case import SEED, check_bug, input_paths, knob_arguments, knob_option
from sim.commands.exit_codes import EXIT_CODES, HELP
from sim.files import recording, scenario
from sim.files.expectations import Expectation
from sim.files.knob_edits import with_knobs
from sim.files.outputs import OUTPUT, begins_with, check_output, force_option, writable_path
from sim.files.sqlite_rebuild import base_path_of
from sim.plan.generate import generate
from sim.plan.schedule import Schedule
from sim.run import Run, Verdict
from sim.show.live import LiveView
from sim.show.report import Report, as_json, make_report
from sim.show.report_text import header, report_text, show
from sim.show.watch import Watch
from sim.wording import command_line
from sim.world.network_policy import PolicyMaker
from sim.world.world import World

DEFAULT: Final = "default"
REPLAY: Final = "replay"
"""The scenario that a log is replayed under unless another is named."""
_IS_TRACE: Final = begins_with(b'{"t_ns":')


@attrs.frozen(kw_only=True)
class Plan:
    """What is to be run, and how to ask for it again."""

    schedule: Schedule
    arguments: tuple[str, ...]
    """After ``run``."""
    description: str = ""
    expectations: tuple[Expectation, ...] = ()
    bug: str | None = None
    policy: PolicyMaker | None = None
    """Who decides what becomes of messages; None: the seed does."""

    @property
    def command(self) -> str:
        return command_line("run", *self.arguments)


@click.command("run", epilog=HELP)
@click.argument("name", metavar="[SCENARIO|FILE]", required=False)
@click.option("--seed", type=SEED, metavar="N", help="The seed of everything that is drawn.")
@click.option(
    "--workload", type=OUTPUT, metavar="FILE.db-wal",
    help="Replay the transactions of a SQLite database instead of drawn calls.",
)  # fmt: skip
@click.option(
    "--output", type=OUTPUT, metavar="FILE.db",
    callback=writable_path, help="With --workload: keep the rebuilt database.",
)  # fmt: skip
@force_option("Let --output and --trace replace a file that exists.")
@click.option("--bug", metavar="NAME", help="Plant one of the deliberate bugs first; see `bugs`.")
@knob_option
@click.option("--json", "in_json", is_flag=True, help="Print the report as JSON, and nothing else.")
@click.option(
    "--trace", type=OUTPUT, metavar="FILE", callback=writable_path,
    help="Write every event as a line of JSON. An older trace is replaced.",
)  # fmt: skip
def command(
    name: str | None = None,
    seed: int | None = None,
    workload: Path | None = None,
    output: Path | None = None,
    force: bool = False,
    bug: str | None = None,
    knobs: tuple[str, ...] = (),
    in_json: bool = False,
    trace: Path | None = None,
) -> int:
    """Run once, check every promise, and report.

    SCENARIO is a name that `list` shows, FILE a scenario file. With a seed alone, whatever this
    seed draws is run: knobs, calls and faults. With nothing at all, the scenario "default".

    With --workload, the one client commits the transactions of FILE.db-wal, spread over the
    scenario's duration; in the end the database is rebuilt from pages that the engine reads, and
    must be byte for byte the one that SQLite makes of FILE.db and its log.
    """
    check_bug(bug)
    if output is not None and workload is None:
        raise click.UsageError("--output: expected together with --workload")
    if output is not None and workload is not None:
        check_output("--output", output, inputs=_replayed(workload), force=force)
    plan = make_plan(name or (REPLAY if workload is not None else None), seed, bug, knobs)
    if trace is not None:
        inputs = input_paths(name) | _replayed(workload)
        check_output("--trace", trace, inputs=inputs, force=force, written_before=_IS_TRACE)
    console = None if in_json else new_console()
    with nullcontext() if trace is None else PatientFile(trace) as file:
        if workload is None:
            report = execute(plan, console, file)
        else:
            report = replay(plan, workload, output, console, file)
    if console is None:
        click.echo(json.dumps(as_json(report) | {"bug": plan.bug}, indent=2))
    else:
        show(console, report_text(report))
    return EXIT_CODES[report.verdict]


def _replayed(workload: Path | None) -> dict[Path, str]:
    """The files of a workload, for `check_output`."""
    if workload is None:
        return {}
    base = base_path_of(workload)
    return {base: "the database that is replayed", workload: "the log that is replayed"}


def make_plan(
    name: str | None, seed: int | None, bug: str | None, knobs: Sequence[str] = ()
) -> Plan:
    """What the arguments ask for; raises `Invalid`."""
    if name is None and seed is not None:
        schedule = with_knobs(generate(seed), knobs)
        found = scenario.ScenarioFile(name=schedule.name, seed=seed)
        arguments = ["--seed", str(seed)]
    elif name is not None and Path(name).is_file() and recording.is_recording(Path(name)):
        raise Invalid(f"{name}: a recording: use `replay {name}`")
    else:
        found = scenario.load(scenario.find(name or DEFAULT), knobs)
        schedule = found.schedule(seed)
        arguments = [name or DEFAULT]
        if found.decided is None:
            arguments += ["--seed", str(schedule.seed)]
        elif seed is not None:
            raise Invalid("the fork of a recording has its seed: expected no --seed")
    if bug:
        arguments += ["--bug", bug]
    arguments += knob_arguments(knobs)
    return Plan(
        schedule=schedule,
        arguments=tuple(arguments),
        description=found.description,
        expectations=found.expectations,
        bug=bug or found.bug or None,
        policy=None if found.decided is None else found.decided.policy,
    )


def execute(plan: Plan, console: Console | None = None, trace: PatientFile | None = None) -> Report:
    """Run a plan; on a console, with its header, and live if that is a terminal."""
    with planted(plan.bug):
        return _watched(plan, Run(World(plan.schedule, policy=plan.policy)), console, trace)


def replay(
    plan: Plan,
    wal_path: Path,
    output: Path | None = None,
    console: Console | None = None,
    trace: PatientFile | None = None,
) -> Report:
    """Replay a log under a plan's faults; raises what `sqlite_rebuild.load_workload` does."""
    workload, schedule = replay_sqlite.prepare(wal_path, plan.schedule)
    arguments = [*plan.arguments, "--workload", str(wal_path)]
    if output is not None:
        arguments += ["--output", str(output), "--force"]  # it is there by then
    facts = {
        **replay_sqlite.raised_facts(plan.schedule.knobs, schedule.knobs),
        **replay_sqlite.set_aside_facts(plan.expectations),
    }
    expectations = replay_sqlite.still_judged(plan.expectations)
    plan = attrs.evolve(
        plan, schedule=schedule, expectations=expectations, arguments=tuple(arguments)
    )
    with planted(plan.bug):
        run = replay_sqlite.ReplayRun(schedule, workload)
        report = attrs.evolve(_watched(plan, run, console, trace), facts=facts)
    if report.result.verdict is not Verdict.PASSED:
        return report
    return replay_sqlite.concluded(report, replay_sqlite.compare(run, wal_path, output))


def _watched(plan: Plan, run: Run, console: Console | None, trace: PatientFile | None) -> Report:
    if console is not None:
        show(console, header(plan.schedule, plan.description, plan.bug))
    world = run.world
    live = LiveView(world, console) if console is not None and console.is_terminal else None
    watch = Watch(world, trace_file=trace, on_event=live.on_event if live else None)
    started = perf_counter()
    with live or nullcontext():
        result = run.run()
    return make_report(
        world,
        result,
        watch,
        expectations=plan.expectations,
        real_s=perf_counter() - started,
        command=plan.command,
    )
