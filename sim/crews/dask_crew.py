"""A crew of Dask workers, on any machines that a scheduler knows.

Dask carries the calls; who gets what is decided here. Each batch goes to one worker, by name, and
only while that one has a thread that is free: so it is known what a worker has when it vanishes,
nothing waits in a queue, and nothing runs again on its own account. All of Dask is asked by
clerks, threads that may wait for a machine that does not answer while the others go on; what they
hear comes through one queue, so that nothing here is shared.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic

import attrs
from distributed import CancelledError, Client, KilledWorker, Security
from distributed import Future as DaskFuture

from segments.protocol.errors import Unavailable
from sim.crews import dask_post
from sim.crews.crew import CrewGone, Ended, Result, Work
from sim.crews.ledger import Item
from sim.crews.version import version_here
from sim.wording import counted

_CLERKS: Final = 8
_CONNECTS_WITHIN_S: Final = 10
_FETCHED_WITHIN_S: Final = 60.0
_GRACE_S: Final = 120.0
"""How long a batch may take to end once nothing begins any more; then its worker counts as gone."""

_LEAST_BATCH_S: Final = 2.0
_MOST_BATCH_S: Final = 30.0
_WORTH: Final = 25
"""A batch takes so many times as long as handing it out and its results back."""
_MOST_ITEMS: Final = 1_000

_LOSSES: Final = (OSError, TimeoutError, KilledWorker, CancelledError, dask_post.NotMustered)
"""What is raised for a batch whose worker has vanished, maybe to come back as another process."""


class NoScheduler(Unavailable):
    """The scheduler cannot be reached, or does not let us in."""


def connect(address: str, tls: dict[str, str]) -> Client:
    """A client of the scheduler at ``address``.

    ``tls`` has fields of `distributed.Security`; what it leaves out comes from Dask's own
    configuration. Raises `NoScheduler`.
    """
    encrypted = address.startswith("tls://")
    try:
        security = Security(require_encryption=encrypted, **tls)
        if encrypted and security.get_connection_args("client")["ssl_context"] is None:
            raise NoScheduler(
                f"{address}: we have no certificate: expected --tls-ca-file, --tls-cert and "
                "--tls-key, or the same in Dask's own configuration"
            )
        return Client(address, security=security, timeout=_CONNECTS_WITHIN_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise NoScheduler(
            f"{address}: {error}: expected a Dask scheduler there, and certificates that it knows"
        ) from error


@attrs.define
class _Member:
    """A worker that has been mustered."""

    threads: int
    item_s: float | None = None
    """What an item takes there, as measured so far."""


@attrs.frozen
class _Out(Generic[Item]):
    """A batch that is under way."""

    items: tuple[Item, ...]
    address: str
    future: DaskFuture
    begun_at: float


class DaskCrew(Generic[Item, Result]):
    """The workers that ``client``'s scheduler knows, those that come later included."""

    patience = 3

    def __init__(
        self,
        client: Client,
        work: Work[Item, Result],
        *,
        item_s: float,
        left_s: Callable[[], float | None],
        say: Callable[[str], None],
        look_every_s: float = 1.0,
    ) -> None:
        """``item_s`` is about what an item takes, as long as nothing is measured.

        ``left_s`` tells how many seconds remain in which something may begin, None without end;
        ``say`` is told of each worker that is refused. Every ``look_every_s`` the scheduler is
        asked who is there.
        """
        self._client = client
        self._work = work
        self._item_s = item_s
        self._left_s = left_s
        self._say = say
        self._fleet = f"aurora-sim-{client.id}"
        self._clerks = ThreadPoolExecutor(_CLERKS, thread_name_prefix="clerk")
        self._news: SimpleQueue[Callable[[], list[Ended[Item, Result]]]] = SimpleQueue()
        self._members: dict[str, _Member] = {}
        self._mustering: dict[str, int] = {}
        self._refused: dict[str, str] = {}
        self._out: dict[str, _Out[Item]] = {}
        self._begun = 0
        self._overhead_s = 0.0
        self._looking = False
        self._look_at = 0.0
        self._look_every_s = look_every_s
        self._halted_at: float | None = None

    # ---- what a crew does ------------------------------------------------------------------------

    def room(self) -> int:
        return sum(max(0, each) for each in self._free_threads().values())

    def size(self, left: int | None) -> int:
        member = self._members[self._next()]
        known = [each.item_s for each in self._members.values() if each.item_s is not None]
        item_s = member.item_s or (sum(known) / len(known) if known else self._item_s)
        batch_s = min(max(_LEAST_BATCH_S, _WORTH * self._overhead_s), _MOST_BATCH_S)
        size = min(max(1, round(batch_s / item_s)), _MOST_ITEMS)
        if left is None:
            return size
        # Towards the end less, so that all end together.
        return min(size, max(1, math.ceil(left / (2 * self._threads()))))

    def begin(self, items: tuple[Item, ...]) -> None:
        address = self._next()
        self._begun += 1
        key = f"{self._fleet}-{self._begun}"
        try:
            future = self._client.submit(
                dask_post.do_batch, self._fleet, version_here(), self._work, items,
                key=key, pure=False, workers=[address], allow_other_workers=False,
            )  # fmt: skip
        except Exception as error:
            raise CrewGone(f"the scheduler is gone: {error}") from error
        self._out[key] = _Out(items, address, future, time.monotonic())
        future.add_done_callback(partial(self._ask_for, key))

    def ended(self, timeout_s: float) -> list[Ended[Item, Result]]:
        self._look_around()
        found = self._overdue()
        try:
            news = self._news.get(timeout=0 if found else timeout_s)
            while True:
                found += news()
                news = self._news.get_nowait()
        except Empty:
            return found

    def halt(self) -> None:
        self._halted_at = time.monotonic()
        if self._members:
            self._clerks.submit(self._tell, dask_post.halt, list(self._members))

    def close(self) -> None:
        if self._out:
            told = self._clerks.submit(self._tell, dask_post.dismiss, list(self._members))
            self._forget(*self._out.values())
            self._out.clear()
            with suppress(TimeoutError):
                told.exception(timeout=_CONNECTS_WITHIN_S)
        self._clerks.shutdown(cancel_futures=True)
        self._client.close()

    def lost(self, times: int) -> str:
        return f"was under way on {counted(times, 'worker')} when they vanished"

    def strength(self) -> str:
        workers, threads = len(self._members), self._threads()
        text = counted(workers, "worker")
        if threads > workers:
            text += f" ({threads:,} processes)"
        return f"{text}, {len(self._refused):,} refused" if self._refused else text

    # ---- who is there ----------------------------------------------------------------------------

    def _threads(self) -> int:
        return sum(each.threads for each in self._members.values())

    def _next(self) -> str:
        """The worker with the most threads that are free."""
        free = self._free_threads()
        return max(free, key=free.__getitem__)

    def _free_threads(self) -> dict[str, int]:
        busy = Counter(each.address for each in self._out.values())
        return {address: each.threads - busy[address] for address, each in self._members.items()}

    def _look_around(self) -> None:
        """Ask the scheduler now and then who is there."""
        if not self._looking and time.monotonic() >= self._look_at:
            self._looking = True
            self._ask(self._client.nthreads, self._on_workers)

    def _on_workers(self, found: Any) -> list[Ended[Item, Result]]:
        self._looking, self._look_at = False, time.monotonic() + self._look_every_s
        if isinstance(found, BaseException):
            raise CrewGone(f"the scheduler is gone: {found}")
        for address, threads in found.items():
            known = (self._members, self._mustering, self._refused)
            if not any(address in each for each in known) and self._halted_at is None:
                self._muster(address, threads)
        for address in [each for each in self._refused if each not in found]:
            del self._refused[address]
        for address in [each for each in self._members if each not in found]:
            del self._members[address]
        return [
            self._lose(key) for key, each in list(self._out.items()) if each.address not in found
        ]

    def _muster(self, address: str, threads: int) -> None:
        self._mustering[address] = threads
        self._ask(partial(self._call_up, address), partial(self._on_mustered, address))

    def _call_up(self, address: str) -> str:
        """The version of a worker; it may begin something if that is ours."""
        version = self._run(version_here, address)
        if version == version_here():
            self._run(dask_post.muster, address, self._fleet, self._left_s())
        return str(version)

    def _run(self, function: Callable[..., Any], address: str, *arguments: Any) -> Any:
        found = self._client.run(function, *arguments, workers=[address])
        if address not in found:
            raise OSError(f"{address} is not there any more")
        return found[address]

    def _on_mustered(self, address: str, found: Any) -> list[Ended[Item, Result]]:
        threads = self._mustering.pop(address)
        if found == version_here():
            self._members[address] = _Member(threads)
        elif isinstance(found, OSError):
            pass  # gone again, or asked once more at the next look
        elif isinstance(found, BaseException):
            self._refuse(address, f"it cannot tell its version, {found}; expected {version_here()}")
        else:
            self._refuse(address, f"it has {found}; expected {version_here()}")
        self._check_somebody_is_left()
        return []

    def _refuse(self, address: str, why: str) -> None:
        self._members.pop(address, None)
        self._refused[address] = why
        self._say(f"refused worker {address}: {why}")

    def _check_somebody_is_left(self) -> None:
        if self._refused and not self._members and not self._mustering:
            raise CrewGone(f"all workers are refused, {counted(len(self._refused), 'worker')}")

    # ---- what becomes of batches -----------------------------------------------------------------

    def _ask_for(self, key: str, future: DaskFuture) -> None:
        """Have what a batch has come to fetched; called by Dask, in a thread of its own."""
        fetch = partial(future.result, timeout=_FETCHED_WITHIN_S)
        self._ask(fetch, partial(self._on_fetched, key))

    def _on_fetched(self, key: str, found: Any) -> list[Ended[Item, Result]]:
        out = self._out.get(key)
        if out is None:
            return []  # its worker was thought gone; somebody else has the items
        if isinstance(found, _LOSSES):
            if isinstance(found, dask_post.NotMustered) and out.address in self._members:
                self._muster(out.address, self._members.pop(out.address).threads)
            return [self._lose(key)]
        del self._out[key]
        if isinstance(found, BaseException):
            kind = type(found).__name__
            self._refuse(out.address, f"{kind}: {found}; expected {version_here()}")
            self._check_somebody_is_left()
            return [Ended(out.items, by=out.address)]
        results, took_s = found
        self._measure(out, len(results), took_s)
        return [Ended(out.items, tuple(results), by=out.address)]

    def _measure(self, out: _Out[Item], done: int, took_s: float) -> None:
        """Mind how long a batch took there, and how long it was on its way."""
        member = self._members.get(out.address)
        if not done or member is None:
            return
        item_s = max(took_s / done, 1e-3)
        member.item_s = item_s if member.item_s is None else (member.item_s + item_s) / 2
        overhead_s = max(0.0, time.monotonic() - out.begun_at - took_s)
        self._overhead_s = (self._overhead_s + overhead_s) / 2

    def _lose(self, key: str) -> Ended[Item, Result]:
        """Wait for a batch no more."""
        out = self._out.pop(key)
        self._forget(out)
        return Ended(out.items, lost=True, by=out.address)

    def _forget(self, *outs: _Out[Item]) -> None:
        """Have the scheduler forget batches; if it is gone, it has."""
        with suppress(Exception):
            self._client.cancel([each.future for each in outs])

    def _overdue(self) -> list[Ended[Item, Result]]:
        """Of those that should have ended long since: their machine may be off."""
        if self._halted_at is None or time.monotonic() < self._halted_at + _GRACE_S:
            return []
        return [self._lose(key) for key in list(self._out)]

    # ---- clerks ----------------------------------------------------------------------------------

    def _ask(
        self, ask: Callable[[], Any], then: Callable[[Any], list[Ended[Item, Result]]]
    ) -> None:
        """Have a clerk ask; ``then`` gets the answer, or the error, when `ended` is called next."""

        def asking() -> None:
            try:
                found = ask()
            except BaseException as error:  # noqa: BLE001 - ``then`` decides what it means
                found = error
            self._news.put(partial(then, found))

        with suppress(RuntimeError):  # closed: nobody wants to know any more
            self._clerks.submit(asking)

    def _tell(self, function: Callable[[str], None], addresses: list[str]) -> None:
        self._client.run(function, self._fleet, workers=addresses, on_error="ignore")
