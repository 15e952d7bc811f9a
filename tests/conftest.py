"""What holds for every test."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

# The gate must give the same answer twice, and on a busy machine a slow example is not a failure.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate")

# Wherever it is usual to keep no bytecode: some two hundred processes are started here, and each
# would compile all that it imports once more.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_finish() -> None:
    """What has been collected lives to the end: nobody need look for garbage in it."""
    gc.freeze()


_MEMORY: Final = Path("/dev/shm")
"""A file system in memory, where there is one."""
_ENOUGH_BYTES: Final = 1 << 30


@pytest.fixture(scope="session")
def in_memory() -> Iterator[Path | None]:
    """A directory whose files no disk has to take; None if this system has none."""
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _ENOUGH_BYTES:
        yield None
        return
    with tempfile.TemporaryDirectory(dir=_MEMORY, prefix="aurora-tests-") as name:
        yield Path(name)


@pytest.fixture
def tmp_path(
    request: pytest.FixtureRequest, tmp_path: Path, in_memory: Path | None
) -> Iterator[Path]:
    """As pytest's. In memory, but for tests of processes and scenarios, which have a real disk.

    What volumes do is the same there; only making, syncing and deleting thousands of small files
    takes no longer than the rest.
    """
    if in_memory is None or {"process", "scenarios"} & set(request.path.parts):
        yield tmp_path
        return
    directory = Path(tempfile.mkdtemp(dir=in_memory, prefix=f"{tmp_path.name}-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """For volumes on files whose process lives on: what nobody ends needs nothing to be durable."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr("segments.file_storage._sync", lambda _: None)
    monkeypatch.setattr("segments.open_file._DURABLY", 0)
