"""Sessions for tests: commands in, text out; time and network held, so nothing ever waits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Final

import attrs
from rich.console import Console

from aurora.terminal.commands import execute
from aurora.terminal.opening import Options, run
from aurora.terminal.screen import Screen
from aurora.terminal.session import Session
from tests import in_process
from tests.patience import PATIENCE_S

ROOT: Final = Path(__file__).resolve().parents[2]


@attrs.frozen
class Played:
    """What came of some commands."""

    succeeded: list[bool]
    outputs: list[str]
    """What each command printed."""
    prompts: list[str]
    """What stood before each command."""

    @property
    def text(self) -> str:
        return "".join(self.outputs)


def play(
    *lines: str,
    options: Options | None = None,
    width: int = 80,
    look: Callable[[Session], None] | None = None,
) -> Played:
    """Run commands in a new session; ``look`` is called after each."""
    played = Played([], [], [])

    async def use(session: Session) -> int:
        for line in lines:
            file = StringIO()
            session.screen = Screen(console=Console(file=file, width=width, color_system=None))
            played.prompts.append(session.prompt())
            played.succeeded.append(await execute(session, line))
            session.tell_finished()
            played.outputs.append(file.getvalue())
            if look is not None:
                look(session)
        return 0

    assert run(options or Options(), use, repeatable=True) == 0
    return played


def environment(**more: str) -> dict[str, str]:
    """The environment of a child: small, and the same on every machine."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **more}


def aurora(
    *arguments: str, typed: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """What ``python -m aurora`` does with its input and output in files, in this process."""
    done = in_process.run(
        "aurora", *arguments, typed=typed.encode(), cwd=cwd or ROOT, env=environment()
    )  # fmt: skip
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def process(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """``python -m aurora`` itself, with its input and output piped."""
    return subprocess.run(
        [sys.executable, "-m", "aurora", *arguments],
        input=typed, capture_output=True, text=True, check=False, cwd=ROOT,
        env=environment(), timeout=PATIENCE_S,
    )  # fmt: skip
