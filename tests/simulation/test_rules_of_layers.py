"""The rules of the hot log and its layers, each at its edge."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import pytest

from segments.config import SegmentConfig
from segments.layers.block import encode_block
from segments.layers.bloom import Bloom
from segments.layers.layer import Layer
from segments.protocol.ids import Lsn, VolumeEpoch
from segments.protocol.messages import GossipLayer, GossipStatus
from segments.protocol.record import Change, RedoRecord
from segments.protocol.run import Rows, encode_rows
from segments.protocol.truncation import TruncationTable
from sim.check import rules_of_bounds, rules_of_layers, rules_of_the_end, rules_of_wire
from sim.check.invariants import Broken

FIRST = VolumeEpoch(1, 7)
ANEW = SegmentConfig(compact_bytes=9_000, compact_ratio=2.0)
IMAGE_AND_HALF = 2 * 8192


def record(lsn: Lsn, page_id: int = 3, payload: bytes = b"x") -> RedoRecord:
    return RedoRecord(lsn, page_id, 5, payload, lsn, True, lsn - 1, lsn - 1, 0)


def layer(length: int, *, base: bool = False) -> Layer:
    return Layer(
        1, 0, 9, base, length, 1, 1, 1, 1, array("Q", [1]), array("Q", [1]), array("Q", [64, 99]),
        Bloom(bytes(8)),
    )  # fmt: skip


def part(*rows: RedoRecord) -> GossipLayer:
    return part_of(encode_rows(rows))


def part_of(rows: Rows) -> GossipLayer:
    table = TruncationTable(FIRST)
    block = encode_block(rows, 0)
    return GossipLayer(FIRST, "A0", table, 9, 0, 9, False, 0, 0, 0, 0, 9, block)


def status(base_lsn: Lsn, folded: Lsn) -> GossipStatus:
    return GossipStatus(FIRST, "A0", TruncationTable(FIRST), 9, 9, 0, base_lsn, folded, False)


@pytest.mark.parametrize(
    ("predicate", "good", "bad"),
    [
        (rules_of_layers.folds_what_is_durable, ("A0", "layer-1", 9, 9), ("A0", "layer-1", 10, 9)),
        (rules_of_layers.has_the_records, ("A0", "layer-1", [3, 1], [1, 3]),
         ("A0", "layer-1", [1], [1, 3])),
        (rules_of_layers.has_the_records, ("A0", "layer-1", [3, 1], [1, 3]),
         ("A0", "layer-1", [1, 3, 3], [1, 3])),
        (rules_of_layers.has_the_change, ("A0", "layer-1", 3, Change(1, 5, b"x"), 0, record(1)),
         ("A0", "layer-1", 3, Change(1, 6, b"x"), 0, record(1))),
        (rules_of_layers.has_the_change, ("A0", "layer-1", 3, Change(1, 5, b"x"), 0, record(1)),
         ("A0", "layer-1", 4, Change(1, 5, b"x"), 0, record(1))),
        (rules_of_layers.has_the_pages, ("A0", "layer-1", [1, 2], [1, 2]),
         ("A0", "layer-1", [1, 2, 2], [1, 2])),
        (rules_of_layers.tiles_the_log, ("A0", [(0, 4), (4, 9)]), ("A0", [(0, 4), (5, 9)])),
        (rules_of_layers.tiles_the_log, ("A0", []), ("A0", [(1, 4)])),
        (rules_of_layers.block_fits, ("A0", "layer-1", [99, 9_000], 100),
         ("A0", "layer-1", [99, 1, 1], 100)),
        (rules_of_layers.log_is_folded, ("A0", [50, 51], 100), ("A0", [50, 52], 100)),
        (rules_of_layers.layers_are_few, ("A0", [layer(100)] * 14 + [layer(1, base=True)], 100, 4),
         ("A0", [layer(100)] * 15, 100, 4)),
        (rules_of_layers.layers_are_few, ("A0", [layer(100)] * 15 + [layer(100_900)], 100, 4),
         ("A0", [layer(100)] * 15 + [layer(100_899)], 100, 4)),
        (rules_of_layers.replays_little, ("A0", 1, "layer-1", [9_000, 9_000], 3),
         ("A0", 1, "layer-1", [9_000, 7_383, 1], 3)),
        (rules_of_layers.replays_little, ("A0", 1, "layer-1", [1] * (IMAGE_AND_HALF - 1), 3),
         ("A0", 1, "layer-1", [1] * IMAGE_AND_HALF, 3)),
        (rules_of_bounds.is_written_anew_with_reason, ("A0", 9_001, 404, ANEW, False),
         ("A0", 9_000, 404, ANEW, False)),
        (rules_of_bounds.is_written_anew_with_reason, ("A0", 9_003, 405, ANEW, False),
         ("A0", 9_002, 405, ANEW, False)),
        (rules_of_bounds.is_written_anew_with_reason, ("A0", 8_993, 400, ANEW, True),
         ("A0", 8_992, 400, ANEW, True)),
        (rules_of_bounds.log_is_compacted, ("A0", 9_002, 405, ANEW, False),
         ("A0", 9_003, 405, ANEW, False)),
        (rules_of_bounds.log_is_compacted, ("A0", 9_000, 0, ANEW, False),
         ("A0", 9_001, 0, ANEW, False)),
        (rules_of_bounds.cache_fits, ("A0", "blocks", [5, 4], 9), ("A0", "blocks", [5, 5], 9)),
        (rules_of_bounds.queries_fit, ("A0", 4, 4), ("A0", 5, 4)),
        (rules_of_the_end.is_collected, ("A0", [50, 49], 20.0, 2.0, 100),
         ("A0", [50, 50], 20.0, 2.0, 100)),
        (rules_of_the_end.is_collected, ("A0", [50, 49], 50.0, 2.0, 1),
         ("A0", [50, 50], 50.0, 2.0, 1)),
        (rules_of_wire.part_fits, ("A0", part(record(1), record(2, 4)), 98),
         ("A0", part(record(1), record(2, 4)), 97)),
        (rules_of_wire.part_fits, ("A0", part(record(1)), 1),
         ("A0", part(record(1), record(2, 4)), 1)),
        (rules_of_wire.gives_what_is_on_disk, (status(4, 8), 4, 8), (status(4, 9), 4, 8)),
        (rules_of_wire.gives_what_is_on_disk, (status(4, 8), 5, 9), (status(5, 8), 4, 8)),
    ],
)  # fmt: skip
def test_a_rule_tells_the_last_value_that_is_right_from_the_first_that_is_wrong(
    predicate: Callable[..., object], good: tuple[object, ...], bad: tuple[object, ...]
) -> None:
    predicate(*good)
    with pytest.raises(Broken):
        predicate(*bad)
