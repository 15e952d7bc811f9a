"""Any bytes at all: a value or `MalformedMessage`, soon, and without asking for much memory."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from random import Random
from typing import Any, get_type_hints

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.protocol import codec
from segments.protocol.errors import MalformedMessage
from segments.protocol.heard import Heard, Mark, Scls
from segments.protocol.ids import MAX_INTEGER, PageId, VolumeEpoch
from segments.protocol.messages import Message, PageImage
from segments.protocol.record import PAGE_SIZE
from segments.protocol.truncation import Gap, TruncationRange, TruncationTable

modestly = settings(max_examples=60, deadline=None)

integers = st.integers(0, MAX_INTEGER)
epochs = st.builds(VolumeEpoch, integers, integers)


def pairs(points: set[int]) -> zip[tuple[int, int]]:
    """Ascending ranges that end at these points."""
    return zip(sorted(points)[::2], sorted(points)[1::2], strict=False)


tables = st.builds(
    lambda epoch, settled, live, points: TruncationTable(
        epoch,
        tuple(TruncationRange(start, end, epoch) for start, end in pairs(points)),
        settled,
        tuple(Gap(start, end, live) for start, end in pairs(points)),
    ),
    epochs,
    epochs,
    integers,
    st.sets(st.integers(1, MAX_INTEGER), max_size=6),
)
images = st.builds(
    PageImage,
    integers,
    integers,
    st.one_of(
        st.just(b""), st.binary(max_size=20).map(lambda start: start.ljust(PAGE_SIZE, b"\0"))
    ),
)
marks = st.builds(Mark, epochs, integers)
scls = st.dictionaries(st.text(max_size=3), integers, max_size=6)
FIELDS: dict[object, st.SearchStrategy[Any]] = {
    int: integers,
    str: st.text(max_size=8),
    bool: st.booleans(),
    bytes: st.binary(max_size=40),
    VolumeEpoch: epochs,
    TruncationTable: tables,
    PageImage: images,
    tuple[PageImage, ...]: st.lists(images, max_size=3).map(tuple),
    Mark: marks,
    Scls: scls,
    tuple[Heard, ...]: st.lists(st.builds(Heard, epochs, scls), max_size=3).map(tuple),
    tuple[PageId, ...]: st.sets(integers, max_size=5).map(sorted).map(tuple),
}


def of_kind(kind: Any) -> st.SearchStrategy[Message]:
    made: st.SearchStrategy[Message] = st.builds(
        kind, *(FIELDS[each] for each in get_type_hints(kind).values())
    )
    return made


messages = st.one_of([of_kind(kind) for kind in codec._TAGS.values()])
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def decodes_soundly(data: bytes) -> None:
    """What decodes at all encodes again; all else is `MalformedMessage`, and no other error."""
    with suppress(MalformedMessage):
        message = codec.decode(data)
        assert codec.decode(codec.encode(message)) == message


@modestly
@given(messages)
def test_messages_survive(message: Message) -> None:
    back = codec.decode(codec.encode(message))
    assert back == message and type(back) is type(message)


@modestly
@given(st.binary(max_size=60))
def test_random_bytes(data: bytes) -> None:
    decodes_soundly(data)


@modestly
@given(st.lists(st.integers(0, 20) | anything, max_size=10) | anything)
def test_random_values(value: object) -> None:
    decodes_soundly(msgpack.packb(value))


@modestly
@given(messages, st.randoms(use_true_random=False))
def test_spoilt_messages(message: Message, random: Random) -> None:
    decodes_soundly(spoilt(codec.encode(message), random))


def spoilt(data: bytes, random: Random) -> bytes:
    """Some bytes changed, cut out, repeated or added."""
    spoiled = bytearray(data)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(spoiled) + 1)
        match random.randrange(4):
            case 0:
                spoiled[at:at] = random.randbytes(random.randint(1, 4))
            case 1:
                del spoiled[at : at + random.randint(1, 4)]
            case 2:
                spoiled[at:at] = spoiled[at : at + random.randint(1, 20)]
            case _:
                if at < len(spoiled):
                    spoiled[at] = random.randrange(256)
    return bytes(spoiled)


HUGE = [
    b"\xdd\xff\xff\xff\xff",  # an array of four thousand million
    b"\xdf\xff\xff\xff\xff",  # a map
    b"\xc6\xff\xff\xff\xff",  # bytes
    b"\xdb\xff\xff\xff\xff",  # a string
    b"\xc9\xff\xff\xff\xff\x01",  # an extension
    b"\xdd\x00\xff\xff\xff" * 50,  # arrays within arrays
    b"\x91" * 100_000,  # nested deeply
    b"\x93\x01\x92\x01" + b"\xdd\x7f\xff\xff\xff",
]


@pytest.mark.parametrize("data", HUGE, ids=range(len(HUGE)))
def test_lengths_that_lie_cost_nothing(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage) as caught:
            codec.decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    assert len(str(caught.value)) < 2_000, "an error shows no more than it must"
