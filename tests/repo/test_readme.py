"""The documents tell the truth: commands exist, examples compile, links lead somewhere."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import pytest

from sim.script.api import Scenario
from tests import in_process
from tests.repo.sources import ROOT, all_files, text

README: Final = text(Path("README.md"))
DOCUMENTS: Final = [path for path in all_files() if path.suffix == ".md"]


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of ``document`` in ``language``."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    return [block for name, block in fenced if name == language]


def quick_start() -> list[str]:
    """The commands of the README's quick start, one per line of its shell blocks."""
    section = README.split("\n## Quick start\n")[1].split("\n## ")[0]
    return [line for block in blocks(section, "sh") for line in block.splitlines()]


def test_two_commands_do_everything() -> None:
    first, second = quick_start()
    assert first.endswith(".venv/bin/python -m aurora.sim")
    assert second == ".venv/bin/python scripts/check.py"


def test_ci_runs_the_same_two_commands() -> None:
    done = subprocess.run(
        [ROOT / ".ci" / "run", "--commands"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == quick_start()


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_shell_blocks_are_valid(path: Path) -> None:
    for block in blocks(text(path), "sh"):
        done = subprocess.run(["bash", "-n", "-c", block], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_commands_name_what_exists(path: Path) -> None:
    """Modules run with ``-m`` and scripts named in any document; extras asked of the installer."""
    extras = tomllib.loads(text(Path("pyproject.toml")))["project"]["optional-dependencies"]
    document = text(path)
    for module in re.findall(r"python -m ((?:aurora|segments|sim)[\w.]*)", document):
        place = ROOT.joinpath(*module.rstrip(".").split("."))
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), module
    for script in re.findall(r"\bscripts/[\w/]+\.\w+", document):
        assert (ROOT / script).is_file(), script
    for extra in re.findall(r"'\.\[(\w+)\]'", document):
        assert extra in extras


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_python_examples_compile(path: Path) -> None:
    for block in blocks(text(path), "python"):
        assert compile(block, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", text(path)):
        if "://" not in target:
            assert (ROOT / path.parent / target).exists(), target


def test_the_picture_fits_a_terminal() -> None:
    picture = blocks(README, "")[0]
    assert picture.isascii()
    assert max(map(len, picture.splitlines())) <= 80


def test_the_api_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks(README, "python")[0], "README.md", "exec"), {"__name__": "__main__"})
    assert "EngineStatistics" in capsys.readouterr().out


def test_the_sample_run_is_what_is_printed() -> None:
    """All but the line with real time: the rest follows from the seed, on every machine."""
    (sample,) = [each for each in blocks(README, "text") if "run az-plus-one" in each]
    command, *lines = sample.splitlines()
    assert command == "$ python -m aurora.sim run az-plus-one"
    done = in_process.run(*command.split()[3:], cwd=ROOT, env=os.environ.copy())
    printed = done.stdout.decode().splitlines()
    for line in lines:
        if line != "…" and " simulated in " not in line:
            assert line in printed


def test_the_scenario_page_names_every_verb() -> None:
    section = (
        text(Path("docs/scenarios.md")).split("\n## Scenarios in Python\n")[1].split("\n## ")[0]
    )
    verbs = [name for name in dir(Scenario) if not name.startswith("_")]
    assert [name for name in verbs if not re.search(rf"`{name}\b", section)] == []


def test_the_scenario_page_shows_a_script_as_it_is() -> None:
    section = text(Path("docs/scenarios.md")).split("\n## Scenarios in Python\n")[1]
    (shown,) = blocks(section, "python")
    assert shown in text(Path("scripts/az_plus_one.py"))
