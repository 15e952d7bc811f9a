"""Any bytes at all: a value or `MalformedFrame`; and scans against one too simple to err."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from segments import wal
from segments.protocol import codec
from segments.protocol.errors import MalformedFrame
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import PageImage
from segments.protocol.record import PAGE_SIZE
from segments.protocol.truncation import Gap, TruncationRange, TruncationTable

modestly = settings(max_examples=100, deadline=None)

integers = st.integers(0, 2**63 - 1)
epochs = st.builds(VolumeEpoch, integers, integers)
fragments = st.sampled_from([wal.MAGIC, wal.MAGIC[:3], b"\0", b"\xc1", b"W"])
blobs = st.one_of(st.binary(max_size=60), st.lists(fragments, max_size=12).map(b"".join))


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
    st.sets(st.integers(1, 2**63 - 1), max_size=6),
)
images = st.builds(
    PageImage,
    integers,
    integers,
    blobs.map(lambda start: start.ljust(PAGE_SIZE, b"\0")),
)
entries = st.one_of(
    st.builds(wal.RecordsEntry, integers, integers, blobs),
    st.builds(wal.SealEntry, epochs),
    st.builds(wal.TableEntry, integers, tables),
    st.builds(wal.CheckpointEntry, epochs, tables, integers, integers, integers, integers),
    st.builds(wal.ImagesEntry, integers, st.lists(images, max_size=3).map(tuple)),
    st.builds(wal.HeldEntry, integers),
    st.builds(wal.LostEntry, st.text(max_size=8)),
    st.builds(wal.MarksEntry, epochs, st.dictionaries(st.text(max_size=3), integers, max_size=6)),
)
frames = st.builds(wal.Frame, epochs, st.lists(entries, max_size=4).map(tuple))
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | blobs,
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=20,
)
near_entries = st.lists(st.integers(0, 7) | plain, max_size=8)
near_bodies = st.tuples(integers | plain, integers | plain, st.lists(near_entries, max_size=3))


def decodes_soundly(body: bytes) -> None:
    """What decodes at all encodes again; all else is `MalformedFrame`, and no other error."""
    with suppress(MalformedFrame):
        frame = wal.decode_body(body)
        again = wal.encode_frame(frame.epoch, frame.entries)
        assert wal.decode_body(again[wal.HEADER_BYTES :]) == frame


@modestly
@given(frames)
def test_frames_survive(frame: wal.Frame) -> None:
    data = wal.encode_frame(frame.epoch, frame.entries)
    assert wal.decode_body(data[wal.HEADER_BYTES :]) == frame
    assert wal.scan(data).frames == ((0, len(data), frame),)


@modestly
@given(st.binary(max_size=200) | near_bodies.map(codec.pack) | plain.map(codec.pack))
def test_any_body_is_a_frame_or_malformed(body: bytes) -> None:
    decodes_soundly(body)


@modestly
@given(frames, st.data())
def test_a_spoilt_body_is_a_frame_or_malformed(frame: wal.Frame, data: st.DataObject) -> None:
    body = bytearray(wal.encode_frame(frame.epoch, frame.entries)[wal.HEADER_BYTES :])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    decodes_soundly(bytes(body))


def simple_scan(log: bytes) -> list[tuple[int, int]]:
    """Where sound frames lie: every place is tried, and nothing is skipped but what was read."""
    found = []
    start = 0
    while start < len(log):
        body = start + 16
        end = body + int.from_bytes(log[start + 4 : start + 8], "little")
        if (
            log[start : start + 4] == wal.MAGIC
            and body <= end <= len(log)
            and codec.checksum(log[start + 4 : start + 8] + log[body:end])
            == int.from_bytes(log[start + 8 : body], "little")
        ):
            found.append((start, end))
            start = end
        else:
            start += 1
    return found


pieces = st.one_of(
    frames.map(lambda each: wal.encode_frame(each.epoch, each.entries)),
    st.integers(1, 3).map(lambda each: wal.encode_frame(VolumeEpoch(each, 1), ())),
    blobs,
    st.tuples(frames, st.floats(0, 0.999)).map(
        lambda each: (whole := wal.encode_frame(each[0].epoch, each[0].entries))[
            : int(len(whole) * each[1])
        ]
    ),
)


@modestly
@given(st.lists(pieces, max_size=7).map(b"".join), st.data())
def test_a_scan_agrees_with_the_simple_one(log: bytes, data: st.DataObject) -> None:
    if log and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(log) - 1))
        log = log[:at] + bytes([log[at] ^ 1 << data.draw(st.integers(0, 7))]) + log[at + 1 :]
    found = wal.scan(log)
    places = simple_scan(log)
    assert [(each.start, each.end) for each in found.frames] == places
    assert found.durable_length == (places[-1][1] if places else 0)
    assert found.torn_bytes == len(log) - found.durable_length
    covered = sorted([*places, *found.damage])
    assert [start for start, _ in covered] == [0, *(end for _, end in covered)][: len(covered)]
    assert all(start < end for start, end in found.damage)
