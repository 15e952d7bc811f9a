"""A zone and one more segment fail: writes wait, reads go on, and nothing is lost (2017 §2.1)."""

from __future__ import annotations

from sim.script.api import Scenario, main


async def scenario(s: Scenario) -> None:
    await s.put(1, b"before")
    s.crash("az3")
    await s.writes_go_on(within_s=0.05)
    s.crash("A")
    waiting = await s.writes_wait(for_s=30)
    await s.reads_go_on(1, b"before", within_s=0.3)
    s.restart("E")
    await waiting.done(within_s=2)
    await s.writes_go_on(within_s=0.1)


if __name__ == "__main__":
    main(scenario)
