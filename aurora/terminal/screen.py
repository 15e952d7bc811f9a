"""Where everything is printed: a terminal with colours, or plain text wherever that is wanted."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from aurora.terminal.console import new_console
from aurora.terminal.picture import MAX_WIDTH
from aurora.terminal.text import styled


class Screen:
    """Prints lines. No escape sequence leaves it unless it is a terminal that wants colours."""

    def __init__(self, *, color: bool = True, console: Console | None = None) -> None:
        self.console = console or new_console(color=color)

    @property
    def width(self) -> int:
        """Columns to draw in, at most 100; asked anew each time, since windows change."""
        return min(MAX_WIDTH, self.console.width)

    def say(self, text: str | Text = "", kind: str = "plain", *, head: Text | str = "") -> None:
        """Print a text behind ``head``, folded where it is too long, as one block."""
        line = styled(text, kind) if isinstance(text, str) else text
        first = Text.assemble(head)
        width = max(20, self.console.width - first.cell_len)
        for folded in line.wrap(self.console, width, overflow="fold", no_wrap=False):
            folded.rstrip()
            self.console.print(Text.assemble(first, folded), no_wrap=True, overflow="ignore")
            first = Text(" " * first.cell_len)

    def show(self, lines: Iterable[Text]) -> None:
        """Print a drawing, cut where the window is too narrow for it."""
        for line in lines:
            self.console.print(line, no_wrap=True, overflow="crop", crop=True)
