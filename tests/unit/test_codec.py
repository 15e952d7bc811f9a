"""Messages and records as bytes: every field checked, nothing guessed."""

from __future__ import annotations

import msgpack
import pytest

from segments.protocol import codec
from segments.protocol.errors import MalformedMessage
from segments.protocol.heard import Heard
from segments.protocol.ids import MAX_INTEGER, VolumeEpoch
from segments.protocol.messages import GossipLayer, PageImage, PageReply, Seal, SealReply, WriteAck
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.truncation import Gap, TruncationTable

EPOCH = VolumeEpoch(1, 2)
RECORD = RedoRecord(9, 4, 100, b"abc", 8, True, 8, 7, 6)


def test_a_message_is_its_tag_and_its_fields() -> None:
    """The format is fixed: segments of different builds talk to each other."""
    assert msgpack.unpackb(codec.encode(Seal(EPOCH, 5))) == [6, [1, 2], 5, [[0, 0], 0]]
    ack = WriteAck(EPOCH, "A0", 3, 4, 5, 6)
    assert msgpack.unpackb(codec.encode(ack)) == [2, [1, 2], "A0", 3, 4, 5, 6]
    table = TruncationTable(EPOCH, (), EPOCH, (Gap(2, 4, 1),)).extended(VolumeEpoch(2, 1), 5, 9)
    reply = SealReply(EPOCH, "A0", 1, 2, 3, 4, table, (Heard(EPOCH, {"B0": 7}),))
    assert msgpack.unpackb(codec.encode(reply)) == [
        7, [1, 2], "A0", 1, 2, 3, 4, [[2, 1], [[6, 10, [2, 1]]], [1, 2], [[2, 4, 1]]],
        [[[1, 2], {"B0": 7}]],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        [],
        [99],
        [True, [1, 2], 5],
        ["6", [1, 2], 5],
        [6],
        [6, [1, 2]],
        [6, [1, 2], 5],
        [6, [1, 2], 5, [[0, 0], 0], 6],
        [6, [1], 5, [[0, 0], 0]],
        [6, [1, 2, 3], 5, [[0, 0], 0]],
        [6, [1, -2], 5, [[0, 0], 0]],
        [6, [1, 2], True, [[0, 0], 0]],
        [6, [1, 2], 5.0, [[0, 0], 0]],
        [6, [1, 2], -1, [[0, 0], 0]],
        [6, [1, 2], MAX_INTEGER + 1, [[0, 0], 0]],
        [6, None, 5, [[0, 0], 0]],
        [6, [1, 2], 5, [[0, 0]]],
        [6, [1, 2], 5, [[0], 0]],
        [6, [1, 2], 5, [[0, 0], -1]],
        [1, [1, 2], 1, 0, 0, 0, False, b"", []],
        [1, [1, 2], 1, 0, 0, 0, False, b"", {"A0": -1}],
        [1, [1, 2], 1, 0, 0, 0, False, b"", {"A0": "1"}],
        [1, [1, 2], 1, 0, 0, 0, False, b"", {b"A0": 1}],
        [7, [1, 2], "A0", 1, 2, 3, 4, [[1, 2], [], [0, 0], []], {"B0": 7}],
        [7, [1, 2], "A0", 1, 2, 3, 4, [[1, 2], [], [0, 0], []], [[[1, 2], [7]]]],
        [7, [1, 2], "A0", 1, 2, 3, 4, [[1, 2], [], [0, 0], []], [[[1], {"B0": 7}]]],
        [7, [1, 2], "A0", 1, 2, 3, 4, [[1, 2], [], [0, 0], []], [7]],
        {"6": 1},
        [10, [1, 2], 1, [[1, 2], [[5, 5]]]],
        [10, [1, 2], 1, [[1, 2], [[5, 9], [8, 12]]]],
        [10, [1, 2], 1, [[1, 2], [[0, 3]]]],
        [10, [1, 2], 1, [[1, 2], [5, 9]]],
        [10, [1, 2], 1, [[1, 2]]],
        [4, [1, 2], "A0", 1, 1, [1, 1, b"short"]],
        [4, [1, 2], b"A0", 1, 1, [1, 1, b""]],
        [21, [1, 2], "A0", 1, 1, 0, 9, [3, 3]],
        [21, [1, 2], "A0", 1, 1, 0, 9, [4, 3]],
        [21, [1, 2], "A0", 1, 1, 0, 9, [-1]],
        [21, [1, 2], "A0", 1, 1, 0, 9, ["3"]],
        [21, [1, 2], "A0", 1, 1, 0, 9, 3],
    ],
    ids=str,
)
def test_anything_else_is_malformed(values: object) -> None:
    with pytest.raises(MalformedMessage):
        codec.decode(msgpack.packb(values))


@pytest.mark.parametrize("data", [b"", b"\xc1", codec.encode(Seal(EPOCH, 5)) + b"\0", b"\x93\x06"])
def test_bytes_missing_or_left_over_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        codec.decode(data)


def test_pages_are_whole_or_absent() -> None:
    for page in (PageImage(1, 5, bytes(PAGE_SIZE)), PageImage(2, 0, b"")):
        message = PageReply(EPOCH, "A0", 1, 9, page)
        assert codec.decode(codec.encode(message)) == message
    spoilt = message._replace(page=PageImage(1, 5, bytes(PAGE_SIZE - 1)))
    with pytest.raises(MalformedMessage, match="8192 bytes"):
        codec.decode(codec.encode(spoilt))


def test_rows_of_a_layer_travel_as_they_are() -> None:
    """What they say is looked into by who takes them, against the layer that he asked for."""
    for rows in (b"", bytes(range(256))):
        message = GossipLayer(
            EPOCH, "A0", TruncationTable(EPOCH), 9, 0, 8, True, 0, 0, 3, 7, 40, rows
        )
        assert codec.decode(codec.encode(message)) == message
    with pytest.raises(MalformedMessage):
        codec.decode(codec.encode(message._replace(base=1)))  # type: ignore[arg-type]
