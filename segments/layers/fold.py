"""Folding: records of the hot log become the newest layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from segments.layers.block import Block, join, unchecked_block
from segments.layers.images import PageBefore, Spacing, WithImages
from segments.layers.job import PAUSE, Job
from segments.layers.layer import Layer
from segments.layers.layer_writer import LayerWriter
from segments.layers.ordered import BlocksSource, Ordered, by_page, split_payloads, split_rows
from segments.layers.writing import write_job
from segments.protocol.errors import Corrupt
from segments.protocol.ids import Lsn
from segments.protocol.run import ROW, WORDS, Rows, payload_sizes, words_of

_CHUNK_ROWS: Final = 4096
_CHUNK_BYTES: Final = 1 << 20
"""Most rows, and about most bytes, that are sorted in a step: some 5 ms of work."""


def fold_job(
    number: int,
    start: Lsn,
    end: Lsn,
    pieces: Iterable[Rows],
    *,
    block_bytes: int,
    spacing: Spacing,
    page_before: PageBefore,
) -> Job[Layer]:
    """Layer ``number`` of the records in ``(start, end]``: ``pieces`` in the order of their LSNs.

    Each piece is asked for when it is sorted, so few bytes are there twice. Rows are checked;
    raises `Corrupt` for what no record can be, or if one is missing in its page's chain.
    ``page_before`` gives pages as of ``start``.
    """
    blocks = []
    for block in sorted_blocks(pieces):
        blocks.append(block)
        yield PAUSE
    rows = sum(map(len, blocks))
    writer = LayerWriter(number, start, end, base=False, block_bytes=block_bytes, most_pages=rows)
    sources = [BlocksSource([block]) for block in blocks]
    blocks.clear()  # the sources let them go one by one
    ordered = Ordered(sources, start)
    return (yield from write_job(writer, WithImages(ordered, writer.checked, spacing, page_before)))


def sorted_blocks(pieces: Iterable[Rows]) -> Iterator[Block]:
    """Rows in the order of their LSNs as sorted blocks, the older ones first; raises `Corrupt`."""
    return map(_sorted, _chunks(pieces))


def _sorted(chunk: Rows) -> Block:
    """Rows in the order of their LSNs, sorted by page; they are checked when they are joined."""
    block = unchecked_block(chunk)
    if block.images:
        lsn = block.lsns[block.images[0]]
        raise Corrupt(f"row {lsn} is an image: expected records only")
    rows = split_rows(chunk.rows, 0, len(block))
    payloads = split_payloads(chunk.payloads, block.starts)
    return unchecked_block(by_page(block.pages, rows, payloads))


def _chunks(pieces: Iterable[Rows]) -> Iterator[Rows]:
    """``pieces``, joined and cut so that each is about what a step takes."""
    gathered: list[Rows] = []
    rows = size = 0
    for piece in pieces:
        for part in _parts(piece):
            count = len(part.rows) // ROW.size
            if gathered and (rows + count > _CHUNK_ROWS or size >= _CHUNK_BYTES):
                yield join(gathered)
                gathered.clear()
                rows = size = 0
            gathered.append(part)
            rows += count
            size += len(part.payloads)
    if gathered:
        yield join(gathered)


def _parts(piece: Rows) -> Iterator[Rows]:
    """A piece cut into parts of `_CHUNK_ROWS` rows at most; an empty one has none."""
    step = _CHUNK_ROWS * ROW.size
    at = 0
    for start in range(0, len(piece.rows), step):
        rows = piece.rows[start : start + step]
        if len(rows) == len(piece.rows):
            yield piece
            return
        last = start + step >= len(piece.rows)
        end = len(piece.payloads) if last else at + sum(payload_sizes(words_of(rows)[4::WORDS]))
        yield Rows(rows, piece.payloads[at:end])
        at = end
