"""Every command that a document shows is executed, in the document's order, and ends as it says.

The commands are the lines of ``sh`` blocks. A line that does not exit with 0 says so in a comment
(``# exit code 1``). The quick start is what CI itself runs, and the tour has a test of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

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


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_does_what_the_document_says(document: str, tmp_path: Path) -> None:
    surroundings = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    for command, code in commands(text(Path(document))):
        if _ENDLESS.search(command):
            continue
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=surroundings, timeout=PATIENCE_S,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
