"""Forks and futures that a page has asked for: runs like any other, told as they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any, Final

import attrs
import pytest
import trio

from segments.protocol.errors import Invalid
from sim.commands.case import open_case
from sim.crews.processes import HandGone
from sim.files import scenario
from sim.plan.schedule import MS, Action
from sim.view.asked import ForkAsked, FuturesAsked, read_futures
from sim.view.film import Film, make_film
from sim.view.search import failure_of
from sim.view.studio import MOST_FORKS, Busy, NoSuchRun, NotReady, Studio, read_packed, shown
from tests.patience import PATIENCE_S
from tests.repo.sources import ROOT

CRASH: Final = Action(at_ns=5 * MS, kind="crash", target="B0")
SOON: Final = ForkAsked(source="main", at_ns=5 * MS, add=(CRASH,))


async def in_a_thread(function: Callable[..., Any], *arguments: object) -> Any:
    return await trio.to_thread.run_sync(function, *arguments)


@pytest.fixture(scope="module")
def film() -> Film:
    return make_film(open_case(1, None, "third-highest-scl"))


@pytest.fixture
def studio(film: Film) -> Studio:
    return Studio(open_case(1, None, "third-highest-scl"), shown(film), in_a_thread)


async def until_over(studio: Studio, about: str) -> list[dict[str, Any]]:
    """All that is told of a run or of the search, up to its end."""
    reader, told = studio.news.open(), list[dict[str, Any]]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(studio.run)
        while not told or told[-1]["state"] == "running":
            news = await reader.next()
            assert news is not None
            if about in (news["run"], news["kind"]):
                told.append(dict(news))
        nursery.cancel_scope.cancel()
    return told


async def test_a_fork_is_the_same_run_up_to_its_moment(studio: Studio, film: Film) -> None:
    reply = studio.fork(SOON)
    with pytest.raises(NotReady, match="still being run"):
        studio.film(reply["run"])
    told = await until_over(studio, reply["run"])
    assert [each["state"] for each in told] == ["running", "done"]
    for news in told:  # whoever reloads the page knows nothing else
        assert news["title"] == "+ crash B0"
        assert (news["command"], news["toml"]) == (reply["command"], reply["toml"])
    fork = read_packed(studio.film(reply["run"]))
    at = told[-1]["first_difference"]["fork"]
    assert fork["events"]["t"][at] >= 5 * MS
    assert fork["events"]["text"][at] == "crash B0"
    assert fork["events"]["text"][:at] == film["events"]["text"][:at]
    assert told[-1]["verdict"] == fork["run"]["verdict"]


async def test_a_fork_can_be_made_again_without_the_page(studio: Studio) -> None:
    asked = ForkAsked(source="main", at_ns=5 * MS, add=(CRASH,), remove=(4,), redraw=3)
    reply = studio.fork(asked)
    assert reply["command"] == (
        "python -m aurora.sim fork --seed 1 --bug third-highest-scl --at 5000000ns --redraw 3 "
        "--add '5000000ns crash B0' --remove 4 -o fork-1.toml"
    )
    await until_over(studio, "fork-1")
    read = scenario.loads(reply["toml"], "fork-1.toml", default_name="fork-1")
    digest = read_packed(studio.film("fork-1"))["run"]["digest"]
    again = open_case(1, None, "third-highest-scl").fork(5 * MS, salt=3, add=(CRASH,), remove=(4,))
    assert read.schedule() == attrs.evolve(again.schedule, shape="", name="fork-1")
    written = attrs.evolve(again, schedule=read.schedule())
    for case in (again, written):
        assert (await in_a_thread(case.run)).digest == digest


async def test_a_fork_may_be_forked(studio: Studio) -> None:
    studio.fork(SOON)
    reply = studio.fork(ForkAsked(source="fork-1", at_ns=6 * MS, redraw=1))
    assert reply["command"].startswith("python -m aurora.sim fork fork-1.toml --at 6000000ns")


def test_wrong_forks_are_refused_and_none_is_kept(studio: Studio) -> None:
    wrong = Action(at_ns=5 * MS, kind="crash", target="Z9")
    for asked in (
        ForkAsked(source="main", at_ns=5 * MS, add=(wrong,)),
        ForkAsked(source="main", at_ns=5 * MS, add=(Action(at_ns=5 * MS, kind="meteor"),)),
        ForkAsked(source="main", at_ns=5 * MS, remove=(10**6,)),
        ForkAsked(source="main", at_ns=9 * MS, add=(CRASH,)),
    ):
        with pytest.raises(Invalid, match="expected"):
            studio.fork(asked)
        assert "expected" in studio.fork(attrs.evolve(asked, only_check=True))["wrong"]
    assert studio.fork(attrs.evolve(SOON, only_check=True)) == {"wrong": ""}
    with pytest.raises(NoSuchRun, match=r"expected one of main$"):
        studio.fork(ForkAsked(source="fork-1", at_ns=0))


def test_only_so_many_forks_are_kept(studio: Studio) -> None:
    for _ in range(MOST_FORKS):
        studio.fork(SOON)
    with pytest.raises(Busy, match="start the viewer anew"):
        studio.fork(SOON)


async def test_a_run_that_ends_its_process_fails_alone(film: Film) -> None:
    async def broken(*_: object) -> Any:
        raise HandGone("gone")

    studio = Studio(open_case(1, None, "third-highest-scl"), shown(film), broken)
    studio.fork(SOON)
    studio.fork(SOON)
    for name in ("fork-1", "fork-2"):
        told = await until_over(studio, name)
        assert told[-1]["error"] == "the process that ran it has ended"


async def test_the_moment_is_looked_for(
    studio: Studio, film: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.view.search.MOST_MOMENTS", 4)
    reply = studio.inevitable(FuturesAsked(futures=2))
    assert reply["command"].endswith("inevitable --seed 1 --bug third-highest-scl --futures 2")
    with pytest.raises(Busy, match="already"):
        studio.inevitable(FuturesAsked(futures=2))
    told = await until_over(studio, "inevitable")
    assert told[-1]["state"] == "done"
    points = told[-1]["points"]
    assert points == sorted(points, key=lambda each: int(each["t"]))
    assert all(0 <= each["failed"] <= each["of"] for each in points)
    assert points[-1]["t"] <= film["run"]["end_ns"]
    assert told[-1]["words"]
    studio.inevitable(FuturesAsked(futures=1))  # it may be asked again


async def test_a_search_can_be_stopped(studio: Studio) -> None:
    with pytest.raises(Invalid, match="nothing is being looked for"):
        studio.inevitable(read_futures(b'{"stop": true}'))
    studio.inevitable(FuturesAsked(futures=50))
    reader = studio.news.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(studio.run)
        while (news := await reader.next()) is not None and not news["points"]:
            assert news["state"] == "running"
        studio.inevitable(read_futures(b'{"run": "main", "stop": true}'))
        while (news := await reader.next()) is not None and news["state"] == "running":
            pass
        nursery.cancel_scope.cancel()
    assert news is not None
    assert (news["state"], bool(news["points"])) == ("stopped", True)
    assert 0 < news["runs"] < news["most_runs"] == 20 * 50


async def test_a_search_holds_up_no_fork(film: Film) -> None:
    async def work(function: Callable[..., Any], *arguments: object) -> Any:
        if function is failure_of:
            await trio.sleep_forever()
        return await in_a_thread(function, *arguments)

    studio = Studio(open_case(1, None, "third-highest-scl"), shown(film), work)
    studio.inevitable(FuturesAsked(futures=2))
    studio.fork(SOON)
    assert (await until_over(studio, "fork-1"))[-1]["state"] == "done"


def test_of_a_run_that_passes_nothing_is_inevitable(film: Film) -> None:
    passing = attrs.evolve(shown(film), verdict="passed")
    studio = Studio(open_case(1, None, None), passing, in_a_thread)
    with pytest.raises(Invalid, match="passed: expected a run that fails"):
        studio.inevitable(FuturesAsked(futures=2))


# ---- all of it, as a process ---------------------------------------------------------------------


def test_a_viewer_serves_forks_and_ends_when_told(tmp_path: Any) -> None:
    words = ["view", "--seed", "1", "--bug", "third-highest-scl", "--no-open"]
    command = [sys.executable, "-m", "aurora.sim", *words]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=surroundings, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(3)]
            found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/[\w-]{20,}/)\n", lines[2])
            assert found is not None, lines
            server = HTTPConnection("127.0.0.1", int(found[1]), timeout=PATIENCE_S)
            body = json.dumps({"at_ns": 5 * MS, "redraw": 7})
            server.request("POST", f"{found[2]}fork", body, {"Content-Type": "application/json"})
            assert json.load(server.getresponse())["run"] == "fork-1"
            server.request("GET", f"{found[2]}events")
            heard = server.getresponse()
            while b'"done"' not in (line := heard.readline()):
                assert line
            server.close()
            server.request("GET", f"{found[2]}film?run=fork-1")
            assert json.load(server.getresponse())["format"] == "aurora-sim film"
            server.close()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
        assert process.stdout.read().endswith("ended\n")
