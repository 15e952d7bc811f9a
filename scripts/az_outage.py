"""An availability zone goes away and comes back: nobody waits, nothing is lost (2017 §2.2)."""

from __future__ import annotations

from sim.script.api import Scenario, main


async def scenario(s: Scenario) -> None:
    await s.put(1, b"before the outage")
    s.crash("az1")
    await s.writes_go_on(within_s=0.05)
    await s.reads_go_on(1, b"before the outage", within_s=0.3)
    await s.put(1, b"during the outage")
    s.restart("az1")
    await s.writes_go_on(within_s=0.05)
    await s.reads_go_on(1, b"during the outage", within_s=0.3)


if __name__ == "__main__":
    main(scenario)
