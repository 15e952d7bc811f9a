"""Readers, and whether what they may still need is kept (invariant 14).

Who reads what is taken from the clients' calls, not from the writer's own books: a writer that
forgets one of its readers forgets it there, too.
"""

from __future__ import annotations

from typing import Final

from aurora.core import WriterCore
from aurora.engine import Engine
from segments.core import SegmentCore
from segments.protocol.ids import Lsn, SegmentId, VolumeEpoch
from sim.check import invariants
from sim.check.findings import Findings
from sim.world.history import Call
from sim.world.world import World

_HOLDING: Final = ("view", "list", "strict_get_at", "many", "sql")
"""Calls whose read point is kept as long as they last. A strict read has its epoch confirmed first,
and must still find the version that it was asked for."""


class ReaderChecks:
    """The readers of one run."""

    def __init__(self, world: World, findings: Findings) -> None:
        self._world = world
        self._findings = findings
        self._views: dict[int, Call] = {}
        """Calls under way that hold a read point; at LSN 0 while they do not."""
        self._inherited: dict[tuple[SegmentId, VolumeEpoch], Lsn] = {}

    def opened(self, writer: str, core: WriterCore) -> None:
        """A writer has opened the volume: what is durable can be read, from the VDL at least."""
        self._findings.hold(invariants.opens_readable, writer, core.vdl, core.reading.floor)

    def inherited(self, segment: SegmentId, core: SegmentCore) -> None:
        """A segment enters an epoch with what it has collected for an earlier writer.

        Or is about to have: what the manifest is about to name cannot be given up any more.
        """
        state, naming = core.state, core.background.naming
        coming = naming.end if naming is not None and naming.base else 0
        self._inherited[segment, state.table.epoch] = max(state.floor, coming)

    def invoked(self, call: Call) -> None:
        """A client has made a call."""
        if call.operation.kind in _HOLDING or call.operation.way == "mtr":
            self._views[call.number] = call

    def returned(self, call: Call, engine: Engine) -> None:
        """A client has been answered."""
        floor = None if engine.core is None else engine.core.reading.floor
        if call.operation.kind not in (
            "put",
            "wrong",
            "scan",
            "changes",
            "sql",
        ):  # these may come too late
            self._findings.hold(invariants.was_not_collected, engine.name, call, floor)
        if self._views.pop(call.number, None) is not None:
            self._floor_is_below_view(call, engine)

    def look(self) -> None:
        """Hold the floors of the volume's writer and of its segments against its readers."""
        engine = self._world.current_writer
        if engine is None or engine.core is None:
            return
        core = engine.core
        views = [each for each in self._views.values() if each.writer == engine.name and each.held]
        for call in views:
            self._floor_is_below_view(call, engine)
        readers = [each.held for each in views]
        if core.reading.oldest_read_point is not None:
            readers.append(core.reading.oldest_read_point)
        if readers:
            self._nothing_is_collected_above(min(readers), engine, core.epoch)

    def _floor_is_below_view(self, call: Call, engine: Engine) -> None:
        if engine.core is not None:
            floor = engine.core.reading.floor
            self._findings.hold(invariants.floor_is_below_view, engine.name, call, floor)

    def _nothing_is_collected_above(self, oldest: Lsn, engine: Engine, epoch: VolumeEpoch) -> None:
        for segment, host in self._world.cluster.hosts.items():
            if host.core is None or host.core.state.table.epoch != epoch:
                continue
            self._findings.hold(
                invariants.collects_below, segment, host.core.state.floor, engine.name, oldest,
                self._inherited.get((segment, epoch), 0),
            )  # fmt: skip
