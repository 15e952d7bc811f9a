"""Groups of commands whose overview tells each of them in a whole sentence."""

from __future__ import annotations

from typing import Final

import click

_WHOLE: Final = 1_000
"""Characters: longer than any first sentence."""


class CommandGroup(click.Group):
    """A group that wraps what it says of its commands, where click would cut it off."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write names and first sentences."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, command.get_short_help_str(_WHOLE))
            for name, command in found
            if command is not None
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
