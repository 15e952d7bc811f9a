"""Where a call comes from: the trio run that opened the volume, or somewhere else."""

from __future__ import annotations

import sys
from typing import Final

import trio

from segments.protocol.errors import OutsideTrio

_ADVICE: Final = "docs/asyncio.md shows how to use a volume from asyncio and from other threads"


def check_run(opened_in: trio.lowlevel.TrioToken | None = None) -> None:
    """Raise `OutsideTrio` unless this is trio code, of the run of ``opened_in`` if there is one."""
    try:
        current = trio.lowlevel.current_trio_token()
    except RuntimeError:
        raise OutsideTrio(f"{_where()}: expected a call from within trio.run; {_ADVICE}") from None
    if opened_in is not None and current is not opened_in:
        raise OutsideTrio(
            "a call from another trio run than the one that opened the volume: expected one from "
            f"that run; {_ADVICE}"
        )


def _where() -> str:
    asyncio = sys.modules.get("asyncio")
    try:
        if asyncio is not None:
            asyncio.get_running_loop()
            return "this is asyncio's event loop, and the engine runs on trio"
    except RuntimeError:
        pass
    return "no trio run is under way in this thread"
