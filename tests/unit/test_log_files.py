"""Which files a log consists of: the manifest, its two halves, and what is there beside it."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.config import SegmentConfig
from segments.manifest import (
    LogFile,
    Manifest,
    decode_manifest,
    encode_manifest,
    is_ours,
    leftovers,
    log_files_in,
    manifest_in,
    stored_in,
)
from segments.protocol import codec
from segments.protocol.errors import SegmentLost
from segments.restart import plan_restart
from segments.wal import scan
from tests.segment_rig import SegmentRig, durable, records

FILES = [LogFile(3, 50), LogFile(9, 7), LogFile(10, 1)]
BLOCK = 4096


# ---- the manifest --------------------------------------------------------------------------------


def test_a_manifest_is_what_its_description_says() -> None:
    half = b"\xc1MAN" + struct.pack("<IQQQQQQQ", 3, 12, 3, 50, 9, 7, 10, 0)
    half += struct.pack("<Q", codec.checksum(half))
    assert encode_manifest(FILES, 12) == half.ljust(BLOCK, b"\0") * 2


@given(
    st.lists(st.tuples(st.integers(1, 1 << 60), st.integers(1, 1 << 60)), min_size=1, max_size=600),
    st.integers(0, 1 << 60),
)
def test_a_manifest_of_any_length_says_what_was_written(
    rows: list[tuple[int, int]], next_number: int
) -> None:
    files = [LogFile(*row) for row in rows]
    encoded = encode_manifest(files, next_number)
    said = (*files[:-1], LogFile(files[-1].number, 0))
    assert decode_manifest(encoded) == Manifest(said, next_number)
    assert len(encoded) % (2 * BLOCK) == 0


@pytest.mark.parametrize("half", [0, 1])
def test_one_sound_half_is_enough_and_two_spoilt_ones_are_noticed(half: int) -> None:
    sound = encode_manifest(FILES, 12)
    for at in range(16 + 16 * len(FILES) + 8):
        spoilt = bytearray(sound)
        spoilt[half * BLOCK + at] ^= 1
        assert decode_manifest(bytes(spoilt)) == decode_manifest(sound)
        spoilt[(1 - half) * BLOCK + at] ^= 0x80
        assert decode_manifest(bytes(spoilt)) is None


@given(st.binary(max_size=200))
def test_what_is_no_manifest_is_none(data: bytes) -> None:
    assert decode_manifest(data) is None
    assert decode_manifest(b"\xc1MAN" + data) is None


def test_a_number_that_a_file_bears_is_not_given_out_again() -> None:
    manifest = encode_manifest(FILES, 12)
    names = ["manifest", "promise", "wal-3", "wal-9", "wal-10"]
    for name, following in (("wal-11", 12), ("wal-12", 13), ("wal-99", 100), ("wal-099", 12)):
        found = manifest_in([*names, name], manifest)
        assert found is not None and found.next_number == following
    assert manifest_in(["wal-1", "promise"], b"") is None


def test_only_what_a_log_has_left_is_left_over() -> None:
    names = [
        "identity", "log", "manifest", "manifest.new", "notes.txt", "promise", "wal-1",
        "wal-1.bak", "wal-10", "wal-3", "wal-x", "wal-٣",
    ]  # fmt: skip
    assert leftovers(names, FILES) == ["manifest.new", "wal-1"]
    assert [each for each in names if is_ours(each)] == [
        "manifest", "manifest.new", "promise", "wal-1", "wal-10", "wal-3",
    ]  # fmt: skip


# ---- what a disk holds ---------------------------------------------------------------------------


def written() -> tuple[SegmentRig, list[bytes], dict[str, bytes]]:
    """A segment, its frames, and a disk that holds them three to a file, the last ones open."""
    rig = SegmentRig()
    chain = records(range(1, 11))
    for at in range(10):
        rig.take(chain[at : at + 1])
    ends = [0, *(each.end for each in scan(bytes(rig.log)).frames)]
    frames = [bytes(rig.log[start:end]) for start, end in pairwise(ends)]
    parts = [b"".join(frames[at : at + 3]) for at in range(0, len(frames), 3)]
    numbers = [8, 9, 10, 11]
    files = {f"wal-{number}": part for number, part in zip(numbers, parts, strict=True)}
    sizes = [LogFile(*each) for each in zip(numbers, map(len, parts), strict=True)]
    manifest = encode_manifest(sizes, 12)
    return rig, frames, {"manifest": manifest, "promise": rig.promises, **files}


def restored(files: dict[str, bytes]) -> SegmentRig:
    """A segment that restarts from a disk; raises `SegmentLost`."""
    rig = SegmentRig()
    stored = stored_in(files)
    plan = plan_restart("A0", stored, SegmentConfig())
    rig.core.state = plan.state
    assert bool(plan.damage) is not plan.state.whole
    return rig


def test_the_files_of_a_log_are_read_in_the_order_of_the_manifest() -> None:
    rig, _, files = written()
    stored = stored_in(files)
    assert stored.log == bytes(rig.log) and not stored.lost
    assert [each.name for each in stored.files] == ["wal-8", "wal-9", "wal-10", "wal-11"]
    assert stored.files == log_files_in(files)
    assert stored.last_start == len(rig.log) - len(files["wal-11"])
    assert durable(restored(files).state) == durable(rig.state)


def test_files_that_the_manifest_does_not_name_are_ignored() -> None:
    rig, frames, files = written()
    for name in ("wal-7", "wal-12", "wal-1", "log"):
        files[name] = frames[0]
    assert stored_in(files).log == bytes(rig.log)


@pytest.mark.parametrize("name", ["wal-8", "wal-9", "wal-10"])
@pytest.mark.parametrize("how", ["gone", "empty", "shorter", "at a frame", "another"])
def test_a_file_that_is_not_the_last_is_damaged_if_it_is_not_whole(name: str, how: str) -> None:
    """It may be missing, or lack frames at its end: those behind it tell what was held."""
    _, frames, files = written()
    match how:
        case "gone":
            del files[name]
        case "empty":
            files[name] = b""
        case "shorter":
            files[name] = files[name][:-1]
        case "at a frame":
            files[name] = files[name][: -len(frames[3 * (int(name[4:]) - 8) + 2])]
        case "another":
            files[name] = files["wal-11"]
    stored = stored_in(files)
    assert len(stored.log) == sum(map(len, frames))
    state = restored(files).state
    assert not state.whole and state.scl < 10


def test_what_is_behind_the_end_of_a_full_file_is_ignored() -> None:
    rig, frames, files = written()
    files["wal-9"] += frames[1]
    assert stored_in(files).log == bytes(rig.log)


@pytest.mark.parametrize("tail", [b"", b"\xc1WAL torn"])
def test_the_last_file_alone_can_be_torn(tail: bytes) -> None:
    _, frames, files = written()
    files["wal-11"] = frames[9] + tail
    plan = plan_restart("A0", stored_in(files), SegmentConfig())
    assert (plan.state.scl, plan.damage, plan.torn_bytes) == (9, (), len(tail))


@pytest.mark.parametrize("left", [None, b"", b"rubbish"])
def test_without_a_frame_in_the_last_file_the_log_is_lost(left: bytes | None) -> None:
    """It was made with one: nobody knows what else was in there."""
    _, _, files = written()
    if left is None:
        del files["wal-11"]
    else:
        files["wal-11"] = left
    with pytest.raises(SegmentLost, match=r"A0 has lost its log: no .*wal-11"):
        restored(files)


def test_without_a_manifest_the_log_is_lost_and_without_promises_the_segment() -> None:
    _, _, files = written()
    spoilt = {**files, "manifest": bytes(2 * BLOCK)}
    with pytest.raises(SegmentLost, match="a spoilt manifest: expected one that names its files"):
        restored(spoilt)
    del spoilt["manifest"]
    with pytest.raises(SegmentLost, match="no manifest: expected one that names its files"):
        restored(spoilt)
    del files["promise"]
    with pytest.raises(SegmentLost, match="has lost its promises"):
        restored(files)
