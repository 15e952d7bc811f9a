"""Any bytes at all: a value or `MalformedFrame`; and scans against one too simple to err."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from segments import wal
from segments.protocol import codec
from segments.protocol.errors import MalformedFrame
from segments.protocol.ids import VolumeEpoch
from segments.protocol.truncation import Gap, TruncationRange, TruncationTable
from segments.wal_scan import LogPart, scan, verify

modestly = settings(max_examples=100, deadline=None)

integers = st.integers(0, 2**63 - 1)
salts = st.sampled_from([0, 1, 2**64 - 1, 0x1234_5678_9ABC_DEF0])
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
entries = st.one_of(
    st.builds(wal.RecordsEntry, integers, integers, blobs),
    st.builds(wal.SealEntry, epochs),
    st.builds(wal.TableEntry, integers, tables),
    st.builds(wal.SettledEntry, epochs),
    st.builds(wal.HeadEntry, epochs, tables, integers, integers),
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
near_entries = st.lists(st.integers(0, 9) | plain, max_size=8)
near_bodies = st.tuples(integers | plain, integers | plain, st.lists(near_entries, max_size=3))


def decodes_soundly(packed_bytes: int, body: bytes) -> None:
    """What decodes at all encodes again; all else is `MalformedFrame`, and no other error."""
    with suppress(MalformedFrame):
        frame = wal.decode_body(packed_bytes, body)
        assert wal.decode_body(*wal.encode_body(frame.epoch, frame.entries)) == frame


@modestly
@given(frames, salts)
def test_frames_survive(frame: wal.Frame, salt: int) -> None:
    body = wal.encode_body(frame.epoch, frame.entries)
    assert wal.decode_body(*body) == frame
    data = body.at(salt, 0)
    assert scan([LogPart(salt, data)]).frames == ((0, len(data), frame),)


@modestly
@given(st.binary(max_size=200) | near_bodies.map(codec.pack) | plain.map(codec.pack), blobs)
def test_any_body_is_a_frame_or_malformed(packed: bytes, rest: bytes) -> None:
    decodes_soundly(len(packed), packed + rest)
    decodes_soundly(len(packed), packed)


@modestly
@given(frames, st.data())
def test_a_spoilt_body_is_a_frame_or_malformed(frame: wal.Frame, data: st.DataObject) -> None:
    packed_bytes, encoded = wal.encode_body(frame.epoch, frame.entries)
    body = bytearray(encoded)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    decodes_soundly(packed_bytes + data.draw(st.integers(-1, 1)), bytes(body))


def simple_scan(parts: list[LogPart]) -> list[tuple[int, int]]:
    """Where sound frames lie: every place is tried, and nothing is skipped but what was read."""
    found = []
    base = 0
    for salt, data in parts:
        start = 0
        while start < len(data):
            head, body = data[start : start + 16], start + 24
            n, p = (int.from_bytes(head[at : at + 4], "little") for at in (4, 8))
            if (
                head[:4] == wal.MAGIC
                and p <= n
                and body + n <= len(data)
                and head[12:] == codec.checksum(head[:12], salt ^ start).to_bytes(8, "little")[:4]
                and codec.checksum(data[body : body + n], salt ^ start)
                == int.from_bytes(data[body - 8 : body], "little")
            ):
                found.append((base + start, base + body + n))
                start = body + n
            else:
                start += 1
        base += len(data)
    return found


bodies = st.one_of(
    frames.map(lambda each: wal.encode_body(each.epoch, each.entries)),
    st.integers(1, 3).map(lambda each: wal.encode_body(VolumeEpoch(each, 1), ())),
)


@st.composite
def files(draw: st.DrawFn) -> LogPart:
    """Frames at their places, and at others; parts of some, and anything else in between."""
    salt, data = draw(salts), b""
    for kind in draw(st.lists(st.sampled_from(["frame", "frame", "part", "old", "blob"]))):
        match kind:
            case "frame":
                data += draw(bodies).at(salt, len(data))
            case "part":
                whole = draw(bodies).at(salt, len(data))
                data += whole[: draw(st.integers(0, len(whole) - 1))]
            case "old":
                data += draw(bodies).at(draw(salts), draw(st.integers(0, 200)))
            case _:
                data += draw(blobs)
    if data and draw(st.booleans()):
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
    return LogPart(salt, data)


@modestly
@given(st.lists(files(), max_size=3))
def test_a_scan_agrees_with_the_simple_one(parts: list[LogPart]) -> None:
    found = scan(parts)
    places = simple_scan(parts)
    assert [(each.start, each.end) for each in found.frames] == places
    assert found.durable_length == (places[-1][1] if places else 0)
    assert found.torn_bytes == sum(len(each.data) for each in parts) - found.durable_length
    covered = sorted([*places, *found.damage])
    assert [start for start, _ in covered] == [0, *(end for _, end in covered)][: len(covered)]
    assert all(start < end for start, end in found.damage)
    for salt, data in parts:
        alone = scan([LogPart(salt, data)])
        verified = verify(data, salt, 0)
        assert verified.damaged == bool(alone.damage)
        assert verified.damaged or verified.sound_bytes == alone.durable_length
