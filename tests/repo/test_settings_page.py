"""docs/settings.md lists the settings as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from scripts import settings_page
from scripts.settings_page import GROUPS, MARKER, meanings, page, row, shown
from segments.config import settings_of
from tests.repo.sources import ROOT, text
from tests.repo.test_readme import blocks

PAGE: Final = text(Path("docs/settings.md"))


def test_the_page_is_up_to_date() -> None:
    assert page(PAGE) == PAGE, "run python scripts/settings_page.py"


def test_every_setting_is_listed_with_its_meaning_bounds_and_cost() -> None:
    listed = 0
    for kind, _, _ in GROUPS:
        section = PAGE.split(f"\n## `{kind.__name__}`\n")[1].split("\n## ")[0]
        for setting in settings_of(kind):
            meaning = meanings(kind)[setting.name]
            assert meaning.endswith(".") and setting.cost and not setting.cost.endswith(".")
            assert row(setting, meaning) in section.splitlines()
            listed += 1
    assert listed > 40


def test_a_stale_page_is_noticed_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / "settings.md"
    prose = PAGE.partition(MARKER)[0]
    stale.write_text(f"{prose}{MARKER}| `lal` | 7 |\n", encoding="utf-8")
    monkeypatch.setattr(settings_page, "PAGE", stale)
    monkeypatch.setattr(sys, "argv", ["settings_page.py", "--check"])
    assert settings_page.main() == 1
    monkeypatch.setattr(sys, "argv", ["settings_page.py"])
    assert settings_page.main() == 0
    assert stale.read_text(encoding="utf-8") == PAGE


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        (None, "LSNs", "None"),
        (0, "bytes", "0 bytes"),
        (8_191, "bytes", "8,191 bytes"),
        (256 << 10, "bytes", "256 KiB"),
        (3 << 30, "bytes", "3 GiB"),
        (0.002, "seconds", "0.002 s"),
        (86_400.0, "seconds", "86,400 s"),
        (4_096, "pages", "4,096 pages"),
        (0.2, "", "0.2"),
    ],
)
def test_values_are_written_as_people_read_them(
    value: int | float | None, unit: str, written: str
) -> None:
    assert shown(value, unit) == written


def test_the_example_prints_what_the_page_says(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", blocks(PAGE, "python")[0]],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == blocks(PAGE, "text")[0]
    assert (tmp_path / "volume" / "volume.json").is_file()
