"""A program called in this process as if it had one of its own: to start one takes half a second.

It has its arguments, its environment, its directory, and three files as descriptors 0, 1 and 2.
What is about the process itself (signals, a terminal, hashes) starts a real one instead.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from runpy import run_path
from subprocess import CompletedProcess
from typing import IO, Any, Final

import pytest

import aurora.sim
import aurora.terminal.cli

MAINS: Final[Mapping[str, Callable[[], object]]] = {
    "aurora": aurora.terminal.cli.main,
    "aurora.sim": aurora.sim.main,
}
"""What ``python -m`` calls."""


def run(
    program: str, *arguments: str, cwd: Path, env: Mapping[str, str], typed: bytes = b"",
    stdout: int | None = None,
) -> CompletedProcess[bytes]:  # fmt: skip
    """What ``python -m`` a module, or ``python`` a script, does with such arguments.

    It ends with `SystemExit`, and may print to a file of one's own.
    """
    main = MAINS.get(program, partial(run_path, str(cwd / program), run_name="__main__"))
    with ExitStack() as stack:
        given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write(typed)
        given.seek(0)
        descriptors = (given.fileno(), out.fileno() if stdout is None else stdout, err.fileno())
        with (
            _standing_for_ours(*descriptors),
            _surroundings(program, arguments, cwd, env),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        code = ended.value.code
        assert isinstance(code, int)
        out.seek(0)
        err.seek(0)
        return CompletedProcess(arguments, code, out.read(), err.read())


@contextmanager
def _standing_for_ours(*files: int) -> Iterator[None]:
    """The files as descriptors 0, 1 and 2, and Python's streams on them."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for descriptor, file in enumerate(files):
            kept = os.dup(descriptor)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, descriptor)
            os.dup2(file, descriptor)
        for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
            patch.setattr(sys, name, stack.enter_context(_stream(descriptor)))
        yield


def _stream(descriptor: int) -> IO[Any]:
    """As Python opens it when it starts."""
    mode, errors = "w" if descriptor else "r", "backslashreplace" if descriptor == 2 else "strict"
    return open(descriptor, mode, encoding="utf-8", errors=errors, closefd=False)


@contextmanager
def _surroundings(
    program: str, arguments: tuple[str, ...], cwd: Path, env: Mapping[str, str]
) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program, *arguments])
        patch.chdir(cwd)
        for name in os.environ.keys() - env.keys():
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        yield
