"""Every command that a document shows is executed, in the document's order, and ends as it says.

The commands are the lines of ``sh`` blocks. A line that does not exit with 0 says so in a comment
(``# exit code 1``). The quick start is what CI itself runs, and the tour has a test of its own.

What only starts one of the two programs calls it in this process; all else is for a shell. Two
documents that show the same command show it to different readers, and it is executed once.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests import in_process
from tests.patience import PATIENCE_S
from tests.repo.sources import ROOT, text
from tests.repo.test_readme import blocks

DOCUMENTS: Final = (
    "README.md",
    "docs/simulator.md",
    "docs/scenarios.md",
    "docs/bugs.md",
    "docs/mutants.md",
    "docs/viewer.md",
)
_ENDLESS: Final = re.compile(r"bugs run|--budget|fleet --seeds \d{3,}")
"""Campaigns: the same commands with a smaller size are run instead."""
_FOR_A_SHELL: Final = re.compile(r"[|<>;&$`]|\bago\b")
"""What is more than a program with its arguments; and what happened a moment ago needs a moment,
which a new process takes."""


def commands(document: str) -> list[tuple[str, int]]:
    """Each command of a document, and the exit code it says it has."""
    found = []
    for block in blocks(document, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            command, _, comment = line.partition("#")
            code = re.search(r"exit code (\d+)", comment)
            if command.strip() and ".venv" not in command:
                found.append((command.strip(), int(code[1]) if code else 0))
    return found


def test_the_documents_show_commands() -> None:
    assert len(commands(text(Path("README.md")))) >= 12


def perform(command: str, cwd: Path, env: Mapping[str, str]) -> tuple[int, str]:
    """The exit code of a command, and the end of what it printed."""
    if command.startswith("python -m ") and not _FOR_A_SHELL.search(command):
        module, *arguments = shlex.split(command)[2:]
        called = in_process.run(module, *arguments, cwd=cwd, env=env)
        return called.returncode, (called.stdout + called.stderr).decode()[-4000:]
    done = subprocess.run(
        ["bash", "-c", command], cwd=cwd, env=env, timeout=PATIENCE_S,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, (done.stdout + done.stderr)[-4000:]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_does_what_the_document_says(document: str, tmp_path: Path) -> None:
    surroundings = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    for command, expected in commands(text(Path(document))):
        if _ENDLESS.search(command) or (command, expected) in shown_before(document):
            continue
        code, printed = perform(command, tmp_path, surroundings)
        assert code == expected, f"{command}\n{printed}"


def shown_before(document: str) -> set[tuple[str, int]]:
    """What an earlier document shows, save commands that make a file: later ones may want it."""
    earlier = DOCUMENTS[: DOCUMENTS.index(document)]
    found = {each for other in earlier for each in commands(text(Path(other)))}
    return {each for each in found if not re.search(r"scripts/make_|-o |--export|>", each[0])}
