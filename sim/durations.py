"""Times: lengths of real time read from options, and how every time is shown."""

from __future__ import annotations

from typing import Final

import click

from segments.protocol.errors import Invalid

_SECOND: Final = 1_000_000_000
_MS: Final = 1_000_000


def parse_duration(text: str, *, or_none: bool = False) -> float:
    """Seconds from ``90``, ``90s``, ``5m`` or ``2h``; raises `Invalid`.

    More than 0, unless ``or_none`` allows for no time at all.
    """
    number, unit = (text[:-1], text[-1:]) if text[-1:] in ("s", "m", "h") else (text, "s")
    try:
        seconds = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < 1e9 or (seconds == 0.0 and not or_none):
        raise Invalid(f"duration {text!r}: expected seconds, or a number with s, m or h")
    return seconds


def duration_option(_context: click.Context, _option: click.Parameter, value: str) -> float | None:
    """A click callback for options that take a duration."""
    try:
        return parse_duration(value) if value else None
    except Invalid as error:
        raise click.BadParameter(str(error)) from None


def duration_or_none_option(_context: click.Context, _option: click.Parameter, value: str) -> float:
    """The same where 0 means that nothing is to begin."""
    try:
        return parse_duration(value, or_none=True)
    except Invalid as error:
        raise click.BadParameter(str(error)) from None


# ---- shown ---------------------------------------------------------------------------------------
# What a person types, in options and scenario files, is spelt without a space: `300ms`. What is
# shown is spelt as below, in every command.


def moment(ns: int) -> str:
    """A point in virtual time, since the start of the run: ``0.3000 s``, to a tenth of a ms.

    Always with four decimals, so that the same moment looks the same in every table and story.
    """
    return f"{ns / _SECOND:.4f} s"


def moment_column(ns: int) -> str:
    """A moment at the beginning of a line, in 11 columns: points below each other up to 9,999 s."""
    return f"{moment(ns):>11}"


def length(ns: int) -> str:
    """How long something took, in three digits: ``627 ms``, ``1.26 ms``, ``361 us``."""
    for unit, size in (("s", _SECOND), ("ms", _MS), ("us", 1_000)):
        if ns >= size:
            value = ns / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{ns} ns"


def later(ns: int) -> str:
    """How much later something came than what was named before, in tenths: ``+1.3 ms``."""
    return f"+{ns / _MS:.1f} ms"


def format_seconds(seconds: float) -> str:
    """Real time that a person waits: ``42 s``, ``3 min 10 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole // 60 % 60:02} min"
