"""Texts in SQL, looked at before SQLite is: whether there are several statements in one."""

from __future__ import annotations

import re
from typing import Final

_SINGLE: Final = re.compile(
    r"""
    (?: [^;'"`\[/-]++
      | '[^']*+(?:'|$) | "[^"]*+(?:"|$) | `[^`]*+(?:`|$) | \[[^\]]*+(?:\]|$)
      | --[^\n]*+ | /\*.*?(?:\*/|$)
      | [/-]
    )*+
    (?: [;\s]++ | --[^\n]*+ | /\*.*?(?:\*/|$) )*+
    """,
    re.VERBOSE | re.DOTALL,
)
"""No semicolon outside of literals and comments, but at the end."""


def is_single(text: str) -> bool:
    """Whether a text is one statement, which needs no transaction around it.

    One that has statements in it, as CREATE TRIGGER has, is taken for several: nothing is lost.
    """
    return ";" not in text or _SINGLE.fullmatch(text) is not None
