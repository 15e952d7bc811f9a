"""What the operating system refuses is told apart: full, forbidden, failing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from segments import file_storage
from segments.disks import VolumeDirectory
from segments.file_storage import FileStorage
from segments.protocol.errors import (
    StorageBroken,
    StorageFailed,
    StorageForbidden,
    StorageFull,
)
from segments.protocol.refusal import DiskTrouble, Refusal, storage_error
from segments.storage import Identity
from tests.files_on_disks import make_file
from tests.synced_writes import write_then_sync

IDENTITY = Identity("volume", "A0")
KINDS = [
    (errno.ENOSPC, StorageFull, DiskTrouble.FULL),
    (errno.EDQUOT, StorageFull, DiskTrouble.FULL),
    (errno.EACCES, StorageForbidden, DiskTrouble.REFUSED),
    (errno.EPERM, StorageForbidden, DiskTrouble.REFUSED),
    (errno.EROFS, StorageForbidden, DiskTrouble.REFUSED),
    (errno.EIO, StorageFailed, DiskTrouble.FAILING),
]


def refusing(number: int) -> Any:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "so says the system", "log")

    return refuse


@pytest.mark.parametrize(("number", "kind", "trouble"), KINDS)
def test_an_error_of_the_system_becomes_one_of_three_kinds(
    number: int, kind: type[StorageFailed], trouble: DiskTrouble
) -> None:
    error = storage_error("the log", OSError(number, "so says the system"))
    assert type(error) is kind
    assert str(error) == f"the log: [Errno {number}] so says the system"
    assert Refusal.of(OSError(number, "so says the system"), 5.0).trouble is trouble


@pytest.mark.parametrize(("number", "kind", "trouble"), KINDS)
async def test_a_file_that_takes_no_write_says_which(
    number: int, kind: type[StorageFailed], trouble: DiskTrouble, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    storage = FileStorage.format(tmp_path / "A0", IDENTITY)
    await make_file(storage, "wal-1", [])
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", refusing(number))
        with pytest.raises(StorageFailed) as raised:
            await storage.append("wal-1", b"x")
    assert type(raised.value) is kind
    refusal = Refusal.of(raised.value, 5.0)
    assert (refusal.trouble, refusal.why) == (trouble, "so says the system")
    assert str(tmp_path) in refusal.detail
    await storage.append("wal-1", b"y")  # and goes on when it may
    assert await storage.read("wal-1", 0, 9) == b"y"
    storage.close()


@pytest.mark.parametrize(("number", "kind", "trouble"), KINDS)
async def test_a_sync_that_fails_breaks_the_storage_and_still_says_which(
    number: int, kind: type[StorageFailed], trouble: DiskTrouble, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    storage = FileStorage.format(tmp_path / "A0", IDENTITY)
    await make_file(storage, "wal-1", [])
    write_then_sync(monkeypatch)
    monkeypatch.setattr(file_storage, "_sync", refusing(number))
    with pytest.raises(StorageBroken) as raised:
        await storage.append("wal-1", b"x")
    assert Refusal.of(raised.value, 5.0).trouble is trouble
    storage.close()


@pytest.mark.parametrize(("number", "kind", "trouble"), KINDS)
def test_what_cannot_be_opened_or_made_says_which(
    number: int, kind: type[StorageFailed], trouble: DiskTrouble, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    FileStorage.format(tmp_path / "A0", IDENTITY).close()
    monkeypatch.setattr("os.open", refusing(number))
    with pytest.raises(StorageFailed) as raised:
        FileStorage.open(tmp_path / "A0", IDENTITY)
    assert type(raised.value) is kind
    with pytest.raises(StorageFailed) as raised:
        FileStorage.format(tmp_path / "B0", IDENTITY)
    assert type(raised.value) is kind


def test_a_directory_that_cannot_be_looked_at_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost segment would never come back; permissions can be given back."""
    FileStorage.format(tmp_path / "A0", IDENTITY).close()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refusing(errno.EACCES))
        with pytest.raises(StorageForbidden, match="A0 cannot be opened"):
            FileStorage.open(tmp_path / "A0", IDENTITY)
    FileStorage.open(tmp_path / "A0", IDENTITY).close()


def test_a_volume_that_may_not_be_read_is_refused_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "iterdir", refusing(errno.EACCES))
    with pytest.raises(StorageForbidden, match="cannot be read"):
        VolumeDirectory.find(tmp_path)


def test_the_same_trouble_began_when_it_began_and_another_anew() -> None:
    first = Refusal.of(StorageFull("full"), 5.0)
    again = Refusal.of(StorageFull("still full"), 9.0, first)
    assert (again.since_s, again.why, str(again)) == (5.0, "still full", "still full")
    other = Refusal.of(StorageForbidden("read-only now"), 9.0, first)
    assert (other.trouble, other.since_s) == (DiskTrouble.REFUSED, 9.0)
