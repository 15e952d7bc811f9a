"""A browser, the viewer's server and an exported page, each made once for all tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.browsing import Browser, chromium
from tests.patience import PATIENCE_S
from tests.repo.sources import ROOT

VIEW = (sys.executable, "-m", "aurora.sim", "view")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("no browser: Chromium of the system's packages is not installed")
    opened = Browser(program)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def served(browser: Browser) -> Iterator[str]:
    """The address at which a server shows the default scenario."""
    command = [*VIEW, "default", "--no-open", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = next((line for line in server.stdout if line.startswith("http://")), "")
        yield address.strip()
        server.terminate()
        server.wait(PATIENCE_S)


@pytest.fixture(scope="session")
def exported(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a file that shows a run in which a bug was planted and found."""
    page = tmp_path_factory.mktemp("export") / "third.html"
    command = [*VIEW, "--seed", "1", "--bug", "third-highest-scl", "--export", str(page)]
    subprocess.run(command, cwd=ROOT, check=False, capture_output=True, timeout=PATIENCE_S)
    return Path(page).as_uri()
