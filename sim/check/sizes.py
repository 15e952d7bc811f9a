"""What a record takes in a run, told anew: the checkers do not believe the code under test."""

from __future__ import annotations

from typing import Final

from segments.protocol.record import RedoRecord

ROW_BYTES: Final = 40
CLOCK_BYTES: Final = 8
"""Behind the payload of the record that ends a mini-transaction."""


def record_bytes(record: RedoRecord) -> int:
    """What ``record`` takes."""
    return ROW_BYTES + len(record.payload) + (CLOCK_BYTES if record.is_cpl else 0)
