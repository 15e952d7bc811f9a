"""Layers by hand: records that are a chain, files in a dict, and a simple reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from random import Random
from typing import TypeVar

import attrs

from segments.layers.block import Block, read_block
from segments.layers.job import Create, Delete, Extend, Job, Op, Read, SyncFile, finished
from segments.layers.layer import Layer, NewPages, open_layer
from segments.layers.layer_writer import LayerWriter
from segments.protocol.ids import Lsn, PageId
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import Rows

T = TypeVar("T")


def chain(
    random: Random, count: int, pages: int, *, first: Lsn = 1, payload: int = 40
) -> list[RedoRecord]:
    """``count`` records of random changes to random pages, from LSN ``first`` on, with holes."""
    made: list[RedoRecord] = []
    heads: dict[PageId, Lsn] = {}
    lsn, prev = first, 0
    for _ in range(count):
        page = random.randrange(pages) ** 2
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
                return self.data[name][offset : offset + length]
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
    size = len(rows.rows) // 40
    ends = sorted({min(each, size) for each in (*pieces, size)} - {0})
    start = taken = 0
    for end in ends:
        part = rows.rows[start * 40 : end * 40]
        length = sum(
            int.from_bytes(part[at + 32 : at + 40], "little") & 0x3FFF
            for at in range(0, len(part), 40)
        )
        data += b"".join(writer.add(Rows(part, rows.payloads[taken : taken + length])))
        start, taken = end, taken + length
    last, layer = writer.finish()
    files.data[layer.name] = data + last
    return layer
