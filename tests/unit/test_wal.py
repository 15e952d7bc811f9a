"""Frames of the log, and promise slots."""

from __future__ import annotations

import struct

import pytest

from segments import wal
from segments.protocol import codec
from segments.protocol.errors import Invalid, MalformedFrame
from segments.protocol.ids import MAX_INTEGER, VolumeEpoch
from segments.protocol.truncation import Gap, TruncationRange, TruncationTable

EPOCH = VolumeEpoch(3, 77)
SECOND = VolumeEpoch(2, 9)
TABLE = TruncationTable(
    SECOND,
    (TruncationRange(5, 9, EPOCH), TruncationRange(20, 900, SECOND)),
    EPOCH,
    (Gap(1, 4, 2),),
)
RUN = b"as it came, " + wal.MAGIC
ENTRIES: tuple[wal.Entry, ...] = (
    wal.RecordsEntry(vdl=7, floor=3, records=RUN),
    wal.SealEntry(VolumeEpoch(4, 1)),
    wal.TableEntry(vdl=8, table=TABLE),
    wal.SettledEntry(VolumeEpoch(2, 5)),
    wal.HeadEntry(EPOCH, TABLE, vdl=8, floor=4),
    wal.HeldEntry(9),
    wal.LostEntry("rolled back"),
    wal.MarksEntry(VolumeEpoch(1, 2), {"B0": 7, "C0": 0}),
)


def decoded(value: object) -> wal.Frame:
    """The frame with ``value`` as msgpack, and no run."""
    packed = codec.pack(value)
    return wal.decode_body(len(packed), packed)


# ---- entries and frames --------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda each: type(each).__name__)
def test_each_entry_comes_back_as_it_was(entry: wal.Entry) -> None:
    found = wal.decode_body(*wal.encode_body(EPOCH, [entry]))
    assert found == wal.Frame(EPOCH, (entry,))
    assert type(found.entries[0]) is type(entry)


def test_a_frame_carries_many_entries_in_order() -> None:
    many = (*ENTRIES, *ENTRIES[::-1])
    body = wal.encode_body(EPOCH, many)
    assert wal.decode_body(*body) == wal.Frame(EPOCH, many)
    assert body.data.endswith(RUN * 2), "runs are as they came, behind all else"


def test_a_head_of_the_right_shape_is_read() -> None:
    """The malformed ones below differ from this one in a single place."""
    head = (9, (1, 1), ((1, 1), (), (1, 1), ()), 1, 1)
    epoch = VolumeEpoch(1, 1)
    [found] = decoded((1, 2, [head])).entries
    assert found == wal.HeadEntry(epoch, TruncationTable(epoch, (), epoch), 1, 1)


def test_the_documented_layout() -> None:
    salt, offset = 0xF00D_0000_1234_5678, 0x1000
    packed = bytes.fromhex("93 01 02 92 92 07 03 94 01 04 05 03")
    summed = b"\xc1WAL" + struct.pack("<II", 15, 12)
    head_sum = codec.checksum(summed, salt ^ offset) % 2**32
    body_sum = codec.checksum(packed + b"run", salt ^ offset)
    entries: list[wal.Entry] = [wal.HeldEntry(3), wal.RecordsEntry(4, 5, b"run")]
    frame = wal.encode_body(VolumeEpoch(1, 2), entries).at(salt, offset)
    assert frame == summed + struct.pack("<IQ", head_sum, body_sum) + packed + b"run"
    assert wal.frame_at(bytes(9) + frame, 9, salt ^ offset) == (12, 9 + len(frame))


def test_a_frame_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = wal.RecordsEntry(1, 1, b"x" * 100)
    frame = wal.encode_body(EPOCH, [entry]).at(1, 0)
    monkeypatch.setattr(wal, "MAX_FRAME_BYTES", len(frame))
    assert wal.encode_body(EPOCH, [entry]).at(1, 0) == frame
    assert wal.frame_at(frame, 0, 1)
    monkeypatch.setattr(wal, "MAX_FRAME_BYTES", len(frame) - 1)
    with pytest.raises(Invalid, match=f"{len(frame)} bytes: expected at most {len(frame) - 1}"):
        wal.encode_body(EPOCH, [entry])
    assert not wal.frame_at(frame, 0, 1)


def test_a_frame_is_one_at_its_own_place_alone() -> None:
    body = wal.encode_body(EPOCH, ENTRIES)
    frame = body.at(5, 1000)
    assert wal.frame_at(frame, 0, 5 ^ 1000) == (body.packed_bytes, len(frame))
    for salt, offset in ((5, 1001), (5, 0), (4, 1000), (2**63 + 5, 1000)):
        assert not wal.frame_at(frame, 0, salt ^ offset)


def test_a_flipped_bit_anywhere_and_a_cut_anywhere_spoil_a_frame() -> None:
    frame = wal.encode_body(EPOCH, ENTRIES).at(5, 1000)
    for at in range(len(frame)):
        assert not wal.frame_at(frame[:at], 0, 5 ^ 1000)
        for bit in range(8):
            spoilt = bytearray(frame)
            spoilt[at] ^= 1 << bit
            assert not wal.frame_at(bytes(spoilt), 0, 5 ^ 1000)


@pytest.mark.parametrize(
    ("lengths", "rest"),
    [((3,), b""), ((3,), b"ru"), ((3,), b"run."), ((2, 3), b"runs"), ((), b"."), ((0, 3), b"runs")],
)
def test_runs_that_are_not_all_of_the_rest_are_malformed(
    lengths: tuple[int, ...], rest: bytes
) -> None:
    packed = codec.pack((1, 2, [(1, 1, 1, each) for each in lengths]))
    wal.decode_body(len(packed), packed + bytes(sum(lengths)))
    with pytest.raises(MalformedFrame):
        wal.decode_body(len(packed), packed + rest)


@pytest.mark.parametrize(
    "value",
    [
        None,
        (),
        (1, 2),
        (1, 2, 3),
        (1, 2, [], 4),
        (-1, 2, []),
        (1, MAX_INTEGER + 1, []),
        (1, True, []),
        (1, 2, [()]),
        (1, 2, [3]),
        (1, 2, [(0, 1)]),
        (1, 2, [(7, 1, 1)]),
        (1, 2, [("1", 1, 1)]),
        (1, 2, [(True, 1, 1, 0)]),
        (1, 2, [(1, 1, 1)]),
        (1, 2, [(1, 1, 1, "text")]),
        (1, 2, [(1, 1, 1, b"run")]),
        (1, 2, [(1, 1, -1, 0)]),
        (1, 2, [(1, 1, 1, -1)]),
        (1, 2, [(2, 1)]),
        (1, 2, [(2, (1, 2, 3))]),
        (1, 2, [(3, 1, ((1, 1), ((5, 4),)))]),
        (1, 2, [(3, 1, ((1, 1), (5, 4)))]),
        (1, 2, [(4, 1)]),
        (1, 2, [(5, 1, [])]),
        (1, 2, [(8, 1)]),
        (1, 2, [(9, (1, 1), ((1, 1), (), (1, 1), ()), 1)]),
        (1, 2, [(9, 1, ((1, 1), (), (1, 1), ()), 1, 1)]),
        (1, 2, [(9, (1, 1), (1, 1), 1, 1)]),
    ],
    ids=lambda each: f"{each!r:.50}",
)
def test_a_body_of_the_wrong_shape_is_malformed(value: object) -> None:
    with pytest.raises(MalformedFrame):
        decoded(value)


@pytest.mark.parametrize("depth", [10, 500, 1_000, 1_020, 5_000])
def test_deep_nesting_is_malformed_too(depth: int) -> None:
    nest = b"\x91" * depth + b"\xc0"
    for body in (nest, b"\x93\x01\x01\x91\x92\x02\x92\x01" + nest, b"\x93\x01" + nest + b"\x90"):
        with pytest.raises(MalformedFrame):
            wal.decode_body(len(body), body)


# ---- promises ------------------------------------------------------------------------------------


def test_promises_come_back_and_the_highest_counts() -> None:
    low = wal.Promise(VolumeEpoch(3, 900), VolumeEpoch(1, 7))
    high = wal.Promise(VolumeEpoch(4, MAX_INTEGER), VolumeEpoch(3, 900))
    assert len(wal.encode_promise(low)) == wal.PROMISE_SLOT_BYTES
    for slots in ((low, high), (high, low), (high, high)):
        assert wal.decode_promises(b"".join(map(wal.encode_promise, slots))) == high
    assert wal.decode_promises(wal.encode_promise(low)) == low
    assert wal.decode_promises(b"") == wal.NO_PROMISE


def test_a_spoilt_slot_leaves_the_other() -> None:
    promise = wal.Promise(VolumeEpoch(3, 1), VolumeEpoch(2, 1))
    low = wal.encode_promise(promise)
    high = wal.encode_promise(wal.Promise(VolumeEpoch(4, 1), VolumeEpoch(4, 1)))
    for at in range(44):
        spoilt = high[:at] + bytes([high[at] ^ 16]) + high[at + 1 :]
        assert wal.decode_promises(spoilt + low) == promise
        assert wal.decode_promises(low + spoilt) == promise
        assert wal.decode_promises(low + high[:at]) == promise
        with pytest.raises(MalformedFrame, match="no promise in 8192 bytes"):
            wal.decode_promises(spoilt + spoilt)
    with pytest.raises(MalformedFrame):
        wal.decode_promises(b"\0")
