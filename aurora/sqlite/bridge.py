"""From SQLite's synchronous calls to awaitables, and back (SQL design, decision 1).

SQLite calls its VFS and expects an answer, not a coroutine. So each call into SQLite runs in a
greenlet of its own, in the task of whoever called; when the VFS has to wait it hands an awaitable
to that task, which awaits it like any other and gives back what came of it. All callbacks of a
caller therefore run in the caller's task, under the caller's cancel scopes, in one thread: the
order of everything is trio's, and repeats in the simulator.

In a greenlet no frame of trio's is below: Ctrl-C waits until the task awaits (trio calls such code
protected), and never tears a SQLite call.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar, cast

import trio
from greenlet import getcurrent, greenlet

T = TypeVar("T")


class _Begun:
    """The rest of a coroutine that was begun outside of trio's loop, and has something to wait for.

    It was begun in the task that awaits this: what it has told trio of itself is true.
    """

    __slots__ = ("_coroutine", "_first")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], first: object) -> None:
        self._coroutine = coroutine
        self._first = first

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, wanted = self._coroutine, self._first
        try:
            while True:
                try:
                    sent = yield wanted
                except BaseException as error:  # noqa: BLE001 - it is the coroutine's to handle
                    wanted = coroutine.throw(error)
                else:
                    wanted = coroutine.send(sent)
        except StopIteration as stop:
            return stop.value


async def run(call: Callable[..., T], *arguments: object) -> T:
    """Run ``call(*arguments)`` in a greenlet, awaiting here what it hands over with `wait`.

    Does not pass a checkpoint by itself: calls that find all they need never wait.
    """
    worker = greenlet(call)
    worker.gr_context = trio.lowlevel.current_task().context  # a caller's variables are there, too
    handed = worker.switch(*arguments)
    while not worker.dead:
        try:
            value = await handed
        except BaseException as error:  # noqa: BLE001 - also a cancellation: SQLite rolls back
            handed = worker.throw(error)
        else:
            handed = worker.switch(value)
    return cast("T", handed)


def wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """Within `run`: the coroutine's result; a cancellation of the task is raised here, too.

    It is begun at once, and only handed over if it has something to wait for.
    """
    task = getcurrent().parent
    if task is None:
        coroutine.close()
        raise RuntimeError("a call of SQLite that has to wait: expected to be within bridge.run")
    try:
        wanted = coroutine.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    return cast("T", task.switch(_Begun(coroutine, wanted)))
