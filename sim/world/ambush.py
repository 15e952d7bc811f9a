"""A crash that lies in wait for a disk's next write of a kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

APPEND: Final = "append"
PROMISE: Final = "promise"
FILE: Final = "file"
"""A file of the log that was made is synced: for a compaction, or because the last one is full."""
NAMES: Final = "names"
"""The names of such files are synced."""
MANIFEST: Final = "manifest"
"""The manifest that names them is put in place."""
DELETION: Final = "deletion"
"""What it no longer names is deleted."""
COMPACTION: Final = "compaction"
"""Any of these four."""
CUT: Final = "cut"
"""The cutting off of a torn tail, by a restart."""
ANY: Final = "any"
WRITES: Final = (ANY, APPEND, PROMISE, COMPACTION, FILE, NAMES, MANIFEST, DELETION, CUT)
"""The kinds of write that a fault can wait for."""
OF_FILES: Final = (FILE, NAMES, MANIFEST, DELETION)
"""Those of the background."""


def is_of(asked: str, kind: str) -> bool:
    """Whether a write of one ``kind`` is what was ``asked`` for."""
    return asked in (ANY, kind) or (asked == COMPACTION and kind in OF_FILES)


@attrs.frozen
class Ambush:
    """It comes amid that write, or right after its sync."""

    kind: str
    after: bool
    crash: Callable[[], object]
    """Crashes the process that uses the disk; the disk itself is crashed by it, too."""
