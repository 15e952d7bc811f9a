"""The proof of determinism, and that it can fail."""

from __future__ import annotations

from click.testing import CliRunner

from sim.commands.determinism import command, compare

SET_ORDER = """
from sim.world import faults
def apply(world, action, real=faults.apply):
    world.trace.note("chosen", min({"a", "b", "c", "d", "e", "f"}, key=hash))
    real(world, action)
faults.apply = apply
"""


def test_two_processes_do_the_same() -> None:
    done = CliRunner().invoke(command, ["quiet"])
    assert done.exit_code == 0, done.output
    assert "the same" in done.output and "digest" in done.output


def test_the_first_event_that_depends_on_a_hash_is_named() -> None:
    found = compare(["", "az-outage", ""], prelude=SET_ORDER).difference
    assert found is not None and found.common is not None
    shown = found.lines(("one", "other"))
    assert found.events > 50
    assert shown[0] == f"the same so far: {found.events:,} lines of the trace; the last of them:"
    assert shown[1].endswith("s  schedule: action 0, crash az3")
    assert [line.partition(":")[0] for line in shown[3:]] == ["  one", "  other"]
    assert all("schedule: chosen ('" in line for line in shown[3:]) and shown[3] != shown[4]
