"""Every public call with every kind of wrong value: an `Invalid`, and nothing has changed.

What stands in `CALLS` is held against the classes themselves: a new method, or a new parameter of
one, has to be entered here.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import attrs
import pytest
import trio

import aurora
from aurora import Cluster, Engine, Invalid, MiniTransaction, ReadView
from tests.worlds import World, run_world


class _Path:
    """A path that is one of bytes."""

    def __fspath__(self) -> bytes:
        return b"x"


_WRONG: Final[tuple[Any, ...]] = (
    None, True, -1, 1.5, float("nan"), 2**70, 10**5000, "x", b"x", [], {}, {1}, (1, 2), [object()],
    object(), lambda: None, _Path(),
)  # fmt: skip
"""No parameter takes any of these, but for those that are named with it."""


class Call:
    """A method with arguments that are good, and which of the wrong ones it takes, by parameter."""

    def __init__(self, good: Mapping[str, Any], takes: Mapping[str, tuple[Any, ...]]) -> None:
        self.good = good
        self.takes = takes


def call(takes: Mapping[str, tuple[Any, ...]] | None = None, /, **good: Any) -> Call:
    return Call(good, takes or {})


_OR_NONE: Final = (None,)
_WRITES: Final = [(1, 0, b"x")]
_PAGES: Final[tuple[Any, ...]] = (b"x", [], {}, {1}, (1, 2))
"""Any numbers."""
CALLS: Final[dict[type, dict[str, Call]]] = {
    Engine: {
        "put": call({"data": (b"x",)}, page_id=1, offset=0, data=b"y"),
        "put_many": call(writes=_WRITES),
        "submit": call(writes=_WRITES),
        "submit_inline": call(writes=_WRITES),
        "mini_transaction": call({"wait": (True,)}, wait=True),
        "get": call({"strict": (True,), "cached": (True,)}, page_id=1, strict=False, cached=False),
        "get_at": call({"cached": (True,)}, page_id=1, lsn=1, cached=False),
        "read": call(
            {"lsn": _OR_NONE, "strict": (True,), "cached": (True,)},
            page_id=1,
            lsn=1,
            strict=False,
            cached=False,
        ),
        "read_view": call({"lsn": _OR_NONE}, lsn=1),
        "read_head": call(page_id=1),
        "get_many": call({"page_ids": _PAGES, "lsn": _OR_NONE}, page_ids=[1], lsn=1),
        "pages": call({"end": _OR_NONE, "lsn": _OR_NONE}, start=0, end=9, lsn=1),
        "changed_pages": call({"lsn": _OR_NONE}, after_lsn=1, lsn=1),
    },
    ReadView: {
        "get": call(page_id=1),
        "get_many": call({"page_ids": _PAGES}, page_ids=[1]),
        "pages": call({"end": _OR_NONE}, start=0, end=9),
    },
    MiniTransaction: {
        "write": call({"data": (b"x",)}, page_id=1, offset=0, data=b"y"),
        "read": call(page_id=1),
    },
    Cluster: {
        **{
            name: call(target="A0")
            for name in ("targets", "addresses", "restart", "crash", "pause", "resume", "wipe")
        },
        "slow": call({"delay_s": (1.5,)}, target="A0", delay_s=0.0),
        "clone": call(
            {"to": ("x",), "at": _OR_NONE, "copy": (True,)}, to="elsewhere", at=1, copy=False
        ),
        "open_writer": call({"fresh": _OR_NONE}, fresh=None),
        "crash_writer": call({"engine": _OR_NONE}, engine=None),
    },
}
OPEN_CLUSTER: Final = call(
    {
        "directory": (None, "x"), "config": _OR_NONE, "network": _OR_NONE, "random": _OR_NONE,
        "trace": (None, _WRONG[-2]), "timeout_s": (None, 1.5), "accept_rollback": (True,),
    },
    directory=None, read_only=False, accept_rollback=False, config=None, trace=None, network=None,
    random=None, timeout_s=60.0,
)  # fmt: skip
NOT_FOR_CALLERS: Final = {
    (Engine, "run"): "a cluster runs its engines",
    (Engine, "when_ended"): "what is built on a writer, as a database is, is told of its end",
}


def parameters(function: Callable[..., object]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_every_public_call_is_tried_here() -> None:
    for kind, calls in CALLS.items():
        found = {
            name: parameters(method)
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") and (kind, name) not in NOT_FOR_CALLERS
        }
        expected = {name: list(each.good) for name, each in calls.items()}
        with_some = {name: names for name, names in found.items() if names}
        assert with_some == expected, f"{kind.__name__}: enter what is new in CALLS"
    assert parameters(aurora.open_cluster) == list(OPEN_CLUSTER.good)


def wrong_calls(tried: Mapping[str, Call]) -> list[tuple[str, dict[str, Any]]]:
    """Method and arguments: all good but one."""
    return [
        (name, {**each.good, parameter: value})
        for name, each in tried.items()
        for parameter in each.good
        for value in _WRONG
        if not any(value is taken or value == taken for taken in each.takes.get(parameter, ()))
    ]


async def make(result: object) -> None:
    """Await or enter what a call returns, whichever it is for."""
    if isinstance(result, AbstractAsyncContextManager):
        async with result:
            pass
    elif isinstance(result, Awaitable):
        await result


async def make_and_fail(function: Callable[..., object], arguments: Mapping[str, Any]) -> None:
    await make(function(**arguments))
    pytest.fail(f"{function.__name__}({arguments}) was taken")


def state(world: World) -> object:
    """What a refused call might have changed."""
    statistics = world.engine.statistics()
    pool = attrs.evolve(statistics.pool, hits=0, misses=0)
    hosts = [
        (host.up, host.lost, host.paused_since_s, host.delay_s)
        for host in world.cluster.hosts.values()
    ]
    return attrs.evolve(statistics, pool=pool), hosts, len(world.cluster.engines)


@pytest.mark.parametrize("kind", CALLS, ids=lambda kind: str(kind.__name__))
def test_what_is_wrong_is_called_invalid_and_changes_nothing(kind: type) -> None:
    async def main(world: World) -> None:
        await world.engine.put(1, 0, b"x")
        before = state(world)
        async with world.engine.read_view() as view, world.engine.mini_transaction() as mtr:
            objects: dict[type, Any] = {
                Engine: world.engine, ReadView: view, MiniTransaction: mtr, Cluster: world.cluster,
            }  # fmt: skip
            for name, arguments in wrong_calls(CALLS[kind]):
                with pytest.raises(Invalid, match=r": .*expected "):
                    await make_and_fail(getattr(objects[kind], name), arguments)
            assert len(mtr) == 0
        assert state(world) == before

    run_world(main)


async def test_what_is_no_part_of_a_cluster_is_refused() -> None:
    for _, arguments in wrong_calls({"open_cluster": OPEN_CLUSTER}):
        with pytest.raises(Invalid):
            await make(aurora.open_cluster(**arguments))


async def test_good_arguments_are_taken() -> None:
    """Otherwise the tests above could pass for another reason than the one they look for."""
    async with aurora.open_cluster(**OPEN_CLUSTER.good) as cluster:
        await cluster.engine.put(1, 0, b"x")
        async with cluster.engine.read_view() as view, cluster.engine.mini_transaction() as mtr:
            for thing in (cluster.engine, view, mtr):
                for name, each in CALLS[type(thing)].items():
                    await make(getattr(thing, name)(**each.good))
        for name in ("pause", "resume", "crash", "restart", "wipe"):
            await make(getattr(cluster, name)(target="A0"))
        cluster.slow("B0", 0)
        assert list(cluster.lost_segments()) == ["A0"]


# ---- from elsewhere ------------------------------------------------------------------------------


async def test_calls_from_another_thread_or_run_are_refused() -> None:
    async with aurora.open_cluster() as cluster:
        engine = cluster.engine

        async def elsewhere() -> None:
            with pytest.raises(
                aurora.OutsideTrio, match="another trio run than the one that opened"
            ):
                await engine.put(1, 0, b"x")
            with pytest.raises(aurora.OutsideTrio, match="another trio run"):
                cluster.crash("A0")

        def in_a_thread() -> None:
            with pytest.raises(aurora.OutsideTrio, match="no trio run is under way in this thread"):
                engine.pages()
            with pytest.raises(aurora.OutsideTrio, match=r"docs/asyncio\.md"):
                cluster.crash_writer()
            trio.run(elsewhere)

        await trio.to_thread.run_sync(in_a_thread)
        assert cluster.hosts["A0"].up
        assert await engine.put(1, 0, b"x") == 1
