"""Every way in which a scenario in Python can end, each with the verdict that it deserves."""

from __future__ import annotations

import inspect
import json
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import sim
from aurora.cluster import Cluster
from aurora.engine import Engine
from segments.protocol.errors import Fenced, Invalid
from segments.protocol.ids import PageId
from sim.plan.schedule import SECOND, Knobs
from sim.run import Verdict
from sim.script import errors
from sim.script.api import Scenario, ScenarioResult, run_scenario
from sim.script.errors import Body, ScriptError
from tests import in_process

ROOT = Path(sim.__file__).parents[1]

SCRIPT = """\
import contextlib, datetime, pathlib, random, sys, threading, time
from time import monotonic
import trio
from sim.script.api import main
RUNS = []
async def wrong(error):
    raise error
async def unmet(s):
    s.expect(False, "in a task")
async def scenario(s):
    await s.put(1, b"x")
    {body}
if __name__ == "__main__":
    main(scenario)
"""
FIRST = 1 + SCRIPT.splitlines().index("    {body}")
"""The line at which a script's own body begins."""


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Body]:
    """Makes a scenario of the lines of its body, in a file."""

    def make(body: str) -> Body:
        path = tmp_path / "script.py"
        path.write_text(SCRIPT.replace("{body}", body.replace("\n", "\n    ")))
        names: dict[str, Any] = {"__name__": "script", "__file__": str(path)}
        exec(compile(path.read_text(), str(path), "exec"), names)
        scenario: Body = names["scenario"]
        return scenario

    return make


def story_of(result: ScenarioResult) -> str:
    return "\n".join(result.story)


# ---- errors of the script ------------------------------------------------------------------------


def error_of(scenario: Body, tmp_path: Path) -> str:
    with pytest.raises(ScriptError) as raised:
        run_scenario(scenario)
    return str(raised.value).replace(str(tmp_path / "script.py"), "FILE")


@pytest.mark.parametrize(
    ("body", "line", "name"),
    [
        ("s.put(2, b'y')", 0, "put"),
        ("kept = s.put(2, b'y')\nawait s.sleep(1)", 0, "put"),
        ("s.put(2, b'y')\nawait s.reads_go_on(2, b'y', within_s=1)", 0, "put"),
        ("s.writes_go_on(within_s=1)", 0, "writes_go_on"),
        ("s.reads_go_on(1, b'z', within_s=1)", 0, "reads_go_on"),
        ("s.is_fenced(s.engine)", 0, "is_fenced"),
        ("s.open_writer(within_s=1)", 0, "open_writer"),
        ("s.sleep(9)", 0, "sleep"),
        ("s.expect(s.get(1), 'a page')", 0, "get"),
        (
            "s.crash('A,B,C')\nw = s.writes_wait(for_s=1)\nawait w.done(within_s=1)",
            1,
            "writes_wait",
        ),
        (
            "s.crash('A,B,C')\nw = await s.writes_wait(for_s=1)\nw.done(within_s=1)",
            2,
            "Pending.done",
        ),
        ("s.engine.put(2, 0, b'y')", 0, "Engine.put"),
        ("trio.sleep(1)", 0, "sleep"),
        ("unmet(s)", 0, "unmet"),
    ],
)
def test_a_forgotten_await_is_an_error_of_the_script(
    script: Callable[[str], Body], tmp_path: Path, body: str, line: int, name: str
) -> None:
    found = error_of(script(body), tmp_path)
    assert found == f"FILE, line {FIRST + line}: {name} is never awaited"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("sys.exit()", "SystemExit (a scenario ends by returning)"),
        ("sys.exit(3)", "SystemExit: 3 (a scenario ends by returning)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("{}['key']", "KeyError: 'key'"),
        (
            "assert False, 'so'",
            "AssertionError: so (what the scenario expects is said with s.expect",
        ),
        ("await s.put(2)", "TypeError: "),
        ("await s.put('2', b'y')", "InvalidPage: page_id is '2'"),
        ("await s.put(2, b'y', 8192)", "InvalidWrite: "),
        ("await s.get(-1)", "page_id is -1"),
        ("await s.put(2, b'y', by='writer')", "by is 'writer': expected a writer"),
        ("await s.is_fenced(None)", "writer is None: expected a writer"),
        ("await s.writes_go_on(within_s=-1)", "within_s is -1: expected seconds >= 0"),
        ("await s.writes_wait(for_s=float('nan'))", "for_s is nan: expected seconds >= 0"),
        ("await s.sleep('1')", "seconds is '1': expected seconds >= 0"),
        ("await s.reads_go_on(1, b'', within_s=1)", "expected is b'': expected 1 to 8192 bytes"),
        ("s.expect(s.get, 'a page')", "expected True or False"),
        ("await trio.to_thread.run_sync(len, '')", "NotVirtual: a thread"),
        ("await trio.open_file(__file__)", "NotVirtual: a thread"),
        ("await trio.run_process(['true'])", "NotVirtual: "),
        ("await trio.lowlevel.wait_readable(0)", "NotVirtual: a device, 0"),
        ("await trio.lowlevel.wait_writable(1)", "NotVirtual: a device, 1"),
        ("time.time()", "time.time() is of the real world"),
        ("monotonic()", "time.monotonic() is of the real world"),
        ("time.sleep(0)", "time.sleep() is of the real world"),
        ("random.randrange(9)", "random.randrange() is of the real world"),
        ("threading.Thread(target=print).start()", "Thread.start() is of the real world"),
    ],
)
def test_what_a_script_raises_is_an_error_of_the_script(
    script: Callable[[str], Body], tmp_path: Path, body: str, problem: str
) -> None:
    found = error_of(script(body), tmp_path)
    assert found.startswith(f"FILE, line {FIRST}: ") and problem in found


def test_a_group_is_told_by_its_lines(script: Callable[[str], Body], tmp_path: Path) -> None:
    body = (
        "async with trio.open_nursery() as nursery:\n"
        "    nursery.start_soon(wrong, ValueError('one'))\n"
        "    nursery.start_soon(wrong, SystemExit(2))"
    )
    found = error_of(script(body), tmp_path)
    line = 1 + SCRIPT.splitlines().index("    raise error")
    parts = {f"line {line}: ValueError: one", f"line {line}: SystemExit: 2 (a scenario ends by"}
    assert all(part in found for part in parts) and "Group" not in found


@pytest.mark.parametrize(
    "body",
    [
        "await s.put(2, str(datetime.datetime.now()).encode())",
        "s.say(str(datetime.datetime.now()))",
        "await s.put(2, str(random.Random().random()).encode())",
        "RUNS.append(1)\nawait s.put(len(RUNS), b'y')",
    ],
)
def test_what_more_than_the_seed_decides_is_no_scenario(
    script: Callable[[str], Body], tmp_path: Path, body: str
) -> None:
    assert "FILE: not the same twice with seed 1" in error_of(script(body), tmp_path)


def test_a_script_draws_from_its_seed_and_reads_files(script: Callable[[str], Body]) -> None:
    body = "await s.put(s.random.randrange(2, 99), pathlib.Path(__file__).read_bytes()[:9])"
    results = [run_scenario(script(body), seed=seed) for seed in (1, 1, 2)]
    assert all(each.passed for each in results)
    assert len({each.run.digest for each in results}) == 2


def test_what_is_refused_to_a_script_is_there_for_everybody_else(
    script: Callable[[str], Body],
) -> None:
    before = [dict(vars(each)) for each in (time, random, threading.Thread)]
    assert run_scenario(script("s.say('nothing more')")).passed
    assert [dict(vars(each)) for each in (time, random, threading.Thread)] == before


# ---- nothing proved, and never ended -------------------------------------------------------------


async def nothing(s: Scenario) -> None:
    pass


async def only_time(s: Scenario) -> None:
    await s.sleep(5)


async def only_reads(s: Scenario) -> None:
    with trio.move_on_after(1):
        await s.engine.get(1, strict=True, cached=False) if s.engine.vdl else await s.sleep(1)


@pytest.mark.parametrize("scenario", [nothing, only_time, only_reads])
def test_a_scenario_that_gets_nothing_acknowledged_is_undecided(scenario: Body) -> None:
    run = run_scenario(scenario).run
    assert (run.verdict, run.invariant) == (Verdict.UNDECIDED, "undecided")
    assert run.finding == "nothing was acknowledged, so this run proves nothing"


@pytest.mark.parametrize(
    ("target", "verdict", "finding"),
    [
        ("az1, az2, az3", Verdict.UNDECIDED, "recovery: A0, B0, C0, D0, E0, F0 are lost for good"),
        ("az1, C, D", Verdict.UNDECIDED, "beyond any recovery: A0, B0, C0, D0 are lost for good"),
        ("az1, C", Verdict.PASSED, ""),
    ],
)
def test_a_scenario_that_loses_every_proof_of_its_commits_does_not_pass(
    script: Callable[[str], Body], target: str, verdict: Verdict, finding: str
) -> None:
    run = run_scenario(script(f"s.wipe('{target}')")).run
    assert run.verdict is verdict
    assert finding in run.finding


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("await trio.sleep_forever()", 0),
        ("s.say('first')\nawait trio.Event().wait()", 1),
        ("async with trio.open_nursery() as n:\n    n.start_soon(trio.sleep_forever)", 0),
        ("send, receive = trio.open_memory_channel(0)\nawait receive.receive()", 1),
    ],
)
def test_a_script_that_waits_for_itself_is_a_deadlock_at_once(
    script: Callable[[str], Body], body: str, line: int
) -> None:
    run = run_scenario(script(body)).run
    assert (run.verdict, run.invariant) == (Verdict.LIVENESS, "deadlock")
    text = body.splitlines()[line].strip()
    assert f"script.py, line {FIRST + line}: `{text}` waits for what nobody" in run.finding
    assert run.virtual_ns < 2 * SECOND


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ("s.crash('A,B,C')\nawait s.put(2, b'y')", "1 call pending"),
        ("s.crash_writer()\nawait s.put(2, b'y')", "writer-1 has been closed"),
    ],
)
def test_a_script_that_waits_for_ever_is_a_liveness_failure_in_bounded_time(
    script: Callable[[str], Body], body: str, missing: str
) -> None:
    run = run_scenario(script(body)).run
    assert (run.verdict, run.invariant) == (Verdict.LIVENESS, "scenario ends")
    assert f"line {FIRST + 1}" in run.finding and "await s.put(2, b'y')" in run.finding
    assert missing in run.finding
    assert run.virtual_ns < 70 * SECOND


def test_a_script_that_goes_on_and_on_ends_at_its_limit(script: Callable[[str], Body]) -> None:
    run = run_scenario(script("while True:\n    await s.sleep(1)"), limit_s=20).run
    assert (run.verdict, run.invariant) == (Verdict.LIVENESS, "scenario ends")
    assert f"line {FIRST + 1}" in run.finding and "not ended after 20 s, the limit" in run.finding


def test_a_long_wait_with_a_deadline_is_none_for_ever(script: Callable[[str], Body]) -> None:
    body = (
        "s.crash('A,B,C')\n"
        "with trio.move_on_after(8):\n"
        "    await s.put(2, b'y')\n"
        "s.restart('A')\n"
        "await trio.sleep(8)\n"
        "await s.writes_go_on(within_s=1)"
    )
    result = run_scenario(script(body), knobs=Knobs(liveness_ns=5 * SECOND))
    assert result.passed, result.run.finding


def test_a_page_that_was_never_written_is_no_finding(script: Callable[[str], Body]) -> None:
    run = run_scenario(script("await s.get(9)")).run
    assert (run.verdict, run.invariant) == (Verdict.UNDECIDED, "undecided")
    assert f"line {FIRST}: PageNotFound: page 9" in run.finding
    body = "from aurora import PageNotFound\nwith contextlib.suppress(PageNotFound):\n"
    result = run_scenario(script(f"{body}    await s.get(9)\n    s.fail('page 9 is there')"))
    assert result.passed, result.run.finding


def test_knobs_that_are_none_are_an_error_of_the_script() -> None:
    with pytest.raises(ScriptError, match=r"knobs is 3: expected sim\.plan\.schedule\.Knobs"):
        run_scenario(nothing, knobs=3)  # type: ignore[arg-type]


# ---- what is written past the scenario's calls ---------------------------------------------------


@pytest.mark.parametrize(
    ("body", "commits"),
    [
        ("await s.engine.put(1, 0, b'direct')\nassert (await s.get(1))[:6] == b'direct'", 2),
        (
            "async with s.engine.mini_transaction() as mtr:\n"  # noqa: ISC004
            "    mtr.write(1, 0, b'one')\n"
            "    mtr.write(2, 0, b'two')\n"
            "await s.reads_go_on(2, b'two', within_s=1)\n"
            "await s.put(1, b'ONE')\n"
            "await s.reads_go_on(1, b'ONE', within_s=1)",
            3,
        ),
        ("commit = await s.engine.submit([(1, 0, b'later')])\nawait s.sleep(1)", 2),
        ("await (await s.open_writer(within_s=1)).put_many([(1, 0, b'y'), (1, 0, b'z')])", 2),
        (
            "s.crash('az1,C')\n"  # noqa: ISC004
            "with trio.move_on_after(1):\n"
            "    await s.engine.put(1, 0, b'x')\n"
            "s.crash_writer()\n"
            "s.heal()\n"
            "await s.get(1)",
            1,
        ),
    ],
)
def test_writes_through_an_engine_are_calls_of_the_history(
    script: Callable[[str], Body], body: str, commits: int
) -> None:
    result = run_scenario(script(body))
    assert result.passed, result.run.finding
    assert result.run.commits == commits


def test_writes_of_the_same_bytes_whose_fate_is_unknown_are_told_apart(
    script: Callable[[str], Body],
) -> None:
    body = (
        "s.partition('writer')\n"
        "with trio.move_on_after(1):\n"
        "    await s.put(1, b'x')\n"
        "s.crash_writer()\n"
        "s.heal()\n"
        "await s.put(1, b'x')"
    )
    result = run_scenario(script(body))
    assert result.passed, result.run.finding


# ---- expectations that are not met ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        ("with contextlib.suppress(Exception):\n    s.expect(False, 'it')", "expected: it"),
        ("with contextlib.suppress(BaseException):\n    s.fail('so')", "so"),
        (
            "s.crash('A,B,C')\n"  # noqa: ISC004
            "try:\n    await s.writes_go_on(within_s=1)\nexcept Exception:\n    s.heal()",
            "a write is pending after 1 s: expected writes to go on",
        ),
        (
            "async with trio.open_nursery() as nursery:\n    nursery.start_soon(unmet, s)",
            "expected: in a task",
        ),
        ("try:\n    s.fail('first')\nfinally:\n    raise ValueError('second')", "first"),
    ],
)
def test_a_failed_expectation_is_the_verdict_whoever_catches_it(
    script: Callable[[str], Body], body: str, finding: str
) -> None:
    result = run_scenario(script(body))
    run = result.run
    assert (run.verdict, run.invariant, run.finding) == (Verdict.VIOLATION, "expectation", finding)
    assert story_of(result).count("NOT AS EXPECTED") == 1


def test_reads_do_not_go_on_when_no_segment_can_answer(script: Callable[[str], Body]) -> None:
    crashed = "s.crash('az1,az2,az3')\n"
    run = run_scenario(script(crashed + "await s.reads_go_on(1, b'x', within_s=1)")).run
    assert run.finding == "a read of page 1 is pending, expected within 1 s"
    body = "await s.reads_go_on(1, b'x', within_s=1, cached=True)"
    assert run_scenario(script(crashed + body)).passed


def test_reads_do_not_go_on_when_the_buffer_pool_answers_after_all(
    monkeypatch: pytest.MonkeyPatch, script: Callable[[str], Body]
) -> None:
    get = Engine.get

    async def from_the_pool(self: Engine, page_id: PageId, **_: object) -> bytes:
        return await get(self, page_id)

    monkeypatch.setattr(Engine, "get", from_the_pool)
    run = run_scenario(script("await s.reads_go_on(1, b'x', within_s=1)")).run
    assert run.finding == "page 1 was not read from a segment"


def test_a_writer_that_has_crashed_is_not_fenced(script: Callable[[str], Body]) -> None:
    run = run_scenario(script("s.crash_writer()\nawait s.is_fenced(s.engine)")).run
    assert run.finding == "a write through writer-1 is unknown: writer-1 has been closed"


def test_a_write_waits_for_a_writer_too(script: Callable[[str], Body]) -> None:
    body = (
        "s.crash_writer()\n"
        "waiting = await s.writes_wait(for_s=5)\n"
        "await s.open_writer(within_s=1)\n"
        "await waiting.done(within_s=1)"
    )
    result = run_scenario(script(body))
    assert result.passed, result.run.finding


def test_a_writer_that_answers_no_write_is_found_though_writes_wait(
    monkeypatch: pytest.MonkeyPatch, script: Callable[[str], Body]
) -> None:
    async def never(self: Engine, writes: object) -> int:
        await trio.sleep_forever()
        raise AssertionError

    async def scenario(s: Scenario) -> None:
        await s.put(1, b"x")
        monkeypatch.setattr(Engine, "put_many", never)
        await s.writes_wait(for_s=1)
        monkeypatch.undo()

    run = run_scenario(scenario, knobs=Knobs(liveness_ns=5 * SECOND)).run
    assert run.verdict is Verdict.LIVENESS and "writes go on, and call 1" in run.finding


def test_a_volume_that_refuses_to_open_is_a_finding_and_no_error_of_the_script(
    monkeypatch: pytest.MonkeyPatch, script: Callable[[str], Body]
) -> None:
    async def refuse(self: Cluster) -> Engine:
        raise Fenced("as if another were there")

    async def scenario(s: Scenario) -> None:
        await s.put(1, b"x")
        monkeypatch.setattr(Cluster, "open_writer", refuse)
        await s.open_writer(within_s=1)

    run = run_scenario(scenario).run
    assert run.finding == "the volume is not open after 1 s: as if another were there"


def test_a_script_that_is_busy_while_no_time_passes_is_a_liveness_failure(
    script: Callable[[str], Body],
) -> None:
    run = run_scenario(script("while True:\n    await trio.lowlevel.checkpoint()")).run
    assert (run.verdict, run.invariant) == (Verdict.LIVENESS, "livelock")
    assert f"script.py:{FIRST + 1}" in run.finding


async def test_a_scenario_is_run_from_plain_code() -> None:
    with pytest.raises(Invalid, match="inside of a trio run: expected to be called from plain"):
        run_scenario(nothing)


# ---- as a command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "verdict"),
    [
        ("s.crash('az1')\nawait s.reads_go_on(1, b'x', within_s=1)", 0, "passed"),
        ("s.expect(False, 'it')", 1, "violation"),
        ("sys.exit(0)", 2, None),
        ("await trio.sleep_forever()", 3, "liveness failure"),
    ],
)
def test_a_command_ends_with_the_verdict_of_the_function(
    script: Callable[[str], Body], tmp_path: Path, body: str, code: int, verdict: str | None
) -> None:
    scenario = script(body)
    ran = in_process.run(
        "script.py", "--seed", "7", "--json", cwd=tmp_path, env=os.environ.copy()
    )  # fmt: skip
    errors = ran.stderr.decode()
    assert ran.returncode == code, errors
    assert "Traceback" not in errors
    if verdict is None:
        assert ran.stdout == b"" and f"line {FIRST}: SystemExit: 0" in errors
        return
    told, result = json.loads(ran.stdout), run_scenario(scenario, seed=7)
    assert errors == ""
    assert (told["seed"], told["verdict"]) == (7, verdict)
    assert told["digest"] == result.run.digest
    assert told["finding"] == result.run.finding
    assert told["story"] == list(result.story)
    assert [each["fault"] for each in told["faults"]] == ["crash"] * (code == 0)


def test_blame_looks_for_the_api_where_it_is() -> None:
    assert Path(inspect.getfile(Scenario)) == errors._API
