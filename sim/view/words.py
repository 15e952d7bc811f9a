"""What each symbol on the page means, in the sentences of the glossary.

The glossary is the one in ``docs/``, which ships beside this package; what the page shows and the
papers have no term for has its sentence here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from sim.check.invariants import INVARIANTS
from sim.world.fault import FAULTS

_PLACES: Final = ("../glossary.md", "../../docs/glossary.md")
"""Where the glossary is, from here: in an installed package, in the source tree."""
_ROW: Final = re.compile(r"^\| ([^|]+) \| ([^|]+) \|(?: [^|]*\|)?$", re.MULTILINE)
_BESIDE: Final = re.compile(r" \((\w+)\)$")

FIELDS: Final[Mapping[str, str]] = {
    "state": "whether a segment runs and answers, and what ails it if not",
    "received": "the highest LSN of a record on the segment's disk, also above a gap",
    "gap": "records that are missing below others: the SCL cannot pass them",
    "epoch": "the volume epoch that it has sealed, or that a writer writes in",
    "table_epoch": "whose truncation table it has adopted",
    "starts": "how often the segment has started, and read its disk",
    "log_bytes": "how long its log is on disk",
    "floor": "the oldest read point that it still serves",
    "layers": "how many layers it has: files of records that have left the log",
    "next_lsn": "the LSN that the writer will give to the next record",
    "commits": "commits that were acknowledged since the writer opened the volume",
    "fault": "what the schedule does to segments, disks, links and writers, until it ends that",
    "waiting": "commits that are in the log, and whose callers have not been told yet",
    "table": "the truncation table that a segment has adopted: what is annulled, by whose recovery",
    "call": "what a client asks a writer for, and waits for; calls are numbered over the whole run",
    "detached": "why a message was lost: nobody was there to take it when it arrived",
    "heartbeat": "a batch without redo: it tells a segment the VDL, and is acknowledged like any",
    "schedule": "what is planned for the run: faults, and that all heals",
    "cut": "why a message was lost: a fault has cut the link",
    "loss": "why a message was lost: by chance, as the link's profile has it",
    "annulled": "LSNs that recoveries have annulled: none of them ever exists again",
}
"""Of the values that are shown: what the glossary has no entry for."""


@cache
def glossary() -> Mapping[str, str]:
    """The glossary's sentences by their terms; a term with a short form stands under both."""
    here = Path(__file__).parent
    path = next(path for each in _PLACES if (path := (here / each).resolve()).is_file())
    found: dict[str, str] = {}
    for row in _ROW.finditer(path.read_text(encoding="utf-8")):
        term, sentence = row[1].strip(), row[2].strip()
        if term == "Term":
            continue
        beside = _BESIDE.search(term)
        names = [term[: beside.start()], beside[1]] if beside else term.split(", ")
        found.update(dict.fromkeys(names, sentence.replace("`", "")))
    return found


def words() -> dict[str, str]:
    """All that the page has a hover text for, or that its search explains."""
    rules = {each.name: each.text for each in INVARIANTS.values()}
    faults = {each.name: each.summary.replace("`", "") for each in FAULTS.values()}
    return {**rules, **faults, **glossary(), **FIELDS}
