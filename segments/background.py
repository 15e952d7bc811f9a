"""What a segment does on its own account, one job at a time (2017 §3.3; protocol §6).

Records that no recovery can annul any more leave the log for a layer (*fold*); neighbouring layers
become one (*merge*); what is below the floor becomes the newest version of each page (*collect*);
and what is missing or damaged here comes from a peer as a layer (*take over*). None of it is in the
path of a write: a job writes files that nobody knows, and the manifest makes them live.

**Order on the disk**, in `_publish` alone: the bytes of a new layer, its name, the manifest that
names it and no longer names what it replaces, and then the deletion of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from segments.config import SegmentConfig
from segments.gossip import Gossip
from segments.layers.collect import collect_job
from segments.layers.fold import fold_job
from segments.layers.job import Create, Delete, Extend, Job, Republish, SyncFile, SyncNames, Wait
from segments.layers.layer import Layer, LayerWriter
from segments.layers.merge import merge_job
from segments.layers.tiers import plan_collect, plan_merge
from segments.live_files import LiveFiles
from segments.manifest import LayerFile, Manifest
from segments.protocol import events
from segments.protocol.errors import DamagedLayer, StorageFailed
from segments.protocol.events import Tracer
from segments.protocol.ids import Lsn, PageId, SegmentId
from segments.state import SegmentState
from segments.transfer import Transfer

_T = TypeVar("_T")

_MOST_FOLDED: Final = 4
"""A fold takes up to so many times the bytes that make it due, if the VDL stood still for long."""


class Background:
    """Which job is due, and the jobs."""

    def __init__(
        self,
        segment: SegmentId,
        state: SegmentState,
        files: LiveFiles,
        gossip: Gossip,
        config: SegmentConfig,
        ask: Callable[[Transfer], None],
        trace: Tracer | None = None,
    ) -> None:
        """``ask`` sends a peer the question for the next part of a layer."""
        self._segment = segment
        self._state = state
        self._files = files
        self._gossip = gossip
        self._config = config
        self._ask = ask
        self._trace = trace
        self.not_before = 0.0
        """When to try again: a disk that refuses has to be left alone for a while."""

    def take_job(self, now: float) -> Job[None] | None:
        """The job that is due, if any; none is taken before the last one has ended."""
        if now < self.not_before:
            return None
        if (transfer := self._gossip.transfer) is not None:
            return self._take_over(transfer)
        state, config = self._state, self._config
        if (through := self.foldable()) > state.folded:
            return self._fold(through)
        layers = state.layers
        if layers.damaged:
            return None
        if not self._gossip.gives_layers(now):
            floor = min(state.announced_floor, state.vdl)
            if old := plan_collect(layers, floor, config):
                return self._collect(old)
        if old := plan_merge(layers, config):
            return self._merge(old)
        return None

    def failed(self, now: float) -> None:
        """The disk refused something to the job under way: the next one comes a little later."""
        self.not_before = now + 10.0 * self._config.storage_retry_s
        self._gossip.transferred()

    # ---- the fold --------------------------------------------------------------------------------

    def foldable(self) -> Lsn:
        """Up to where the log is to be folded now; where it is folded already if nothing is due.

        **The fold rule:** a layer holds only records at or below the announced VDL and the SCL. That
        VDL stands on a write quorum, which every later recovery meets: so none annuls what is in a
        layer, and none asks for it in place of what it finds. Between a seal and its table nothing
        is folded: the recovery may fetch what is above the VDL that was told to it.
        """
        state, index = self._state, self._state.index
        if state.lacks_table or state.table.epoch != state.epoch or not len(index):
            return state.folded
        count = index.count_through(min(state.vdl, state.scl))
        record_bytes = max(1, index.encoded_bytes() // len(index))
        if not count or (
            count * record_bytes < self._config.fold_bytes and not self._log_is_long(count)
        ):
            return state.folded
        most = max(1, _MOST_FOLDED * self._config.fold_bytes // record_bytes)
        return index.linked_lsn(min(count, most) - 1)

    def _log_is_long(self, foldable: int) -> bool:
        """Whether the log is too long, and most of what it must hold can be folded.

        What was sent or gossiped twice stands in it twice.
        """
        long = self._files.log_bytes > 2 * max(self._config.fold_bytes, self._config.wal_file_bytes)
        return long and 2 * foldable >= len(self._state.index)

    def _fold(self, through: Lsn) -> Job[None]:
        state, config, number = self._state, self._config, self._files.take_number()
        start = state.folded
        layer = yield from _written(
            number,
            fold_job(
                number, start, through, state.index.pieces(start, through),
                config.block_bytes, config.image_interval, self._page_as_of(start),
            ),
        )  # fmt: skip
        yield from self._publish(layer, ())

    # ---- merges and collection -------------------------------------------------------------------

    def _merge(self, old: Sequence[Layer]) -> Job[None]:
        config, number = self._config, self._files.take_number()
        layer = yield from _written(
            number,
            merge_job(
                number, old,
                config.block_bytes, config.image_interval, self._page_as_of(old[0].start),
            ),
        )  # fmt: skip
        yield from self._publish(layer, old)

    def _collect(self, old: Sequence[Layer]) -> Job[None]:
        number = self._files.take_number()
        layer = yield from _written(number, collect_job(number, old, self._config.block_bytes))
        yield from self._publish(layer, old)
        if self._trace is not None:
            collected = events.LogCollected(
                layer.end, sum(each.count for each in old), self._state.announced_floor
            )
            self._trace(self._segment, collected)

    def _page_as_of(self, lsn: Lsn) -> Callable[[PageId], Job[bytes]]:
        def page_before(page_id: PageId) -> Job[bytes]:
            page = yield from self._state.materializer.read_job(page_id, lsn)
            return page.image

        return page_before

    # ---- a layer of a peer -----------------------------------------------------------------------

    def _take_over(self, transfer: Transfer) -> Job[None]:
        """Write what comes of a layer, part by part, until all of it is here and live."""
        start, end, base = transfer.what
        state, number = self._state, self._files.take_number()
        writer = LayerWriter(number, start, end, base=base, block_bytes=self._config.block_bytes)
        before = state.scl
        try:
            layer = yield from _written(number, self._parts(transfer, writer, f"layer-{number}"))
            if layer is not None:
                yield from self._publish(layer, state.layers.between(start, end))
                self._note_hydrated(before)
        finally:
            self._gossip.transferred()

    def _parts(self, transfer: Transfer, writer: LayerWriter, name: str) -> Job[Layer | None]:
        yield Create(name)
        self._ask(transfer)
        while True:
            while transfer.part is None:
                if transfer.given_up:
                    yield Delete((name,))
                    return None
                yield Wait()
            for chunk in writer.add(transfer.part):
                yield Extend(name, chunk)
            transfer.written()
            if transfer.complete:
                break
            self._ask(transfer)
        tail, layer = writer.finish()
        yield Extend(name, tail)
        yield SyncFile(name)
        return layer

    def _note_hydrated(self, before: Lsn) -> None:
        if self._trace is not None:
            self._trace(self._segment, events.Hydrated(before, self._state.scl))

    # ---- files -----------------------------------------------------------------------------------

    def _publish(self, layer: Layer, old: Sequence[Layer]) -> Job[None]:
        """Make ``layer``, whose bytes are durable, live in place of ``old``."""
        layers = self._state.layers.with_layer(layer)
        logs = self._files.without_folded(layers.folded)
        left = {each.number for each in logs}
        folded = [each for each in self._files.manifest.logs if each.number not in left]
        live = {each.number for each in layers}
        gone = [each.name for each in (*folded, *old) if each.number not in live]
        files = tuple(
            LayerFile(each.number, each.length, each.start, each.end, each.base) for each in layers
        )

        numbers = {each.number for each in folded}  # others may have been added by then

        def edit(manifest: Manifest) -> Manifest:
            logs = tuple(each for each in manifest.logs if each.number not in numbers)
            return manifest._replace(logs=logs, layers=files)

        yield SyncNames()
        yield Republish(edit)
        self._state.use_layers(layers)
        if self._trace is not None:
            published = events.LayerPublished(
                layer.number, layer.start, layer.end, layer.base, layer.count, layer.length
            )
            self._trace(self._segment, published)
        yield Delete(tuple(gone))


def _written(number: int, job: Job[_T]) -> Job[_T]:
    """What ``job`` has written; if the disk refuses, or a layer is damaged, it leaves no file."""
    try:
        return (yield from job)
    except (StorageFailed, DamagedLayer):
        yield Delete((f"layer-{number}",))
        raise
