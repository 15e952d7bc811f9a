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
    found = compare(["", "az-outage", ""], prelude=SET_ORDER)
    assert found.diverging is not None
    assert all("chosen" in line for line in found.diverging)
    assert found.events > 50 and "action" in found.before
