"""Layers: each is held against the reference when it becomes live (16, 23, 30).

In the end it is seen how much of them a read of each page takes (23).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

from segments.layers.block import Block, read_block
from segments.layers.job import finished, reader_of
from segments.layers.layer import Layer, open_layer
from segments.layers.page_read import Found, Need, Search, plan_read
from segments.manifest import LayerFile
from segments.protocol.events import LayerPublished, LayerReceived
from segments.protocol.ids import Lsn, PageId, SegmentId
from segments.protocol.record import Change
from segments.protocol.run import IMAGE_BIT, OFFSET_MASK, OFFSET_SHIFT
from segments.state import SegmentState
from sim.check import invariants, rules_of_layers
from sim.check.findings import Findings
from sim.check.reference_model import Reference, WriterView
from sim.world.world import World


class LayerChecks:
    """What is in the layers of one run."""

    def __init__(self, world: World, reference: Reference, findings: Findings) -> None:
        self._world = world
        self._reference = reference
        self._findings = findings
        config = world.config.segment
        self._image_interval, self._block_bytes = config.image_interval, config.block_bytes
        self._coming: dict[SegmentId, tuple[Lsn, Lsn, bool]] = {}
        """What has come from a peer and is not live yet: its ends, and whether it is a base."""
        self._taken: set[tuple[SegmentId, int]] = set()
        """Layers of peers: their images stand where those of several layers of a peer stood."""

    def received(self, segment: SegmentId, event: LayerReceived) -> None:
        """All of a layer has come from a peer."""
        self._coming[segment] = event.start_lsn, event.end_lsn, event.base

    def restarted(self, segment: SegmentId, state: SegmentState) -> None:
        """A segment is back; what had come may have become live without a word."""
        coming = self._coming.pop(segment, None)
        for layer in state.layers:
            if (layer.start, layer.end, layer.base) == coming:
                self._taken.add((segment, layer.number))

    def published(self, segment: SegmentId, event: LayerPublished, *, sound: bool) -> None:
        """A layer is live; its disk is ``sound`` if nothing has rotted there."""
        if self._coming.get(segment) == (event.start_lsn, event.end_lsn, event.base):
            del self._coming[segment]  # a fold may have come before it
            self._taken.add((segment, event.number))
        if sound:
            self._hold_published(segment, event)

    def _hold_published(self, segment: SegmentId, event: LayerPublished) -> None:
        core = self._world.cluster.hosts[segment].core
        manifest = self._world.disks[segment].manifest
        if core is None or manifest is None:
            return
        ends = [(each.start, each.end) for each in manifest.layers]
        self._findings.hold(rules_of_layers.tiles_the_log, segment, ends)
        file = next((each for each in manifest.layers if each.number == event.number), None)
        view = invariants.newest_view(self._reference, core.state.table)
        if file is None or view is None:
            return
        vdl = max(each.last_vdl for each in self._reference.writers.values())
        self._findings.hold(
            rules_of_layers.folds_what_is_durable, segment, file.name, file.end, vdl
        )
        self._look_into(segment, file, view)

    def _look_into(self, segment: SegmentId, file: LayerFile, view: WriterView) -> None:
        files = self._world.disks[segment].peek()
        layer, _ = finished(open_layer(file.number, file.length), reader_of(files))
        data = bytes(files[file.name])
        blocks = [read_block(data[at:end], at, file.number) for at, end in pairwise(layer.offsets)]
        for block in blocks:
            self._hold_size(segment, layer.name, block)
        if file.base:
            self._hold_base(segment, layer, view, blocks)
        else:
            self._hold_delta(segment, file, view, blocks)

    def _hold_base(
        self, segment: SegmentId, layer: Layer, view: WriterView, blocks: list[Block]
    ) -> None:
        pg_id = self._world.cluster.hosts[segment].group.pg_id
        expected = self._reference.pages_of(view, pg_id, layer.end)
        found = [page_id for block in blocks for page_id in block.pages]
        self._findings.hold(rules_of_layers.has_the_pages, segment, layer.name, found, expected)
        for block in blocks:
            for row in block.images:
                newest, _ = self._reference.page_at(view, block.pages[row], layer.end)
                self._findings.hold(
                    rules_of_layers.has_the_records,
                    segment, layer.name, [block.lsns[row]], [newest],
                )  # fmt: skip
                self._hold_image(segment, layer.name, view, block, row, layer.end)

    def _hold_size(self, segment: SegmentId, name: str, block: Block) -> None:
        first = 1 if block.metas[0] & IMAGE_BIT else 0
        sizes = [block.stored_bytes(row, row + 1) for row in range(first, len(block))]
        self._findings.hold(rules_of_layers.block_fits, segment, name, sizes, self._block_bytes)

    def _hold_delta(
        self, segment: SegmentId, file: LayerFile, view: WriterView, blocks: list[Block]
    ) -> None:
        pg_id = self._world.cluster.hosts[segment].group.pg_id
        found = []
        for block in blocks:
            for row, lsn in enumerate(block.lsns):
                if lsn <= file.start:
                    continue  # its start was raised: another layer has that
                if block.metas[row] & IMAGE_BIT:
                    self._hold_image(segment, file.name, view, block, row, file.end)
                    continue
                found.append(lsn)
                record = self._reference.records.get(lsn)
                if record is not None:
                    offset = block.metas[row] >> OFFSET_SHIFT & OFFSET_MASK
                    self._findings.hold(
                        rules_of_layers.has_the_change, segment, file.name, block.pages[row],
                        Change(lsn, offset, block.payload(row)), block.clock_us(row), record,
                    )  # fmt: skip
        expected = self._reference.chain(view, pg_id, file.start, file.end)
        self._findings.hold(rules_of_layers.has_the_records, segment, file.name, found, expected)

    def _hold_image(
        self, segment: SegmentId, name: str, view: WriterView, block: Block, row: int, vdl: int
    ) -> None:
        self._findings.hold(
            invariants.image_matches,
            self._reference, view, f"{segment} {name}", vdl,
            block.pages[row], block.lsns[row], block.payload(row),
        )  # fmt: skip

    # ---- in the end ------------------------------------------------------------------------------

    def replay_little(
        self, segment: SegmentId, state: SegmentState, pages: Iterable[PageId], vdl: Lsn
    ) -> None:
        """See what of each layer a read of each page at the VDL applies, if nothing is kept."""
        files = self._world.disks[segment].peek()
        for page_id in pages:
            sizes: dict[int, list[int]] = {}
            for block, start, stop in _found(state, page_id, vdl, files).spans:
                for row in range(start, stop):
                    layer = state.layers.at(block.lsns[row])
                    assert layer is not None, (segment, page_id, block.lsns[row])
                    sizes.setdefault(layer.number, []).append(block.stored_bytes(row, row + 1))
            for number, found in sizes.items():
                if (segment, number) not in self._taken:
                    self._findings.hold(
                        rules_of_layers.replays_little,
                        segment, page_id, f"layer-{number}", found, self._image_interval,
                    )  # fmt: skip


def _found(
    state: SegmentState, page_id: PageId, vdl: Lsn, files: Mapping[str, bytes | bytearray]
) -> Found:
    """What a read of a page that starts from no version that is kept finds in layers."""
    search = Search(page_id, min(vdl, state.folded), 0)
    search.take_open(state.index.page_records(page_id, state.folded, vdl))
    blocks: dict[tuple[int, int], Block] = {}

    def held(layer: int, number: int) -> Block | None:
        return blocks.get((layer, number))

    while isinstance(found := plan_read(state.layers, held, search), Need):
        for layer, number, name, offset, length in found.blocks:
            data = bytes(files[name][offset : offset + length])
            blocks[layer, number] = read_block(data, offset, layer)
    return found
