"""The writer crashes while the network is in pieces: recovery waits for a quorum and keeps all."""

from __future__ import annotations

from sim.script.api import Scenario, main


async def scenario(s: Scenario) -> None:
    s.partition("E,F")
    await s.put(1, b"on A, B, C and D")
    s.crash_writer()
    s.partition("A,B,C,D", others="writer-2")
    s.fault("recover")
    await s.sleep(10)
    s.expect(s.engine.core is None, "E and F alone prove nothing: the volume stays closed")
    s.heal_network()
    await s.writes_go_on(within_s=2)
    await s.reads_go_on(1, b"on A, B, C and D", within_s=0.3)


if __name__ == "__main__":
    main(scenario)
