"""The launcher behind ``python -m aurora.sim``; the simulator itself is the package `sim`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the simulator's command line; ends the process with its exit code."""
    try:
        from sim.commands import cli  # Only now: importing aurora must not load the simulator.
    except KeyboardInterrupt:  # Ctrl-C, and nobody there yet to say so
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
