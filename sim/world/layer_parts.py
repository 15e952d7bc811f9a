"""Where the parts of a layer's file are, to be spoilt one by one."""

from __future__ import annotations

from typing import Final

from segments.layers.layer import ENTRY_BYTES, FOOTER_BYTES, HEADER_BYTES, PAGE_BYTES, Layer

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
