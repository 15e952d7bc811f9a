"""What a coverage mark is."""

from __future__ import annotations

import attrs


@attrs.frozen
class Mark:
    """Something worth reaching."""

    name: str
    summary: str
