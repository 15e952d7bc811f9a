"""When a writer sends again: what is looked at on the wire, against a writer's own stream."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from segments.protocol import codec
from segments.protocol.messages import InstallTable, Message, TableInstalled, WriteAck
from segments.protocol.truncation import TruncationTable
from sim.check.invariants import Broken
from sim.check.pace_checks import PaceChecks
from sim.plan.schedule import MS, Knobs
from sim.world.network import NetworkEvent
from tests.store_rig import FIRST, batch, records

KNOBS = Knobs(resend_min_ns=10 * MS, resend_max_ns=40 * MS)


class Wire:
    """One writer and one segment; times in milliseconds."""

    def __init__(self, knobs: Knobs = KNOBS) -> None:
        def hold(predicate: Any, *args: Any) -> None:
            self.held += 1
            predicate(*args)

        self.held = 0
        world: Any = SimpleNamespace(config=knobs.cluster_config())
        findings: Any = SimpleNamespace(hold=hold)
        self.checks = PaceChecks(world, findings)

    def sends(self, ms: float, *lsns: int) -> None:
        run = batch(records(list(lsns), prev=lsns[0] - 1), seq=lsns[0])
        self.checks.sends(_event(ms, "sent", "W", "A0", run))

    def hears(self, ms: float, scl: int) -> None:
        ack = WriteAck(FIRST, "A0", scl, scl)
        self.checks.acknowledged(_event(ms, "delivered", "A0", "W", ack))

    def installs(self, ms: float) -> None:
        message = InstallTable(FIRST, 0, TruncationTable(FIRST))
        self.checks.installs(_event(ms, "sent", "W", "A0", message))

    def installed(self, ms: float) -> None:
        message = TableInstalled(FIRST, "A0", 0, 0)
        self.checks.installed(_event(ms, "delivered", "A0", "W", message))


def _event(ms: float, kind: Any, source: str, destination: str, message: Message) -> NetworkEvent:
    return NetworkEvent(int(ms * MS), kind, 1, source, destination, codec.encode(message))


def test_what_is_lost_is_sent_again_after_a_pause_that_doubles() -> None:
    wire = Wire()
    for ms in (0, 10, 30, 70, 130):  # at the next tick, at the latest
        wire.sends(ms, 1)
    assert wire.held == 4


@pytest.mark.parametrize("ms", [9, 31])
def test_neither_sooner_nor_later(ms: float) -> None:
    wire = Wire()
    wire.sends(0, 1)
    with pytest.raises(Broken, match="sends A0 something again"):
        wire.sends(ms, 1)


def test_the_pause_follows_the_answers() -> None:
    wire = Wire()
    wire.sends(0, 1)
    wire.hears(5, 1)
    wire.sends(10, 2)
    with pytest.raises(Broken, match="expected 19999000 to 40001000"):
        wire.sends(19, 2)


def test_an_answer_that_came_late_may_have_taught_the_writer_nothing() -> None:
    """It had given the batch up by then, perhaps without a thing to send: it knows no latency."""
    wire = Wire()
    wire.sends(0, 1)
    wire.hears(12, 1)
    wire.sends(13, 2)
    wire.sends(24, 2)
    wire.hears(25, 2)
    wire.sends(26, 3)
    with pytest.raises(Broken, match="expected 9999000 to"):
        wire.sends(35, 3)


@pytest.mark.parametrize(("ms", "fits"), [(247, False), (249, True)])
def test_an_answer_that_came_late_may_have_been_timed_all_the_same(ms: int, fits: bool) -> None:
    """Then it may be the quickest, once the writer has surely timed another."""
    wire = Wire(attrs.evolve(KNOBS, resend_max_ns=1_000 * MS))
    wire.sends(0, 1)
    wire.hears(12, 1)
    wire.sends(100, 2)
    wire.sends(115, 2)
    wire.hears(130, 2)
    wire.sends(200, 3)
    with nullcontext() if fits else pytest.raises(Broken, match="expected 47999000 to"):
        wire.sends(ms, 3)


def test_an_answer_that_comes_as_patience_runs_out_may_have_been_heard_after_that() -> None:
    """The silence that was counted is none then, and the next pause no longer."""
    wire = Wire()
    wire.sends(0, 1)
    wire.sends(1, 2)
    wire.hears(10, 1)
    wire.sends(10, 2)
    wire.sends(20, 2)
    with pytest.raises(Broken, match="sends A0 something again"):
        wire.sends(39, 2)


def test_what_follows_one_that_was_lost_is_no_sooner_for_that() -> None:
    wire = Wire()
    wire.sends(0, 1)
    wire.sends(1, 2)
    wire.sends(11, 1)
    wire.hears(12, 1)
    wire.sends(12, 2)  # the window is open again
    with pytest.raises(Broken, match="sends A0 something again"):
        wire.sends(13, 2)


def test_a_table_is_sent_again_likewise() -> None:
    wire = Wire()
    for ms in (0, 10, 30, 70):
        wire.installs(ms)
    wire.installed(71)
    wire.installs(80)  # it has lost it to damage
    with pytest.raises(Broken, match="sends A0 something again"):
        wire.installs(89)
