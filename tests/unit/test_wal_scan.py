"""What a scan makes of logs, sound and spoilt, and what sums alone tell of a piece of one."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import pytest

from segments import wal
from segments.protocol import codec
from segments.protocol.ids import VolumeEpoch
from segments.wal import HEADER_BYTES, MAGIC, FrameBody
from segments.wal_scan import LogPart, LogScan, Verified, scan, verify

EPOCH = VolumeEpoch(3, 77)
SALT = 0x1234_5678_9ABC_DEF0
OTHER = SALT + 0x1_0000_0000


def small(number: int) -> FrameBody:
    return wal.encode_body(EPOCH, [wal.RecordsEntry(number, 0, b"run %d" % number)])


def written(*what: FrameBody | bytes, salt: int = SALT) -> bytes:
    """A file of frames of these bodies, with other bytes in between."""
    file = b""
    for each in what:
        file += each if isinstance(each, bytes) else each.at(salt, len(file))
    return file


def small_frames(count: int, salt: int = SALT) -> bytes:
    return written(*map(small, range(1, count + 1)), salt=salt)


SIZE = len(small_frames(1))


def scanned(log: bytes) -> LogScan:
    """A log of one file."""
    return scan([LogPart(SALT, log)])


def numbers(found: LogScan) -> list[int]:
    """Which of the small frames were found."""
    return [cast("wal.RecordsEntry", each.frame.entries[0]).vdl for each in found.frames]


# ---- scans ---------------------------------------------------------------------------------------


def test_an_empty_log() -> None:
    assert scan([]) == scanned(b"") == LogScan((), (), 0, 0)


def test_a_sound_log_is_read_whole() -> None:
    found = scanned(small_frames(5))
    starts = [SIZE * each for each in range(6)]
    assert [(each.start, each.end) for each in found.frames] == list(pairwise(starts))
    assert numbers(found) == [1, 2, 3, 4, 5]
    assert (found.damage, found.durable_length, found.torn_bytes) == ((), starts[-1], 0)


@pytest.mark.parametrize("start", range(6))
def test_a_log_is_read_from_a_frame_on(start: int) -> None:
    parts = [LogPart(SALT, small_frames(2)), LogPart(OTHER, small_frames(3, OTHER))]
    whole, found = scan(parts), scan(parts, start * SIZE)
    assert found.frames == whole.frames[start:]
    assert (found.damage, found.durable_length, found.torn_bytes) == ((), 5 * SIZE, 0)


@pytest.mark.parametrize("rest", [b"", bytes(700), b"\xff" * 9, MAGIC * 5, MAGIC[:3]])
def test_a_last_frame_torn_at_any_byte_is_a_tail(rest: bytes) -> None:
    for cut in range(SIZE):
        log = small_frames(3)[: 2 * SIZE + cut] + rest
        found = scanned(log)
        assert found.durable_length == 2 * SIZE
        assert found.torn_bytes == len(log) - 2 * SIZE
        assert found.damage == ()
        assert numbers(found) == [1, 2]


def test_a_frame_appended_after_the_cut_is_read() -> None:
    log = small_frames(2)[:-1] + bytes(100)
    found = scanned(written(log[: scanned(log).durable_length], small(3)))
    assert numbers(found) == [1, 3]
    assert (found.damage, found.torn_bytes) == ((), 0)


def test_frames_behind_garbage_are_read_and_the_garbage_is_told() -> None:
    for garbage in (b"x", bytes(50), MAGIC, MAGIC * 9, MAGIC[:3], small_frames(1)):
        log = written(small(1), garbage, small(2), garbage, small(3), garbage)
        found = scanned(log)
        assert numbers(found) == [1, 2, 3]
        second = 2 * SIZE + len(garbage)
        assert found.damage == (
            (SIZE, SIZE + len(garbage)),
            (second, second + len(garbage)),
        )
        assert (found.durable_length, found.torn_bytes) == (len(log) - len(garbage), len(garbage))


def test_a_flipped_bit_at_every_place_spoils_its_own_frame_only() -> None:
    log = small_frames(4)
    truth = scanned(log).frames
    for at in range(len(log)):
        hit = at // SIZE
        start, end, _ = truth[hit]
        for bit in (0, 3, 7):
            spoilt = bytearray(log)
            spoilt[at] ^= 1 << bit
            found = scanned(bytes(spoilt))
            assert found.frames == truth[:hit] + truth[hit + 1 :]
            last = hit == 3
            assert found.damage == (() if last else ((start, end),))
            assert found.durable_length == (start if last else len(log))
            assert found.torn_bytes == (end - start if last else 0)


def test_damage_at_the_very_start_and_over_several_frames() -> None:
    found = scanned(bytes(2 * SIZE) + small_frames(4)[2 * SIZE :])
    assert found.damage == ((0, 2 * SIZE),)
    assert [each.start for each in found.frames] == [2 * SIZE, 3 * SIZE]


def test_a_whole_frame_of_an_unknown_format_is_damage_even_at_the_end() -> None:
    packed = codec.pack((1, 2, [(50, 1)]))
    foreign = FrameBody(len(packed), packed)
    log = written(small(1), foreign, foreign)
    found = scanned(log)
    assert found.damage == ((SIZE, len(log)),)
    assert (found.durable_length, found.torn_bytes) == (len(log), 0)


# ---- what was written elsewhere ------------------------------------------------------------------


def test_logs_that_pages_hold_are_never_taken_for_frames_of_the_log() -> None:
    """Whatever of them: whole logs of this engine, this very file among them."""
    inner = small_frames(3)
    outer = wal.encode_body(EPOCH, [wal.RecordsEntry(9, 0, inner + written(small(4), salt=0))])
    log = written(small(1), outer, small(2))
    assert numbers(scanned(log)) == [1, 9, 2]
    start, end = SIZE, len(log) - SIZE
    for at in range(start, end):
        found = scanned(log[:at] + bytes([log[at] ^ 1]) + log[at + 1 :])
        assert (numbers(found), found.damage) == ([1, 2], ((start, end),))


@pytest.mark.parametrize("salt", [0, SALT ^ 1, SALT ^ SIZE, OTHER])
def test_what_another_file_held_is_nothing_here(salt: int) -> None:
    """As blocks that the file system had given to somebody else before, or copied by mistake."""
    old = small_frames(6, salt)
    found = scanned(small_frames(2) + old[2 * SIZE :])
    assert (numbers(found), found.torn_bytes) == ([1, 2], 4 * SIZE)
    found = scanned(small_frames(2) + old[2 * SIZE : 4 * SIZE] + small_frames(6)[4 * SIZE :])
    assert numbers(found) == [1, 2, 5, 6]
    assert found.damage == ((2 * SIZE, 4 * SIZE),)


def test_frames_of_this_file_at_other_places_are_nothing_there() -> None:
    log = small_frames(6)
    for size in (SIZE, 2 * SIZE):
        for start in range(0, len(log) - size, SIZE):
            for at in {*range(0, len(log) - size, SIZE)} - {start}:
                moved = log[:at] + log[start : start + size] + log[at + size :]
                found = scanned(moved)
                assert not {*range(at // SIZE + 1, (at + size) // SIZE + 1)} & {*numbers(found)}


# ---- many files ----------------------------------------------------------------------------------


def test_a_log_of_many_files_is_read_as_one() -> None:
    parts = [LogPart(salt, small_frames(2, salt)) for salt in (SALT, OTHER, 0)]
    found = scan(parts)
    assert numbers(found) == [1, 2] * 3
    assert [each.start for each in found.frames] == [SIZE * each for each in range(6)]
    assert (found.damage, found.durable_length, found.torn_bytes) == ((), 6 * SIZE, 0)


@pytest.mark.parametrize("spoilt", [0, 1, 2])
def test_a_file_with_a_wrong_salt_is_damage_or_a_tail(spoilt: int) -> None:
    salts = [SALT, OTHER, 0]
    salts[spoilt] ^= 1
    files = [small_frames(2, each) for each in (SALT, OTHER, 0)]
    found = scan([*map(LogPart, salts, files)])
    assert numbers(found) == [1, 2] * 2
    place = (2 * SIZE * spoilt, 2 * SIZE * (spoilt + 1))
    assert found.damage == (() if spoilt == 2 else (place,))
    assert found.torn_bytes == (2 * SIZE if spoilt == 2 else 0)


def test_damage_reaches_across_files() -> None:
    files = [small_frames(2, each) for each in (SALT, OTHER, 0)]
    files[0] = files[0][:SIZE] + bytes(SIZE)
    files[1] = bytes(2 * SIZE)
    found = scan([*map(LogPart, (SALT, OTHER, 0), files)])
    assert found.damage == ((SIZE, 4 * SIZE),)
    files[2] = bytes(2 * SIZE)
    found = scan([*map(LogPart, (SALT, OTHER, 0), files)])
    assert (found.damage, found.durable_length, found.torn_bytes) == ((), SIZE, 5 * SIZE)


def test_a_frame_ends_where_its_file_does() -> None:
    """Half of it in the next one is half of it missing."""
    log = small_frames(2)
    found = scan([LogPart(SALT, log[:-5]), LogPart(SALT, log[-5:] + bytes(10))])
    assert (numbers(found), found.durable_length, found.torn_bytes) == ([1], SIZE, SIZE + 10)


# ---- how long it takes ---------------------------------------------------------------------------


def test_the_work_of_a_scan_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile logs: magics all over, each in front of a length up to the end of the log."""
    summed = 0
    checksum = codec.checksum

    def counting(data: bytes | memoryview, seed: int) -> int:
        nonlocal summed
        summed += len(data)
        return checksum(data, seed)

    monkeypatch.setattr(codec, "checksum", counting)
    size = 400_000
    claim = MAGIC + (size // 2).to_bytes(4, "little") + bytes(16)
    frame = wal.encode_body(EPOCH, [wal.RecordsEntry(1, 0, bytes(size // 2))]).at(0, 0)
    for unit in (MAGIC, claim, claim + b"x" * 80, claim[:5], claim[:9], frame[:HEADER_BYTES]):
        log = unit * (size // 2 // len(unit)) + bytes(size // 2)
        summed = 0
        assert scanned(log).frames == ()
        assert summed <= 5 * len(log)


# ---- verifying -----------------------------------------------------------------------------------


def test_verifying_agrees_with_scanning_at_every_damage() -> None:
    log = small_frames(4)
    assert verify(log, SALT, 0) == Verified(len(log), damaged=False)
    for at in range(len(log)):
        spoilt = log[:at] + bytes([log[at] ^ 1]) + log[at + 1 :]
        found, verified = scanned(spoilt), verify(spoilt, SALT, 0)
        assert verified.damaged == bool(found.damage)
        if not found.damage:
            assert verified.sound_bytes == found.durable_length < len(log)
        assert verify(log[:at], SALT, 0).sound_bytes == scanned(log[:at]).durable_length


@pytest.mark.parametrize("first", range(4))
def test_a_piece_from_the_middle_is_verified_at_its_place(first: int) -> None:
    piece = small_frames(4)[first * SIZE :]
    assert verify(piece, SALT, first * SIZE) == Verified(len(piece), damaged=False)
    for wrong in {0, SIZE, 3 * SIZE} - {first * SIZE}:
        assert verify(piece, SALT, wrong) == Verified(0, damaged=False)
    hurt = bytes(SIZE) + piece[SIZE:]
    assert verify(hurt, SALT, first * SIZE) == Verified(0, damaged=first < 3)
