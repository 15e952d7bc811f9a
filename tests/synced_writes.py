"""Writes that sync, made of a write and a sync that a test has replaced."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from segments import file_storage


def write_then_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the one call that writes and syncs do both as `file_storage` does where it is missing.

    Through `os.pwrite` and `file_storage._sync`, as they are then.
    """

    def pwritev(file: int, buffers: Sequence[memoryview], offset: int, flags: int) -> int:
        assert flags == os.RWF_DSYNC
        [data] = buffers
        written = os.pwrite(file, data, offset)
        file_storage._sync(file)
        return written

    monkeypatch.setattr(os, "pwritev", pwritev)
    monkeypatch.setattr(file_storage, "ring_of_this_run", lambda: None)
