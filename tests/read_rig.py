"""Layers made in the dumbest way, out of a list of all records, and an index to stand above them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import count

from segments.chain_index import ChainIndex
from segments.layers.block import image_row, join
from segments.layers.job import Op, Read, finished
from segments.layers.layer import Layer, open_layer
from segments.layers.layer_writer import LayerWriter
from segments.layers.materializer import Materializer, Reading
from segments.layers.page_read import Need
from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import PageImage
from segments.protocol.record import RedoRecord
from segments.protocol.run import Rows, encode_rows
from tests.oracles import naive_page


class OpenIndex(ChainIndex):
    """A chain index that gives records packed, too."""

    def __init__(self) -> None:
        super().__init__(max_unlinked=10_000)

    def page_records(self, page_id: PageId, after_lsn: Lsn, through_lsn: Lsn) -> list[RedoRecord]:
        """The page's linked records in ``(after_lsn, through_lsn]``, ascending."""
        records = self.linked_after(after_lsn)
        return [each for each in records if each.page_id == page_id and each.lsn <= through_lsn]

    def pieces(self, after_lsn: Lsn, through_lsn: Lsn) -> list[Rows]:
        """All linked records in ``(after_lsn, through_lsn]``, one a piece."""
        records = self.linked_after(after_lsn)
        return [encode_rows([each]) for each in records if each.lsn <= through_lsn]


def image_of(page: PageImage) -> Rows:
    """The row that holds ``page``."""
    return image_row(page.page_id, page.page_lsn, page.image.rstrip(b"\0"))


class Shelf:
    """The files of layers."""

    def __init__(self, *, block_bytes: int = 16 << 10, interval: int = 64) -> None:
        self.files: dict[str, bytes] = {}
        self.block_bytes = block_bytes
        self.interval = interval
        """An image stands behind every so many records of a page in a layer."""
        self._numbers = count(1)

    def delta(self, written: Iterable[RedoRecord], start: Lsn, end: Lsn) -> Layer:
        """A layer of all that was written in ``(start, end]``."""
        written = list(written)
        rows, since_image, last = list[Rows](), 0, -1
        for record in sorted(written, key=lambda each: (each.page_id, each.lsn)):
            if not start < record.lsn <= end:
                continue
            since_image = since_image + 1 if record.page_id == last else 1
            last = record.page_id
            rows.append(encode_rows([record]))
            if since_image == self.interval:
                rows.append(image_of(naive_page(written, record.page_id, record.lsn)))
                since_image = 0
        return self.write(rows, start, end)

    def base(self, written: Iterable[RedoRecord], end: Lsn) -> Layer:
        """A layer of the newest version of each page at ``end``."""
        written = list(written)
        page_ids = sorted({each.page_id for each in written if each.lsn <= end})
        pages = [image_of(naive_page(written, each, end)) for each in page_ids]
        return self.write(pages, 0, end, base=True)

    def write(self, rows: Iterable[Rows], start: Lsn, end: Lsn, *, base: bool = False) -> Layer:
        """A layer of ``rows``, which are sorted."""
        sorted_rows = list(rows)
        writer = LayerWriter(
            next(self._numbers), start, end,
            base=base, block_bytes=self.block_bytes, most_pages=len(sorted_rows),
        )  # fmt: skip
        chunks = [writer.begin()]
        if sorted_rows:
            chunks += writer.add(join(sorted_rows))
        last, layer = writer.finish()
        self.files[layer.name] = b"".join((*chunks, last))
        return layer

    def open(self, layer: Layer) -> tuple[Layer, tuple[array[int], array[int]]]:
        """What the file says of itself, and the pages that are new in it with their LSNs."""
        return finished(open_layer(layer.number, layer.length), self.execute)

    def execute(self, op: Op) -> bytes:
        """Answer what reads ask for."""
        assert isinstance(op, Read)
        return self.read(*op)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """A part of a file."""
        return self.files[name][offset : offset + length]


def read_page(
    materializer: Materializer, shelf: Shelf, page: PageId, read_point: Lsn
) -> tuple[PageImage, list[int]]:
    """The page, and how many blocks each round took."""
    reading, rounds = Reading(page, read_point), list[int]()
    while isinstance(answer := materializer.read(reading), Need):
        rounds.append(len(answer.blocks))
        for ref in answer.blocks:
            materializer.blocks_read(reading, ref, shelf.read(ref.name, ref.offset, ref.length))
    return answer, rounds
