"""The benchmark runs to its end at tiny sizes, and says what it promises; never how fast we are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from scripts import bench
from scripts.bench import FIGURES
from scripts.figures.figure import Bound, Figure, Sizes, compare, judge
from scripts.figures.life import LIVES

TINY = Sizes(
    turns=1, writers=4, memory_commits=8, sustained_records=40, file_commits=8, single_commits=2,
    cold_reads=2, long_page_history=200, batches=3, live_pages=20, fold_bytes=20_000,
    history=600, long_history=1_200, log_bytes=50_000, memory_records=320, retained_records=600,
    small_records=600, simulated_seeds=1, sql_inserts=8, sql_mixes=8, sql_selects=10,
    sql_scan_rows=100, sql_import_mib=1,
)  # fmt: skip
BOUNDS = {
    "foreground-64": "<= 0.088968 x",
    "foreground-1": "<= 0.416667 x",
    "memory-commits": ">= 2.5 x",
    "sustained-commits": ">= 2 x",
    "file-commits": ">= 0.8 x",
    "file-latency": "<= 1.35 x",
    "memory": "<= 1 x",
    "memory-long": "<= 1 x",
    "opening": "<= 1 x",
    "opening-long": "<= 1 x",
    "opening-log": "<= 1 x",
    "cold-read": "<= 1.5 x",
    "cold-blocks": "<= 2 x",
    "cold-blocks-collected": "<= 1.2 x",
    "space": "<= 1.6 x",
    "space-long": "<= 2.3 x",
    "layer-writes": "<= 4.5 x",
    "layer-writes-long": "<= 6 x",
    "background-step": "<= 1 x",
    "clone-time": "<= 1 x",
    "clone-space": "<= 1 x",
    "small-records": "<= 1 x",
    "simulator": ">= 0.0102 x",
    "sql-inserts-64": ">= 1.5 x",
    "sql-inserts-1": ">= 0.4 x",
    "sql-mix-64": ">= 1 x",
    "sql-mix-1": ">= 0.3 x",
    "sql-select": "<= 1 x",
    "sql-scan-old": "<= 3 x",
    "sql-io": "<= 0.12987 x",
    "sql-io-bytes": "<= 0.12987 x",
    "sql-import": "<= 1 x",
}


@pytest.fixture(scope="module")
def figures() -> Iterator[list[Figure]]:
    yield [measure(TINY) for measure in FIGURES.values()]
    LIVES.close()


def test_every_figure_is_measured_beside_its_limit(figures: list[Figure]) -> None:
    assert [figure.name for figure in figures] == list(FIGURES)
    assert {figure.name: figure.bound for figure in figures if figure.bound} == BOUNDS
    for figure in figures:
        if figure.name in BOUNDS:
            assert figure.value is not None and figure.limit is not None
            assert figure.ratio == pytest.approx(figure.value / figure.limit)
            assert figure.holds is not None
            assert figure.limit_what
        else:
            assert figure.holds is None


def test_json_has_one_object_per_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--json", "cold-read", "writer-recovery"], TINY) == 0
    found = json.loads(capsys.readouterr().out)["figures"]
    assert [each["name"] for each in found] == ["cold-read", "writer-recovery"]
    assert set(found[0]) == {
        "name", "what", "unit", "value", "limit_what", "limit", "bound", "ratio", "holds", "note",
    }  # fmt: skip
    assert found[0]["value"] > 0 and found[0]["limit"] > 0
    assert found[1]["limit"] is None


def test_the_number_of_small_records_is_a_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--records", "70", "small-records"], TINY) == 0
    assert "70 records of 8 bytes on files" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        bench.main(["--records", "0"], TINY)
    assert "--records is 0: expected at least 1" in capsys.readouterr().err


def test_the_size_of_an_import_is_a_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--mib", "2", "sql-import"], TINY) == 0
    assert "2 MiB imported" in capsys.readouterr().out


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["cold-reed"], TINY)
    assert "'cold-reed'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bound", "ratio", "holds"),
    [
        (Bound(2.5, at_least=True), 2.5, True),
        (Bound(2.5, at_least=True), 2.4, False),
        (Bound(1.5, at_least=False), 1.5, True),
        (Bound(1.5, at_least=False), 1.6, False),
    ],
)
def test_a_bound_is_inclusive(bound: Bound, ratio: float, holds: bool) -> None:
    assert bound.holds(ratio) is holds


def test_turns_are_compared_one_by_one() -> None:
    """A machine that is slow in one turn is slow for both."""
    engine, limit = iter([10.0, 4.0, 30.0]), iter([5.0, 4.0, 10.0])
    bound = Bound(2.0, at_least=True)
    figure = compare("n", "what", "u", "limit", bound, 3, lambda: next(engine), lambda: next(limit))
    assert (figure.value, figure.limit, figure.ratio, figure.holds) == (10.0, 5.0, 2.0, True)


def test_a_limit_may_be_a_number() -> None:
    figure = judge("n", "what", "ms", 600.0, "limit", 500.0)
    assert (figure.bound, figure.ratio, figure.holds) == ("<= 1 x", 1.2, False)


def test_falling_short_is_said_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    figure = Figure("n", "what", "u", 1.0, "limit", 2.0, ">= 1 x", 0.5, False)
    bench.report([figure], Console(force_terminal=False))
    header, line, about = capsys.readouterr().out.splitlines()
    assert header == "name; figure; measured; limit; measured; ratio; must be; verdict"
    assert line == "n; what; 1.00 u; limit; 2.00 u; 0.50 x; >= 1 x; FALLS SHORT"
    assert about.startswith("ratio: the median of the ratios turn by turn")
    bench.report([figure], Console(force_terminal=True, width=200))
    assert "FALLS SHORT" in capsys.readouterr().out


def test_names_are_whole_and_every_cell_has_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    reported = Figure("segment-restart-and-more", "what was measured " * 5, "us", 1.0)
    bench.report([reported], Console(force_terminal=True, width=80))
    assert "segment-restart-and-more" in capsys.readouterr().out
    bench.report([reported], Console(force_terminal=False))
    header, line, _ = capsys.readouterr().out.splitlines()
    assert line.count("; ") == header.count("; ")


def test_the_peak_of_a_process_is_not_that_of_who_started_it() -> None:
    held = bytearray(300 << 20)
    held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
    code = "from scripts.figures.process_memory import held_bytes, peak_bytes\n"
    code += "before = held_bytes(); kept = b'x' * (64 << 20); print(before, peak_bytes())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(bench.__file__).parents[1],
        check=True,
        capture_output=True,
        text=True,
    )
    before, peak = map(int, run.stdout.split())
    assert 0 < before < 100 << 20 and 60 << 20 < peak - before < 80 << 20, (before, peak, len(held))
