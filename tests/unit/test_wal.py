"""Frames of the log, what a scan makes of spoilt ones, and promise slots."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import pytest

from segments import wal
from segments.protocol import codec
from segments.protocol.errors import Invalid, MalformedFrame
from segments.protocol.ids import MAX_INTEGER, VolumeEpoch
from segments.protocol.messages import PageImage
from segments.protocol.record import EMPTY_PAGE, PAGE_SIZE
from segments.protocol.truncation import Gap, TruncationRange, TruncationTable

EPOCH = VolumeEpoch(3, 77)
SECOND = VolumeEpoch(2, 9)
TABLE = TruncationTable(
    SECOND,
    (TruncationRange(5, 9, EPOCH), TruncationRange(20, 900, SECOND)),
    EPOCH,
    (Gap(1, 4, 2),),
)
PAGE = bytes(range(1, 200)).ljust(PAGE_SIZE, b"\0")
ENTRIES: tuple[wal.Entry, ...] = (
    wal.RecordsEntry(vdl=7, floor=3, records=b"as it came, " + wal.MAGIC),
    wal.SealEntry(VolumeEpoch(4, 1)),
    wal.TableEntry(vdl=8, table=TABLE),
    wal.CheckpointEntry(EPOCH, TABLE, vdl=8, floor=4, base_lsn=4, parts=2),
    wal.ImagesEntry(4, (PageImage(1, 2, PAGE), PageImage(2, 3, EMPTY_PAGE))),
    wal.HeldEntry(9),
    wal.LostEntry("rolled back"),
    wal.MarksEntry(VolumeEpoch(1, 2), {"B0": 7, "C0": 0}),
)


def small_frames(count: int) -> list[bytes]:
    return [
        wal.encode_frame(EPOCH, [wal.RecordsEntry(each, 0, b"run %d" % each)])
        for each in range(1, count + 1)
    ]


def contents(scan: wal.LogScan) -> list[wal.Frame]:
    return [each.frame for each in scan.frames]


# ---- entries and frames --------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda each: type(each).__name__)
def test_each_entry_comes_back_as_it_was(entry: wal.Entry) -> None:
    body = wal.encode_frame(EPOCH, [entry])[wal.HEADER_BYTES :]
    found = wal.decode_body(body)
    assert found == wal.Frame(EPOCH, (entry,))
    assert type(found.entries[0]) is type(entry)


def test_a_frame_carries_many_entries_in_order() -> None:
    log = wal.encode_frame(EPOCH, ENTRIES)
    assert contents(wal.scan(log)) == [wal.Frame(EPOCH, ENTRIES)]


def test_the_documented_layout() -> None:
    frame = wal.encode_frame(VolumeEpoch(1, 2), [wal.HeldEntry(3)])
    body = bytes.fromhex("93 01 02 91 92 07 03")
    length = bytes.fromhex("07 00 00 00")
    total = codec.checksum(length + body).to_bytes(8, "little")
    assert frame == b"\xc1WAL" + length + total + body


def test_trailing_zeros_of_images_are_not_stored() -> None:
    frame = wal.encode_frame(EPOCH, [wal.ImagesEntry(1, (PageImage(1, 1, PAGE),) * 10)])
    assert len(frame) < 10 * 220


def test_a_body_never_contains_the_magic() -> None:
    sly = wal.MAGIC + wal.MAGIC[:3] + b"\0" + wal.MAGIC[:3] + wal.MAGIC[:1] + wal.MAGIC * 3
    for start in range(len(sly)):
        entry = wal.RecordsEntry(1, 1, sly[start:])
        frame = wal.encode_frame(EPOCH, [entry])
        assert frame.find(wal.MAGIC, 1) < 0
        assert wal.decode_body(frame[wal.HEADER_BYTES :]).entries == (entry,)


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(Invalid, match="page 6 has 8191 bytes: expected 8192"):
        wal.encode_frame(EPOCH, [wal.ImagesEntry(1, (PageImage(6, 1, PAGE[1:]),))])


def test_a_frame_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = wal.RecordsEntry(1, 1, b"x" * 100)
    frame = wal.encode_frame(EPOCH, [entry])
    monkeypatch.setattr(wal, "MAX_FRAME_BYTES", len(frame))
    assert wal.encode_frame(EPOCH, [entry]) == frame
    monkeypatch.setattr(wal, "MAX_FRAME_BYTES", len(frame) - 1)
    with pytest.raises(Invalid, match=f"{len(frame)} bytes: expected at most {len(frame) - 1}"):
        wal.encode_frame(EPOCH, [entry])
    assert wal.scan(frame).frames == ()


def test_more_images_than_a_frame_may_hold_are_refused_both_ways() -> None:
    pages = (PageImage(1, 1, EMPTY_PAGE),) * (wal.MAX_FRAME_PAGES // 2 + 1)
    entry = wal.ImagesEntry(1, pages)
    assert len(wal.encode_frame(EPOCH, [entry])) < 100_000
    with pytest.raises(Invalid, match="8194 page images"):
        wal.encode_frame(EPOCH, [entry, entry])
    plain = (5, 1, [(1, 1, b"")] * len(pages))
    with pytest.raises(MalformedFrame, match="8194 page images"):
        wal.decode_body(codec.pack((1, 1, [plain, plain])))


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
        (1, 2, [(True, 1, 1, b"")]),
        (1, 2, [(1, 1, 1)]),
        (1, 2, [(1, 1, 1, "text")]),
        (1, 2, [(1, 1, -1, b"")]),
        (1, 2, [(2, 1)]),
        (1, 2, [(2, (1, 2, 3))]),
        (1, 2, [(3, 1, ((1, 1), ((5, 4),)))]),
        (1, 2, [(3, 1, ((1, 1), (5, 4)))]),
        (1, 2, [(5, 1, 1)]),
        (1, 2, [(5, 1, [1])]),
        (1, 2, [(5, 1, [(1, 1)])]),
        (1, 2, [(5, 1, [(1, 1, 1)])]),
        (1, 2, [(5, 1, [(1, 1, bytes(PAGE_SIZE + 1))])]),
        (1, 2, [(6, 1, 1, 1)]),
    ],
    ids=lambda each: f"{each!r:.50}",
)
def test_a_body_of_the_wrong_shape_is_malformed(value: object) -> None:
    with pytest.raises(MalformedFrame):
        wal.decode_body(codec.pack(value))


@pytest.mark.parametrize("depth", [10, 500, 1_000, 1_020, 5_000])
def test_deep_nesting_is_malformed_too(depth: int) -> None:
    nest = b"\x91" * depth + b"\xc0"
    for body in (nest, b"\x93\x01\x01\x91\x92\x02\x92\x01" + nest, b"\x93\x01" + nest + b"\x90"):
        with pytest.raises(MalformedFrame):
            wal.decode_body(body)


# ---- scans ---------------------------------------------------------------------------------------


def test_an_empty_log() -> None:
    assert wal.scan(b"") == wal.LogScan((), (), 0, 0)


def test_a_sound_log_is_read_whole() -> None:
    frames = small_frames(5)
    found = wal.scan(b"".join(frames))
    starts = [sum(map(len, frames[:each])) for each in range(6)]
    places = [(each.start, each.end) for each in found.frames]
    assert places == list(pairwise(starts))
    assert [cast("wal.RecordsEntry", each.entries[0]).vdl for each in contents(found)] == [
        *range(1, 6)
    ]
    assert (found.damage, found.durable_length, found.torn_bytes) == ((), starts[-1], 0)


@pytest.mark.parametrize("rest", [b"", bytes(700), b"\xff" * 9, wal.MAGIC * 5, wal.MAGIC[:3]])
def test_a_last_frame_torn_at_any_byte_is_a_tail(rest: bytes) -> None:
    frames = small_frames(3)
    sound, last = b"".join(frames[:2]), frames[2]
    for cut in range(len(last)):
        log = sound + last[:cut] + rest
        found = wal.scan(log)
        assert found.durable_length == len(sound)
        assert found.torn_bytes == len(log) - len(sound)
        assert found.damage == ()
        assert len(found.frames) == 2


def test_a_frame_appended_after_the_cut_is_read() -> None:
    frames = small_frames(3)
    log = frames[0] + frames[1][:-1] + bytes(100)
    log = log[: wal.scan(log).durable_length] + frames[2]
    found = wal.scan(log)
    assert contents(found) == contents(wal.scan(frames[0])) + contents(wal.scan(frames[2]))
    assert (found.damage, found.torn_bytes) == ((), 0)


def test_frames_behind_garbage_are_read_and_the_garbage_is_told() -> None:
    frames = small_frames(3)
    for garbage in (b"x", bytes(50), wal.MAGIC, wal.MAGIC * 9, wal.MAGIC[:3], frames[0][:-1]):
        log = frames[0] + garbage + frames[1] + garbage + frames[2] + garbage
        found = wal.scan(log)
        assert contents(found) == contents(wal.scan(b"".join(frames)))
        second = len(frames[0] + garbage + frames[1])
        assert found.damage == (
            (len(frames[0]), len(frames[0]) + len(garbage)),
            (second, second + len(garbage)),
        )
        assert (found.durable_length, found.torn_bytes) == (len(log) - len(garbage), len(garbage))


def test_a_flipped_bit_at_every_place_spoils_its_own_frame_only() -> None:
    frames = small_frames(4)
    log = b"".join(frames)
    truth = wal.scan(log).frames
    for at in range(len(log)):
        hit = next(index for index, each in enumerate(truth) if at < each.end)
        start, end, _ = truth[hit]
        for bit in (0, 3, 7):
            spoilt = bytearray(log)
            spoilt[at] ^= 1 << bit
            found = wal.scan(bytes(spoilt))
            assert found.frames == truth[:hit] + truth[hit + 1 :]
            last = hit == len(frames) - 1
            assert found.damage == (() if last else ((start, end),))
            assert found.durable_length == (start if last else len(log))
            assert found.torn_bytes == (end - start if last else 0)


def test_damage_at_the_very_start_and_over_several_frames() -> None:
    frames = small_frames(4)
    log = bytes(len(frames[0] + frames[1])) + frames[2] + frames[3]
    found = wal.scan(log)
    assert found.damage == ((0, len(frames[0] + frames[1])),)
    assert [each.start for each in found.frames] == [
        len(frames[0] + frames[1]),
        len(frames[0] + frames[1] + frames[2]),
    ]


def test_frames_that_pages_hold_are_never_taken_for_frames_of_the_log() -> None:
    inner = wal.encode_frame(VolumeEpoch(99, 99), [wal.SealEntry(VolumeEpoch(99, 99))])
    outer = wal.encode_frame(EPOCH, [wal.RecordsEntry(1, 0, inner * 3)])
    last = small_frames(1)[0]
    for at in range(wal.HEADER_BYTES):
        log = outer[:at] + bytes([outer[at] ^ 1]) + outer[at + 1 :] + last
        found = wal.scan(log)
        assert [each.frame.epoch for each in found.frames] == [EPOCH]
        assert found.damage == ((0, len(outer)),)


def sealed(body: bytes) -> bytes:
    """A frame whose checksum is right, whatever its body."""
    length = len(body).to_bytes(4, "little")
    return wal.MAGIC + length + codec.checksum(length + body).to_bytes(8, "little") + body


def test_a_whole_frame_of_an_unknown_format_is_damage_even_at_the_end() -> None:
    frame = small_frames(1)[0]
    foreign = sealed(codec.pack((1, 2, [(50, 1)])))
    found = wal.scan(frame + foreign + foreign)
    assert found.damage == ((len(frame), len(frame + foreign + foreign)),)
    assert (found.durable_length, found.torn_bytes) == (len(frame + foreign + foreign), 0)


def test_the_work_of_a_scan_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile logs: magics all over, each in front of a length up to the end of the log."""
    summed = 0
    checksum = codec.checksum

    def counting(data: bytes) -> int:
        nonlocal summed
        summed += len(data)
        return checksum(data)

    monkeypatch.setattr(codec, "checksum", counting)
    size = 400_000
    claim = wal.MAGIC + (size // 2).to_bytes(4, "little") + bytes(8)
    for unit in (wal.MAGIC, claim, claim + b"x" * 80, claim[:5], claim[:9]):
        log = unit * (size // 2 // len(unit)) + bytes(size // 2)
        summed = 0
        assert wal.scan(log).frames == ()
        assert summed <= 5 * len(log)


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


# ---- verifying -----------------------------------------------------------------------------------


def test_verifying_agrees_with_scanning_at_every_damage() -> None:
    log = b"".join(
        wal.encode_frame(EPOCH, [wal.HeldEntry(at), wal.SealEntry(EPOCH)]) for at in range(4)
    )
    assert wal.verify(log) == wal.Verified(len(log), damaged=False)
    for at in range(len(log)):
        spoilt = log[:at] + bytes([log[at] ^ 1]) + log[at + 1 :]
        found, verified = wal.scan(spoilt), wal.verify(spoilt)
        assert verified.damaged == bool(found.damage)
        if not found.damage:
            assert verified.sound_bytes == found.durable_length < len(log)
        assert wal.verify(log[:at]).sound_bytes == wal.scan(log[:at]).durable_length
