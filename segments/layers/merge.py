"""Merging: neighbouring layers become one, so that a read has few of them to ask."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from segments.layers.images import PageBefore, Spacing, WithImages
from segments.layers.job import Job
from segments.layers.layer import Layer
from segments.layers.layer_writer import LayerWriter
from segments.layers.ordered import LayerSource, Ordered
from segments.layers.writing import write_job


def merge_job(
    number: int,
    layers: Sequence[Layer],
    *,
    block_bytes: int,
    spacing: Spacing,
    page_before: PageBefore,
) -> Job[Layer]:
    """Layer ``number`` of all records of ``layers``.

    These are delta layers that follow each other, oldest first; each block is read once. Raises
    `DamagedLayer`, and `Corrupt` if a record is missing in its page's chain. ``page_before`` gives
    pages as of the first one's start.
    """
    assert all(not layer.base for layer in layers), layers
    assert all(older.end == newer.start for older, newer in pairwise(layers)), layers
    writer = LayerWriter(
        number,
        layers[0].start,
        layers[-1].end,
        base=False,
        block_bytes=block_bytes,
        most_pages=sum(layer.page_count for layer in layers),
    )
    ordered = Ordered([LayerSource(layer) for layer in layers], writer.start)
    return (yield from write_job(writer, WithImages(ordered, writer.checked, spacing, page_before)))
