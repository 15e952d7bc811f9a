"""What a Dask worker does for a fleet: functions that a `DaskCrew` has it call.

The worker itself only hands items out. Each of its threads has a process of its own, as it would
have at home (`LocalCrew`): a seed that ends its process or hangs in it harms nobody else, a planted
bug is planted in that process alone, and processor time is that of the seed. These processes stay
for the next batch, and end with the worker.

No clock of another machine is trusted. A fleet says once, before its first batch, how much time is
left; the worker counts that down on a clock of its own, so that a batch begins nothing late,
however long it has waited, and whoever had it before.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from contextlib import closing
from multiprocessing import current_process
from threading import Lock
from typing import Any, Final

import attrs

from sim.crews.crew import Work, spread
from sim.crews.processes import Hand, LocalCrew
from sim.crews.version import version_here

_REMEMBERED: Final = 64
"""Fleets; one that comes when so many have come after it must muster its workers anew."""


@attrs.define
class _Post:
    """What a fleet has told this worker."""

    over_at: float
    """On this process's monotonic clock."""
    dismissed: bool = False


_posts: OrderedDict[str, _Post] = OrderedDict()
_lock: Final = Lock()
_idle: list[Hand] = []
"""Processes that wait for something to do."""


class NotMustered(Exception):
    """This process has never heard of that fleet: another one had its address before."""


class OtherVersion(Exception):
    """A process runs other sources than the one that started it: they have changed meanwhile."""


def muster(fleet: str, left_s: float | None) -> None:
    """Begin items of ``fleet`` for ``left_s`` seconds from now on, or without end."""
    current_process().daemon = False  # a nanny's is one, and could have no processes of its own
    over_at = math.inf if left_s is None else time.monotonic() + left_s
    with _lock:
        _posts[fleet] = _Post(over_at)
        while len(_posts) > _REMEMBERED:
            _posts.popitem(last=False)


def halt(fleet: str) -> None:
    """Begin no more items of ``fleet``."""
    _post(fleet).over_at = -math.inf


def dismiss(fleet: str) -> None:
    """End what is under way for ``fleet``: nobody waits for it."""
    post = _post(fleet)
    post.over_at, post.dismissed = -math.inf, True


def _post(fleet: str) -> _Post:
    with _lock:
        if fleet not in _posts:
            raise NotMustered(fleet)
        return _posts[fleet]


def do_batch(
    fleet: str, version: str, work: Work[Any, Any], items: tuple[Any, ...]
) -> tuple[list[tuple[Any, Any]], float]:
    """Do ``work`` with the items, as far as there is time; returns results, and seconds taken.

    Raises `NotMustered`, and `OtherVersion` if a process here does not run ``version``.
    """
    post, started = _post(fleet), time.monotonic()
    checked = Checked(version, work)
    crew = LocalCrew[Any, Any](1, checked, _idle)
    done = []
    running = spread(iter(items), checked, crew, lambda: time.monotonic() >= post.over_at)
    with closing(running):
        for each in running:
            if each is not None:
                done.append((each.item, each.result))
            if post.dismissed:
                break
    return done, time.monotonic() - started


@attrs.frozen
class Checked:
    """Work that is done by the given version only."""

    version: str
    work: Work[Any, Any]

    def __call__(self, item: Any) -> Any:
        if version_here() != self.version:
            raise OtherVersion(version_here())
        return self.work(item)

    def given_up(self, item: Any, why: str) -> Any:
        return self.work.given_up(item, why)
