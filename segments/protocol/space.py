"""What a segment says of its space, in acknowledgements."""

from __future__ import annotations

from typing import Final, NamedTuple


class Space(NamedTuple):
    """Of one segment; `segments.space` says what it needs."""

    needed_bytes: int = 0
    limit_bytes: int = 0
    """0: none."""

    @property
    def short(self) -> bool:
        """Whether nothing new is to be written there."""
        return 0 < self.limit_bytes <= self.needed_bytes


NO_LIMIT: Final = Space()
