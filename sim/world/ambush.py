"""A crash that lies in wait for a disk's next write of a kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

APPEND: Final = "append"
PROMISE: Final = "promise"
COMPACTION: Final = "compaction"
CUT: Final = "cut"
"""The cutting off of a torn tail, by a restart."""
ANY: Final = "any"
WRITES: Final = (ANY, APPEND, PROMISE, COMPACTION, CUT)
"""The kinds of write that a fault can wait for."""


def is_of(asked: str, kind: str) -> bool:
    """Whether a write of one ``kind`` is what was ``asked`` for."""
    return asked in (ANY, kind)


@attrs.frozen
class Ambush:
    """It comes amid that write, or right after its sync."""

    kind: str
    after: bool
    crash: Callable[[], object]
    """Crashes the process that uses the disk; the disk itself is crashed by it, too."""
