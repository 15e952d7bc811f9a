"""Layers of one segment, folded, merged and collected as a test says, beside all its records."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from segments.layers.block import Block, image_row, join
from segments.layers.collect import collect_job
from segments.layers.fold import fold_job, sorted_blocks
from segments.layers.images import PageBefore, Spacing
from segments.layers.job import Job, Read
from segments.layers.layer import Layer
from segments.layers.layer_map import LayerMap
from segments.layers.layer_writer import LayerWriter
from segments.layers.merge import merge_job
from segments.layers.stream import Part, part_job
from segments.protocol.ids import Lsn, PageId
from segments.protocol.record import RedoRecord
from segments.protocol.run import IMAGE_BIT, Rows, encode_rows
from tests.layer_rig import Files, by_page, replayed, write_layer

TINY = Spacing(3, 200)
NO_IMAGES = Spacing(1_000_000, 1)


class History:
    """One segment's records and layers, folded, merged and collected as a test says."""

    def __init__(
        self, records: list[RedoRecord], spacing: Spacing = TINY, block: int = 300
    ) -> None:
        self.records = records
        self.layers: list[Layer] = []
        self.files = Files()
        self.asked: list[PageId] = []
        self._spacing, self._block, self._number = spacing, block, 0
        self._raised = False
        """Whether the start of a layer was raised: then its first image may have few before it."""

    @property
    def folded(self) -> Lsn:
        return self.layers[-1].end if self.layers else 0

    def within(self, start: Lsn, end: Lsn) -> list[RedoRecord]:
        return [record for record in self.records if start < record.lsn <= end]

    def fold(self, end: Lsn, pieces: int = 3) -> Layer:
        start, records = self.folded, self.within(self.folded, end)
        step = max(1, len(records) // pieces)
        rows = [encode_rows(records[at : at + step]) for at in range(0, len(records), step)]
        job = fold_job(
            self._next(), start, end, rows,
            block_bytes=self._block, spacing=self._spacing, page_before=self.before(start),
        )  # fmt: skip
        self.layers.append(self.files.run(job))
        return self.layers[-1]

    def merge(self, first: int, stop: int) -> Layer:
        old = self.layers[first:stop]
        job = merge_job(
            self._next(), old,
            block_bytes=self._block, spacing=self._spacing, page_before=self.before(old[0].start),
        )  # fmt: skip
        self.layers[first:stop] = [self.files.run(job)]
        return self.layers[first]

    def collect(self, stop: int) -> Layer:
        job = collect_job(self._next(), self.layers[:stop], block_bytes=self._block)
        self.layers[:stop] = [self.files.run(job)]
        return self.layers[0]

    def part(
        self, start: Lsn, end: Lsn, *, base: bool = False, first: tuple[PageId, Lsn] = (0, 0),
        limit: int = 1 << 30, opened: Sequence[RedoRecord] = (),
    ) -> Part:  # fmt: skip
        """Rows for a peer; ``opened`` are records above what is folded."""
        layers = LayerMap(tuple(self.layers)).between(start, end)
        blocks = [*sorted_blocks([encode_rows([each]) for each in opened])]
        job = part_job(layers, blocks, start, end, base=base, first=first, limit_bytes=limit)
        return self.files.run(job)

    def take_base(self, end: Lsn) -> Layer:
        """A base up to ``end``, as it comes from a peer: amid a layer, whose start is raised."""
        rows = self.part(0, end, base=True).rows
        writer = LayerWriter(
            self._next(),
            0,
            end,
            base=True,
            block_bytes=self._block,
            most_pages=len(rows.rows) // 40,
        )
        layer = write_layer(self.files, writer, rows)
        self.layers[:] = LayerMap(tuple(self.layers)).with_layer(layer)
        self._raised = True
        return layer

    def before(self, lsn: Lsn) -> PageBefore:
        def page_before(page: PageId) -> Job[bytes]:
            self.asked.append(page)
            yield Read("layer-1", 0, 1)
            return replayed(self.records, page, lsn)

        return page_before

    def _next(self) -> int:
        self._number += 1
        return self._number

    def check(self) -> None:
        """Every layer has just what it should, as its file alone says."""
        for layer in self.layers:
            opened, _ = self.files.opened(layer.number)
            assert opened.start <= layer.start and opened.end == layer.end
            blocks = self.files.blocks(opened)
            rows = (
                join([block.cut(0, len(block)) for block in blocks]) if blocks else Rows(b"", b"")
            )
            records = self.within(opened.start, layer.end)
            if layer.base:
                assert rows == self._newest(records)
            else:
                self._check_delta(blocks, rows, records)
        assert [layer.start for layer in self.layers[1:]] == [
            layer.end for layer in self.layers[:-1]
        ]

    def _newest(self, records: list[RedoRecord]) -> Rows:
        heads = {record.page_id: record.lsn for record in records}
        images = [
            image_row(page, lsn, replayed(records, page, lsn))
            for page, lsn in sorted(heads.items())
        ]
        return join(images) if images else Rows(b"", b"")

    def _check_delta(self, blocks: list[Block], rows: Rows, records: list[RedoRecord]) -> None:
        expected, images = [], image_keys(blocks)
        for record in by_page(records):
            expected.append(encode_rows([record]))
            if (record.page_id, record.lsn) in images:
                page = replayed(self.records, record.page_id, record.lsn)
                expected.append(image_row(record.page_id, record.lsn, page))
        assert rows == (join(expected) if expected else Rows(b"", b""))
        self._check_spacing(by_page(records), images)

    def _check_spacing(self, records: list[RedoRecord], images: set[tuple[PageId, Lsn]]) -> None:
        count = size = 0
        is_first = True
        for record, after in pairwise([*records, None]):
            assert record is not None
            count, size = count + 1, size + 40 + len(record.payload)
            if (record.page_id, record.lsn) in images:
                near = count * 2 < self._spacing.records or size * 2 < self._spacing.stored_bytes
                assert not near or (is_first and self._raised)
                count = size = 0
                is_first = False
            else:
                assert count < self._spacing.records or size < self._spacing.stored_bytes
            if after is None or after.page_id != record.page_id:
                count = size = 0
                is_first = True


def image_keys(blocks: list[Block]) -> set[tuple[PageId, Lsn]]:
    return {
        (block.pages[row], block.lsns[row])
        for block in blocks
        for row in range(len(block))
        if block.metas[row] & IMAGE_BIT
    }
