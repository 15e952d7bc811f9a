"""From SQLite's transactions to mini-transactions, and back to the file that SQLite makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.protocol.errors import Corrupt, NotFound, PageNotFound
from segments.protocol.record import PAGE_SIZE
from sim.files.sqlite_rebuild import (
    BASE_PAGES_PER_MTR,
    MERGE_GAP,
    PageWrite,
    SqliteWorkload,
    TransactionDiffer,
    base_path_of,
    changed_runs,
    integrity_check,
    load_workload,
    read_size,
    rebuild,
    sqlite_checkpointed,
)
from sim.files.sqlite_wal import (
    MAX_FILE_BYTES,
    DamagedFile,
    Frame,
    SqliteBase,
    Transaction,
    UnsupportedFile,
    read_wal,
)
from tests.sqlite_fixtures import (
    SCRIPT,
    PageStore,
    SyntheticLog,
    live_database,
    make_shop,
    overlaid,
)


def replayed(log_path: Path) -> tuple[SqliteWorkload, bytes]:
    """Replay a log, and hold the result against SQLite's own file and its integrity check."""
    workload = load_workload(log_path)
    store = PageStore(workload.mtrs())
    page_size, db_pages = read_size(store.read(0))
    assert (page_size, db_pages) == (workload.wal.page_size, workload.db_pages)
    file = rebuild(store.read, page_size, db_pages)
    assert file == sqlite_checkpointed(base_path_of(log_path), log_path, log_path.parent)
    rebuilt = log_path.with_name("rebuilt.db")
    rebuilt.write_bytes(file)
    assert integrity_check(rebuilt) == "ok"
    return workload, file


def transaction(db_pages: int, *frames: tuple[int, bytes]) -> Transaction:
    return Transaction(tuple(Frame(n, memoryview(image)) for n, image in frames), db_pages)


# ---- the whole way, against SQLite ---------------------------------------------------------------


@pytest.mark.parametrize("page_size", [4096, 8192])
def test_a_shop_is_rebuilt_as_sqlite_makes_it(tmp_path: Path, page_size: int) -> None:
    workload, file = replayed(make_shop(tmp_path, page_size, 120))
    assert len(workload.wal.transactions) == 120
    mtrs = list(workload.mtrs())
    assert len(mtrs) == 120 + -(-len(workload.base.pages) // BASE_PAGES_PER_MTR)
    assert not any(mtr.is_empty for mtr in mtrs)
    logged = sum(len(write.data) for mtr in mtrs[-120:] for write in mtr.writes)
    framed = sum(len(each.frames) for each in workload.wal.transactions) * page_size
    assert logged < framed / 5
    assert len(file) > len(workload.base.pages) * page_size


def test_every_transaction_leaves_the_pages_as_sqlite_left_them(tmp_path: Path) -> None:
    workload = load_workload(make_shop(tmp_path, 4096, 40))
    differ = TransactionDiffer(4096)
    store = PageStore(differ.load_base(workload.base))
    expected = {number: bytes(image) for number, image in enumerate(workload.base.pages, 1)}
    for each in workload.wal.transactions:
        store.apply(differ.commit(each))
        expected.update((number, bytes(image)) for number, image in each.frames)
        assert {n: store.read(n)[:4096] for n in expected} == expected
        assert read_size(store.read(0)) == (4096, each.db_pages_after)
        assert differ.db_pages == each.db_pages_after


@pytest.mark.parametrize("page_size", [512, 4096, 8192])
def test_vacuum_shrinks_the_file(tmp_path: Path, page_size: int) -> None:
    with live_database(tmp_path, page_size) as database:
        database.insert(1000, 300)
        database.run("DELETE FROM t WHERE a > 100", "VACUUM")
        workload, file = replayed(database.snapshot("copy.db"))
    before, *_, last = (each.db_pages_after for each in workload.wal.transactions)
    assert len(file) == last * page_size < before * page_size / 5


@pytest.mark.parametrize("page_size", [4096, 8192])
@pytest.mark.parametrize("mode", ["FULL", "INCREMENTAL"])
def test_auto_vacuum_shrinks_and_grows_again(tmp_path: Path, page_size: int, mode: str) -> None:
    with live_database(tmp_path, page_size, f"auto_vacuum = {mode}") as database:
        database.insert(600, 300)
        database.run("PRAGMA wal_checkpoint(TRUNCATE)")
        database.run("DELETE FROM t WHERE a > 30")
        database.step_through("PRAGMA incremental_vacuum")
        database.insert(200, 300)
        database.run("DELETE FROM t WHERE a > 200")
        workload, _ = replayed(database.snapshot("copy.db"))
    sizes = [len(workload.base.pages), *(t.db_pages_after for t in workload.wal.transactions)]
    assert min(sizes) < sizes[0] / 5
    assert max(sizes[sizes.index(min(sizes)) :]) > 2 * min(sizes)


def test_a_base_that_a_checkpoint_has_already_brought_up_to_date(tmp_path: Path) -> None:
    with live_database(tmp_path, 4096) as database:
        database.insert(300, 200)
        database.run("DELETE FROM t WHERE a % 2")
        database.run("PRAGMA wal_checkpoint(PASSIVE)")
        workload, file = replayed(database.snapshot("copy.db"))
    assert b"".join(workload.base.pages) == file
    assert len(workload.wal.transactions) == 2


def test_an_overwritten_savepoint_and_a_spilling_cache(tmp_path: Path) -> None:
    with live_database(tmp_path, 4096, "cache_size = 5") as database:
        database.run("BEGIN", *["INSERT INTO t(b) VALUES (zeroblob(1500))"] * 60)
        database.run("SAVEPOINT s", "UPDATE t SET b = hex(b) WHERE a % 2", "ROLLBACK TO s")
        database.run("DELETE FROM t WHERE a % 5 = 1", "COMMIT")
        workload, _ = replayed(database.snapshot("copy.db"))
    assert len(workload.wal.transactions) == 1


def test_sqlite_discards_a_log_beside_an_empty_database_so_we_refuse_it(tmp_path: Path) -> None:
    with live_database(tmp_path, 4096) as database:
        database.run("VACUUM")
        log_path = database.snapshot("copy.db")
    base_path_of(log_path).write_bytes(b"")
    assert sqlite_checkpointed(base_path_of(log_path), log_path, tmp_path) == b""
    with pytest.raises(UnsupportedFile, match=r"copy.db: the database is empty"):
        load_workload(log_path)


# ---- differences ---------------------------------------------------------------------------------


def dumb_runs(old: bytes, new: bytes) -> list[tuple[int, int]]:
    """Byte by byte: start a run where the last one is `MERGE_GAP` equal bytes away."""
    runs: list[tuple[int, int]] = []
    for at in range(len(new)):
        if old[at] != new[at]:
            if runs and at - runs[-1][1] < MERGE_GAP:
                runs[-1] = (runs[-1][0], at + 1)
            else:
                runs.append((at, at + 1))
    return runs


@given(st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=6)), max_size=12))
def test_changed_runs_are_those_of_a_byte_by_byte_comparison(
    changes: list[tuple[int, bytes]],
) -> None:
    old = bytes(range(256)) * 2
    new, at = bytearray(old), 0
    for gap, data in changes:
        at += gap
        new[at : at + len(data)] = data
        at += len(data)
    new = new[:512]
    found = list(changed_runs(memoryview(old), memoryview(new)))
    assert found == dumb_runs(old, bytes(new))


@pytest.mark.parametrize(("gap", "writes"), [(MERGE_GAP - 1, 1), (MERGE_GAP, 2)])
def test_runs_close_to_each_other_become_one_write(gap: int, writes: int) -> None:
    new = bytearray(512)
    new[10] = new[10 + gap + 1] = 1
    assert len(list(changed_runs(memoryview(bytes(512)), memoryview(new)))) == writes


def test_writes_are_ordered_and_only_what_changed() -> None:
    differ = TransactionDiffer(512)
    first = differ.commit(transaction(2, (2, b"b" * 512), (1, bytes(500) + b"a" * 12)))
    size = PageWrite(0, 0, (512).to_bytes(4, "big") + (2).to_bytes(4, "big"))
    expected = (size, PageWrite(1, 500, b"a" * 12), PageWrite(2, 0, b"b" * 512))
    assert first.writes == expected
    second = differ.commit(transaction(2, (2, b"b" * 511 + b"c")))
    assert second.writes == (PageWrite(2, 511, b"c"),)


def test_of_a_page_written_twice_in_one_transaction_the_last_frame_counts() -> None:
    differ = TransactionDiffer(512)
    mtr = differ.commit(transaction(1, (1, b"x" * 512), (1, bytes(511) + b"y")))
    assert mtr.writes[1:] == (PageWrite(1, 511, b"y"),)


def test_a_transaction_that_changes_nothing_is_empty() -> None:
    differ = TransactionDiffer(512)
    assert not differ.commit(transaction(1, (1, b"x" * 512))).is_empty
    assert differ.commit(transaction(1, (1, b"y" * 512), (1, b"x" * 512))).is_empty


def test_a_commit_that_only_shrinks_writes_the_size_and_keeps_the_pages() -> None:
    differ = TransactionDiffer(512)
    store = PageStore([differ.commit(transaction(3, (1, b"a" * 512), (3, b"c" * 512)))])
    shrunk = differ.commit(transaction(1, (1, b"a" * 512)))
    assert [write.page_id for write in shrunk.writes] == [0]
    store.apply(shrunk)
    assert rebuild(store.read, *read_size(store.read(0))) == b"a" * 512
    # Grown again without rewriting page 3: SQLite's checkpoint writes the older frame of it.
    store.apply(differ.commit(transaction(3, (1, b"d" * 512))))
    file = rebuild(store.read, *read_size(store.read(0)))
    assert file == b"d" * 512 + bytes(512) + b"c" * 512


@pytest.mark.parametrize("count", [1, BASE_PAGES_PER_MTR, BASE_PAGES_PER_MTR + 1])
def test_the_base_is_loaded_in_bounded_steps_and_its_size_last(count: int) -> None:
    pages = tuple(memoryview(bytes([n % 255 + 1]) * 512) for n in range(count))
    mtrs = list(TransactionDiffer(512).load_base(SqliteBase("x.db", 512, pages)))
    assert [len(mtr.writes) for mtr in mtrs] == {
        1: [2],
        BASE_PAGES_PER_MTR: [BASE_PAGES_PER_MTR + 1],
        BASE_PAGES_PER_MTR + 1: [BASE_PAGES_PER_MTR, 2],
    }[count]
    assert [any(write.page_id == 0 for write in mtr.writes) for mtr in mtrs[:-1]] == [False] * (
        len(mtrs) - 1
    )
    assert mtrs[-1].writes[0].page_id == 0
    store = PageStore(mtrs)
    assert rebuild(store.read, 512, count) == b"".join(pages)


def test_the_overlay_oracle_agrees_on_a_shop(tmp_path: Path) -> None:
    workload, file = replayed(make_shop(tmp_path, 8192, 30, seed=7))
    assert overlaid(workload.base, workload.wal) == file


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image", [bytes(PAGE_SIZE - 1), bytes(PAGE_SIZE - 1) + b"x", bytes(512) + b"x" + bytes(7679)]
)
def test_rebuild_refuses_what_is_not_a_page_of_the_database(image: bytes) -> None:
    with pytest.raises(Corrupt, match=f"page 1 is {len(image)} bytes, .* at most 512"):
        rebuild(lambda _: image, 512, 1)


def test_rebuild_takes_a_page_never_written_as_zeros_but_no_other_failure() -> None:
    assert rebuild(PageStore().read, 512, 3) == bytes(1536)

    def broken(page_id: int) -> bytes:
        raise Corrupt(f"page {page_id} is bad")

    with pytest.raises(Corrupt, match="page 1 is bad"):
        rebuild(broken, 512, 3)
    with pytest.raises(PageNotFound):
        PageStore().read(1)


def test_base_and_log_must_have_one_page_size() -> None:
    base = SqliteBase("x.db", 4096, (memoryview(bytes(4096)),))
    wal = read_wal(SyntheticLog(512).data, "x.db-wal")
    with pytest.raises(UnsupportedFile, match=r"x.db-wal: page size 512: expected 4096, as in x"):
        SqliteWorkload(base, wal)


def test_a_log_of_no_commit_leaves_the_base_as_it_is() -> None:
    base = SqliteBase("x.db", 512, (memoryview(b"a" * 512),))
    workload = SqliteWorkload(base, read_wal(SyntheticLog(512).data, "x.db-wal"))
    store = PageStore(workload.mtrs())
    assert workload.db_pages == 1
    assert rebuild(store.read, 512, 1) == b"a" * 512


def test_missing_foreign_and_oversized_files_are_refused_by_name(tmp_path: Path) -> None:
    log_path = make_shop(tmp_path, 512, 1)
    other = tmp_path / "other.db-wal"
    with pytest.raises(NotFound, match=r"other.db-wal: .* expected the write-ahead log"):
        load_workload(other)
    other.write_bytes(log_path.read_bytes())
    with pytest.raises(NotFound, match=r"other.db: .* expected the database of other.db-wal"):
        load_workload(other)
    with pytest.raises(UnsupportedFile, match=r"shop.db: .* expected FILE-wal"):
        load_workload(tmp_path / "shop.db")
    with other.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(UnsupportedFile, match=rf"other.db-wal: {MAX_FILE_BYTES + 1} bytes long"):
        load_workload(other)
    (tmp_path / "folder-wal").mkdir()
    with pytest.raises(UnsupportedFile, match="folder-wal: cannot read the write-ahead log"):
        load_workload(tmp_path / "folder-wal")


def test_what_sqlite_cannot_read_is_damage(tmp_path: Path) -> None:
    log_path = make_shop(tmp_path, 4096, 3)
    base_path = base_path_of(log_path)
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"\x5a" * 8192)
    assert integrity_check(garbage) == "file is not a database"
    log_path.write_bytes(b"")
    with pytest.raises(DamagedFile, match=r"garbage.db: SQLite says"):
        sqlite_checkpointed(garbage, log_path, tmp_path)
    data = bytearray(base_path.read_bytes())
    data[-2000:] = bytes(2000)
    base_path.write_bytes(data)
    files = sorted(tmp_path.iterdir())
    assert "\n" in integrity_check(base_path)
    assert sorted(tmp_path.iterdir()) == files


# ---- the script ----------------------------------------------------------------------------------


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_script_makes_both_files_and_replaces_none_unasked(tmp_path: Path) -> None:
    path = tmp_path / "made.db"
    arguments = (str(path), "--transactions", "5", "--page-size", "8192", "--seed", "3")
    made = run_script(*arguments)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.count("made.db") == 2
    workload, file = replayed(tmp_path / "made.db-wal")
    assert (workload.wal.page_size, len(workload.wal.transactions)) == (8192, 5)
    refused = run_script(*arguments)
    assert refused.returncode == 2
    assert f"{path} exists" in refused.stderr
    assert run_script(*arguments, "--force").returncode == 0
    # One seed, one content, whatever the salts.
    assert replayed(tmp_path / "made.db-wal")[1] == file


@pytest.mark.parametrize("count", ["0", "-1"])
def test_the_script_refuses_a_log_of_nothing(tmp_path: Path, count: str) -> None:
    refused = run_script(str(tmp_path / "x.db"), "--transactions", count)
    assert refused.returncode == 2
    assert f"--transactions is {count}: expected 1 or more" in refused.stderr
    assert list(tmp_path.iterdir()) == []
