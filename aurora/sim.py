"""The launcher behind ``python -m aurora.sim``; the simulator itself is the package `sim`."""

from __future__ import annotations


def main() -> None:
    """Run the simulator's command line; ends the process with its exit code."""
    from sim import cli  # Only now: importing aurora must not load the simulator.

    cli.main()


if __name__ == "__main__":
    main()
