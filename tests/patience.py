"""How long a test waits, in real time, for what must come: long enough for the busiest machine.

It only bounds a test that hangs; none takes longer because of it.
"""

from __future__ import annotations

from typing import Final

PATIENCE_S: Final = 300.0
"""Real seconds after which a child process, or a disk's thread, counts as hanging."""
