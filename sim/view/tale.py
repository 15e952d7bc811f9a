"""The story of `explain` for the page: each sentence with what it speaks of, to be selected."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sim.commands.explain import Explanation
from sim.durations import moment_column
from sim.story.lines import Line

_NAMES: Final = re.compile(
    r"\b(?P<node>[A-F]\d+|writer-\d+|client \d+)\b"
    r"|\b(?:LSN|PGCL|VDL|VCL|SCL) (?P<lsn>\d+)(?:–(?P<last>\d+))?"
    r"|\bpage (?P<page>\d+)\b"
    r"|\bcall (?P<call>\d+)\b"
)


def story(
    explanation: Explanation, nodes: Mapping[str, int], event_of_step: Sequence[int]
) -> list[dict[str, object]]:
    """The sentences in their order; ``event_of_step`` has the events of the recorder's steps."""
    told = [_sentence("head", explanation.head, nodes)]
    told += [_sentence("step", line.text, nodes, line, event_of_step) for line in explanation.story]
    for text in explanation.conclusions:
        kind, _, rest = text.partition(" ")
        told.append(_sentence(kind, rest.strip(), nodes))
    return [*told, _sentence("next", explanation.again, nodes)]


def as_text(told: Sequence[Mapping[str, Any]]) -> str:
    """The words of a story, as `explain` prints them, without its line breaks."""
    parts = []
    for each in told:
        if each["kind"] == "step":
            parts.append(f"{moment_column(each['t'])} {each['text']}")
        else:
            parts.append(
                each["text"] if each["kind"] == "head" else f"{each['kind']} {each['text']}"
            )
    return " ".join(" ".join(parts).split())


def _sentence(
    kind: str,
    text: str,
    nodes: Mapping[str, int],
    line: Line | None = None,
    event_of_step: Sequence[int] = (),
) -> dict[str, object]:
    event = None
    if line is not None and 0 <= line.number < len(event_of_step):
        event = event_of_step[line.number]
    return {
        "kind": kind,
        "text": text,
        "t": None if line is None else line.time_ns,
        "event": event,
        "gist": line is not None and line.gist,
        "refs": list(_refs(text, nodes)) if kind != "next" else [],
    }


def _refs(text: str, nodes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    for found in _NAMES.finditer(text):
        ref = {"from": found.start(), "to": found.end()}
        if found["node"] is not None:
            if found["node"] in nodes:
                yield ref | {"node": nodes[found["node"]]}
        elif found["lsn"] is not None:
            yield ref | {"lsn": int(found["lsn"])}
        elif found["page"] is not None:
            yield ref | {"page": int(found["page"])}
        else:
            yield ref | {"call": int(found["call"])}
