"""Values as errors show them."""

from __future__ import annotations

import reprlib


def shown(value: object) -> str:
    """A value cut short, whatever it is: Python writes no integer of more than 4,300 digits."""
    try:
        return reprlib.repr(value)
    except ValueError:
        if isinstance(value, int):
            return f"an integer of {value.bit_length()} bits"
        return f"a {type(value).__name__} with an integer that is too long to be shown"
