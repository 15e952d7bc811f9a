"""Mutants that no test could tell from the code: each written down with its reason.

They stand in `equivalent.toml` beside this module and are left out of every share.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Final

import attrs

from segments.protocol.errors import Invalid
from sim.mutants.sites import Mutant

PATH: Final = Path(__file__).with_name("equivalent.toml")


@attrs.frozen(kw_only=True)
class Equivalent:
    """One entry."""

    where: str
    change: str
    nth: int
    why: str
    """One sentence: why nobody can ever see the difference."""

    @property
    def key(self) -> str:
        """As `sim.mutants.sites.Mutant.key`."""
        return f"{self.where}: {self.change}" + (f" #{self.nth}" if self.nth > 1 else "")


def read_equivalents(path: Path = PATH) -> dict[str, Equivalent]:
    """The entries by the key of their mutant; raises `Invalid` for one that is incomplete."""
    found: dict[str, Equivalent] = {}
    for table in tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", []):
        try:
            entry = Equivalent(
                where=table["in"], change=table["change"], nth=table.get("nth", 1),
                why=table["why"],
            )  # fmt: skip
        except KeyError as missing:
            raise Invalid(f"{path.name}: {table!r}: expected {missing}") from None
        if entry.key in found or not entry.why.strip():
            raise Invalid(f"{path.name}: {entry.key}: expected once, and with a reason")
        found[entry.key] = entry
    return found


def entry_for(mutant: Mutant, why: str = "") -> str:
    """The lines that call a mutant equivalent."""
    nth = [f"nth = {mutant.nth}"] if mutant.nth > 1 else []
    lines = [f"in = {json.dumps(mutant.where)}", f"change = {json.dumps(mutant.change)}", *nth]
    return "\n".join(["[[mutant]]", *lines, f"why = {json.dumps(why)}"])


def stale(entries: Collection[str], keys: Collection[str]) -> list[str]:
    """Entries whose mutant does not exist any more: the code has changed under them."""
    return [each for each in entries if each not in keys]
