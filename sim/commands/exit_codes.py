"""What the simulator's commands tell the shell: one code for each kind of outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aurora.terminal import finishing
from sim.run import Verdict

PASSED: Final = 0
VIOLATION: Final = 1
"""An invariant broke, or an expectation of the scenario was not met."""
USAGE: Final = 2
"""A wrong command line, scenario or input file, before anything is run; or an error of a script."""
LIVENESS: Final = 3
"""Something pending never finished although every fault had ended, or work went on for ever."""
UNDECIDED: Final = 4
"""A limit ended the run, or nothing was acknowledged: it shows nothing either way."""
INTERNAL: Final = 70
"""The simulator itself failed: it shows nothing."""
INTERRUPTED: Final = 130
"""Stopped by Ctrl-C."""
OUTPUT_FAILED: Final = finishing.OUTPUT_FAILED
"""What was to be printed or written could not be: the disk is full, say."""
BROKEN_PIPE: Final = finishing.BROKEN_PIPE
"""The reader has closed the output."""

OTHER_CODES: Final = (USAGE, OUTPUT_FAILED, INTERRUPTED, BROKEN_PIPE)
"""How a command may end other than with the verdict of what it has run."""

EXIT_CODES: Final[Mapping[Verdict, int]] = {
    Verdict.PASSED: PASSED,
    Verdict.VIOLATION: VIOLATION,
    Verdict.LIVENESS: LIVENESS,
    Verdict.UNDECIDED: UNDECIDED,
    Verdict.INTERNAL: INTERNAL,
}

HELP: Final = (
    "Exit codes: 0 passed, 1 violation (an invariant broke or an expectation was not met), "
    "2 usage error, 3 liveness failure (something never finished), 4 undecided (a limit was "
    "reached, or nothing was acknowledged), 70 internal error (of the simulator itself), "
    "74 output not written, 130 interrupted, 141 output closed by its reader."
)
