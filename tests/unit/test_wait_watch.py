"""When a wait is told: after a second, more and more rarely, and when it is over."""

from __future__ import annotations

import logging
from itertools import pairwise

import attrs
import pytest

from aurora.health import Going, HealthReport, Waiting, WaitKind
from aurora.wait_watch import FIRST_PAUSE_S, LONGEST_PAUSE_S, UNEXPLAINED_S, WaitWatch

COMMITS = Waiting(
    WaitKind.COMMITS, "commits", "commits wait", "D0 full, E0 down", 0.0, ("D0", "E0")
)
DISK = Waiting(WaitKind.DISK, "full", "D0 full", "", 0.0, ("D0",))
LOST = Waiting(WaitKind.LOST, "A0", "A0 is lost", "five are left", 0.0, ("A0",))


def report(*waits: Waiting) -> HealthReport:
    return HealthReport("writer", (), Going(True), Going(True), waits)


def lasting(wait: Waiting, for_s: float, *segments: str) -> Waiting:

    return attrs.evolve(wait, for_s=for_s, segments=segments or wait.segments)


def told(watch: WaitWatch, now: float, *waits: Waiting) -> list[tuple[int, str]]:
    return [(level, text) for level, text in watch.observe(now, report(*waits))]


def test_a_wait_is_told_after_a_second_and_when_it_is_over() -> None:
    watch = WaitWatch()
    assert told(watch, 0.9, lasting(COMMITS, 0.9)) == []
    assert told(watch, 1.0, lasting(COMMITS, 1.0)) == [
        (logging.WARNING, "commits wait: D0 full, E0 down (for 1.0 s so far)")
    ]
    assert told(watch, 1.5, lasting(COMMITS, 1.5)) == []
    assert told(watch, 2.0) == [(logging.INFO, "commits go on, after 1.5 s")]
    assert told(watch, 3.0) == []


def test_what_was_too_short_to_be_told_has_no_end() -> None:
    watch = WaitWatch()
    assert told(watch, 0.5, lasting(COMMITS, 0.5)) == told(watch, 1.0) == []


def test_a_wait_for_which_nothing_is_known_to_be_wrong_is_told_late() -> None:
    watch = WaitWatch()
    unexplained = attrs.evolve(COMMITS, missing="nobody", segments=(), explained=False)
    assert told(watch, 9.0, lasting(unexplained, UNEXPLAINED_S - 1)) == []
    assert told(watch, 9.5) == []
    assert len(told(watch, 20.0, lasting(unexplained, UNEXPLAINED_S))) == 1


def test_a_wait_that_was_told_is_not_over_when_its_reason_is() -> None:
    watch = WaitWatch()
    assert len(told(watch, 1.0, lasting(COMMITS, 1.0))) == 1
    unexplained = attrs.evolve(COMMITS, missing="nobody", segments=(), explained=False)
    assert told(watch, 2.0, lasting(unexplained, 2.0)) == []
    assert told(watch, 3.0) == [(logging.INFO, "commits go on, after 2.0 s")]


def test_a_long_wait_is_told_ever_more_rarely_but_never_forgotten() -> None:
    watch = WaitWatch()
    times = [at for at in range(1, 10_000) if told(watch, at, lasting(COMMITS, at))]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses == sorted(pauses)
    assert set(pauses[-5:]) == {LONGEST_PAUSE_S}


def test_a_disk_named_as_the_reason_of_a_wait_has_no_line_of_its_own() -> None:
    watch = WaitWatch()
    assert told(watch, 1.0, lasting(COMMITS, 0.9), lasting(DISK, 1.0)) == []
    ((_, text),) = told(watch, 1.1, lasting(COMMITS, 1.0), lasting(DISK, 1.1))
    assert text.startswith("commits wait: D0 full")
    assert told(watch, 2.0, lasting(COMMITS, 2.0)) == []  # nor an end


def test_a_disk_that_is_still_full_when_others_do_without_it_is_told_then() -> None:
    watch = WaitWatch()
    assert len(told(watch, 1.0, lasting(COMMITS, 1.0), lasting(DISK, 1.0))) == 1
    assert told(watch, 3.0, lasting(DISK, 3.0)) == [
        (logging.INFO, "commits go on, after 1.0 s"),
        (logging.WARNING, "D0 full (for 3.0 s so far)"),
    ]


def test_a_disk_that_nothing_waits_for_has_and_another_one_is_news() -> None:
    watch = WaitWatch()
    assert told(watch, 1.0, lasting(DISK, 1.0)) == [(logging.WARNING, "D0 full (for 1.0 s so far)")]
    assert told(watch, 2.0, lasting(DISK, 2.0)) == []
    assert len(told(watch, 3.0, lasting(DISK, 3.0, "D0", "E0"))) == 1
    assert told(watch, 4.0, lasting(DISK, 4.0, "E0")) == []
    assert told(watch, 5.0) == [(logging.INFO, "no longer so, after 4.0 s: D0 full")]


def test_a_lost_segment_is_told_at_once_and_once() -> None:
    watch = WaitWatch()
    assert told(watch, 0.0, LOST) == [(logging.WARNING, "A0 is lost: five are left")]
    assert [at for at in range(1, 5_000) if told(watch, at, lasting(LOST, at))] == []


@pytest.mark.parametrize("kind", list(WaitKind))
def test_every_kind_of_wait_has_an_end_in_words(kind: WaitKind) -> None:
    watch = WaitWatch()
    wait = Waiting(kind, "writer-1", "it waits", "four", 2.0, ("A0",))
    assert len(told(watch, 2.0, wait)) == 1
    ((level, text),) = told(watch, 3.0)
    assert (level, "after 2.0 s" in text) == (logging.INFO, True)


@pytest.mark.parametrize("kind", [WaitKind.COMMITS, WaitKind.READS, WaitKind.STRICT_READS])
def test_a_wait_that_ends_while_the_reason_lasts_has_not_been_worth_it(kind: WaitKind) -> None:
    watch = WaitWatch()
    stuck = HealthReport("writer", (), Going(False, "4"), Going(False, "1"), ())
    watch.observe(2.0, attrs.evolve(stuck, waits=(Waiting(kind, "it", "it waits", "4", 2.0),)))
    ((_, text),) = watch.observe(3.0, stuck)
    assert text == f"{kind} no longer wait, after 2.0 s: the call ended"


@pytest.mark.parametrize("kind", [WaitKind.COMMITS, WaitKind.READS, WaitKind.STRICT_READS])
def test_what_waited_for_a_deposed_writer_does_not_go_on_with_the_next(kind: WaitKind) -> None:
    watch = WaitWatch()
    assert len(told(watch, 2.0, Waiting(kind, "it", "it waits", "4", 2.0))) == 1
    ((_, text),) = watch.observe(3.0, attrs.evolve(report(), writer="writer-2"))
    assert text == f"{kind} of writer will not go on, after 2.0 s: writer-2"
