"""The tables of docs/formats.md are those of the code: each part has its bytes, without a hole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest

from segments import disks, manifest, wal
from segments.layers import block, layer
from segments.protocol.run import ROW
from segments.protocol.volume import VolumeGeometry
from tests.repo.sources import text

DOCUMENT: Final = text(Path("docs/formats.md"))

FIXED: Final = {
    "`promise`": wal.PROMISE_SLOT_BYTES,
    "`manifest`": manifest._HEAD.size + manifest._LOG.size,
    "Header": layer.HEADER_BYTES,
    "Block": block.BLOCK_HEAD_BYTES,
    "Index": layer.ENTRY_BYTES,
    "New pages": layer.PAGE_BYTES,
    "Footer": layer.FOOTER_BYTES,
}
"""By heading: how many bytes the rows take that have fixed places, from the first on."""


def rows(heading: str) -> list[tuple[str, str]]:
    """Offsets and bytes in the first table below a heading."""
    pattern = rf"^###? {re.escape(heading)}.*?(?=^##|\Z)"
    section = re.search(pattern, DOCUMENT, re.MULTILINE | re.DOTALL)
    assert section is not None, f"no section {heading}"
    return re.findall(r"^\| ([^|]+?) \| ([^|]+?) \| [^|]*\|$", section[0], re.MULTILINE)


def fixed_bytes(table: list[tuple[str, str]]) -> int:
    """Where the rows end that begin at a number, each where the one before it ends."""
    at = 0
    for offset, size in table:
        if offset.isdecimal() and size.isdecimal():
            assert int(offset) == at, f"a row at {offset}: expected {at}"
            at += int(size)
    return at


@pytest.mark.parametrize("heading", FIXED)
def test_rows_follow_each_other_and_take_what_the_code_says(heading: str) -> None:
    assert fixed_bytes(rows(heading)) == FIXED[heading]


def test_a_hole_is_noticed() -> None:
    with pytest.raises(AssertionError, match="a row at 9: expected 8"):
        fixed_bytes([("0", "8"), ("9", "1")])


def test_a_block_row_is_as_long_as_in_a_run() -> None:
    assert ("20", "40 n") in rows("Block")
    assert ROW.size == 40


def test_the_manifest_names_files_in_rows_of_the_codes_length() -> None:
    head, log, layer_row = manifest._HEAD.size, manifest._LOG.size, manifest._LAYER.size
    layers = f"{head} + {log} n"
    table = rows("`manifest`")
    offsets = [offset for offset, _ in table]
    first, end = offsets.index(layers), offsets.index(f"{layers} + {layer_row} m")
    sizes = [int(size) for _, size in table[first:end] if size.isdecimal()]
    assert sum(sizes) == layer_row


def test_the_values_of_a_volume_are_those_that_are_written() -> None:
    [row] = re.findall(r"^\| `volume\.json` \| (.+) \|$", DOCUMENT, re.MULTILINE)
    written = json.loads(disks._encode_manifest("v", VolumeGeometry(1), 0))
    assert re.findall(r"`(\w+)`", row) == [*written]
    assert f"`format` ({written['format']})" in row
