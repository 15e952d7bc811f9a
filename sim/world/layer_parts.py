"""Where the parts of a layer's file are, and a place in one to be spoilt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from segments.layers.job import finished, reader_of
from segments.layers.layer import (
    ENTRY_BYTES,
    FOOTER_BYTES,
    HEADER_BYTES,
    PAGE_BYTES,
    Layer,
    open_layer,
)
from segments.manifest import LayerFile
from segments.protocol.errors import DamagedLayer
from sim.world.torn import Draw

ANY_PART: Final = "any"
PARTS: Final = ("header", "blocks", "index", "filter", "new_pages", "footer")
"""All of them, in the order of the file."""


def parts_of(layer: Layer) -> dict[str, range]:
    """The bytes of each part that has any: all of the file."""
    index, footer = layer.offsets[-1], layer.length - FOOTER_BYTES
    filter_at = index + len(layer.first_pages) * ENTRY_BYTES
    new_pages = footer - layer.new_page_count * PAGE_BYTES
    ends = (HEADER_BYTES, index, filter_at, new_pages, footer, layer.length)
    extents = map(range, (0, *ends), ends)
    return {name: extent for name, extent in zip(PARTS, extents, strict=False) if extent}


def place_in(
    draw: Draw,
    layers: Sequence[LayerFile],
    files: Mapping[str, bytes | bytearray],
    which: int | None,
    part: str,
) -> tuple[str, int] | None:
    """The name of a layer's file, and the offset of a byte of it that is to be spoilt.

    In the layer ``which``, counted round and round from the oldest, 0, or backwards from the
    newest, -1; None: in any. In ``part`` of that, if it has it, or in any part, each as likely.
    None if there is no such place.
    """
    if not layers:
        return None
    file = layers[int(draw() * len(layers)) if which is None else which % len(layers)]
    try:
        layer, _ = finished(open_layer(file.number, file.length), reader_of(files))
        parts = parts_of(layer)
    except DamagedLayer:  # nobody can tell any more what is where
        parts = {ANY_PART: range(min(file.length, len(files.get(file.name, b""))))}
    if not any(parts.values()):
        return None
    names = sorted(parts)
    drawn = names[int(draw() * len(names))]
    extent = parts[drawn] if part == ANY_PART or ANY_PART in parts else parts.get(part)
    return None if extent is None else (file.name, extent[int(draw() * len(extent))])
