"""``python -m aurora``: the demo, the prompt, and both with every step shown."""

from __future__ import annotations

from aurora.terminal.cli import main

if __name__ == "__main__":
    main()
