"""A writer that was cut off and replaced comes back: it is fenced (2017 §4.3)."""

from __future__ import annotations

from sim.script.api import Scenario, main


async def scenario(s: Scenario) -> None:
    old = s.engine
    await s.put(1, b"old")
    s.partition("writer")
    new = await s.open_writer(within_s=2)
    await s.put(1, b"new", by=new)
    s.expect((await s.get(1, by=old))[:3] == b"old", "the zombie still reads its old state")
    s.heal_network()
    await s.is_fenced(old)
    await s.reads_go_on(1, b"new", within_s=0.3)


if __name__ == "__main__":
    main(scenario)
