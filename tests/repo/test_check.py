"""The gate itself: one failure fails it, and does not hide the next."""

from __future__ import annotations

import pytest

from scripts.check import Step, check

PASSES = Step("passes", ("ast", "--help"))
FAILS = Step("fails", ("ast", "--no-such-option"))


def test_all_passed() -> None:
    assert check([PASSES, PASSES]) == 0


def test_a_failure_fails_the_gate_and_the_rest_still_runs(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert check([FAILS, PASSES]) == 1
    summary = capfd.readouterr().out.split("==> summary\n")[1].splitlines()
    assert [line.split()[0] for line in summary[:2]] == ["fails", "passes"]
    assert "FAILED (exit code 2)" in summary[0]
    assert summary[1].endswith(" ok")
    assert summary[-1] == "FAILED: fails"
