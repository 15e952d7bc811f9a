"""Which files a segment consists of: the manifest, its two halves, and what is there beside it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.live_files import LiveFiles
from segments.manifest import (
    LayerFile,
    LogFile,
    Manifest,
    decode_manifest,
    encode_manifest,
    is_ours,
    leftovers,
    log_files_in,
    log_in,
    numbered_above,
)
from segments.protocol import codec

LOGS = (LogFile(3, 50, 503), LogFile(9, 7, 509), LogFile(10, 0, 5010))
LAYERS = (LayerFile(4, 900, 0, 20, True), LayerFile(2, 800, 20, 31, False))
MANIFEST = Manifest(LOGS, LAYERS, 12)
BLOCK = 4096


# ---- the manifest --------------------------------------------------------------------------------


def test_a_manifest_is_what_its_description_says() -> None:
    half = (
        b"\xc1MAN"
        + struct.pack("<IIIQ", 3, 2, 0, 12)
        + struct.pack("<9Q", 3, 50, 503, 9, 7, 509, 10, 0, 5010)
    )
    half += struct.pack("<10Q", 4, 900, 0, 20, 1, 2, 800, 20, 31, 0)
    half += struct.pack("<Q", codec.checksum(half))
    assert encode_manifest(MANIFEST) == half.ljust(BLOCK, b"\0") * 2
    assert MANIFEST.bytes_said == len(half)
    assert MANIFEST.names == {"wal-3", "wal-9", "wal-10", "layer-4", "layer-2"}


NUMBERS = st.integers(1, 1 << 60)


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS, st.integers(0, 2**64 - 1)), min_size=1, max_size=300),
    st.lists(NUMBERS, unique=True, max_size=120).map(sorted),
    st.booleans(),
    NUMBERS,
)
def test_a_manifest_of_any_length_says_what_was_written(
    rows: list[tuple[int, int, int]], ends: list[int], base: bool, next_number: int
) -> None:
    layers = [
        LayerFile(number, 7 * number, start, end, base and not start)
        for number, (start, end) in enumerate(pairwise([0, *ends]), 1)
    ]
    manifest = Manifest(tuple(LogFile(*row) for row in rows), tuple(layers), next_number)
    encoded = encode_manifest(manifest)
    said = (*manifest.logs[:-1], manifest.logs[-1]._replace(length=0))
    assert decode_manifest(encoded) == manifest._replace(logs=said)
    assert len(encoded) % (2 * BLOCK) == 0


@pytest.mark.parametrize("half", [0, 1])
def test_one_sound_half_is_enough_and_two_spoilt_ones_are_noticed(half: int) -> None:
    sound = encode_manifest(MANIFEST)
    for at in range(MANIFEST.bytes_said):
        spoilt = bytearray(sound)
        spoilt[half * BLOCK + at] ^= 1
        assert decode_manifest(bytes(spoilt)) == MANIFEST
        spoilt[(1 - half) * BLOCK + at] ^= 0x80
        assert decode_manifest(bytes(spoilt)) is None


@pytest.mark.parametrize(
    "ends",
    [
        [(1, 20), (20, 31)],  # not from the beginning
        [(0, 20), (21, 31)],  # a gap
        [(0, 20), (19, 31)],  # an overlap
        [(0, 20), (20, 20)],  # nothing
    ],
)
def test_layers_that_do_not_tile_are_no_manifest(ends: list[tuple[int, int]]) -> None:
    layers = tuple(LayerFile(at, 9, *each, False) for at, each in enumerate(ends, 20))
    assert decode_manifest(encode_manifest(MANIFEST._replace(layers=layers))) is None


def test_a_base_is_the_first_layer_alone() -> None:
    first, second = LAYERS
    layers = (first, second._replace(base=True))
    assert decode_manifest(encode_manifest(MANIFEST._replace(layers=layers))) is None
    layers = (first._replace(base=False), second)
    assert decode_manifest(encode_manifest(MANIFEST._replace(layers=layers))) is not None


@given(st.binary(max_size=200))
def test_what_is_no_manifest_is_none(data: bytes) -> None:
    assert decode_manifest(data) is None
    assert decode_manifest(b"\xc1MAN" + data) is None


def test_a_number_that_a_file_bears_is_not_given_out_again() -> None:
    names = ["manifest", "promise", "wal-3", "wal-9", "wal-10", "layer-4", "layer-2"]
    for name, following in (
        ("wal-11", 12), ("wal-12", 13), ("layer-12", 13), ("wal-99", 100), ("wal-099", 12),
        ("manifest.new", 12),
    ):  # fmt: skip
        assert numbered_above(MANIFEST, [*names, name]) == MANIFEST._replace(next_number=following)


def test_only_what_a_segment_has_left_is_left_over() -> None:
    names = [
        "identity", "layer-2", "layer-3", "layer-x", "log", "manifest", "manifest.new", "notes.txt",
        "promise", "wal-1", "wal-1.bak", "wal-10", "wal-3", "wal-x", "wal-٣",
    ]  # fmt: skip
    assert leftovers(names, MANIFEST) == ["layer-3", "manifest.new", "wal-1"]
    assert [each for each in names if is_ours(each)] == [
        "layer-2", "layer-3", "manifest", "manifest.new", "promise", "wal-1", "wal-10", "wal-3",
    ]  # fmt: skip


# ---- the log on a disk ---------------------------------------------------------------------------


def on_disk() -> dict[str, bytes]:
    manifest = encode_manifest(
        Manifest((LogFile(8, 5, 508), LogFile(2, 3, 502), LogFile(9, 0, 509)), (), 10)
    )
    return {"manifest": manifest, "wal-8": b"first", "wal-2": b"and", "wal-9": b"last"}


def test_the_log_is_its_files_in_the_order_of_the_manifest() -> None:
    files = on_disk() | {"wal-7": b"not named"}
    assert log_in(files).log == b"firstandlast"
    assert log_in(files).files == (LogFile(8, 5, 508), LogFile(2, 3, 502), LogFile(9, 4, 509))
    assert log_in(files).parts == ((508, b"first"), (502, b"and"), (509, b"last"))
    assert log_files_in(files) == log_in(files).files


@pytest.mark.parametrize(
    ("name", "left", "log"),
    [
        ("wal-8", None, b"\0\0\0\0\0andlast"),
        ("wal-2", b"", b"first\0\0\0last"),
        ("wal-2", b"an", b"firstan\0last"),
        ("wal-2", b"and more", b"firstandlast"),
        ("wal-9", b"", b"firstand"),
        ("wal-9", None, b""),
        ("manifest", None, b""),
        ("manifest", bytes(2 * BLOCK), b""),
    ],
)
def test_what_is_missing_moves_nothing(name: str, left: bytes | None, log: bytes) -> None:
    files = on_disk()
    del files[name]
    if left is not None:
        files[name] = left
    assert log_in(files).log == log


# ---- live files ----------------------------------------------------------------------------------


def live(tops: dict[int, int] | None = None) -> LiveFiles:
    return LiveFiles(MANIFEST, {3: 40, 9: 44, 10: 0} if tops is None else tops)


def test_numbers_are_given_out_once_and_the_manifest_says_so() -> None:
    files = live()
    assert [files.take_number() for _ in range(3)] == [12, 13, 14]
    assert files.edited(lambda manifest: manifest).next_number == 15
    files.republished(lambda manifest: manifest._replace(layers=()), {})
    assert files.take_number() == 15


def test_what_is_appended_and_cut_is_the_last_file_and_is_counted() -> None:
    files = live()
    files.appended(100, 50)
    assert (files.last_log, files.log_bytes, files.layer_bytes) == (
        LogFile(10, 100, 5010),
        157,
        1700,
    )
    files.cut(60)
    assert (files.last_log, files.log_bytes) == (LogFile(10, 60, 5010), 117)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(0, 50))
def test_log_files_go_as_a_prefix_of_what_is_folded_and_never_the_last(
    tops: list[int], folded: int
) -> None:
    logs = tuple(LogFile(at, 10, 0) for at in range(len(tops)))
    files = LiveFiles(Manifest(logs, (), 99), dict(enumerate(tops)))
    left = files.without_folded(folded)
    assert left and left == logs[len(logs) - len(left) :]
    gone = tops[: len(tops) - len(left)]
    assert all(top <= folded for top in gone)
    assert len(left) == 1 or tops[len(gone)] > folded, "nothing stays that could go"


def test_a_file_is_as_high_as_the_highest_record_that_was_ever_added_to_it() -> None:
    files = live()
    files.appended(10, 60)
    files.appended(10, 0)
    files.appended(10, 55)
    add: Callable[[Manifest], Manifest] = lambda manifest: manifest._replace(  # noqa: E731
        logs=(*manifest.logs, LogFile(12, 10, 5012))
    )
    files.republished(add, {12: 70})
    files.appended(5, 65)
    add_empty: Callable[[Manifest], Manifest] = lambda manifest: manifest._replace(  # noqa: E731
        logs=(*manifest.logs, LogFile(13, 10, 5013))
    )
    files.republished(add_empty, {13: 0})
    numbers = {
        folded: [each.number for each in files.without_folded(folded)]
        for folded in (39, 40, 43, 44, 59, 60, 69, 70)
    }
    assert numbers == {
        39: [3, 9, 10, 12, 13], 40: [9, 10, 12, 13], 43: [9, 10, 12, 13], 44: [10, 12, 13],
        59: [10, 12, 13], 60: [12, 13], 69: [12, 13], 70: [13],
    }  # fmt: skip
