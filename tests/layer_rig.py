"""Layers by hand: records that are a chain, files in a dict, and simple readers and writers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count, pairwise
from random import Random
from typing import TypeVar

import attrs

from segments.layers.block import Block, image_row, join, read_block
from segments.layers.job import Create, Delete, Extend, Job, Op, Read, SyncFile, finished
from segments.layers.layer import Layer, NewPages, open_layer
from segments.layers.layer_writer import LayerWriter
from segments.protocol.ids import Lsn, PageId
from segments.protocol.messages import PageImage
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import ROW, WORDS, Rows, encode_rows, payload_bytes, words_of
from tests.oracles import naive_page

T = TypeVar("T")


def chain(
    random: Random, number: int, pages: int, *, first: Lsn = 1, payload: int = 40, drift: int = 0
) -> list[RedoRecord]:
    """``number`` records of random changes to random pages, from LSN ``first`` on, with holes.

    The last ones are of pages that are ``drift`` further on: few layers have the same ones.
    """
    made: list[RedoRecord] = []
    heads: dict[PageId, Lsn] = {}
    lsn, prev = first, 0
    for at in range(number):
        page = (random.randrange(pages) + at * drift // number) ** 2
        size = random.randint(1, payload)
        offset = random.randint(0, PAGE_SIZE - size)
        data = random.randbytes(size) if random.random() < 0.9 else bytes(size)
        made.append(
            RedoRecord(
                lsn,
                page,
                offset,
                data,
                random.randint(max(1, prev), lsn),
                random.random() < 0.5,
                max(prev, lsn - 1),
                prev,
                heads.get(page, 0),
            )
        )
        heads[page] = prev = lsn
        lsn += random.choice((1, 1, 1, 3))
    return made


def by_page(records: Iterable[RedoRecord]) -> list[RedoRecord]:
    """As they stand in a layer."""
    return sorted(records, key=lambda record: (record.page_id, record.lsn))


def replayed(records: Iterable[RedoRecord], page: PageId, through: Lsn) -> bytes:
    """The oracle: a page as of ``through``, from zeros, without the zeros that end it."""
    content = bytearray(PAGE_SIZE)
    for record in records:
        if record.page_id == page and record.lsn <= through:
            content[record.offset : record.offset + len(record.payload)] = record.payload
    return bytes(content).rstrip(b"\0")


@attrs.define
class Files:
    """Files in memory: what executes a job's operations."""

    data: dict[str, bytes] = attrs.field(factory=dict)
    synced: set[str] = attrs.field(factory=set)
    ops: list[Op] = attrs.field(factory=list)

    def run(self, job: Job[T]) -> T:
        """All of ``job``."""
        return finished(job, self.execute)

    def execute(self, op: Op) -> bytes | None:
        """One operation, answered."""
        self.ops.append(op)
        match op:
            case Read(name, offset, length):
                return self.read(name, offset, length)
            case Create(name):
                assert name not in self.data
                self.data[name] = b""
            case Extend(name, data):
                self.data[name] += data
                self.synced.discard(name)
            case SyncFile(name):
                self.synced.add(name)
            case Delete(names):
                for each in names:
                    del self.data[each]
            case _:
                pass
        return None

    def read(self, name: str, offset: int, length: int) -> bytes:
        """A part of a file."""
        return self.data[name][offset : offset + length]

    def opened(self, number: int) -> tuple[Layer, NewPages]:
        """Layer ``number``, from its file alone."""
        return self.run(open_layer(number, len(self.data[f"layer-{number}"])))

    def blocks(self, layer: Layer) -> list[Block]:
        """Every block of a layer's file, checked."""
        data, offsets = self.data[layer.name], layer.offsets
        return [read_block(data[at:end], at, layer.number) for at, end in pairwise(offsets)]


def write_layer(
    files: Files, writer: LayerWriter, rows: Rows, *, pieces: Sequence[int] = ()
) -> Layer:
    """The layer of ``rows``, sorted, given to ``writer`` in pieces that end at these rows."""
    data = writer.begin()
    size = len(rows.rows) // ROW.size
    lengths = list(map(payload_bytes, words_of(rows.rows)[4::WORDS]))
    ends = sorted({min(each, size) for each in (*pieces, size)} - {0})
    start = taken = 0
    for end in ends:
        part = rows.rows[start * ROW.size : end * ROW.size]
        length = sum(lengths[start:end])
        data += b"".join(writer.add(Rows(part, rows.payloads[taken : taken + length])))
        start, taken = end, taken + length
    last, layer = writer.finish()
    files.data[layer.name] = data + last
    return layer


def image_of(page: PageImage) -> Rows:
    """The row that holds ``page``."""
    return image_row(page.page_id, page.page_lsn, page.image.rstrip(b"\0"))


@attrs.define
class Shelf(Files):
    """Files of layers that are made in the dumbest way, out of a list of all records."""

    block_bytes: int = attrs.field(default=16 << 10, kw_only=True)
    interval: int = attrs.field(default=64, kw_only=True)
    """An image stands behind every so many records of a page in a layer."""
    _numbers: count[int] = attrs.field(factory=lambda: count(1), init=False)

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
        self.data[layer.name] = b"".join((*chunks, last))
        return layer
