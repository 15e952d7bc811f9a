"""Files that commands write: never over their input, nor over anything else of value.

What the same command wrote before is replaced, so that a line can be typed twice; any other file
only with ``--force``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

OUTPUT: Final = click.Path(dir_okay=False, path_type=Path)


def writable_path(
    _context: click.Context, _option: click.Parameter, path: Path | None
) -> Path | None:
    """A click callback for a file to be written at the end: refuses at once what cannot be."""
    if path is None:
        return None
    if not path.parent.is_dir():
        raise click.BadParameter(f"{path}: there is no directory {str(path.parent)!r}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.BadParameter(f"{path}: cannot be written")
    return path


def force_option(help_text: str) -> Callable[[_F], _F]:
    """The option ``--force``."""
    return click.option("--force", is_flag=True, help=help_text)


def check_output(
    option: str,
    path: Path,
    *,
    inputs: Mapping[Path, str],
    force: bool,
    written_before: Callable[[Path], bool] = lambda _: False,
) -> None:
    """Raise `click.UsageError` if writing to ``path`` would destroy something.

    An input, of which ``inputs`` says what it is, is refused in any case; another file, without
    ``force``, unless ``written_before`` says that the same command made it. Devices and pipes hold
    nothing that could be lost.
    """
    for each, what in inputs.items():
        if path.resolve() == each.resolve() or (
            path.exists() and each.exists() and path.samefile(each)
        ):
            raise click.UsageError(f"{option} {path} is {what}: choose another name")
    if path.is_file() and not force and not written_before(path):
        raise click.UsageError(
            f"{option} {path} exists: choose another name, or --force to replace it"
        )


def begins_with(start: bytes) -> Callable[[Path], bool]:
    """Whether a file begins so, or is empty."""

    def check(path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(len(start)) in (start, b"")

    return check
