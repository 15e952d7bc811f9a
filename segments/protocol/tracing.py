"""What happens inside, step by step, for whoever wants to watch.

The cores report their steps through one callable, and cost nothing when nobody listens. Names of
events are past tense, in snake case; values are the plain ids, LSNs and records of the protocol.
"""

from __future__ import annotations

from typing import Protocol


class Tracer(Protocol):
    """Called with who did it, what was done, and the values."""

    def __call__(self, source: str, event: str, /, **values: object) -> None: ...
