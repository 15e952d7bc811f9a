"""From sorted rows to a layer's file that is synced, but not published."""

from __future__ import annotations

from typing import Final, TypeVar

from segments.layers.job import Create, Delete, Extend, Job, SyncFile
from segments.layers.layer import Layer, layer_name
from segments.layers.layer_writer import LayerWriter
from segments.layers.ordered import Source
from segments.protocol.errors import Corrupt, StorageFailed

_T = TypeVar("_T")

_WRITE_BYTES: Final = 256 << 10
"""What gathers before it is written."""


def write_job(writer: LayerWriter, source: Source) -> Job[Layer]:
    """Write all rows of ``source``, which ``writer`` has checked."""
    name = layer_name(writer.number)
    yield Create(name)
    chunks = [writer.begin()]
    size = 0
    while (block := (yield from source.next_block())) is not None:
        for chunk in writer.add_block(block):
            chunks.append(chunk)
            size += len(chunk)
        if size >= _WRITE_BYTES:
            yield Extend(name, b"".join(chunks))
            chunks.clear()
            size = 0
    last, layer = writer.finish()
    yield Extend(name, b"".join((*chunks, last)))
    yield SyncFile(name)
    return layer


def written(number: int, job: Job[_T]) -> Job[_T]:
    """What ``job`` has written; if the disk refuses, or something is damaged, it leaves no file."""
    try:
        return (yield from job)
    except (StorageFailed, Corrupt):
        yield Delete((layer_name(number),))
        raise
