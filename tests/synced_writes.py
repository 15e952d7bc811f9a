"""Writes that sync: what they are made of, where a test replaces it, and how they have ended."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
import trio

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


class Ends(list[Exception | None]):
    """How appends have ended that nobody waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.told = trio.Event()

    def __call__(self, error: Exception | None) -> None:
        self.append(error)
        self.told.set()
