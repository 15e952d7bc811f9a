"""Reading a SQLite write-ahead log: what is recovered, what ends it, what is refused."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.protocol.errors import AuroraError, Corrupt, Invalid
from sim.files.sqlite_rebuild import load_workload, sqlite_checkpointed
from sim.files.sqlite_wal import (
    MAX_DATABASE_BYTES,
    MAX_FILE_BYTES,
    PAGE_SIZES,
    DamagedFile,
    SqliteWal,
    UnsupportedFile,
    read_base,
    read_wal,
)
from tests.sqlite_fixtures import SALTS, SyntheticLog, live_database, overlaid, rewritten

JOURNAL = bytes.fromhex("d9d505f920a163d7") + bytes(504)
DATABASE = b"SQLite format 3\0\x02\x00\x02\x02" + bytes(492)


def page(fill: int, size: int = 512) -> bytes:
    return bytes([fill]) * size


def contents(wal: SqliteWal) -> list[tuple[list[tuple[int, bytes]], int]]:
    return [
        (
            [(number, bytes(image)) for number, image in transaction.frames],
            transaction.db_pages_after,
        )
        for transaction in wal.transactions
    ]


def two_transactions() -> SyntheticLog:
    """Frames 1 and 2, a commit; frames 3 and 4, a commit."""
    log = SyntheticLog().frame(1, page(1)).frame(2, page(2), 2)
    return log.frame(1, page(3)).frame(3, page(4), 3)


# ---- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_transactions_of_a_synthetic_log(page_size: int, big_endian: bool) -> None:
    image = bytes(range(256)) * (page_size // 256)
    log = SyntheticLog(page_size, big_endian=big_endian).frame(2, image).frame(1, image[::-1], 5)
    wal = read_wal(log.frame(1, image, 4).data, "x-wal")
    assert (wal.name, wal.page_size, wal.tail_bytes) == ("x-wal", page_size, 0)
    assert contents(wal) == [([(2, image), (1, image[::-1])], 5), ([(1, image)], 4)]


def test_a_log_without_frames_has_no_transactions() -> None:
    assert contents(read_wal(SyntheticLog().data, "x-wal")) == []


def test_frames_without_a_commit_are_no_transaction() -> None:
    log = two_transactions()
    expected = contents(read_wal(log.data, "x-wal"))
    wal = read_wal(log.frame(9, page(9)).frame(8, page(8)).data, "x-wal")
    assert contents(wal) == expected
    assert wal.tail_bytes == 2 * 536


def test_an_incomplete_frame_at_the_end_is_ignored_even_with_a_commit_mark() -> None:
    log = two_transactions()
    expected = contents(read_wal(log.data, "x-wal"))
    whole = log.frame(1, page(5), 3).data
    for missing in (1, 511, 512, 513, 535):
        wal = read_wal(whole[:-missing], "x-wal")
        assert contents(wal) == expected
        assert wal.tail_bytes == 536 - missing


def test_frames_of_an_older_generation_end_the_log_even_with_commits() -> None:
    log = two_transactions()
    expected = contents(read_wal(log.data, "x-wal"))
    older = SyntheticLog(salts=(SALTS[0] - 1, SALTS[1])).frame(1, page(7)).frame(2, page(8), 2)
    wal = read_wal(log.raw(older.data[32:]).data, "x-wal")
    assert contents(wal) == expected
    assert wal.tail_bytes == 2 * 536


@pytest.mark.parametrize("big_endian", [False, True])
def test_sqlite_reads_both_byte_orders_as_we_do(tmp_path: Path, big_endian: bool) -> None:
    with live_database(tmp_path, 4096) as database:
        database.insert(200, 100)
        database.run("DELETE FROM t WHERE a % 3 = 0")
        log_path = database.snapshot("copy.db")
    real = load_workload(log_path)
    log_path.write_bytes(rewritten(real.wal, big_endian=big_endian))
    synthetic = load_workload(log_path)
    assert contents(synthetic.wal) == contents(real.wal)
    assert len(real.wal.transactions) == 2
    file = sqlite_checkpointed(tmp_path / "copy.db", log_path, tmp_path)
    assert file == overlaid(real.base, real.wal)


def test_a_restarted_log_ends_before_its_leftovers(tmp_path: Path) -> None:
    with live_database(tmp_path, 4096) as database:
        database.insert(500, 200)
        database.run("PRAGMA wal_checkpoint(RESTART)", "INSERT INTO t(b) VALUES ('new')")
        log_path = database.snapshot("copy.db")
    workload = load_workload(log_path)
    assert len(workload.wal.transactions) == 1
    assert workload.wal.tail_bytes > 20 * 4096
    file = sqlite_checkpointed(tmp_path / "copy.db", log_path, tmp_path)
    assert file == overlaid(workload.base, workload.wal)


def test_leftovers_of_a_rollback_have_this_generations_salts_and_are_no_damage(
    tmp_path: Path,
) -> None:
    with live_database(tmp_path, 4096) as database:
        database.insert(10, 100)
        database.run("PRAGMA cache_size = 5", "BEGIN")
        database.run(*["INSERT INTO t(b) VALUES (hex(randomblob(900)))"] * 60, "ROLLBACK")
        database.run("INSERT INTO t(b) VALUES ('kept')")
        log_path = database.snapshot("copy.db")
    data = log_path.read_bytes()
    workload = load_workload(log_path)
    assert workload.wal.tail_bytes > 10 * 4120
    tail = len(data) - workload.wal.tail_bytes
    assert data[tail + 8 : tail + 16] == data[16:24]
    file = sqlite_checkpointed(tmp_path / "copy.db", log_path, tmp_path)
    assert file == overlaid(workload.base, workload.wal)


# ---- damage --------------------------------------------------------------------------------------


def test_a_log_cut_anywhere_is_read_as_sqlite_reads_it(tmp_path: Path) -> None:
    with live_database(tmp_path, 512) as database:
        for _ in range(3):
            database.insert(3, 60)
        log_path = database.snapshot("copy.db")
    data = log_path.read_bytes()
    seen = set()
    for length in [*range(32, len(data), 301), *range(32, len(data) + 1, 536)]:
        log_path.write_bytes(data[:length])
        workload = load_workload(log_path)
        file = sqlite_checkpointed(tmp_path / "copy.db", log_path, tmp_path)
        assert overlaid(workload.base, workload.wal) == file, length
        seen.add(len(workload.wal.transactions))
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_is_refused_or_ends_the_log_as_in_sqlite(tmp_path: Path, mask: int) -> None:
    with live_database(tmp_path, 512) as database:
        for _ in range(2):
            database.insert(2, 60)
        log_path = database.snapshot("copy.db")
    data = log_path.read_bytes()
    whole = contents(read_wal(data, "x-wal"))
    assert len(whole) == 2
    frames = range(32, len(data), 536)
    headers = {at + byte for at in frames for byte in range(24)}
    not_refused = []
    for at in sorted({*range(32), *headers, *range(32, len(data), 41)}):
        flipped = bytearray(data)
        flipped[at] ^= mask
        try:
            wal = read_wal(bytes(flipped), "x-wal")
        except (DamagedFile, UnsupportedFile):
            continue
        not_refused.append(at)
        log_path.write_bytes(flipped)
        workload = load_workload(log_path)
        file = sqlite_checkpointed(tmp_path / "copy.db", log_path, tmp_path)
        assert overlaid(workload.base, wal) == file
        assert contents(wal) == whole[:1]
    # Only the last commit's salts: it then looks like a frame of an older generation.
    assert not_refused == list(range(frames[-1] + 8, frames[-1] + 16))


def test_a_commit_mark_that_is_lost_looks_like_the_leftover_of_a_rollback() -> None:
    log = two_transactions()
    data = bytearray(log.data)
    data[-536 + 7] = 0
    assert len(read_wal(bytes(data), "x-wal").transactions) == 1


@pytest.mark.parametrize(
    ("frame", "byte", "value", "message"),
    [
        (2, 100, 0xEE, r"frame 2 at offset 568 has checksum .*, expected .*frame 2 at offset 568"),
        (
            3,
            100,
            0xEE,
            r"frame 3 at offset 1104 has checksum .*, expected .*frame 4 at offset 1640",
        ),
        (3, 8, 0xEE, r"frame 3 at offset 1104 has salts ee020304 a0b0c0d0, expected 01020304"),
        (1, 3, 0, r"frame 1 at offset 32 has page number 0, expected 1 or more"),
        (4, 20, 0xEE, r"frame 4 at offset 1640 has checksum"),
    ],
)
def test_damage_names_frame_offset_found_and_expected(
    frame: int, byte: int, value: int, message: str
) -> None:
    data = bytearray(two_transactions().data)
    data[32 + (frame - 1) * 536 + byte] = value
    with pytest.raises(DamagedFile, match=r"x-wal: " + message):
        read_wal(bytes(data), "x-wal")


def test_a_frame_lost_from_the_middle_is_damage() -> None:
    data = two_transactions().data
    with pytest.raises(DamagedFile, match="frame 2 at offset 568"):
        read_wal(data[: 32 + 536] + data[32 + 2 * 536 :], "x-wal")


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the log is empty"),
        (DATABASE, "found a SQLite database at offset 0, expected 377f0682 or 377f0683"),
        (JOURNAL, "found a SQLite rollback journal"),
        (struct.pack("<I", 3007000) + bytes(100), "found a SQLite shared-memory index"),
        (b"PK\x03\x04 and so on", "found 504b0304 20616e64 20736f20 6f6e at offset 0"),
        (b"\x37", "found 37 at offset 0"),
        (SyntheticLog(version=3007001).data, "version 3007001 at offset 4: expected 3007000"),
        (SyntheticLog(16384).data, "page size 16384 at offset 8: expected one of 512, 1024,"),
        (SyntheticLog(1000).data, "page size 1000 at offset 8"),
        (SyntheticLog(0).data, "page size 0 at offset 8"),
        (bytes(MAX_FILE_BYTES + 1), f"{MAX_FILE_BYTES + 1} bytes long: expected at most"),
    ],
)
def test_files_that_are_no_log_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(UnsupportedFile, match="^x-wal: .*" + message) as caught:
        read_wal(data, "x-wal")
    assert isinstance(caught.value, Invalid)


@pytest.mark.parametrize("length", [4, 31])
def test_a_log_shorter_than_its_header_is_damaged(length: int) -> None:
    with pytest.raises(DamagedFile, match=f"x-wal: {length} bytes long") as caught:
        read_wal(two_transactions().data[:length], "x-wal")
    assert isinstance(caught.value, Corrupt)


def test_a_damaged_log_header_is_refused_though_sqlite_would_drop_the_log() -> None:
    data = bytearray(two_transactions().data)
    data[13] ^= 1
    with pytest.raises(DamagedFile, match=r"header's checksum at offset 24 is .* expected"):
        read_wal(bytes(data), "x-wal")


def test_a_database_of_any_size_that_the_log_claims_is_not_believed() -> None:
    limit = MAX_DATABASE_BYTES // 512
    read_wal(SyntheticLog().frame(limit, page(1), limit).data, "x-wal")
    for page_number, db_pages in ((1, limit + 1), (limit + 1, 1), (0xFFFFFFFF, 0xFFFFFFFF)):
        log = SyntheticLog().frame(page_number, page(1), db_pages)
        with pytest.raises(UnsupportedFile, match=f"page {page_number} of .* {db_pages} pages"):
            read_wal(log.data, "x-wal")


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", UnsupportedFile, "the database is empty"),
        (two_transactions().data, UnsupportedFile, "found a SQLite write-ahead log"),
        (JOURNAL, UnsupportedFile, "found a SQLite rollback journal"),
        (b"\x8a\x11" * 256, UnsupportedFile, "not an unencrypted SQLite database: found 8a118a11"),
        (DATABASE[:99], DamagedFile, "99 bytes long: expected a header of 100"),
        (DATABASE + b"\0", DamagedFile, "513 bytes long, which ends 1 bytes into page 2"),
        (b"SQLite format 3\0\x00\x01" + bytes(494), UnsupportedFile, "page size 65536"),
        (b"SQLite format 3\0\x03\x00" + bytes(494), UnsupportedFile, "page size 768 at offset 16"),
    ],
)
def test_files_that_are_no_base_are_refused(
    data: bytes, error: type[AuroraError], message: str
) -> None:
    with pytest.raises(error, match="^x.db: .*" + message):
        read_base(data, "x.db")


def test_a_base_is_cut_into_pages() -> None:
    base = read_base(DATABASE + page(7), "x.db")
    assert [bytes(image) for image in base.pages] == [DATABASE, page(7)]


# ---- fuzzing -------------------------------------------------------------------------------------

HEADERS = st.sampled_from([b"", SyntheticLog().data, two_transactions().data, DATABASE, JOURNAL])


@given(HEADERS, st.binary(max_size=1200))
@settings(max_examples=150)
def test_random_bytes_raise_only_typed_errors(start: bytes, rest: bytes) -> None:
    for read in (read_wal, read_base):
        with contextlib.suppress(AuroraError):
            assert read(start + rest, "x").page_size in PAGE_SIZES


@given(st.integers(0, 2175), st.integers(0, 40), st.binary(max_size=40))
@settings(max_examples=200)
def test_a_mangled_log_gives_whole_transactions_from_its_front_or_a_typed_error(
    at: int, removed: int, inserted: bytes
) -> None:
    data = two_transactions().data
    whole = contents(read_wal(data, "x"))
    try:
        wal = read_wal(data[:at] + inserted + data[at + removed :], "x")
    except AuroraError:
        return
    assert contents(wal) == whole[: len(wal.transactions)]
