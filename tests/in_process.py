"""A program called in this process as if it had one of its own, without the half second of starting it.

It has its arguments, its environment, its directory and three files as descriptors 0, 1 and 2. What
is about the process itself (signals, a terminal, the seed of hashes) starts a real one instead.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import IO, Final

import pytest

_STREAMS: Final = ("stdin", "stdout", "stderr")


def run(
    main: Callable[[], object], *arguments: str, typed: bytes, cwd: Path, env: Mapping[str, str]
) -> CompletedProcess[bytes]:
    """Call ``main``, which ends with `SystemExit`, and tell what it printed."""
    with ExitStack() as stack:
        given, out, err = files = [stack.enter_context(tempfile.TemporaryFile()) for _ in _STREAMS]
        given.write(typed)
        given.seek(0)
        with _standing_for_ours(files), _surroundings(arguments, cwd, env):
            with pytest.raises(SystemExit) as ended:
                main()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        for file in (out, err):
            file.seek(0)
        code = ended.value.code
        assert isinstance(code, int)
        return CompletedProcess(arguments, code, out.read(), err.read())


@contextmanager
def _standing_for_ours(files: list[IO[bytes]]) -> Iterator[None]:
    """The files as descriptors 0, 1 and 2, and Python's streams on them."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for descriptor, (name, file) in enumerate(zip(_STREAMS, files, strict=True)):
            kept = os.dup(descriptor)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, descriptor)
            os.dup2(file.fileno(), descriptor)
            stream = open(  # noqa: PTH123 - a descriptor is no path
                descriptor, "w" if descriptor else "r", encoding="utf-8", closefd=False,
                errors="backslashreplace" if name == "stderr" else "strict",
            )  # fmt: skip
            patch.setattr(sys, name, stack.enter_context(stream))
        yield


@contextmanager
def _surroundings(arguments: tuple[str, ...], cwd: Path, env: Mapping[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["", *arguments])
        patch.chdir(cwd)
        for name in os.environ.keys() - env.keys():
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        yield
