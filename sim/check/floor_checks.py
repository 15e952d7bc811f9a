"""The floor of the writer, during a run: neither ahead of what is retained, nor left behind (25).

Who reads is taken from the clients' calls. A call reads at the VDL that its writer had when it
began, or later, or at an LSN that it names, which is no lower than the floor was at that moment.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from aurora.core import WriterCore
from aurora.engine import Engine
from segments.protocol.ids import MAX_LSN, Lsn
from sim.check import rules_of_floors
from sim.check.findings import Findings
from sim.check.reference_model import Reference
from sim.plan.schedule import SECOND
from sim.world.history import Call
from sim.world.world import World

_AT_THE_VDL: Final = ("put", "get", "strict_get")
_HEARTBEATS: Final = 2
_TICKS: Final = 4
"""So long a floor may stay where it is once nothing keeps it there."""
_MARKED: Final = 1.02
"""Versions may be kept for so many times as long as they must be."""


class FloorChecks:
    """The floor of the latest writer of one run; looked at now and then."""

    def __init__(self, world: World, reference: Reference, findings: Findings) -> None:
        config = world.config.engine
        self._world = world
        self._reference = reference
        self._hold = findings.hold
        self._retention = config.retention_lsns
        patience_s = _HEARTBEATS * config.heartbeat_interval_s + _TICKS * config.tick_interval_s
        self._young_ns = int((config.retention_s or 0.0) * SECOND)
        self._patience_ns = int(patience_s * SECOND + self._young_ns * _MARKED)
        self._opened: dict[str, tuple[int, Lsn]] = {}
        """When each writer opened, and where its floor was until then."""
        self._reading: dict[int, tuple[str, Lsn]] = {}
        """Of each call under way its writer, and an LSN below which it does not read."""
        self._read: deque[tuple[int, str, Lsn]] = deque()
        """Of those that have ended lately; first, when."""
        self._seen: deque[tuple[int, str, Lsn]] = deque()
        """When which writer had which VDL; those that were so lately, and one more."""

    def starts_at(self, writer: str, floor: Lsn) -> None:
        """A writer has planned to begin with this floor."""
        self._opened[writer] = self._world.scheduler.now_ns, floor

    def opened(self, writer: str) -> None:
        """It has opened the volume."""
        self._opened[writer] = self._world.scheduler.now_ns, self._opened[writer][1]

    def invoked(self, call: Call) -> None:
        """A client has made a call."""
        core = self._core(call.writer)
        if core is not None:
            fresh = call.operation.kind in _AT_THE_VDL
            lowest = core.vdl if fresh else core.reading.floor
            self._reading[call.number] = call.writer, lowest

    def returned(self, call: Call) -> None:
        """A client has been answered."""
        known = self._reading.pop(call.number, None)
        if known is not None:
            self._read.append((self._world.scheduler.now_ns, *known))

    def look(self, engine: Engine, core: WriterCore, *, readers_known: bool) -> None:
        """Look at the floor of the writer that serves the volume.

        Whether it is left behind shows only if all readers are known by their calls.
        """
        now_ns, name = self._world.scheduler.now_ns, engine.name
        view = self._reference.writers[name]
        floor, vdl = core.reading.floor, core.vdl
        self._hold(
            rules_of_floors.keeps_what_is_retained,
            self._reference, view, floor, vdl, self._retention,
        )  # fmt: skip
        since_ns = now_ns - self._patience_ns
        seen = self._seen
        seen.append((now_ns, name, vdl))
        while len(seen) > 1 and seen[1][0] <= since_ns:
            seen.popleft()
        if self._young_ns:
            self._hold(
                rules_of_floors.keeps_what_is_young,
                name, floor, self._current_lately(name, now_ns), self._young_ns / SECOND,
            )  # fmt: skip
        while self._read and self._read[0][0] < since_ns:
            self._read.popleft()
        then_ns, of, old_vdl = seen[0]
        settled = of == name and then_ns <= since_ns
        if self._retention is None or not settled or not readers_known:
            return
        self._hold(
            rules_of_floors.floor_is_raised,
            self._reference, view, floor, old_vdl, self._retention, self._readers(name),
        )  # fmt: skip

    def _current_lately(self, writer: str, now_ns: int) -> Lsn:
        """The VDL of that time ago, or a bit later; the first floor if it had not opened then."""
        opened_ns, floor = self._opened[writer]
        then_ns = now_ns - self._young_ns
        if opened_ns > then_ns:
            return floor
        return next(vdl for at_ns, name, vdl in self._seen if name == writer and at_ns >= then_ns)

    def _readers(self, writer: str) -> Lsn:
        """An LSN below which no call of these times reads, as far as is known."""
        lately = [(name, lowest) for _, name, lowest in self._read]
        found = [*self._reading.values(), *lately]
        return min((lowest for name, lowest in found if name == writer), default=MAX_LSN)

    def _core(self, writer: str) -> WriterCore | None:
        for engine in reversed(self._world.cluster.engines):
            if engine.name == writer:
                return engine.core if engine.error is None else None
        return None
