"""Pages on layers that are made in the dumbest way, out of a list of all records."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from segments.chain_index import ChainIndex
from segments.layers.block import image_row, join
from segments.layers.layer import Layer
from segments.layers.layer_writer import LayerWriter
from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import PageImage
from segments.protocol.record import RedoRecord
from segments.protocol.run import Rows, encode_rows
from tests.layer_rig import Files, by_page, write_layer
from tests.oracles import naive_page


class OpenIndex(ChainIndex):
    """A chain index that gives a page's records, and all of them encoded."""

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


class Shelf(Files):
    """Layers, and the files they are in."""

    def __init__(self, *, block_bytes: int = 16 << 10, interval: int = 64) -> None:
        super().__init__()
        self.block_bytes = block_bytes
        self.interval = interval
        """An image stands behind every so many records of a page in a layer."""
        self._numbers = count(1)

    def delta(self, written: Iterable[RedoRecord], start: Lsn, end: Lsn) -> Layer:
        """A layer of all that was written in ``(start, end]``."""
        written = list(written)
        rows, since_image, last = list[Rows](), 0, -1
        for record in by_page(each for each in written if start < each.lsn <= end):
            since_image = since_image + 1 if record.page_id == last else 1
            last = record.page_id
            rows.append(encode_rows([record]))
            if since_image == self.interval:
                rows.append(_image(naive_page(written, record.page_id, record.lsn)))
                since_image = 0
        return self.write(rows, start, end)

    def base(self, written: Iterable[RedoRecord], end: Lsn) -> Layer:
        """A layer of the newest version of each page at ``end``."""
        written = list(written)
        page_ids = sorted({each.page_id for each in written if each.lsn <= end})
        pages = [_image(naive_page(written, each, end)) for each in page_ids]
        return self.write(pages, 0, end, base=True)

    def next_number(self) -> int:
        """A number for a layer that is made by a job."""
        return next(self._numbers)

    def write(self, rows: list[Rows], start: Lsn, end: Lsn, *, base: bool = False) -> Layer:
        """A layer of ``rows``, which are sorted."""
        writer = LayerWriter(
            self.next_number(), start, end,
            base=base, block_bytes=self.block_bytes, most_pages=len(rows),
        )  # fmt: skip
        return write_layer(self, writer, join(rows) if rows else Rows(b"", b""))

    def read(self, name: str, offset: int, length: int) -> bytes:
        """A part of a file."""
        return self.data[name][offset : offset + length]


def _image(page: PageImage) -> Rows:
    return image_row(page.page_id, page.page_lsn, page.image.rstrip(b"\0"))
