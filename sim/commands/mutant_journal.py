"""A journal of what mutants came to, so that long work can be stopped and gone on with.

The first line says what the results depend on: the code, the budget and the first seed. Each other
line is one mutant's result. Which mutants are wanted is no part of it: a larger sample goes on
where a smaller one ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import attrs

from segments.protocol.errors import Invalid
from sim.show.mutant_tally import Trial


@attrs.frozen(kw_only=True)
class Header:
    """What the results depend on."""

    code: str
    """`sim.mutants.population.code_version`."""
    budget_s: float
    first_seed: int


class Journal:
    """An open journal; without a path it keeps nothing."""

    def __init__(self, path: Path | None, header: Header) -> None:
        """Go on with the journal at ``path``, or begin one.

        Raises `Invalid` if it is of other code, another budget or another first seed, or no
        journal at all.
        """
        self.trials: dict[str, Trial] = {}
        """What is known, by the id of the mutant."""
        self._file: IO[str] | None = None
        if path is None:
            return
        whole = self._read(path, header) if path.exists() else 0
        self._file = path.open("a", encoding="utf-8")
        self._file.truncate(whole)  # a line that was being written when all ended
        if not whole:
            self._write(attrs.asdict(header))

    def add(self, trial: Trial) -> None:
        """Remember one more, at once."""
        self.trials[trial.id] = trial
        self._write(trial.to_json())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, values: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(values) + "\n")
            self._file.flush()

    def _read(self, path: Path, header: Header) -> int:
        """Take in what is there; returns how many bytes of it are whole lines."""
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        lines = _objects(path, data[:whole])
        first = next(lines, None)
        if first is None:
            return 0
        wanted = attrs.asdict(header)
        if first != wanted:
            raise Invalid(
                f"{path} is a journal of {_said(first)}: expected {_said(wanted)}, or another file"
            )
        for values in lines:
            try:
                trial = Trial.from_json(values)
            except (TypeError, KeyError, ValueError):
                raise Invalid(f"{path}: {values!r}: expected the result of a mutant") from None
            self.trials[trial.id] = trial
        return whole


def _objects(path: Path, data: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise Invalid(f"{path} line {number}: expected a journal of `mutants`")
        yield values


def _said(header: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in header.items())
