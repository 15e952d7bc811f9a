"""The header and the report of a run, for a person: fit for 80 columns, plain when piped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sim.check.invariants import INVARIANTS
from sim.durations import length, moment
from sim.files.knob_tables import knob_values
from sim.plan.schedule import MS, Schedule
from sim.run import Verdict
from sim.show.report import FaultEffect, Latencies, Report
from sim.wording import counted
from sim.world.no_effect import WithoutEffect

STYLES: Final[Mapping[Verdict, str]] = {
    Verdict.PASSED: "bold green",
    Verdict.VIOLATION: "bold red",
    Verdict.LIVENESS: "bold magenta",
    Verdict.UNDECIDED: "bold yellow",
    Verdict.INTERNAL: "bold red",
}
_MOST_FAULTS: Final = 12
"""More faults than this are summed up by kind."""
_FIGURES: Final = ("msgs lost", "commits", "write stall", "read stall")
_MOST_RETURNS: Final = 6
_MOST_IDLE: Final = 8
_NARROW: Final = 76
_WIDE: Final = 98
"""From this many columns on, the table of faults has headings of one line."""
_BACK: Final = (
    "back: the victim has told the writer that it has all that is complete (SCL >= PGCL); "
    "a writer: one is open, and hears its segments"
)
_INDENT: Final = (0, 0, 0, 2)


def show(console: Console, renderable: RenderableType) -> None:
    """Print without the blanks that rich leaves at the ends of lines."""
    with console.capture() as capture:
        console.print(renderable, crop=False)
    text = "\n".join(line.rstrip() for line in capture.get().splitlines())
    console.file.write(text + "\n")
    console.file.flush()


# ---- before the run ------------------------------------------------------------------------------


def header(schedule: Schedule, description: str = "", bug: str | None = None) -> RenderableType:
    """Seed first, then everything that was drawn or set to something else than the defaults."""
    clients = len({each.client for each in schedule.operations})
    calls = f"{counted(len(schedule.operations), 'operation')} of {counted(clients, 'client')}"
    if not clients:
        calls = "one client"
    title = Text.assemble(("seed ", "dim"), (str(schedule.seed), "bold"))
    if schedule.name and schedule.name != f"seed {schedule.seed}":
        title.append("   scenario ", "dim").append(schedule.name, "bold")
    if schedule.shape:
        title.append("   shape ", "dim").append(schedule.shape, "bold")
    if bug:
        title.append("   bug ", "dim").append(bug, "bold red")
    rows = _grid()
    values = knob_values(schedule.knobs)
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    rows.add_row("knobs", _settings(plain) if plain else "all as by default")
    for name, nested in values.items():
        if isinstance(nested, dict):
            rows.add_row(name, _settings(nested))
    rows.add_row(
        "schedule",
        f"{calls}, {counted(len(schedule.actions), 'action')}, all heals at "
        f"{moment(schedule.knobs.duration_ns)}",
    )
    for redraw in schedule.redraws:
        rows.add_row("chances", f"drawn anew from {moment(redraw.at_ns)} on, salt {redraw.salt}")
    parts: list[RenderableType] = [title]
    if description:
        parts.append(Padding(Text(" ".join(description.split()), style="italic"), _INDENT))
    return Group(*parts, Padding(rows, _INDENT), "")


def _pairs(values: Mapping[str, Any]) -> Text:
    text = Text()
    for number, (name, value) in enumerate(values.items()):
        text.append(", " if number else "")
        text.append(f"{name} ", "dim").append(_plain(value))
    return text


def _settings(values: Mapping[str, Any]) -> Text:
    """Names and values as a scenario file has them, each in one piece."""
    text = Text()
    for name, value in values.items():
        figure = f"{value:_}" if isinstance(value, int) else _plain(value)
        shown = "none" if value is None else figure
        text.append("  " if text else "").append(f"{name}=", "dim").append(shown)
    return text


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


# ---- after the run -------------------------------------------------------------------------------


def report_text(report: Report) -> RenderableType:
    """All that a run has shown; the verdict first, how to repeat it last."""
    result = report.result
    rate = Text.assemble(
        f"{length(result.virtual_ns)} simulated in {report.real_s:.2f} s "
        f"({report.speed:.2g} times as fast), {result.messages:,} messages "
        f"({report.messages_per_second:,.0f}/s)"
    )
    parts: list[RenderableType] = [_verdict(report), Padding(rate, _INDENT), ""]
    parts += _section("Calls, in virtual time", _calls(report))
    if report.effects:
        table: list[RenderableType] = [_Faults(report.effects)]
        if any(each.back_ns for each in report.effects):
            table.append(Text(_BACK, style="dim"))
        parts += _section("Faults, and what happened meanwhile", Group(*table))
    if result.without_effect:
        parts += _section("Without effect", _idle(result.without_effect))
    if report.judgements:
        parts += _section("Expected", _expected(report))
    if report.facts:
        parts += _section("Replay", _facts(report.facts))
    checks = sum(result.checks.values())
    title = f"Checked: {counted(len(result.checks), 'invariant')}, {checks:,} times"
    parts += _section(title, _columns(result.checks))
    if result.marks:
        parts += _section("Reached", _columns(result.marks))
    lost = ", ".join(f"{_plain(n)} {why}" for why, n in report.lost_messages.items())
    ends = _grid()
    ends.add_row("trace", f"{result.digest}, {report.events:,} events")
    ends.add_row("messages lost", lost or "none")
    again = Text.assemble(("run it again   ", "dim"), (report.command, "bold"))
    again.no_wrap, again.overflow = True, "ignore"  # whoever copies it wants one line
    return Group(*parts, ends, again)


def _verdict(report: Report) -> RenderableType:
    line = Text(report.verdict.value.upper(), style=STYLES[report.verdict])
    if not report.finding:
        return line
    if report.invariant != report.verdict.value:
        line.append(f"  {report.invariant}", "bold")
        if report.invariant in INVARIANTS:
            line.append(f": {INVARIANTS[report.invariant].text}")
    return Group(line, Padding(Text(report.finding), _INDENT))


def _section(title: str, body: RenderableType) -> list[RenderableType]:
    return [Text(title, style="bold cyan"), Padding(body, _INDENT), ""]


def _grid() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    return table


def _table(*columns: str, gap: int = 2) -> Table:
    """A table without lines: the first column is text, the others are figures."""
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=number > 0)
    return table


def _calls(report: Report) -> RenderableType:
    table = _table("", "count", "p50", "p90", "p99", "max")
    for name, latencies in (("commits", report.commits), ("reads", report.reads)):
        table.add_row(name, f"{latencies.count:,}", *_times(latencies))
    others = {
        name: count
        for name, count in report.outcomes.items()
        if name not in ("writes ok", "reads ok")
    }
    return Group(table, _pairs(others)) if others else table


def _times(latencies: Latencies) -> Iterable[str]:
    if not latencies.count:
        return ("-",) * 4
    values = (latencies.p50_ns, latencies.p90_ns, latencies.p99_ns, latencies.max_ns)
    return [length(each) for each in values]


@attrs.frozen
class _Faults:
    """A table of what the faults did, made for the room that there is."""

    effects: Sequence[FaultEffect]

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        figures = [name.replace(" ", "\n") if width < _WIDE else name for name in _FIGURES]
        if len(self.effects) > _MOST_FAULTS:
            yield _faults_by_kind(self.effects, figures)
        else:
            yield _faults(self.effects, figures, width)


def _faults(rows: Sequence[FaultEffect], figures: Sequence[str], width: int) -> Table:
    """With headings of two lines unless it is wide; returns stand below faults if it is narrow."""
    narrow = width < _NARROW
    back = () if narrow else ("back",)
    table = _table("at", "fault", "for", *back, *figures, gap=2 if width >= _WIDE else 1)
    for column in (table.columns[1], *table.columns[3 : 3 + len(back)]):
        column.justify = "left"
    table.columns[1].no_wrap = False
    for each in rows:
        episode = each.episode
        lasted = episode.end_ns - episode.start_ns
        returns = _returns(each)
        title = [episode.title, *(f"back {line}" for line in returns if narrow)]
        table.add_row(
            moment(episode.start_ns),
            "\n".join(title),
            length(lasted) if lasted else "-",
            *("\n".join(returns) or "-" for _ in back),
            *(_effect_figures([each]) if lasted else ("-",) * 4),
        )
    return table


def _returns(effect: FaultEffect) -> list[str]:
    """When the victims were back: together if within a millisecond, by name if they differ."""
    back: dict[str, int] = {name: at for name, at in effect.back_ns.items() if at is not None}
    groups: list[tuple[list[str], str]] = []
    since = -MS
    for name, at in sorted(back.items(), key=lambda each: each[1]):
        if at - since >= MS:
            groups.append(([], ""))
            since = at
        groups[-1] = ([*groups[-1][0], name], moment(at))
    lost = [name for name in effect.back_ns if name not in back and name in effect.lost]
    away = [name for name in effect.back_ns if name not in back and name not in effect.lost]
    groups += [(names, how) for names, how in ((lost, "lost"), (away, "not yet")) if names]
    if len(groups) == 1:
        return [groups[0][1]]
    lines = [f"{how} {' '.join(names)}" for names, how in groups]
    return lines if len(lines) <= _MOST_RETURNS else [*lines[: _MOST_RETURNS - 1], lines[-1]]


def _faults_by_kind(effects: Sequence[FaultEffect], figures: Sequence[str]) -> Table:
    kinds: dict[str, list[FaultEffect]] = {}
    for each in effects:
        kinds.setdefault(each.episode.action.kind, []).append(each)
    table = _table("fault", "times", "back after", *figures)
    for kind, some in kinds.items():
        table.add_row(kind, f"{len(some)}", _longest_away(some), *_effect_figures(some))
    return table


def _longest_away(effects: Sequence[FaultEffect]) -> str:
    """From the beginning of a fault to the return of its last victim; the longest."""
    times = [(at, each.episode.start_ns) for each in effects for at in each.back_ns.values()]
    if any(at is None for at, _ in times):
        return "not yet"
    return length(max(at - start for at, start in times if at is not None)) if times else "-"


def _effect_figures(effects: list[FaultEffect]) -> tuple[str, str, str, str]:
    """Sums of messages and commits, and the longest stalls."""
    return (
        f"{sum(each.lost_messages for each in effects):,}",
        f"{sum(each.commits for each in effects):,}",
        length(max(each.write_stall_ns for each in effects)),
        length(max(each.read_stall_ns for each in effects)),
    )


def _idle(actions: Sequence[WithoutEffect]) -> RenderableType:
    rows = _grid()
    for each in actions[:_MOST_IDLE]:
        rows.add_row(moment(each.at_ns), str(each))
    if len(actions) > _MOST_IDLE:
        rows.add_row("", f"and {counted(len(actions) - _MOST_IDLE, 'action')} more")
    return rows


def _expected(report: Report) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    for each in report.judgements:
        mark = Text("yes", "green") if each.met else Text("NO", "bold red")
        table.add_row(mark, Text(each.expected), Text(each.found, "dim" if each.met else "bold"))
    return table


def _facts(facts: Mapping[str, Any]) -> RenderableType:
    rows = _grid()
    for name, value in facts.items():
        if isinstance(value, bool):
            continue  # for programs: another line says it in words
        rows.add_row(name.replace("_", " "), _plain(value))
    return rows


def _columns(counts: Mapping[str, int]) -> RenderableType:
    """Names and counts in two columns, read downwards."""
    items = sorted(counts.items())
    half = (len(items) + 1) // 2
    table = Table.grid(padding=(0, 2, 0, 0))
    for column in range(4):
        table.add_column(justify="right" if column % 2 else "left", no_wrap=column % 2 == 1)
    for row in range(half):
        cells = [*items[row], *(items[row + half] if row + half < len(items) else ("", ""))]
        table.add_row(*(_plain(cell) for cell in cells))
    return table
