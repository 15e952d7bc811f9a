"""Ctrl-C in a program that writes to files: its caller hears of it, and nothing else does."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE_S
from tests.repo.sources import ROOT

WRITER = """
import signal, sys, trio, aurora

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started us may ignore it

async def main():
    async with aurora.open_cluster(sys.argv[1]) as cluster:
        print("open", flush=True)
        while True:
            await cluster.engine.put(1, 0, b"x")

try:
    trio.run(main)
except KeyboardInterrupt:
    print("KeyboardInterrupt")
"""


def test_it_is_raised_in_the_callers_task_and_nowhere_else(tmp_path: Path) -> None:
    for number in range(4):  # a signal comes amid something else each time
        program = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "volume")],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert program.stdout is not None and program.stdout.readline() == "open\n", number
        program.send_signal(signal.SIGINT)
        output, errors = program.communicate(timeout=PATIENCE_S)
        assert (output, errors, program.returncode) == ("KeyboardInterrupt\n", "", 0)
