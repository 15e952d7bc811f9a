"""The end of a run: all that is pending has finished, and everything agrees (invariants 18, 19)."""

from __future__ import annotations

from collections.abc import Mapping

from segments.protocol.ids import Lsn
from sim.check import invariants
from sim.check.findings import Findings
from sim.check.lost_quorums import without_writes
from sim.check.reference_model import Reference, WriterView
from sim.wording import counted
from sim.world.history import Outcome
from sim.world.world import World


class Ending:
    """Whether one run has come to its end, and to a good one."""

    def __init__(self, world: World, reference: Reference, findings: Findings) -> None:
        self._world = world
        self._reference = reference
        self._findings = findings

    def converged(self) -> bool:
        """Whether every running segment of each group has all that its writer has made durable."""
        engine = self._world.current_writer
        if engine is None or engine.core is None or self._world.opening:
            return False
        core = engine.core
        hosts = [host for host in self._world.cluster.hosts.values() if host.lost is None]
        for host in hosts:
            segment = host.core
            if not host.up or segment is None:
                return False
            try:
                tail = core.tail_lsn(host.group.pg_id)
                invariants.has_everything(host.segment, segment.state, core.epoch, tail)
            except invariants.Broken:
                return False
        return True

    def not_finished(self) -> None:
        """The bound has passed, and something is still pending."""
        self._findings.fail("heals-and-converges", self.standing(), liveness=True)

    def standing(self) -> str:
        """What is pending, what is missing of a writer, and how far each segment is."""
        engine = self._world.cluster.engine
        opened = engine.core is not None and engine.core.opened
        writer = "" if opened else f"; {engine.name} has not opened the volume"
        if engine.error is not None:
            writer = f"; {engine.error}"
        pending = [call for call in self._world.calls if call.returned_ns is None]
        scls = ", ".join(
            f"{segment} {host.core.state.scl if host.core is not None and host.up else 'down'}"
            for segment, host in self._world.cluster.hosts.items()
        )
        listed = f" ({'; '.join(str(each.operation) for each in pending[:3])})" if pending else ""
        why = without_writes(self._world.groups, self._world.cluster.lost_segments())
        gone = f"; {why}" if why else ""
        return f"{counted(len(pending), 'call')} pending{listed}{writer}; SCLs: {scls}{gone}"

    def agrees(self, opened_ns: Mapping[str, int]) -> None:
        """Everything has finished: now everything must agree.

        ``opened_ns`` tells when each writer opened.
        """
        engine = self._world.current_writer
        assert engine is not None and engine.core is not None
        core = engine.core
        view = self._reference.writers[engine.name]
        self._history(view, opened_ns)
        for host in self._world.cluster.hosts.values():
            if host.lost is None and host.core is not None:
                for page_id in self._reference.pages():
                    if self._world.cluster.geometry.pg_of(page_id) == host.group.pg_id:
                        page = host.core.state.materializer.materialize(page_id, core.vdl)
                        self._findings.hold(
                            invariants.page_agrees,
                            self._reference, view, page_id, core.vdl, page.image or None,
                        )  # fmt: skip

    def _history(self, last: WriterView, opened_ns: Mapping[str, int]) -> None:
        """19: all that clients were told fits one order of their calls."""
        writers = self._reference.writers.values()
        deposed_ns = {
            view.name: min(
                opened_ns[other.name]
                for other in writers
                if other.opened and other.epoch > view.epoch
            )
            for view in writers
            if view.epoch < max(other.epoch for other in writers if other.opened)
        }
        if self._world.calls:
            self._findings.hold(
                invariants.fits_one_order, self._world.calls, self._survivors(last), deposed_ns
            )

    def _survivors(self, last: WriterView) -> dict[int, list[Lsn]]:
        """The LSNs of those writes of unknown outcome that the last writer's log contains."""
        found: dict[int, list[Lsn]] = {}
        for call in self._world.calls:
            if call.operation.kind != "put" or call.outcome is Outcome.OK or not call.writes:
                continue
            live = [lsn for lsn in call.lsns if self._reference.is_live(last, lsn)]
            count = len(call.writes)
            self._findings.hold(invariants.survives_whole, call.number, call.lsns, live, count)
            if live:
                found[call.number] = live
        return found
