"""Lengths of real time on the command line: read from options, and shown."""

from __future__ import annotations

import click

from segments.protocol.errors import Invalid


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


def format_seconds(seconds: float) -> str:
    """``42s``, ``3m10s``, ``2h05m``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole // 60 % 60:02}m"
