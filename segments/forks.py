"""What a forked child has no business with.

A child gets a copy of every descriptor, and a lock by ``flock`` belongs to what all copies stand
for: a child that lives on would keep a directory locked that its parent has given back. So the
child closes its copies at once, which takes nothing from the parent. A program that is started
anew (``exec``) never gets them.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Held(Protocol):
    """Something with descriptors of its own."""

    def close_in_child(self) -> None:
        """Close them, and be as if closed long ago."""


_held: WeakSet[Held] = WeakSet()


def close_in_children(held: Held) -> None:
    """Have it closed in every child that is forked from now on, as long as it exists."""
    _held.add(held)


def _close_all() -> None:
    for held in list(_held):
        held.close_in_child()
    _held.clear()


os.register_at_fork(after_in_child=_close_all)
