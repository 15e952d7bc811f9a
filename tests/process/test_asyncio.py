"""A volume in a program that runs on asyncio: refused with advice, and the advice works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.patience import PATIENCE_S

ROOT: Final = Path(__file__).resolve().parents[2]
EXAMPLES: Final = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs" / "asyncio.md").read_text(), re.MULTILINE | re.DOTALL
)
FAILING = """
import asyncio, aurora

async def main():
    async with aurora.open_cluster():
        pass

asyncio.run(main())
"""
LATE = """
async def late():
    async def writes():
        try:
            while True:
                await call(engine.put, 1, 0, b"hello")
                await asyncio.sleep(0)
        except aurora.Closed:
            print("closing" if leaving else "too soon")

    leaving = False
    async with volume() as (engine, call):
        writing = asyncio.create_task(writes())
        await call(engine.put, 2, 0, b"hello")
        leaving = True
    await writing
    try:
        await call(engine.get, 1)
    except aurora.Closed:
        print("closed")

asyncio.run(late())
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip


def test_the_examples_are_two() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize(
    ("example", "printed"),
    [(0, "[1, 2, 3] b'hello'"), (1, "1 b'hello'")],
    ids=["as a guest", "in a thread"],
)
def test_the_examples_of_the_page_run(example: int, printed: str) -> None:
    done = run(EXAMPLES[example])
    assert (done.stdout.strip(), done.stderr, done.returncode) == (printed, "", 0)


@pytest.mark.parametrize("example", [0, 1], ids=["as a guest", "in a thread"])
def test_a_volume_that_cannot_be_opened_is_an_error_there(example: int) -> None:
    """Not a program that waits for ever."""
    opening = (
        EXAMPLES[example]
        .replace("volume()", "volume(7)")
        .replace("aurora.open_cluster()", "aurora.open_cluster(7)")
    )
    assert opening != EXAMPLES[example]
    done = run(opening)
    assert done.returncode == 1
    assert "Invalid: directory is 7: expected a path" in done.stderr


def test_a_call_of_a_guest_that_comes_too_late_raises_closed() -> None:
    """While the volume closes, and afterwards: an error for the caller, not the end of trio."""
    late = EXAMPLES[0].replace("asyncio.run(main())\n", LATE)
    assert late != EXAMPLES[0]
    done = run(late)
    assert (done.stdout, done.stderr, done.returncode) == ("closing\nclosed\n", "", 0)


def test_without_trio_the_error_says_what_is_missing() -> None:
    done = run(FAILING)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "OutsideTrio: this is asyncio's event loop, and the engine runs on trio" in last
    assert "docs/asyncio.md" in last
