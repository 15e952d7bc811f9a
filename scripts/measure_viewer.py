#!/usr/bin/env python3
"""Measure the viewer's page in a browser: first picture, frames, a step, and the size of an export.

    python scripts/measure_viewer.py                   # 10,000 and 100,000 events
    python scripts/measure_viewer.py --seconds 3       # play for so long at each speed

Needs the extra `dev` and Chromium of the system's packages. Ends with 1 if a limit is missed; the
limits are those of a machine that does nothing else, and has no graphics processor.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
from playwright.sync_api import CDPSession, Page, sync_playwright

ROOT: Final = Path(__file__).resolve().parent.parent
VIEW: Final = (sys.executable, "-m", "aurora.sim", "view")
PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
SCENARIO: Final = """
name = "measured"
description = "A zone away, and back, amid many calls."
seed = 1
action = [
  {{ at = "300ms", fault = "crash", target = "az2" }},
  {{ at = "800ms", fault = "restart", target = "az2" }},
]
[knobs]
duration = "{seconds}s"
[knobs.link]
loss = 0.01
[workload]
clients = 6
rate = {rate}
reads = ["get", "strict_get"]
cached = false
"""
SHORT: Final = SCENARIO.format(seconds=2.2, rate=190)
LONG: Final = SCENARIO.format(seconds=10, rate=400)

FRAMES: Final = """(ms) => new Promise((done) => {
  const times = [];
  const look = (now) => {
    times.push(now);
    if (now - times[0] < ms) return requestAnimationFrame(look);
    const gaps = times.slice(1).map((each, i) => each - times[i]).sort((a, b) => a - b);
    done([1000 * gaps.length / (times.at(-1) - times[0]), gaps.at(-1)]);
  };
  requestAnimationFrame(look);
})"""
STEPS: Final = """async (keys) => {
  const taken = [];
  for (const [key, shiftKey] of keys) {
    const start = performance.now();
    document.body.dispatchEvent(new KeyboardEvent('keydown', { key, shiftKey, bubbles: true }));
    await new Promise((done) => requestAnimationFrame(() => {
      const channel = new MessageChannel(); // its message comes when the frame has been painted
      channel.port1.onmessage = done;
      channel.port2.postMessage(0);
    }));
    taken.push(performance.now() - start);
  }
  return taken.sort((a, b) => a - b);
}"""
KEYS: Final = [
    *[["ArrowRight", False]] * 40, *[["ArrowLeft", False]] * 20, *[["ArrowRight", True]] * 10,
    ["Home", False], ["End", False], ["f", True], ["c", True], ["c", False], ["n", True],
]  # fmt: skip
"""Steps in both directions, of a node, and jumps over the whole run."""
SPEEDS: Final = (("200 µs/s", 1), ("10 ms/s", 6), ("100 ms/s", 9))
"""The page's words for a speed, and how many steps it is above the slowest."""


@attrs.frozen
class Figure:
    """One measured value beside its limit."""

    name: str
    value: float
    unit: str
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        verdict = "ok" if self.holds else "MISSED"
        return (
            f"{self.name:<44}{self.value:>10,.1f} {self.unit:<4} {sign} {self.limit:g}  {verdict}"
        )


@contextmanager
def served(scenario: Path) -> Iterator[str]:
    """The address of a page that shows a run of this scenario."""
    command = [*VIEW, str(scenario), "--no-open", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield next(line.strip() for line in server.stdout if line.startswith("http://"))
        finally:
            server.terminate()
            server.wait()


def thread_ms(session: CDPSession) -> float:
    """How long the page's thread has been running so far, not counting when others had the core."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return 1_000 * next(float(each["value"]) for each in metrics if each["name"] == "TaskDuration")


def opened(page: Page, address: str) -> tuple[int, float]:
    """How many events the page shows, and ms from the visit to the first picture."""
    page.goto(address)
    page.wait_for_selector("html[data-ready]", timeout=120_000)
    events = page.evaluate("+document.documentElement.dataset.ready")
    shown = page.evaluate("performance.getEntriesByName('first picture')[0].startTime")
    return int(events), float(shown)


def frames(page: Page, session: CDPSession, name: str, seconds: float) -> Iterator[Figure]:
    """Frames in a second while the run plays, at the speed it begins at, and faster."""
    for speed, faster in SPEEDS:
        page.keyboard.press("Home")
        for key in ("-",) * 13 + ("+",) * faster:  # from the slowest one on
            page.keyboard.press(key)
        page.keyboard.press(" ")
        before = thread_ms(session)
        rate, worst = page.evaluate(FRAMES, seconds * 1_000)
        busy = (thread_ms(session) - before) / (rate * seconds)
        page.keyboard.press(" ")
        yield Figure(f"{name}, playing at {speed}", rate, "/s", 30, at_least=True)
        print(f"  the longest took {worst:.0f} ms; the page's thread works {busy:.1f} ms a frame")


def steps(page: Page, session: CDPSession, name: str) -> Iterator[Figure]:
    """What a step takes, from the key to the painted frame, and how much of it is work."""
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("n")
    before = thread_ms(session)
    taken = page.evaluate(STEPS, KEYS)
    busy = (thread_ms(session) - before) / len(KEYS)
    yield Figure(f"{name}, a step, half of them", taken[len(taken) // 2], "ms", 50)
    yield Figure(f"{name}, a step, 19 of 20", taken[len(taken) * 19 // 20], "ms", 50)
    print(f"  the page's thread works {busy:.1f} ms a step")


def measured(page: Page, scenario: Path, seconds: float, *, short: bool) -> Iterator[Figure]:
    """All figures of one run."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    with served(scenario) as address:
        events, shown = opened(page, address)
        name = f"{events:,} events"
        yield Figure(f"{name}, first picture", shown, "ms", 2_000 if short else 10_000)
        yield from frames(page, session, name, seconds)
        page.keyboard.press("l")
        yield from frames(page, session, f"{name}, lanes", seconds)
        page.keyboard.press("l")
        yield from steps(page, session, name)
    if short:
        exported = scenario.with_suffix(".html")
        command = [*VIEW, str(scenario), "--export", str(exported)]
        subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        yield Figure(f"{name}, exported", exported.stat().st_size / 2**20, "MiB", 3)


def main() -> int:
    """Measure, print, and say by the exit code whether all limits hold."""
    parser = argparse.ArgumentParser(description="Measure the viewer's page in a browser.")
    parser.add_argument("--seconds", type=float, default=3.0, help="of playing at each speed")
    arguments = parser.parse_args()
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        print("no browser: Chromium of the system's packages is not installed", file=sys.stderr)
        return 2
    missed = 0
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        for scenario in (SHORT, LONG):
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.add_init_script("localStorage.setItem('aurora-sim tour', 'seen')")
            path = Path(folder, "measured.toml")
            path.write_text(scenario, encoding="utf-8")
            for figure in measured(page, path, arguments.seconds, short=scenario is SHORT):
                print(figure, flush=True)
                missed += not figure.holds
            page.close()
        browser.close()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
