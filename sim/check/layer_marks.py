"""Coverage marks of the hot log and its layers: that work in the background met what it may meet.

They follow from the trace events, and from what cores and disks held then. `sim.check.marks` counts
them with all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from segments.core import SegmentCore
from segments.manifest import leftovers
from segments.protocol.events import (
    BatchReceived,
    Event,
    Hydrated,
    LayerDamaged,
    LayerPublished,
    LayerReceived,
    LogCollected,
    LogRewritten,
    PageMaterialized,
    Restored,
    SpaceLookedAt,
    WriteFailed,
    WriteStarted,
    WriteSynced,
)
from segments.protocol.ids import Lsn, SegmentId
from sim.check.mark import Mark
from sim.world.listener import Listener
from sim.world.world import World

LAYER_MARKS: Final = (
    Mark("log folded", "records left a log for a layer"),
    Mark("fold below records that stay", "a fold left records behind that may yet be annulled"),
    Mark("fold below a gap", "a fold went on while its segment held records above a gap"),
    Mark("log folded amid a transfer", "records were folded while a layer was on its way"),
    Mark("fold over an annulled range", "a layer was folded that spans what a table annuls"),
    Mark("log files let go", "files of a log were dropped, as all in them was in layers"),
    Mark("layers merged", "several layers became one"),
    Mark("base collected", "what lay below the floor was reduced to the newest pages"),
    Mark("layer taken from a peer", "a segment so far behind that it got a layer, not records"),
    Mark("base taken from a peer", "a segment so far behind that it got pages, not records"),
    Mark("layer read from disk", "a read had to wait for blocks of layers"),
    Mark("layers changed amid a read", "a layer became live while a read waited for its blocks"),
    Mark("log written anew", "a log was written anew, of what is in no layer"),
    Mark("log written anew over a gap", "a log was written anew with records above a gap in it"),
    Mark("log written anew under load", "batches arrived while a log was written anew"),
    Mark("layer rot found by a read", "a read met damage in a layer, and was refused"),
    Mark("layer rot found by a job", "a fold, a merge or a collection met damage in a layer"),
    Mark("layer rot found by a peer", "a segment met damage in a layer that a peer asked for"),
    Mark("layer rot found by the scrub", "the scrub met damage in a layer"),
    Mark("layer rot found by a restart", "a segment came back with a layer that cannot be opened"),
    Mark("damaged layer healed", "what a damaged layer held came from a peer"),
    Mark("damaged layer healed by a base", "and the peer had collected it"),
    Mark("two damaged layers", "a segment knew of damage in two of its layers"),
    Mark("crash amid a job", "a segment stopped while it worked in the background"),
    Mark("space short", "a segment needed all the space that it may take"),
    Mark("space freed", "a segment that was short of space had some again"),
    Mark("leftover layer deleted", "a restart deleted a layer that no manifest names"),
)


class LayerCoverage(Listener):
    """Counts the marks of layers in one run."""

    def __init__(self, world: World, count: Callable[[str], None]) -> None:
        self._world = world
        self._count = count
        self._coming: dict[SegmentId, tuple[Lsn, Lsn, bool]] = {}
        """Who has all of a layer from a peer that is not live yet: its start, its end, and whether
        it is a base."""
        self._rewriting: dict[SegmentId, bool] = {}
        """Whose log is being written anew, and whether a batch has come since."""
        self._writing: set[SegmentId] = set()
        """Who writes to its log, and maybe begins a file of it."""
        self._left: dict[SegmentId, set[str]] = {}
        """The layers that a crash has left."""
        self._damaged: dict[SegmentId, set[int]] = {}
        """The layers that are known to be damaged."""
        self._logs: dict[SegmentId, int] = {}
        """The number of the first file of each log."""

    def handler_of(self, kind: type[Event]) -> Callable[[str, Any], None] | None:
        """What is to be called with each step of a kind; None if it counts for nothing here."""
        handler = _ON_EVENT.get(kind)
        return None if handler is None else partial(handler, self)

    def _core(self, segment: SegmentId) -> SegmentCore:
        core = self._world.cluster.hosts[segment].core
        assert core is not None, segment
        return core

    # ---- layers ----------------------------------------------------------------------------------

    def _on_received(self, source: str, event: LayerReceived) -> None:
        self._coming[source] = (event.start_lsn, event.end_lsn, event.base)
        if event.base:
            self._count("base taken from a peer")

    def _on_published(self, source: str, event: LayerPublished) -> None:
        core = self._core(source)
        self._look_at_log(source, core)
        if core.querying:
            self._count("layers changed amid a read")
        if self._coming.get(source) == (event.start_lsn, event.end_lsn, event.base):
            del self._coming[source]
            self._look_at_healed(source, core, event)
        elif not event.base and event.replaced:
            self._count("layers merged")
        elif not event.base:
            self._folded(core, event)

    def _folded(self, core: SegmentCore, event: LayerPublished) -> None:
        self._count("log folded")
        state = core.state
        if state.scl > max(state.vdl, event.end_lsn):
            self._count("fold below records that stay")
        if state.index.unlinked:
            self._count("fold below a gap")
        if core.gossip.transfer is not None:
            self._count("log folded amid a transfer")
        start, end = event.start_lsn, event.end_lsn
        if any(start < each.start_lsn and each.end_lsn <= end for each in state.table.ranges):
            self._count("fold over an annulled range")

    def _look_at_healed(self, source: str, core: SegmentCore, event: LayerPublished) -> None:
        damaged = self._damaged.get(source, set())
        if damaged - core.state.layers.damaged:
            self._damaged[source] = damaged & core.state.layers.damaged
            self._count("damaged layer healed")
            if event.base and event.replaced:
                self._count("damaged layer healed by a base")

    def _on_damaged(self, source: str, event: LayerDamaged) -> None:
        damaged = self._damaged.setdefault(source, set())
        damaged.add(event.number)
        if len(damaged) > 1:
            self._count("two damaged layers")
        self._count(f"layer rot found by {event.by}")

    def _look_at_log(self, source: SegmentId, core: SegmentCore) -> None:
        first = core.files.manifest.logs[0].number
        if self._logs.get(source, first) != first:
            self._count("log files let go")
        self._logs[source] = first

    def _on_collected(self, _: str, __: LogCollected) -> None:
        self._count("base collected")

    def _on_space(self, _: str, event: SpaceLookedAt) -> None:
        self._count("space short" if event.short else "space freed")

    def _on_hydrated(self, _: str, __: Hydrated) -> None:
        self._count("layer taken from a peer")

    def _on_page(self, source: str, event: PageMaterialized) -> None:
        core = self._core(source)
        oldest = min([each.lsn for each in event.changes[:1]], default=event.image_lsn)
        if core.querying and 0 < (event.image_lsn or oldest) <= core.state.folded:
            self._count("layer read from disk")

    # ---- the log ---------------------------------------------------------------------------------

    def _on_write_started(self, source: str, event: WriteStarted) -> None:
        self._writing.add(source)
        self._logs.setdefault(source, self._core(source).files.manifest.logs[0].number)
        if event.new_file:
            self._rewriting[source] = False

    def _on_write_ended(self, source: str, _: WriteSynced | WriteFailed) -> None:
        self._writing.discard(source)

    def _on_batch(self, source: str, event: BatchReceived) -> None:
        if source in self._rewriting and event.lsns:
            self._rewriting[source] = True

    def _on_rewritten(self, source: str, _: LogRewritten) -> None:
        core = self._core(source)
        self._logs[source] = core.files.manifest.logs[0].number
        self._count("log written anew")
        if core.state.index.unlinked:
            self._count("log written anew over a gap")
        if self._rewriting.pop(source, False):
            self._count("log written anew under load")

    # ---- crashes ---------------------------------------------------------------------------------

    def on_crashed(self, segment: SegmentId) -> None:
        disk = self._world.disks[segment]
        manifest = disk.manifest
        left = leftovers(disk.file_names(), manifest) if manifest is not None else []
        self._left[segment] = {each for each in left if each.startswith("layer-")}
        begun = disk.interrupted_files and segment not in self._writing
        if begun or self._left[segment]:
            self._count("crash amid a job")

    def _on_restored(self, source: str, _: Restored) -> None:
        self._coming.pop(source, None)
        self._damaged.pop(source, None)
        self._rewriting.pop(source, None)
        self._writing.discard(source)
        self._logs.pop(source, None)
        if self._left.pop(source, set()) - set(self._world.disks[source].file_names()):
            self._count("leftover layer deleted")


_ON_EVENT: Final[Mapping[type[Event], Callable[[LayerCoverage, str, Any], None]]] = {
    LayerReceived: LayerCoverage._on_received,
    LayerDamaged: LayerCoverage._on_damaged,
    LayerPublished: LayerCoverage._on_published,
    LogCollected: LayerCoverage._on_collected,
    Hydrated: LayerCoverage._on_hydrated,
    SpaceLookedAt: LayerCoverage._on_space,
    PageMaterialized: LayerCoverage._on_page,
    WriteStarted: LayerCoverage._on_write_started,
    WriteSynced: LayerCoverage._on_write_ended,
    WriteFailed: LayerCoverage._on_write_ended,
    BatchReceived: LayerCoverage._on_batch,
    LogRewritten: LayerCoverage._on_rewritten,
    Restored: LayerCoverage._on_restored,
}
