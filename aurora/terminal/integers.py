"""What an option for a number takes."""

from __future__ import annotations

import click


class Integer(click.IntRange):
    """A whole number, within bounds if they are given."""

    name = "integer"  # of what is none click would say that it "is not a valid integer range"
