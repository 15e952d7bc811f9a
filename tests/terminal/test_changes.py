"""What has changed between two looks: in words, and marked in the picture."""

from __future__ import annotations

from io import StringIO
from itertools import pairwise

from click.testing import CliRunner
from rich.console import Console

from aurora.terminal.changes import changes, marked, pool_changes
from aurora.terminal.cli import cli
from aurora.terminal.demo import DEMO, VIZ_DEMO, perform
from aurora.terminal.opening import Options, run
from aurora.terminal.picture import draw
from aurora.terminal.screen import Screen
from aurora.terminal.session import Session
from aurora.terminal.snapshot import VolumeView
from aurora.terminal.text import STYLES
from tests.terminal.playing import aurora, play


def views(*lines: str) -> list[VolumeView]:
    """The system after each command."""
    found: list[VolumeView] = []
    play(*lines, look=lambda session: found.append(session.view()))
    return found


def test_each_change_is_named_once_and_segments_stand_together() -> None:
    start, write, crash, other, read = views(
        "state", 'put 1 0 "a"', "crash az3", "recover", "get 1"
    )
    assert changes(start, start) == pool_changes(start, start) == []
    assert changes(start, write) == [
        "PGCL 0 → 1, VCL 0 → 1, VDL 0 → 1, next LSN 1 → 2, commits 0 → 1",
        "A0 B0 C0 D0 E0 F0: SCL 0 → 1",
        "new in the log: 1",
    ]
    assert pool_changes(start, write) == ["buffer pool: pages 0 → 1"]
    assert changes(write, crash) == ["E0 F0: up → down"]
    assert changes(crash, other) == [
        "the writer: writer-1 → writer-2",
        "next LSN 2 → 1002",
        "A0 B0 C0 D0: sealed epoch 1 (writer-1) → 2 (writer-2)",
        "annulled: 2–1001",
    ]
    assert pool_changes(crash, other) == ["writer-2 begins with an empty buffer pool"]
    assert changes(other, read) == []
    assert pool_changes(other, read) == ["buffer pool: pages 0 → 1, misses 0 → 1"]


def test_what_was_lost_filled_or_taken_away_is_named() -> None:
    views_ = views(
        "step on", "put 1 0 a", "step 2", "drop 4", "crash writer", "crash az1", "recover",
        "step off", "restart az1", "wait 2000", "wipe F",
    )  # fmt: skip
    texts = ["; ".join(changes(*pair)) for pair in pairwise(views_)]
    assert any("writer-1: open → gone" in text for text in texts)
    assert any("gone from the log: 1" in text for text in texts)
    assert texts[-1] == "F0: up → lost"


def test_only_what_differs_is_marked() -> None:
    before, after = (draw(each, 80) for each in views("put 1 0 a", "crash F"))
    lines = marked(before, after)
    assert [line.plain for line in lines] == [line.plain for line in after]
    spots = {
        line.plain[span.start : span.end]
        for line in lines
        for span in line.spans
        if span.style == STYLES["changed"]
    }
    assert spots and spots <= set("○down")
    unchanged = marked(after, after)
    assert not any(span.style == STYLES["changed"] for line in unchanged for span in line.spans)


def test_the_walk_says_what_has_changed_and_ends_with_the_whole_picture() -> None:
    text = aurora("viz-demo").stdout
    assert text.count("\nchanged  ") == len([line for act in VIZ_DEMO for line in act.lines])
    assert "\nchanged  E0 F0: up → down\n" in text
    assert "\nchanged  buffer pool: hits 0 → 1\n" in text, "a read: and no picture for that"
    end = text.split("\nThe whole picture\n")[1]
    assert end.startswith("╭─ COMPUTE writer-2")
    assert "since the beginning  the writer: writer-1 → writer-2\n" in end
    before = text.split("\nThe whole picture\n")[0].rsplit("aurora> ", 1)[1]
    assert "COMPUTE" not in before, "the same picture is not drawn twice in a row"


def test_the_demo_pauses_between_acts_and_prints_the_same() -> None:
    printed: list[str] = []

    async def use(session: Session) -> int:
        file = StringIO()
        session.screen = Screen(console=Console(file=file, width=80, color_system=None))

        async def pause() -> None:
            printed.append(file.getvalue())

        status = await perform(session, DEMO, pause)
        printed.append(file.getvalue())
        return status

    assert run(Options(), use, repeatable=True) == 0
    assert len(printed) == len(DEMO)
    for number, (act, text) in enumerate(zip(DEMO, printed, strict=True), 1):
        assert f"{number}. {act.title}" in text
        assert f"\n{number + 1}. " not in text
    assert printed[-1] == aurora("demo").stdout


def test_a_delay_that_is_none_is_refused() -> None:
    done = CliRunner().invoke(cli, ["demo", "--delay", "-1"])
    assert done.exit_code == 2 and "0<=x<=60" in done.output
