"""A part of a film as a log with vector clocks, for ShiViz.

The first line is the regular expression by which it is read, the second, that of several runs, is
empty. A node's clock counts its own lines, and takes over what the sender of a message knew.
"""

from __future__ import annotations

import json
from typing import Final

from segments.protocol.errors import Invalid
from sim.durations import moment
from sim.view.film import Film
from sim.view.mail import HEARTBEAT
from sim.view.window import Happening, Window, happenings

_TOLD_BY_MESSAGES: Final = frozenset({
    "BatchReceived", "ReadAnswered", "SealAnswered", "LogFetched", "TableAcknowledged",
    "EpochVouched", "GossipReceived", "LayerReceived", "ReadSent",
})  # fmt: skip
"""Steps that say no more than that a message has come, or goes."""
HEADER: Final = r"(?<host>\S*) (?<clock>{.*})\n(?<event>.*)"


def as_shiviz(film: Film, window: Window) -> str:
    """The log; heartbeats and what is no mark of a lane are left out. Raises `Invalid`."""
    names = [each["id"].replace(" ", "_") for each in film["nodes"]]
    clocks: list[dict[str, int]] = [{} for _ in names]
    sent: dict[int, dict[str, int]] = {}
    lines = []
    for each in happenings(film, window):
        if not _is_told(film, each):
            continue
        name, clock = names[each.node], clocks[each.node]
        if each.receives >= 0:
            for other, count in sent.get(each.receives, {}).items():
                clock[other] = max(clock.get(other, 0), count)
        clock[name] = clock.get(name, 0) + 1
        if each.sends >= 0:
            sent[each.sends] = dict(clock)
        first = each.text.split("\n")[0]
        told = json.dumps(clock, separators=(",", ":"))
        lines.append(f"{name} {told}\n{moment(each.time_ns)} {first}")
    if not lines:
        raise Invalid(f"{window}: nothing happens: choose another --window")
    return "\n".join([HEADER, "", *lines]) + "\n"


def _is_told(film: Film, each: Happening) -> bool:
    if each.event >= 0:
        kind = film["kinds"][film["events"]["kind"][each.event]]
        return bool(kind["lane"]) and kind["name"] not in _TOLD_BY_MESSAGES
    message = film["messages"][max(each.sends, each.receives)]
    return bool(message["type"] != HEARTBEAT)
