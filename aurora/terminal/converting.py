"""``python -m aurora convert``: a volume of an earlier format, and what is told meanwhile."""

from __future__ import annotations

from pathlib import Path
from random import SystemRandom

from aurora.conversion import ConvertedSegment, LeftOut, convert_volume
from aurora.terminal.console import new_console
from aurora.terminal.text import styled


def convert(path: Path, *, color: bool) -> int:
    """Convert the volume at ``path``, and tell of each segment when its outcome is known.

    Returns the exit status. Raises `AuroraError` if it cannot be converted.
    """
    console = new_console(color=color)

    def tell(outcome: ConvertedSegment | LeftOut) -> None:
        kind = "warn" if isinstance(outcome, LeftOut) else "plain"
        console.print(styled(line_of(outcome), kind), soft_wrap=True)

    with console.status(f"converting {path}"):  # nothing, if the console is plain
        done = convert_volume(path, SystemRandom(), tell)
    if not done.converted:
        console.print(f"{path} is of this version's format already", soft_wrap=True)
        return 0
    console.print(styled(f"{path} is converted", "good"), soft_wrap=True)
    if done.left_out:
        names = ", ".join(each.segment for each in done.left_out)
        text = f"{names} lost: the volume goes on without, as it would have before"
        console.print(styled(text, "warn"), soft_wrap=True)
    return 0


def line_of(outcome: ConvertedSegment | LeftOut) -> str:
    """What is told of one segment."""
    if isinstance(outcome, LeftOut):
        return f"{outcome.segment}  left out: {outcome.why}"
    text = (
        f"{outcome.segment}  {outcome.records:,} records, {outcome.pages:,} pages below them, "
        f"SCL {outcome.scl:,}"
    )
    if outcome.damaged_bytes:
        text += f"; {outcome.damaged_bytes:,} bytes of its log were damaged"
    if not outcome.whole:
        text += "; its peers have to heal it"
    if outcome.torn_bytes:
        text += f"; {outcome.torn_bytes:,} bytes of an unfinished write cut off"
    return text
