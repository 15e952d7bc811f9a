"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# The gate must give the same answer twice, and on a busy machine a slow example is not a failure.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate")
