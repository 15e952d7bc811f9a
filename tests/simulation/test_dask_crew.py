"""A crew of Dask workers, with Dask itself faked: who is trusted, what becomes of their batches."""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Callable
from typing import Any, Final

import attrs
import pytest

from segments.protocol.errors import ExtraMissing, Invalid
from sim.commands.progress import ProgressLine
from sim.commands.scheduler_options import Scheduler, open_crew, scheduler_of
from sim.crews import dask_post
from sim.crews.crew import CrewGone, spread
from sim.crews.dask_crew import DaskCrew
from sim.crews.dask_post import NotMustered, OtherVersion, do_batch, halt, muster
from sim.crews.version import version_here
from tests.repo.sources import imported_modules, parsed, python_files
from tests.simulation.test_crews import Squares


@attrs.define
class FakeFuture:
    """Of a batch; ``answer`` is None if its worker never gives one."""

    answer: Any

    def add_done_callback(self, call: Callable[[FakeFuture], None]) -> None:
        if self.answer is not None:
            call(self)

    def result(self, timeout: float) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@attrs.define
class FakeClient:
    """A scheduler with workers of one thread, each of which says what it does with a batch."""

    workers: dict[str, Callable[[tuple[int, ...]], Any]]
    versions: dict[str, Any] = attrs.field(factory=dict)
    id: str = "fake"
    batches: list[tuple[str, tuple[int, ...]]] = attrs.field(factory=list)
    told: list[tuple[str, str, tuple[object, ...]]] = attrs.field(factory=list)
    vanishing: set[str] = attrs.field(factory=set)
    """Those who are gone as soon as they have a batch."""
    gone: set[str] = attrs.field(factory=set)
    broken: bool = False

    def nthreads(self) -> dict[str, int]:
        if self.broken:
            raise OSError("nobody answers")
        return {each: 1 for each in self.workers if each not in self.gone}

    def run(
        self, function: Callable[..., Any], *arguments: object, workers: list[str], **_: object
    ) -> dict[str, Any]:
        for each in workers:
            self.told.append((function.__name__, each, arguments))
        if function is not version_here:
            return dict.fromkeys(workers)
        found = {each: self.versions.get(each, version_here()) for each in workers}
        for each in found.values():
            if isinstance(each, Exception):
                raise each
        return found

    def submit(self, _: object, __: str, ___: str, ____: object, items: Any, **to: Any) -> Any:
        if self.broken:
            raise RuntimeError("nobody answers")
        (address,) = to["workers"]
        assert not to["allow_other_workers"] and not to["pure"]
        self.batches.append((address, items))
        if address in self.vanishing:
            self.gone.add(address)
            return FakeFuture(None)
        return FakeFuture(self.workers[address](items))

    def cancel(self, futures: list[FakeFuture]) -> None:
        if self.broken:
            raise RuntimeError("nobody answers")
        assert all(isinstance(each, FakeFuture) for each in futures)

    def close(self) -> None:
        self.workers.clear()


def takes(item_s: float) -> Callable[[tuple[int, ...]], Any]:
    """What a worker answers that takes so long for an item, on a clock of its own."""
    return lambda items: ([(each, each * each) for each in items], item_s * len(items))


def crew_of(client: FakeClient, said: list[str] | None = None, **more: Any) -> Any:
    say = (lambda _: None) if said is None else said.append
    options: dict[str, Any] = {"item_s": 0.5, "left_s": lambda: None, "look_every_s": 0.0} | more
    return DaskCrew[int, int](client, Squares(), say=say, **options)


def done_by(client: FakeClient, items: range, **more: Any) -> dict[int, tuple[int, str]]:
    found = {}
    for each in spread(iter(items), Squares(), crew_of(client, **more), poll_s=0.01):
        if each is not None:
            assert each.item not in found
            found[each.item] = (each.result, each.by)
    return found


# ---- who has what --------------------------------------------------------------------------------


def test_batches_are_sized_by_what_each_worker_takes() -> None:
    client = FakeClient({"quick": takes(0.01), "slow": takes(9.0)})
    crew = crew_of(client)
    while crew.room() < 2:
        assert crew.ended(0.01) == []

    def begin_everywhere(left: int | None) -> dict[str, int]:
        del client.batches[:]
        for _ in client.workers:
            crew.begin(tuple(range(crew.size(left))))
        assert crew.room() == 0
        return {by: len(items) for by, items in client.batches}

    assert begin_everywhere(None) == {"quick": 4, "slow": 4}  # two seconds, of half a second each
    while crew.room() < 2:
        crew.ended(0.01)
    assert begin_everywhere(1_000) == {"quick": 200, "slow": 1}
    while crew.room() < 2:
        crew.ended(0.01)
    assert begin_everywhere(40) == {"quick": 10, "slow": 1}  # a share, so that all end together
    crew.close()


def test_a_worker_that_vanishes_takes_no_item_along() -> None:
    client = FakeClient({"a": takes(0.5), "b": takes(0.5)}, vanishing={"b"})
    found = done_by(client, range(40))
    assert sorted(found) == list(range(40)) and {by for _, by in found.values()} == {"a"}
    (lost,) = [items for by, items in client.batches if by == "b"]
    alone = [items for by, items in client.batches if by == "a" and set(items) & set(lost)]
    assert alone == [(each,) for each in lost]


def test_what_no_worker_survives_is_given_up_after_three() -> None:
    names = ("a", "b", "c", "d")
    client = FakeClient(dict.fromkeys(names, takes(0.5)), vanishing=set(names[:3]))
    found = done_by(client, range(1))
    assert found[0][0] == 0 and client.gone == set(names[:3])
    client = FakeClient(dict.fromkeys(names, takes(0.5)), vanishing=set(names))
    found = done_by(client, range(7, 8))
    assert found[7][0] == -7 and len(client.gone) == 3


def test_another_process_at_the_same_address_is_mustered_first() -> None:
    answers = iter([NotMustered("fake")])
    good = takes(0.5)
    client = FakeClient({"a": lambda items: next(answers, None) or good(items)})
    assert sorted(done_by(client, range(9))) == list(range(9))
    musters = [each for each in client.told if each[0] == "muster"]
    assert len(musters) == 2


# ---- who is refused ------------------------------------------------------------------------------


def test_another_version_is_refused_with_both_named() -> None:
    said: list[str] = []
    client = FakeClient({"a": takes(0.5), "b": takes(0.5)}, {"b": "aurora-py 0.0.9"})
    crew = crew_of(client, said)
    found = [each.by for each in spread(iter(range(9)), Squares(), crew, poll_s=0.01) if each]
    assert found == ["a"] * 9
    assert said == [f"refused worker b: it has aurora-py 0.0.9; expected {version_here()}"]
    assert crew.strength() == "1 worker, 1 refused"


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("aurora-py 0.0.9", "it has aurora-py 0.0.9"),
        (
            ModuleNotFoundError("No module named 'sim'"),
            "it cannot tell its version, No module named",
        ),
    ],
)
def test_if_all_are_refused_nobody_waits(version: object, why: str) -> None:
    said: list[str] = []
    crew = crew_of(FakeClient({"a": takes(0.5)}, {"a": version}), said)
    with pytest.raises(CrewGone, match="all workers are refused"):
        list(spread(iter(range(9)), Squares(), crew, poll_s=0.01))
    assert why in said[0]


def test_whose_sources_have_changed_is_refused_later_and_loses_nothing() -> None:
    good = takes(0.5)
    client = FakeClient({"a": good, "b": lambda _: OtherVersion("aurora-py 0.0.9")})
    found = done_by(client, range(20))
    assert sorted(found) == list(range(20)) and {by for _, by in found.values()} == {"a"}


@pytest.mark.parametrize("answer", [None, ([], 1.0)], ids=["under way", "between batches"])
def test_a_scheduler_that_is_gone_ends_it(answer: object) -> None:
    client = FakeClient({"a": lambda _: answer})
    running = spread(iter(range(9)), Squares(), crew_of(client), poll_s=0.01)
    while not client.batches:
        assert next(running) is None
    client.broken = True
    with pytest.raises(CrewGone, match="the scheduler is gone: nobody answers"):
        list(running)


# ---- the budget, at a worker ---------------------------------------------------------------------


def test_a_worker_is_told_what_is_left_and_when_it_is_over() -> None:
    client, over = FakeClient({"a": lambda _: None}), False
    running = spread(
        iter(range(99)), Squares(), crew_of(client, left_s=lambda: 12.5), lambda: over, 0.01
    )
    while not client.batches:
        assert next(running) is None
    assert client.told[-1] == ("muster", "a", ("aurora-sim-fake", 12.5))
    over = True
    assert next(running) is None
    running.close()
    assert set(client.told[2:]) == {
        (name, "a", ("aurora-sim-fake",)) for name in ("halt", "dismiss")
    }
    assert len(client.batches) == 1


@pytest.mark.parametrize("over", [lambda: muster("late", 0.0), lambda: halt("late")])
def test_a_batch_that_starts_late_begins_nothing(over: Callable[[], None]) -> None:
    muster("late", None)
    over()
    results, took_s = do_batch("late", version_here(), Squares(), (1, 2, 3))
    assert results == [] and took_s < math.inf


def test_who_was_never_mustered_begins_nothing() -> None:
    with pytest.raises(NotMustered):
        do_batch("unheard of", version_here(), Squares(), (1, 2, 3))


def test_a_batch_is_done_by_a_process_that_stays() -> None:
    muster("batch", 300.0)
    try:
        results, _ = do_batch("batch", version_here(), Squares(), (1, 2, 3))
        assert results == [(1, 1), (2, 4), (3, 9)]
        with pytest.raises(OtherVersion, match="code"):
            do_batch("batch", "another", Squares(), (4,))
    finally:
        for each in dask_post._idle:
            each.close()
        dask_post._idle.clear()


# ---- without Dask ------------------------------------------------------------------------------


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sim.crews.dask_crew")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'aurora-py\[fleet\]'"):
        open_crew(
            Scheduler("tls://host:1", {}), Squares(), jobs=1, item_s=1.0, left_s=lambda: None,
            progress=ProgressLine(),
        )  # fmt: skip


def test_dask_is_imported_only_when_it_is_asked_for() -> None:
    for path in python_files("sim", "aurora"):
        first = [
            each for each in parsed(path).body if isinstance(each, ast.Import | ast.ImportFrom)
        ]
        named = {name for _, name in imported_modules(ast.Module(list(first), []))}
        assert not any(each.startswith("sim.crews.dask_crew") for each in named), path


# ---- addresses -----------------------------------------------------------------------------------

FILES: Final = {"tls_client_cert": "cert.pem"}


@pytest.mark.parametrize(
    "address", ["tls://host:8786", "tcp://127.0.0.1:1", "tcp://localhost:1", "tcp://[::1]:8786"]
)
def test_addresses(address: str) -> None:
    assert scheduler_of(address, {}, unencrypted=False) == Scheduler(address, {})


@pytest.mark.parametrize(
    "address", ["host:8786", "tls://host", "http://host:1", "tls://:8786", "tls://host:port", ""]
)
def test_no_addresses(address: str) -> None:
    with pytest.raises(Invalid, match="expected tls://HOST:PORT"):
        scheduler_of(address, {}, unencrypted=True)


def test_without_certificates_only_on_purpose() -> None:
    with pytest.raises(Invalid, match="--unencrypted"):
        scheduler_of("tcp://host:8786", {}, unencrypted=False)
    assert scheduler_of("tcp://host:8786", {}, unencrypted=True)
    assert scheduler_of("tls://host:8786", FILES, unencrypted=False)
    with pytest.raises(Invalid, match="goes without certificates"):
        scheduler_of("tcp://host:8786", FILES, unencrypted=True)


def test_options_of_no_scheduler_are_refused() -> None:
    assert scheduler_of(None, {}, unencrypted=False) is None
    for tls, unencrypted in ((FILES, False), ({}, True)):
        with pytest.raises(Invalid, match="expected --scheduler"):
            scheduler_of(None, tls, unencrypted)
