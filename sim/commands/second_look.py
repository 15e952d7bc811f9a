"""Findings of other machines, run again on this one before they are reported.

A seed is the same run everywhere, so a finding that does not come back here says that something is
not: the machines differ in what they should not, or the simulator depends on what it must not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from sim.commands.progress import ProgressLine
from sim.crews.crew import Work, spread
from sim.crews.processes import LocalCrew
from sim.show.tally import SeedResult, Tally
from sim.wording import command_line, counted

_EACH_KIND: Final = 16
"""Seeds: of a kind that is found all the time, some are enough."""


@attrs.frozen
class Look:
    """What a finding has come to here."""

    there: SeedResult
    by: str
    """The worker that has run it."""
    here: SeedResult | None
    """None if it was not run again."""

    @property
    def differs(self) -> bool:
        """Whether it has not come back as it was."""
        return self.here is not None and _outcome(self.here) != _outcome(self.there)


def _outcome(result: SeedResult) -> tuple[object, ...]:
    return (result.verdict, result.invariant, result.digest)


def look_again(
    tally: Tally, ran_by: Mapping[int, str], work: Work[int, SeedResult], jobs: int
) -> Sequence[Look]:
    """Run the findings of ``tally`` again that are in ``ran_by``, in ``jobs`` processes; none in 0.

    Of each kind the first few, among them the one that the report shows; Ctrl-C ends it.
    """
    wanted = {
        each.seed: each
        for some in tally.kinds().values()
        for each in [one for one in some if one.seed in ran_by][: _EACH_KIND if jobs else 0]
    }
    progress, here = ProgressLine(), dict[int, SeedResult]()
    findings = counted(len(wanted), "finding")
    running = spread(iter(wanted), work, LocalCrew(min(jobs, len(wanted)), work))
    try:
        for done in running:
            if done is not None:
                here[done.item] = done.result
            progress.show(lambda: f"running findings again here: {len(here)}/{findings}")
    except KeyboardInterrupt:
        pass  # what was not run again is told apart
    finally:
        running.close()
        progress.clear()
    return [
        Look(each, ran_by[each.seed], here.get(each.seed))
        for each in tally.findings
        if each.seed in ran_by
    ]


def look_lines(looks: Sequence[Look], options: Sequence[str] = ()) -> list[str]:
    """What came of it, for people; none if there was nothing to run again.

    The commands named have these ``options``, as the fleet had.
    """
    if not looks:
        return []
    tried = [each for each in looks if each.here is not None]
    different = [each for each in tried if each.differs]
    others = len(looks) - len(tried)
    rest = f"; {others:,} more were not" if others else ""
    if not tried:
        return [f"NOT run again here: {counted(others, 'finding')}"]
    if not different:
        return [f"run again here: {counted(len(tried), 'finding')}, each came back{rest}"]
    lines = [
        f"NOT THE SAME HERE: {len(different)} of {counted(len(tried), 'finding')} run again{rest}"
    ]
    for each in different:
        assert each.here is not None
        seed = str(each.there.seed)
        lines += [
            f"  seed {seed}: {_said(each.there)} on {each.by}, {_said(each.here)} here",
            f"    {command_line('check-determinism', '--seed', seed, *options)}",
        ]
    return [
        *lines,
        "  a seed is to be the same run everywhere: trust neither until it is known why",
    ]


def _said(result: SeedResult) -> str:
    kind = result.verdict.value
    if result.invariant and result.invariant != kind:
        kind += f" of {result.invariant}"
    return f"{kind} (digest {result.digest or 'none'})"


def as_json(looks: Sequence[Look]) -> dict[str, Any]:
    """The same for programs: nothing if there was nothing to run again."""
    if not looks:
        return {}
    return {
        "run_again": [
            {
                "seed": each.there.seed,
                "by": each.by,
                "same": None if each.here is None else not each.differs,
                "verdict": None if each.here is None else each.here.verdict.value,
                "digest": None if each.here is None else each.here.digest,
            }
            for each in looks
        ]
    }
