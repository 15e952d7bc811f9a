"""Layers: each is held against the reference when it becomes live (16, 30)."""

from __future__ import annotations

from itertools import pairwise

from segments.layers.block import Block, read_block
from segments.layers.job import finished, reader_of
from segments.layers.layer import Layer, open_layer
from segments.manifest import MANIFEST, LayerFile, decode_manifest
from segments.protocol.events import LayerPublished
from segments.protocol.ids import SegmentId
from segments.protocol.record import Change
from segments.protocol.run import IMAGE_BIT, OFFSET_MASK, OFFSET_SHIFT
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

    def published(self, segment: SegmentId, event: LayerPublished) -> None:
        """A layer is live, on a disk on which nothing is rotten."""
        disk, core = self._world.disks[segment], self._world.cluster.hosts[segment].core
        manifest = decode_manifest(disk.content(MANIFEST))
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
        if file.base:
            self._hold_base(segment, layer, view, blocks)
        else:
            self._hold_delta(segment, file, view, blocks)

    def _hold_base(
        self, segment: SegmentId, layer: Layer, view: WriterView, blocks: list[Block]
    ) -> None:
        pg_id, cluster = self._world.cluster.hosts[segment].group.pg_id, self._world.cluster
        expected = [
            page_id
            for page_id in sorted(self._reference.pages())
            if cluster.geometry.pg_of(page_id) == pg_id
            and self._reference.exists(view, page_id, layer.end)
        ]
        found = [page_id for block in blocks for page_id in block.pages]
        self._findings.hold(
            rules_of_layers.has_the_pages, segment, layer.name, found, expected
        )
        for block in blocks:
            for row in block.images:
                newest, _ = self._reference.page_at(view, block.pages[row], layer.end)
                self._findings.hold(
                    rules_of_layers.has_the_records,
                    segment, layer.name, [block.lsns[row]], [newest],
                )  # fmt: skip
                self._hold_image(segment, layer.name, view, block, row, layer.end)

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
                        Change(lsn, offset, block.payload(row)), record,
                    )  # fmt: skip
        expected = self._reference.chain(view, pg_id, file.start, file.end)
        self._findings.hold(
            rules_of_layers.has_the_records, segment, file.name, found, expected
        )

    def _hold_image(
        self, segment: SegmentId, name: str, view: WriterView, block: Block, row: int, vdl: int
    ) -> None:
        self._findings.hold(
            invariants.image_matches,
            self._reference, view, f"{segment} {name}", vdl,
            block.pages[row], block.lsns[row], block.payload(row),
        )  # fmt: skip
