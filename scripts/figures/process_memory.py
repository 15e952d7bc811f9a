"""What this process holds in memory, by what the kernel says of it."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")


def held_bytes() -> int:
    """Bytes that are resident now."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """The most bytes that have been resident since this program was started.

    `resource.getrusage` would do for a process that nobody has started: to others it gives the peak
    of their parent, up to the moment when they became a program of their own.
    """
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = (line.split() for line in _STATUS.read_text().splitlines())
    return next(int(words[1]) << 10 for words in lines if words[0] == f"{name}:")
