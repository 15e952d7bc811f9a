"""What a report says of a volume, from plain values: who counts, and what is missing."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from aurora.diagnosis import (
    Phase,
    SegmentSnapshot,
    VolumeSnapshot,
    WriterSnapshot,
    diagnose,
)
from aurora.health import HealthReport, SegmentStatus, WaitKind, duration
from aurora.pending import WaitSnapshot
from aurora.quorum import QuorumModel
from segments.protocol.refusal import DiskTrouble, Refusal
from segments.protocol.space import Space

NOW = 100.0
FULL = Refusal(DiskTrouble.FULL, "No space left on device", "A0: no space", 90.0)
FORBIDDEN = Refusal(DiskTrouble.REFUSED, "Read-only file system", "A0: read-only", 91.0)
BAD = Refusal(DiskTrouble.FAILING, "Input/output error", "A0: EIO", 92.0)
OPEN = WriterSnapshot(name="writer-1", epoch="3", phase=Phase.OPEN)


def volume(
    *, pg_count: int = 1, writer: WriterSnapshot | None = OPEN, **changes: dict[str, Any]
) -> VolumeSnapshot:
    """A volume in which all is well but for the ``changes`` to segments, by name."""
    names = {f"{letter}{pg}": pg for pg in range(pg_count) for letter in "ABCDEF"}
    segments = [
        SegmentSnapshot(segment=name, pg_id=pg, az=1 + "ABCDEF".index(name[0]) // 2, since_s=40.0)
        for name, pg in names.items()
    ]
    return VolumeSnapshot(
        now_s=NOW,
        models={
            pg: QuorumModel(tuple(name for name, its in names.items() if its == pg))
            for pg in range(pg_count)
        },
        segments=[attrs.evolve(each, **changes.get(each.segment, {})) for each in segments],
        writers=[writer] if writer is not None else [],
    )


def report(**changes: Any) -> HealthReport:
    return diagnose(volume(**changes))


DOWN: dict[str, Any] = {"up": False, "since_s": 70.0}


@pytest.mark.parametrize(
    ("changes", "status", "why", "for_s", "takes_writes", "answers_reads"),
    [
        ({}, "up", "", 60.0, True, True),
        (DOWN, "down", "", 30.0, False, False),
        ({**DOWN, "starting": True}, "down", "reads its log", 30.0, False, False),
        ({"paused_since_s": 98.0}, "paused", "", 2.0, False, False),
        ({"refusal": FULL}, "full", "No space left on device", 10.0, False, True),
        ({"refusal": FORBIDDEN}, "refused", "Read-only file system", 9.0, False, True),
        ({"refusal": BAD}, "failing", "Input/output error", 8.0, False, True),
        ({**DOWN, "refusal": FORBIDDEN}, "refused", "Read-only file system", 9.0, False, False),
        ({"up": False, "mistake": "oh", "since_s": 95.0}, "failed", "oh", 5.0, False, False),
        ({"up": False, "lost": "gone", "since_s": 99.0}, "lost", "gone", 1.0, False, False),
        ({"whole": False}, "damaged", "part of its log is lost; peers repair it", 60.0, True, True),
        ({"whole": False, "behind_since_s": 98.0, "current": False}, "damaged",
         "part of its log is lost; peers repair it", 60.0, False, False),
        ({"silent_since_s": 99.0, "current": False}, "silent", "no answer to the writer", 1.0,
         False, False),
        ({"writing_since_s": 91.0}, "failing", "a write does not finish", 9.0, False, True),
        ({"whole": False, "damaged_layers": 2}, "damaged",
         "part of a layer is lost; peers repair it", 60.0, True, True),
        ({"background_refusal": FULL}, "full",
         "No space left on device; its layers are not written; the log only grows", 10.0, True,
         True),
        ({"space": Space(9_000, 8_000)}, "short", "needs 9,000 of 8,000 bytes", 60.0, True, True),
        ({"space": Space(7_999, 8_000)}, "up", "", 60.0, True, True),
        ({"writing_since_s": 99.5}, "up", "", 60.0, True, True),
        ({"silent_since_s": 10.0, "since_s": 99.5}, "up", "", 0.5, True, True),
        ({"silent_since_s": 99.5}, "up", "", 60.0, True, True),
        ({"behind_since_s": 98.0, "lag": 1234, "current": False}, "behind", "by 1,234 LSNs", 2.0,
         False, False),
        ({"behind_since_s": 99.5, "lag": 1, "current": False}, "up", "", 60.0, True, False),
        ({"paused_since_s": 98.0, "refusal": FULL}, "paused", "", 2.0, False, False),
    ],
)  # fmt: skip
def test_the_worst_that_is_known_of_a_segment(
    changes: dict[str, Any], status: str, why: str, for_s: float, takes_writes: bool,
    answers_reads: bool,
) -> None:  # fmt: skip
    found = report(A0=changes).segments["A0"]
    assert (found.status, found.why, found.for_s) == (status, why, for_s)
    assert (found.takes_writes, found.answers_reads) == (takes_writes, answers_reads)


def test_every_status_is_among_those_above() -> None:
    parameters = test_the_worst_that_is_known_of_a_segment.pytestmark[0].args[1]
    assert {each[1] for each in parameters} == set(SegmentStatus)


def test_all_is_well() -> None:
    found = report()
    assert (found.writes.goes_on, found.reads.goes_on, found.waits) == (True, True, ())
    assert str(found).splitlines()[:4] == [
        "writer   writer-1 has the volume open, epoch 3",
        "writes   go on",
        "reads    go on",
        "A0       up       for 1 min 0 s",
    ]


def test_writes_go_on_with_four_and_say_what_is_missing_with_three() -> None:
    four = report(E0=DOWN, F0=DOWN)
    assert four.writes.goes_on
    three = report(E0=DOWN, F0=DOWN, D0={"refusal": FULL})
    assert three.writes.missing == (
        "3 of 6 segments take writes, 4 needed: D0 full (No space left on device), E0 F0 down"
    )
    assert three.writes.segments == ("D0", "E0", "F0")
    assert three.reads.goes_on


def test_reads_go_on_with_one_and_wait_with_none() -> None:
    gone = dict.fromkeys(("A0", "B0", "C0", "D0", "E0"), DOWN)
    assert report(**gone).reads.goes_on
    found = report(**gone, F0={"current": False})
    assert found.reads.missing == (
        "none of 6 segments can answer for the newest version, 1 needed: A0 B0 C0 D0 E0 down"
    )


def test_one_group_of_two_that_waits_is_named() -> None:
    found = report(pg_count=2, A1=DOWN, B1=DOWN, C1={"lost": "gone", "up": False})
    assert found.groups[0].writes.goes_on
    assert not found.groups[1].writes.goes_on
    assert found.writes.missing == (
        "group 1: 3 of 6 segments take writes, 4 needed: A1 B1 down, C1 lost"
    )


# ---- what waits ----------------------------------------------------------------------------------


def wait(kind: WaitKind, *pg_ids: int) -> WriterSnapshot:
    waits = (WaitSnapshot(kind=kind, since_s=97.0, pg_ids=pg_ids),)
    return attrs.evolve(OPEN, waits=waits)


@pytest.mark.parametrize("kind", [WaitKind.COMMITS, WaitKind.ROOM, WaitKind.POOL])
def test_commits_wait_for_what_writes_lack(kind: WaitKind) -> None:
    (found,) = report(writer=wait(kind, 0), A0=DOWN, B0=DOWN, C0=DOWN).waits
    assert (found.kind, found.for_s, found.segments) == (kind, 3.0, ("A0", "B0", "C0"))
    assert found.text.startswith("commits wait for ")
    assert found.text.endswith(": 3 of 6 segments take writes, 4 needed: A0 B0 C0 down")


@pytest.mark.parametrize("kind", [WaitKind.READS, WaitKind.PAGES])
def test_reads_wait_for_what_reads_lack(kind: WaitKind) -> None:
    gone = {f"{letter}0": DOWN for letter in "ABCDEF"}
    (found,) = report(writer=wait(kind, 0), **gone).waits
    assert found.missing.startswith("none of 6 segments can answer")


def test_strict_reads_wait_for_a_read_quorum() -> None:
    gone = dict.fromkeys(("A0", "B0", "C0"), DOWN)
    changes = {**gone, "D0": {"silent_since_s": 90.0}}
    (found,) = report(writer=wait(WaitKind.STRICT_READS, 0), **changes).waits
    assert found.missing == "2 of 6 confirm the epoch, 3 needed: A0 B0 C0 down, D0 silent"
    assert report(**gone).groups[0].strict_reads.goes_on


@pytest.mark.parametrize(("lost", "for_good"), [("AB", False), ("ABC", True)])
def test_a_write_quorum_can_be_lost_for_good(lost: str, for_good: bool) -> None:
    gone = {f"{letter}0": {"up": False, "lost": "gone"} for letter in lost}
    found = report(F0=DOWN, **gone)
    assert (found.writes.goes_on, found.writes.for_good) == (False, for_good)


def test_a_wait_for_a_group_in_which_nothing_is_wrong_says_so() -> None:
    found = report(writer=wait(WaitKind.COMMITS, 1), pg_count=2, A0=DOWN, B0=DOWN, C0=DOWN)
    assert found.waits[0].text == (
        "commits wait for a write quorum: nobody is known to be in trouble"
    )
    assert not found.waits[0].explained


@pytest.mark.parametrize(
    ("phase", "answered", "missing"),
    [
        (Phase.SEALING, "AB", "2 of 6 segments have sealed its epoch, 3 needed: C0 down"),
        (Phase.FETCHING, "ABD", "the newest part of the log is read"),
        (Phase.REPLICATING, "ABD",
         "3 of 6 segments have taken over its epoch, 4 needed: C0 down"),
        (Phase.REPLICATING, "ABDE", "records are copied"),
    ],
)  # fmt: skip
def test_an_opening_says_how_far_it_is_and_what_is_missing(
    phase: Phase, answered: str, missing: str
) -> None:
    names = frozenset(f"{letter}0" for letter in answered)
    writer = WriterSnapshot(name="writer-2", epoch="4", phase=phase, since_s=98.0, answered=names)
    found = report(writer=writer, C0=DOWN)
    assert found.writer == "writer-2 is opening the volume"
    assert (found.writes.goes_on, found.writes.missing) == (False, missing)
    assert found.reads == found.writes
    (waiting,) = found.waits
    assert waiting.text == f"writer-2 cannot open the volume yet: {missing}"
    assert waiting.for_s == 2.0


@pytest.mark.parametrize(
    ("writer", "missing"),
    [
        (None, "no writer has the volume open; none has been opened yet"),
        (WriterSnapshot(name="writer-1", epoch="3", phase=Phase.ENDED, end="fenced"),
         "no writer has the volume open; writer-1 has ended: fenced"),
    ],
)  # fmt: skip
def test_without_a_writer_nothing_goes_on(writer: WriterSnapshot | None, missing: str) -> None:
    found = report(writer=writer)
    assert (found.writes.missing, found.reads.missing) == (missing, missing)


def test_disks_with_the_same_trouble_are_one_thing_to_be_told_of() -> None:
    found = report(A0={"refusal": FULL}, B0={"refusal": FULL}, C0={"refusal": BAD}, D0=DOWN)
    assert [(each.kind, each.text, each.segments) for each in found.waits] == [
        (WaitKind.DISK, "A0 B0 full (No space left on device)", ("A0", "B0")),
        (WaitKind.DISK, "C0 failing (Input/output error)", ("C0",)),
    ]


ONE_TO_SPARE = "with 2 down writes wait, with 2 lost it can never be opened again"
NONE_TO_SPARE = "with one down writes wait, with one lost it can never be opened again"


@pytest.mark.parametrize(
    ("lost", "outlook"),
    [
        ("A", f"5 of 6 segments, and can do without 1 of them: {ONE_TO_SPARE}"),
        ("AB", f"4 of 6 segments, and can do without none of them: {NONE_TO_SPARE}"),
        ("ABC", "3 of 6 segments, too few for a write quorum, for good"),
    ],
)  # fmt: skip
def test_what_a_lost_segment_means(lost: str, outlook: str) -> None:
    gone = {f"{letter}0": {"up": False, "lost": "no identity"} for letter in lost}
    waits = report(**gone).waits
    assert [each.text for each in waits] == [
        f"{name} is lost (no identity): the volume runs on {outlook}" for name in gone
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"), (9.94, "9.9 s"), (10.0, "10 s"), (59.9, "59 s"), (60, "1 min 0 s"),
        (3_599, "59 min 59 s"), (7_800, "2 h 10 min"), (100_000, "1 d 3 h"),
    ],
)  # fmt: skip
def test_durations_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_text_fits_80_columns_and_says_everything_once() -> None:
    writer = wait(WaitKind.COMMITS, 0)
    text = str(
        report(
            writer=writer,
            A0={"up": False, "lost": "no identity " * 8},
            B0=DOWN,
            C0={"refusal": FULL},
        )
    )
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("No space left") == 2  # what is missing, and the segment itself
    assert "waiting  commits wait for a write quorum (for 3.0 s)\n" in text
