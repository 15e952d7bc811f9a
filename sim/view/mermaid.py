"""A part of a film as a Mermaid sequence diagram: participants, messages, and notes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from textwrap import wrap
from typing import Final

from aurora.events import Acknowledged
from segments.protocol.errors import Invalid
from sim.durations import moment
from sim.view.film import Film
from sim.view.kinds import FINDING
from sim.view.mail import HEARTBEAT
from sim.view.window import Window

MOST_ARROWS: Final = 400
"""Mermaid draws up to 500 arrows; more than this nobody reads."""
_MOST_FITTING: Final = 150
"""In a window that nobody has chosen: what is read at a glance."""
_WIDTH: Final = 80
_NOTES: Final = frozenset({"recovery", "fault", "call", "layer"})
_TITLE: Final = re.compile(r"[#;\s]+")
"""What may not stand in a title."""
_ESCAPED: Final = str.maketrans({";": ",", "#": "#35;", "<": "#lt;", ">": "#gt;", "\n": " "})


def as_mermaid(film: Film, window: Window) -> str:
    """The diagram; raises `Invalid` if there is nothing in the window, or too much to read."""
    messages = [
        each
        for each in film["messages"]
        if each["type"] != HEARTBEAT and (window.has(each["sent_ns"]) or _arrives(each, window))
    ]
    if not messages:
        raise Invalid(f"{window}: no message but heartbeats: choose another --window")
    if len(messages) > MOST_ARROWS:
        raise Invalid(
            f"{window}: {len(messages):,} messages: a diagram has at most {MOST_ARROWS}: choose a "
            f"shorter one, such as --window {fitting(film, window).typed}"
        )
    lines = sorted([*_arrows(film, window), *_notes(film, window)])
    seen = {node for _, _, nodes, _ in lines for node in nodes}
    names = [each["id"] for each in film["nodes"]]
    head = [f"    participant {_id(names[node])} as {names[node]}" for node in _order(film, seen)]
    about = f"{film['run']['title']}, {window}"
    told = [f"%% {about}", "sequenceDiagram", f"    title {_TITLE.sub(' ', about)}", *head]
    return "\n".join([*told, *(f"    {text}" for *_, text in lines)]) + "\n"


def _arrives(letter: Film, window: Window) -> bool:
    return any(window.has(each) for each in letter["arrived"])


def fitting(film: Film, window: Window) -> Window:
    """So much of a window as a diagram has room for: up to the finding, or from the first fault."""
    sent = [
        each["sent_ns"]
        for each in film["messages"]
        if each["type"] != HEARTBEAT and window.has(each["sent_ns"])
    ]
    if len(sent) <= _MOST_FITTING:
        return window
    if film["run"]["finding"]:
        return Window(sent[-_MOST_FITTING], min(window.to_ns, film["run"]["end_ns"]))
    faults = [each["from_ns"] for each in film["episodes"] if window.has(each["from_ns"])]
    start = max(faults[0] if faults else 0, window.from_ns)
    later = [each for each in sent if each >= start] or sent
    return Window(min(start, later[0]), later[:_MOST_FITTING][-1])


_Drawn = tuple[int, int, tuple[int, ...], str]
"""When, where among what is at the same time, whose, and the line."""


def _arrows(film: Film, window: Window) -> Iterator[_Drawn]:
    names = [_id(each["id"]) for each in film["nodes"]]
    for letter in film["messages"]:
        if letter["type"] == HEARTBEAT:
            continue
        ends = (letter["from"], letter["to"])
        left, right = names[letter["from"]], names[letter["to"]]
        text = _short(f"{letter['type']}: {letter['text']}")
        for at_ns, after in zip(letter["arrived"], letter["arrived_after"], strict=True):
            if window.has(at_ns):
                yield at_ns, 2 * after + 1, ends, f"{left}->>{right}: {text}"
        if not letter["arrived"] and window.has(letter["sent_ns"]):
            why = f" ({letter['lost']})" if letter["lost"] else " (under way at the end)"
            line = f"{left}-x{right}: {_short(letter['type'] + ': ' + letter['text'] + why)}"
            yield letter["sent_ns"], 2 * letter["sent"] + 1, ends, line


def _notes(film: Film, window: Window) -> Iterator[_Drawn]:
    events, names = film["events"], [_id(each["id"]) for each in film["nodes"]]
    for number, at_ns in enumerate(events["t"]):
        kind = film["kinds"][events["kind"][number]]
        text = _noted(film, kind, events["text"][number])
        if window.has(at_ns) and text:
            node = events["node"][number]
            yield at_ns, 2 * number, (node,), f"Note over {names[node]}: {moment(at_ns)} {text}"


def _noted(film: Film, kind: Film, text: str) -> str:
    """What a note says of an event; of acknowledgements, what they move."""
    if kind["class"] == FINDING:
        return _whole(f"{film['run']['invariant']}: {text}")
    if kind["name"] == Acknowledged.__name__:
        return _whole(text.partition("\n")[2])
    return _short(text) if kind["class"] in _NOTES and kind["lane"] else ""


def _order(film: Film, seen: set[int]) -> list[int]:
    """Clients, writers, segments: as redo goes."""
    places = ("schedule", "network", "client", "writer", "segment")
    nodes = film["nodes"]
    return sorted(seen, key=lambda node: (places.index(nodes[node]["kind"]), nodes[node]["id"]))


def _id(name: str) -> str:
    return name.replace(" ", "_").replace("-", "_")


def _whole(text: str) -> str:
    rows = [row for line in text.splitlines() for row in wrap(line, _WIDTH)]
    return "<br/>".join(row.translate(_ESCAPED) for row in rows)


def _short(text: str) -> str:
    text = text.split("\n")[0]
    return (text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…").translate(_ESCAPED)
