"""Scenario files: a run written down in TOML, to be read, edited, shared and checked.

`load` reads one (the format is described in docs/scenarios.md), `dump` writes any schedule as one
that runs by itself; what is dumped and read again is the same schedule. Errors name the file, the
line, the key, what was found and what was expected.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from segments.protocol.errors import Invalid
from segments.protocol.ids import MAX_INTEGER
from segments.protocol.record import PAGE_SIZE
from segments.protocol.volume import ProtectionGroup, VolumeGeometry
from sim.bugs import BUGS
from sim.files.expectation_tables import expectation_row, read_expectation
from sim.files.expectations import Expectation
from sim.files.fits import DoesNotFit, check_fits
from sim.files.fork_tables import decided_lines, read_decided, read_redraws, redraw_row
from sim.files.knob_edits import edited
from sim.files.knob_tables import knob_values, read_knobs
from sim.files.toml_reader import ScenarioError, Table, format_time, parse_document
from sim.plan.drawn_workload import Workload
from sim.plan.redraws import Redraw
from sim.plan.schedule import (
    READS,
    SECOND,
    SQL,
    SQL_READS,
    SQL_WAYS,
    SQL_WRITES,
    WAYS,
    Action,
    Knobs,
    Operation,
    Schedule,
)
from sim.plan.seeds import Seeds
from sim.plan.sql_calls import USUAL_READS, USUAL_WRITES
from sim.plan.wrong_calls import WRONG_CALLS
from sim.wording import suggestion
from sim.world import faults
from sim.world.network_policy import Decided

KINDS: Final = ("put", "open", "wrong", *READS, SQL)
_MOST_CLIENTS: Final = 1_000
_MOST_OPERATIONS: Final = 1_000_000
_MOST_REPEATS: Final = 10_000
_MOST_BYTES: Final = 4_096
_MOST_MTR_PAGES: Final = 100
_DIRECTORIES: Final = ("../scenarios", "../../scripts/scenarios")
"""Where the shipped scenarios are, from here: in an installed package, in the source tree."""


@attrs.frozen(kw_only=True)
class ScenarioFile:
    """A run, what it is for, and what it must show."""

    name: str
    description: str = ""
    seed: int = 0
    bug: str = ""
    """A deliberate bug to run it with; none if empty."""
    knobs: Knobs = attrs.field(factory=Knobs)
    actions: tuple[Action, ...] = ()
    operations: tuple[Operation, ...] = ()
    """Calls spelled out."""
    workloads: tuple[Workload, ...] = ()
    """Calls drawn from the seed."""
    expectations: tuple[Expectation, ...] = ()
    redraws: tuple[Redraw, ...] = ()
    decided: Decided | None = None
    """Of the fork of a recording: what became of its messages until then."""

    def schedule(self, seed: int | None = None) -> Schedule:
        """The schedule of this scenario, by default with its own seed."""
        seed = self.seed if seed is None else seed
        operations = list(self.operations)
        client = 1 + max((each.client for each in operations), default=-1)
        for number, workload in enumerate(self.workloads):
            operations += workload.draw(Seeds(seed).stream(f"workload {number}"), client)
            client += workload.clients
        return Schedule(
            seed=seed,
            knobs=self.knobs,
            actions=self.actions,
            operations=tuple(sorted(operations, key=lambda each: each.at_ns)),
            name=self.name,
            redraws=self.redraws,
        )


# ---- finding -------------------------------------------------------------------------------------


def shipped() -> dict[str, Path]:
    """The scenarios that come with the simulator, by name."""
    for place in _DIRECTORIES:
        found = list((Path(__file__).parent / place).resolve().glob("*.toml"))
        if found:
            return {path.stem: path for path in sorted(found, key=lambda path: path.stem)}
    return {}


def find(name: str) -> Path:
    """The file of a scenario, given its name or its path; raises `Invalid`."""
    path = Path(name)
    if path.suffix == ".toml" or "/" in name:
        return path
    known = shipped()
    if name not in known:
        raise Invalid(
            f"scenario {name!r}: {suggestion(name, known)}, a recording, or a file that ends "
            f"in .toml"
        )
    return known[name]


def load(path: Path, knobs: Sequence[str] = ()) -> ScenarioFile:
    """Read a scenario file; ``knobs`` are turned besides (`edited`). Raises `Invalid`."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: not UTF-8 text: {error}") from error
    return loads(text, str(path), default_name=path.stem, knobs=knobs)


# ---- reading -------------------------------------------------------------------------------------


def loads(
    text: str,
    file: str = "scenario",
    *,
    default_name: str = "",
    knobs: Sequence[str] = (),
) -> ScenarioFile:
    """Read a scenario out of text, as `load`; ``file`` stands in the errors."""
    root = parse_document(text, file)
    turned = edited(read_knobs(root.table("knobs")), knobs)
    groups = VolumeGeometry(turned.pg_count).groups()
    actions = [
        action for table in root.tables("action") for action in read_actions(table, groups, turned)
    ]
    operations = [_operation(table) for table in root.tables("operation")]
    given = root.get("workload")
    tables = [root.table("workload")] if isinstance(given, dict) else root.tables("workload")
    scenario = ScenarioFile(
        name=root.text("name", default_name),
        description=root.text("description", "").strip(),
        seed=root.integer("seed", 0),
        bug=root.choice("bug", BUGS) if root.text("bug", "") else "",
        knobs=turned,
        actions=tuple(sorted(actions, key=lambda each: each.at_ns)),
        operations=tuple(sorted(operations, key=lambda each: each.at_ns)),
        workloads=tuple(_workload(table, turned) for table in tables),
        expectations=tuple(
            read_expectation(table, groups, turned) for table in root.tables("expect")
        ),
        redraws=read_redraws(root.tables("redraw")),
        decided=read_decided(root),
    )
    root.finish()
    try:
        check_fits(turned, scenario.operations, scenario.workloads)
    except DoesNotFit as error:
        raise root.table("knobs").error(error.key, str(error)) from None
    return scenario


def read_actions(table: Table, groups: Sequence[ProtectionGroup], knobs: Knobs) -> Iterator[Action]:
    """A fault, as often as its table says; raises `ScenarioError`."""
    at_ns = table.time("at")
    kind = table.choice("fault", faults.FAULTS)
    target = table.names("target")
    fault = faults.FAULTS[kind]
    params: dict[str, Any] = {  # in the order of the table: what is traced has it, too
        name: table.names(name) if fault.params[name].takes_names else table.get(name)
        for name in table.values
        if name in fault.params
    }
    repeat = table.integer("repeat", 1, least=1)
    every_ns = table.time("every") if table.has("every") or repeat > 1 else 0
    if repeat > _MOST_REPEATS:
        raise table.error("repeat", f"found {repeat}: expected at most {_MOST_REPEATS}")
    for name in fault.params:
        table.get(name)
    table.finish()
    action = Action(at_ns=at_ns, kind=kind, target=target, params=params)
    try:
        faults.check(action, groups)
        faults.check_sides(action, groups)
    except faults.WrongAction as wrong:
        raise table.error(wrong.key, wrong.problem) from None
    last_ns = at_ns + (repeat - 1) * every_ns
    if last_ns >= knobs.duration_ns:
        raise table.error(
            "at",
            f"found {format_time(last_ns)}: expected before {format_time(knobs.duration_ns)}, "
            f"when everything heals (knobs.duration)",
        )
    for number in range(repeat):
        yield attrs.evolve(action, at_ns=at_ns + number * every_ns)


def _operation(table: Table) -> Operation:
    kind = table.choice("do", KINDS)
    if kind == "wrong" and not table.has("wrong"):
        raise table.error("wrong", f"missing: expected what is wrong: {', '.join(WRONG_CALLS)}")
    operation = Operation(
        at_ns=table.time("at"),
        client=table.integer("client"),
        kind=kind,
        pages=table.integers("pages", MAX_INTEGER),
        offset=table.integer("offset", 0),
        length=table.integer("bytes", 16, least=8),
        age=table.number("age", 0.0, 0.0, 1.0),
        cached=table.boolean("cached", True),
        sticky=table.boolean("sticky", False),
        early=table.boolean("early", False),
        way=_way(table, kind),
        hold_ns=table.time("hold", 0),
        patience_ns=table.time("patience") if table.has("patience") else None,
        wrong=table.choice("wrong", WRONG_CALLS) if table.has("wrong") else "",
    )
    for key in ("way", "patience", "wrong"):
        table.get(key)
    table.finish()
    end = operation.offset + operation.length
    if end > PAGE_SIZE:
        raise table.error("bytes", f"found an end at byte {end}: expected at most {PAGE_SIZE}")
    if operation.wrong and operation.kind != "wrong":
        why = f"as do is {operation.kind!r}"
        raise table.error("wrong", f"found {operation.wrong!r}: expected nothing, {why}")
    if operation.kind == "put" and operation.way == "put" and len(operation.pages) != 1:
        found = len(operation.pages)
        raise table.error("pages", f"found {found} pages: expected 1, which is what put takes")
    return operation


def _way(table: Table, kind: str) -> str:
    if kind == SQL:
        return table.choice("way", SQL_WAYS)
    return table.choice("way", WAYS) if table.has("way") else "put_many"


def _workload(table: Table, knobs: Knobs) -> Workload:
    from_ns = table.time("from", 0)
    until_ns = table.time("until", knobs.duration_ns)
    if not from_ns < until_ns <= knobs.duration_ns:
        raise table.error(
            "until",
            f"found {format_time(from_ns)} to {format_time(until_ns)}: expected a later end, at "
            f"most {format_time(knobs.duration_ns)} (knobs.duration)",
        )
    if table.has("rate") and table.has("operations"):
        raise table.error("rate", "found together with operations: expected one of the two")
    seconds = (until_ns - from_ns) / 1_000_000_000
    if table.has("rate"):
        count = round(table.number("rate", 0.0, 0.0, _MOST_OPERATIONS) * seconds)
    else:
        table.get("rate")
        count = table.integer("operations", 300)
    if count > _MOST_OPERATIONS:
        raise table.error(None, f"found {count} operations: expected at most {_MOST_OPERATIONS}")
    sql = table.boolean("sql", False)
    workload = Workload(
        sql=sql,
        clients=table.integer("clients", 4, least=1),
        operations=count,
        write_share=table.number("write_share", 0.6, 0.0, 1.0),
        pages=table.integer("pages", 24, least=1, most=MAX_INTEGER),
        mtr_pages=table.integer("mtr_pages", 3, least=1),
        length=table.integer("bytes", 16, least=8),
        reads=table.choices("reads", *((SQL_READS, USUAL_READS) if sql else (READS, ("get",)))),
        cached=table.boolean("cached", True),
        sticky=table.boolean("sticky", False),
        early=table.boolean("early", False),
        ways=table.choices("ways", *((SQL_WRITES, USUAL_WRITES) if sql else (WAYS, ("put_many",)))),
        hold_ns=table.time("hold", SECOND),
        patience_ns=table.time("patience") if table.has("patience") else None,
        impatient=table.number("impatient", 1.0, 0.0, 1.0),
        wrong=table.number("wrong", 0.0, 0.0, 1.0),
        from_ns=from_ns,
        until_ns=until_ns,
    )
    table.get("patience")
    table.finish()
    if workload.clients > _MOST_CLIENTS:
        raise table.error("clients", f"found {workload.clients}: expected at most {_MOST_CLIENTS}")
    if workload.mtr_pages > _MOST_MTR_PAGES:
        found = workload.mtr_pages
        raise table.error("mtr_pages", f"found {found}: expected at most {_MOST_MTR_PAGES}")
    if workload.length > _MOST_BYTES:
        raise table.error("bytes", f"found {workload.length}: expected at most {_MOST_BYTES}")
    if not workload.reads:
        raise table.error("reads", f"found none: expected some of {', '.join(READS)}")
    if not workload.ways:
        raise table.error("ways", f"found none: expected some of {', '.join(WAYS)}")
    return workload


# ---- writing -------------------------------------------------------------------------------------


def dump(
    schedule: Schedule,
    *,
    description: str = "",
    bug: str = "",
    expectations: Sequence[Expectation] = (),
    decided: Decided | None = None,
) -> str:
    """A scenario file of a schedule; `load` gives the same schedule and expectations again.

    ``decided`` is of a fork of a recording, and has a moment until which it counts. Raises
    `Invalid` for a fault's parameter that TOML has no word for.
    """
    head: dict[str, Any] = {"name": schedule.name, "description": description, "bug": bug}
    lines = [f"{key} = {_toml(value)}" for key, value in head.items() if value or key == "name"]
    lines.append(f"seed = {schedule.seed}")
    if decided is not None:
        lines += decided_lines(decided)
    for key, rows in (
        ("action", [_action_row(each) for each in schedule.actions]),
        ("operation", [_operation_row(each) for each in schedule.operations]),
        ("expect", [expectation_row(each) for each in expectations]),
        ("redraw", [redraw_row(each) for each in schedule.redraws]),
    ):
        if rows:
            lines += ["", f"{key} = [", *(f"  {_toml(row)}," for row in rows), "]"]
    knobs = knob_values(schedule.knobs)
    nested = {key: value for key, value in knobs.items() if isinstance(value, dict)}
    lines += ["", "[knobs]", *(f"{k} = {_toml(v)}" for k, v in knobs.items() if k not in nested)]
    for name, values in nested.items():
        lines += ["", f"[knobs.{name}]", *(f"{k} = {_toml(v)}" for k, v in values.items())]
    return "\n".join(lines) + "\n"


def _action_row(action: Action) -> dict[str, Any]:
    row: dict[str, Any] = {"at": format_time(action.at_ns), "fault": action.kind}
    if action.target:
        row["target"] = action.target
    return row | dict(action.params)


def _operation_row(operation: Operation) -> dict[str, Any]:
    row: dict[str, Any] = {
        "at": format_time(operation.at_ns),
        "client": operation.client,
        "do": operation.kind,
        "pages": list(operation.pages),
    }
    plain = attrs.fields_dict(Operation)
    for name, key in (
        ("offset", "offset"),
        ("length", "bytes"),
        ("age", "age"),
        ("cached", "cached"),
        ("sticky", "sticky"),
        ("early", "early"),
        ("way", "way"),
        ("hold_ns", "hold"),
        ("patience_ns", "patience"),
        ("wrong", "wrong"),
    ):
        value = getattr(operation, name)
        if value != plain[name].default:
            row[key] = format_time(value) if name.endswith("_ns") else value
    return row


def _toml(value: object) -> str:
    """A value as TOML writes it, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{key} = {_toml(each)}" for key, each in value.items())
        return f"{{ {pairs} }}"
    raise Invalid(f"{value!r} in a schedule: expected what TOML can say")
