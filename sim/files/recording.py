"""Recorded runs: everything that was decided, one numbered record to a line, in JSON.

The first line is the header: format, seed, knobs, the planted bug if any, the scenario's
expectations, and what came of the run with the digest of its trace. Then come the actions and
operations in the order of the schedule, and the messages in the order of their sending, each with
the delays of its copies in nanoseconds (none: it was lost). What is left to the seed is what disks
and tasks draw. The last line says how many records of each kind there are: a file that was cut, or
lacks a line, is refused as incomplete, since it would be judged by another run than was recorded.

A message over a link that is cut is never decided, and has no record. Should one without a record
be sent after all, it arrives once, after the minimum of its link.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import cattrs

from aurora.terminal.finishing import writing
from segments.protocol.errors import AuroraError, Invalid
from segments.protocol.volume import ProtectionGroup, VolumeGeometry
from sim.bugs import BUGS
from sim.files.expectation_tables import expectation_row, read_expectation
from sim.files.expectations import Expectation, failure_of
from sim.files.knob_tables import check_ranges
from sim.files.toml_reader import ScenarioError, Table
from sim.plan.redraws import Redraw
from sim.plan.schedule import Action, Knobs, Operation, Schedule
from sim.run import RunResult, run
from sim.wording import suggestion
from sim.world import faults
from sim.world.network_policy import Decision, NetworkPolicy, PolicyMaker, RecordingPolicy

FORMAT: Final = "aurora-sim recording"
VERSION: Final = 2

_MAX_DELAY_NS: Final = 1 << 53
_CONVERTER: Final = cattrs.Converter(forbid_extra_keys=True)


@attrs.frozen(kw_only=True)
class Recording:
    """One recorded run."""

    schedule: Schedule
    decisions: Mapping[int, Decision]
    """What became of each message, by its number from 1."""
    verdict: str
    digest: str
    bug: str | None = None
    expectations: tuple[Expectation, ...] = ()


def record(
    schedule: Schedule,
    *,
    bug: str | None = None,
    expectations: tuple[Expectation, ...] = (),
    policy: PolicyMaker | None = None,
) -> tuple[Recording, RunResult]:
    """Run ``schedule`` (with ``bug`` planted already), and keep it all.

    Messages are as the seed draws them, or as ``policy`` decides. The result is the one of
    `failure_of`.
    """
    decisions: dict[int, Decision] = {}

    def keep(drawn: NetworkPolicy, now: Callable[[], int]) -> NetworkPolicy:
        return RecordingPolicy(policy(drawn, now) if policy else drawn, decisions)

    result = failure_of(run(schedule, policy=keep), expectations)
    recording = Recording(
        schedule=schedule,
        decisions=decisions,
        verdict=result.verdict.value,
        digest=result.digest,
        bug=bug,
        expectations=expectations,
    )
    return recording, result


# ---- the file ------------------------------------------------------------------------------------


def lines(recording: Recording) -> Iterator[str]:
    """The file, line by line, each with its end of line."""
    schedule = recording.schedule
    header = {
        "format": FORMAT, "version": VERSION, "name": schedule.name, "seed": schedule.seed,
        "shape": schedule.shape, "redraws": _CONVERTER.unstructure(schedule.redraws),
        "bug": recording.bug, "verdict": recording.verdict, "digest": recording.digest,
        "knobs": _CONVERTER.unstructure(schedule.knobs),
        "expect": [expectation_row(each) for each in recording.expectations],
    }  # fmt: skip
    yield _line(header)
    for number, action in enumerate(schedule.actions):
        yield _line({"action": number, **_CONVERTER.unstructure(action)})
    for number, operation in enumerate(schedule.operations):
        yield _line({"operation": number, **_CONVERTER.unstructure(operation)})
    for message, decision in recording.decisions.items():
        yield _line({"message": message, "delays_ns": decision})
    yield _line({"end": _counts(schedule.actions, schedule.operations, recording.decisions)})


def _counts(actions: Sized, operations: Sized, decisions: Sized) -> dict[str, int]:
    """What the last line says."""
    counted = {"actions": actions, "operations": operations, "messages": decisions}
    return {kind: len(records) for kind, records in counted.items()}


def save(recording: Recording, path: Path) -> None:
    """Write a recording to a file; raises `OutputFailed`."""
    with writing(path), path.open("w", encoding="utf-8") as file:
        file.writelines(lines(recording))


def is_recording(path: Path) -> bool:
    """Whether a file's first line is a recording's header; raises `OSError`."""
    with path.open("rb") as file:
        if file.read(1) != b"{":
            return False
        try:
            header = json.loads(b"{" + file.readline())
        except ValueError:
            return False
    return bool(header.get("format") == FORMAT)


def load(path: Path) -> Recording:
    """Read a recording; raises `Invalid` with the line that is wrong, and `OSError`."""
    with path.open(encoding="utf-8") as file:
        numbered = enumerate(file, 1)
        header = _parse(path, next(numbered, (1, "")))
        with _place(path, 1):
            recording = _read_header(header, path)
        groups = VolumeGeometry(recording.schedule.knobs.pg_count).groups()
        actions: list[Action] = []
        operations: list[Operation] = []
        decisions: dict[int, Decision] = {}
        end: object = None
        for item in numbered:
            values = _parse(path, item)
            with _place(path, item[0]):
                if end is not None:
                    raise Invalid("expected nothing after the end")
                end = values.get("end")
                if end is None:
                    _take(values, groups, actions, operations, decisions)
    _check_complete(path, end, _counts(actions, operations, decisions))
    with _place(path, 1):
        schedule = attrs.evolve(
            recording.schedule, actions=tuple(actions), operations=tuple(operations)
        )
    return attrs.evolve(recording, schedule=schedule, decisions=decisions)


def _check_complete(path: Path, end: object, found: Mapping[str, int]) -> None:
    """Raise `Invalid` unless the last line counts just what was read."""
    if end == found:
        return
    amounts = ", ".join(f"{number} {kind}" for kind, number in found.items())
    expected = "a last line that counts them" if end is None else f"{end}, as its last line says"
    raise Invalid(f"{path}: incomplete: found {amounts}: expected {expected}")


@contextmanager
def _place(path: Path, line: int) -> Iterator[None]:
    """Name the line in what is raised, unless it names one already."""
    try:
        yield
    except ScenarioError:
        raise
    except (cattrs.BaseValidationError, AuroraError, TypeError, ValueError, KeyError) as error:
        raise Invalid(f"{path}:{line}: {_reason(error)}") from None


def _read_header(header: Mapping[str, Any], path: Path) -> Recording:
    """What the first line says: a recording in which nothing happens yet."""
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise Invalid(f"expected a recording of version {VERSION}")
    knobs = _CONVERTER.structure(header.get("knobs"), Knobs)
    check_ranges(knobs)
    knobs.cluster_config()
    bug = header.get("bug")
    if bug is not None and bug not in BUGS:
        raise Invalid(f"bug {bug!r}: {suggestion(str(bug), BUGS)}")
    rows = {"expect": header.get("expect")}
    tables = Table(rows, (), str(path), {("expect",): 1}).tables("expect")
    groups = VolumeGeometry(knobs.pg_count).groups()
    return Recording(
        schedule=Schedule(
            seed=_integer(header.get("seed")),
            knobs=knobs,
            name=str(header.get("name", "")),
            shape=str(header.get("shape", "")),
            redraws=_CONVERTER.structure(header.get("redraws", []), tuple[Redraw, ...]),
        ),
        decisions={},
        verdict=str(header.get("verdict")),
        digest=str(header.get("digest")),
        bug=bug,
        expectations=tuple(read_expectation(table, groups, knobs) for table in tables),
    )


def _line(values: Mapping[str, object]) -> str:
    return json.dumps(values, separators=(",", ":")) + "\n"


def _parse(path: Path, item: tuple[int, str]) -> dict[str, Any]:
    number, line = item
    try:
        values = json.loads(line)
    except ValueError as error:
        raise Invalid(f"{path}:{number}: {error}") from None
    if type(values) is not dict:
        raise Invalid(f"{path}:{number}: {type(values).__name__}: expected an object")
    return values


def _take(
    values: dict[str, Any],
    groups: Sequence[ProtectionGroup],
    actions: list[Action],
    operations: list[Operation],
    decisions: dict[int, Decision],
) -> None:
    """Add one record to those of its kind; they are numbered without gaps."""
    if "message" in values:
        # Messages over a cut link are never decided: their numbers are left out.
        number, last = _integer(values["message"]), next(reversed(decisions), 0)
        if number <= last:
            raise Invalid(f"message {number}: expected a number above {last}")
        delays = tuple(_integer(each) for each in values["delays_ns"])
        if any(not 0 <= each <= _MAX_DELAY_NS for each in delays):
            raise Invalid(f"delays {delays}: expected 0 to {_MAX_DELAY_NS} ns")
        decisions[number] = delays
    elif "action" in values:
        _expect_number(values.pop("action"), len(actions))
        action = _CONVERTER.structure(values, Action)
        faults.check(action, groups)
        actions.append(action)
    elif "operation" in values:
        _expect_number(values.pop("operation"), len(operations))
        operations.append(_CONVERTER.structure(values, Operation))
    else:
        raise Invalid("expected an action, an operation or a message")


def _expect_number(found: object, expected: int) -> None:
    if found != expected:
        raise Invalid(f"record {found}: expected number {expected}")


def _integer(value: object) -> int:
    if type(value) is not int:
        raise Invalid(f"{value!r}: expected an integer")
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, cattrs.BaseValidationError):
        return "; ".join(cattrs.transform_error(error))
    return f"missing {error}" if isinstance(error, KeyError) else str(error)
