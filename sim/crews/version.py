"""What must be the same on all machines of a fleet, so that a seed is the same run on each."""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec

import aurora
from sim.mutants.population import code_version


@cache
def version_here() -> str:
    """The version of what this process runs, in words: equal if and only if all of it is.

    The package's version, a digest of its sources, Python's version without the last number, and
    whether seeds in SQL can be run. It is that of the first call: a long-lived process goes on
    running what it has read, whatever becomes of the files.
    """
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    sql = "with" if find_spec("apsw") and find_spec("greenlet") else "without"
    return f"aurora-py {aurora.__version__}, code {code_version()}, {python}, {sql} the extra sql"
