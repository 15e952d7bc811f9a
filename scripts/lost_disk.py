"""Two disks are lost for good: their segments never come back, and nothing else is (§8)."""

from __future__ import annotations

from sim.script.api import Scenario, main


async def scenario(s: Scenario) -> None:
    await s.put(1, b"kept on four others")
    s.wipe("A,D")
    s.restart("A,D")
    await s.writes_go_on(within_s=0.05)
    s.expect(s.lost == ["A0", "D0"], "A0 and D0 are lost: a new disk is a new segment")
    s.crash_writer()
    await s.open_writer(within_s=2)
    await s.reads_go_on(1, b"kept on four others", within_s=0.3)
    s.crash("F")
    waiting = await s.writes_wait(for_s=5)
    s.restart("F")
    await waiting.done(within_s=2)


if __name__ == "__main__":
    main(scenario)
