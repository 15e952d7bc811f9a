"""Layers that rot in a run: found, healed, and missed in the end if they are not."""

from __future__ import annotations

from sim.bugs.registry import Bug, Edit
from sim.files.scenario import loads
from sim.run import RunResult, Verdict, run
from sim.world.layer_parts import PARTS

HEAD = """
name = "rotten layers"
[knobs]
duration = "1s"
fold_bytes = 4096
scrub_interval = "20ms"
hydration_timeout = "400ms"
liveness = "7s"
[workload]
operations = 100
"""
SCRUBS = Edit(
    "segments.layer_scrub:LayerScrub.take_piece",
    "return None if layer is None else self._piece(layer)",
    "return None",
)


def played(*actions: str, edit: Edit | None = None) -> RunResult:
    """A run with these faults, each as ``at target key=value``."""
    text = HEAD
    for action in actions:
        at, target, *rest = action.split()
        text += f'[[action]]\nat = "{at}"\nfault = "rot_layer"\ntarget = "{target}"\n'
        text += "\n".join(rest) + "\n"
    schedule = loads(text).schedule()
    if edit is None:
        return run(schedule)
    with Bug(name="mistake", summary="", section="", edits=(edit,)).apply():
        return run(schedule)


def test_rot_in_any_part_of_a_layer_is_healed() -> None:
    result = played(*(f'900ms {"AABBCC"[at]} part="{part}"' for at, part in enumerate(PARTS)))
    assert result.verdict is Verdict.PASSED, result.finding
    assert not result.without_effect and result.marks["damaged layer healed"] >= 3


def test_layers_that_rot_at_three_segments_are_healed_by_the_others() -> None:
    result = played("900ms A,B,C layer=-1", "950ms A layer=0", "950ms B")
    assert result.verdict is Verdict.PASSED, result.finding


def test_without_a_scrub_a_rotten_block_is_missed_in_the_end() -> None:
    result = played('990ms A layer=-1 part="blocks"', edit=SCRUBS)
    assert result.finding is not None and "damage in layers" in result.finding


def test_a_segment_without_layers_has_nothing_to_rot() -> None:
    [note] = played("0ms A").without_effect
    assert "without layers" in str(note)
