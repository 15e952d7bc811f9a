"""What holds for every test."""

from __future__ import annotations

import gc
import os
import sys

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


@pytest.fixture
def no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """For volumes on files whose process lives on: what nobody ends needs nothing to be durable."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr("segments.file_storage._sync", lambda _: None)
    monkeypatch.setattr("segments.open_file._DURABLY", 0)
