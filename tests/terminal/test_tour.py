"""docs/tour.md: every command in it runs, and prints what stands below it.

``python -m tests.terminal.test_tour`` writes the outputs anew.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.terminal.playing import ROOT, aurora, play

TOUR: Final = ROOT / "docs" / "tour.md"
REFUSED: Final = ("get 1 @3", "get 9")
"""What the tour shows to be refused; everything else succeeds."""

_BLOCK: Final = re.compile(r"(?<=^```text\n)(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)
_PROMPT: Final = re.compile(r"^aurora(?: \[[^]]*\])?> (.*)$", re.MULTILINE)


def commands(document: str) -> list[str]:
    """All that a reader types, in order."""
    return [line for block in _BLOCK.findall(document) for line in _PROMPT.findall(block)]


def written_anew(document: str) -> str:
    """The document with the outputs that its commands have now."""
    lines = commands(document)
    played = play(*lines)
    assert [line for line, good in zip(lines, played.succeeded, strict=True) if not good] == list(
        REFUSED
    )
    outputs = iter(zip(played.prompts, lines, played.outputs, strict=True))

    def fill(block: re.Match[str]) -> str:
        count = len(_PROMPT.findall(block[0]))
        shown = (next(outputs) for _ in range(count))
        return "".join(f"{prompt}{line}\n{output}" for prompt, line, output in shown)

    return _BLOCK.sub(fill, document)


def test_the_tour_can_be_typed_along() -> None:
    document = TOUR.read_text(encoding="utf-8")
    assert len(commands(document)) > 30
    assert document == written_anew(document)


def test_the_tour_can_be_piped() -> None:
    document = TOUR.read_text(encoding="utf-8")
    piped = aurora("repl", typed="\n".join(commands(document)) + "\n")
    assert piped.stdout == "".join(_BLOCK.findall(document))
    assert (piped.returncode, piped.stderr) == (1, "")  # two reads are refused


if __name__ == "__main__":
    path = Path(TOUR)
    path.write_text(written_anew(path.read_text(encoding="utf-8")), encoding="utf-8")
