"""Calls that are wrong, each with the one error that the public API documents for it.

Written down here, apart from the code that raises them: the checker compares types, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from segments.protocol.errors import (
    AuroraError,
    Invalid,
    InvalidLsn,
    InvalidPage,
    InvalidWrite,
    ReadPointAboveVdl,
    ReadPointBelowFloor,
)

WRONG_WRITES: Final[Mapping[str, type[AuroraError]]] = {
    "no data": InvalidWrite,
    "data longer than a page": InvalidWrite,
    "data beyond the page's end": InvalidWrite,
    "data that is text": InvalidWrite,
    "data that is a number": InvalidWrite,
    "offset at the page's end": InvalidWrite,
    "offset below zero": InvalidWrite,
    "offset that is a bool": InvalidWrite,
    "page below zero": InvalidPage,
    "page above all": InvalidPage,
    "page that is a bool": InvalidPage,
    "page that is text": InvalidPage,
    "no writes": InvalidWrite,
    "writes of two values": InvalidWrite,
    "too many writes": InvalidWrite,
    "too many bytes": InvalidWrite,
    "mini-transaction that has ended": Invalid,
    "wait that is no flag": Invalid,
}
WRONG_READS: Final[Mapping[str, type[AuroraError]]] = {
    "read of a page below zero": InvalidPage,
    "read of a page above all": InvalidPage,
    "read of a page that is a bool": InvalidPage,
    "read above the VDL": ReadPointAboveVdl,
    "read far above the VDL": ReadPointAboveVdl,
    "read below the floor": ReadPointBelowFloor,
    "read below zero": InvalidLsn,
    "read at a bool": InvalidLsn,
    "read at no LSN": InvalidLsn,
    "view above the VDL": ReadPointAboveVdl,
    "view below the floor": ReadPointBelowFloor,
    "view at a bool": InvalidLsn,
    "view that has ended": Invalid,
    "list above the VDL": ReadPointAboveVdl,
    "list from a page below zero": InvalidPage,
    "list up to a page below zero": InvalidPage,
    "strict that is no flag": Invalid,
    "cached that is no flag": Invalid,
}
WRONG_CALLS: Final[Mapping[str, type[AuroraError]]] = {**WRONG_WRITES, **WRONG_READS}
"""What is wrong with a call, and the error that has to tell it."""
