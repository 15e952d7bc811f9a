"""Segments get slow without failing: commits and reads take their way around them (2018 §3.1)."""

from __future__ import annotations

from sim.script.api import Scenario, main


async def scenario(s: Scenario) -> None:
    for page in range(8):
        await s.put(page, b"page %d" % page)
    s.slow("A,B", factor=500)
    for page in range(8):
        await s.reads_go_on(page, b"page %d" % page, within_s=0.05)
    await s.writes_go_on(within_s=0.01)
    s.slow("A,B", factor=1)
    await s.writes_go_on(within_s=0.01)


if __name__ == "__main__":
    main(scenario)
