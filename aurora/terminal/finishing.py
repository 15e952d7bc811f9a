"""How a program ends when its output has nowhere to go: the reader has left, or the disk is full.

Neither is a failure of what was run, and neither is a pass: nobody has been told the outcome. So
the exit status is the shell's for a closed pipe, and one of its own for everything else.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn, TextIO

import click

OUTPUT_FAILED: Final = 74
"""What was to be printed or written could not be (``EX_IOERR`` of sysexits.h)."""
BROKEN_PIPE: Final = 141
"""The reader has closed the output: what a shell says of a program that SIGPIPE has ended."""


class OutputFailed(Exception):
    """A file could not be written to its end: what there is of it is not to be used."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path}: not written to its end: {error.strerror}")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise `OutputFailed` if the block cannot write a file."""
    try:
        yield
    except OSError as error:
        raise OutputFailed(path, error) from error


class PatientFile:
    """A context: a file for lines that are told while something runs, which is not to suffer.

    What cannot be written is left out, with all that comes after it; `OutputFailed` is raised when
    the block has ended.
    """

    def __init__(self, path: Path) -> None:
        """Raises `OutputFailed` if it cannot be made."""
        self._path = path
        self._failed: OSError | None = None
        with writing(path):
            self._file: TextIO = path.open("w", encoding="utf-8")

    def write(self, text: str) -> None:
        """Write, or remember why not."""
        if self._failed is None:
            try:
                self._file.write(text)
            except OSError as error:
                self._failed = error

    def __enter__(self) -> PatientFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._file.close()
        except OSError as error:
            self._failed = self._failed or error
        if self._failed is not None and kind is None:
            raise OutputFailed(self._path, self._failed)


def finish(run: Callable[[], int]) -> NoReturn:
    """End the process with the status that ``run`` returns, once all output is out.

    ``run`` may end by `SystemExit`, too. All it raises but `OSError` and `OutputFailed` is left
    to the interpreter.
    """
    if sys.stderr is None:  # closed by whoever started us, as by ``2>&-``
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end
    if sys.stdout is None:
        _complain("standard output is closed: expected somewhere to print to")
        sys.exit(OUTPUT_FAILED)
    try:
        status = _flushed(run)
    except BrokenPipeError:
        status = BROKEN_PIPE
        _drop_the_rest()
    except OutputFailed as error:
        status = OUTPUT_FAILED
        _complain(str(error))
    except OSError as error:
        status = OUTPUT_FAILED
        _complain(f"the output was not written to its end: {error.strerror or error}")
        _drop_the_rest()
    sys.exit(status)


def invoke(command: click.Command, program: str) -> int:
    """Do what the command line asks for, and return the status that it ends with.

    As click's own ``main`` does, but that takes a closed pipe for a failure (status 1). Raises
    `click.ClickException`, and `click.Abort` or `KeyboardInterrupt` for Ctrl-C.
    """
    try:
        with command.make_context(program, sys.argv[1:]) as context:
            status = command.invoke(context)
    except click.exceptions.Exit as ended:
        status = ended.exit_code
    return status if isinstance(status, int) else 0


def _flushed(run: Callable[[], int]) -> int:
    try:
        status = run()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    sys.stdout.flush()
    return status


def _complain(problem: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"Error: {problem}\n")
        sys.stderr.flush()


def _drop_the_rest() -> None:
    """What is still in the buffers has nowhere to go, and the interpreter would try once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
