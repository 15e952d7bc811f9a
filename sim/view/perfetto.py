"""A film as Chrome's trace events, which Perfetto and others open.

A process for each zone, one for writers and clients, one for what is planned; a thread for each
node. Calls and writes to disks are slices, messages arrows, faults slices of the plan, everything
else marks; watermarks are counters. Times are microseconds, with nanoseconds behind the point.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, Final

from segments.protocol.errors import Invalid
from sim.view.film import Film
from sim.view.mail import HEARTBEAT
from sim.view.window import Window

_COMPUTE: Final = 10
_PLAN: Final = 11
_FAULTS: Final = 1_000
_MESSAGE_NS: Final = 1_000
"""How wide the slice is at each end of a message, at most: an arrow needs one."""
_COUNTED: Final = ("scl", "vcl", "vdl")


def as_perfetto(film: Film, window: Window) -> str:
    """The trace, as JSON; raises `Invalid` if there is nothing in the window."""
    found = [
        *_calls(film, window),
        *_disks(film, window),
        *_marks(film, window),
        *_messages(film, window),
        *_faults(film, window),
        *_counters(film, window),
    ]
    if not found:
        raise Invalid(f"{window}: nothing happens: choose another --window")
    _narrow(found)
    found.sort(key=lambda each: each["ts"])
    run = film["run"]
    about = {key: run[key] for key in ("title", "seed", "verdict", "finding", "digest")}
    whole = {
        "traceEvents": [*_names(film), *found],
        "displayTimeUnit": "ns",
        "otherData": about,
    }
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False) + "\n"


def _place(film: Film, node: int) -> dict[str, int]:
    """The process and the thread of a node."""
    az = film["nodes"][node]["az"]
    kind = film["nodes"][node]["kind"]
    process = az if az is not None else _COMPUTE if kind in ("writer", "client") else _PLAN
    return {"pid": process, "tid": node + 1}


def _us(time_ns: int) -> float:
    return time_ns / 1000


def _names(film: Film) -> Iterator[dict[str, Any]]:
    processes = {_COMPUTE: "writers and clients", _PLAN: "the plan"}
    for node, each in enumerate(film["nodes"]):
        place = _place(film, node)
        processes.setdefault(place["pid"], f"availability zone {each['az']}")
        yield {"ph": "M", "name": "thread_name", "ts": 0, **place, "args": {"name": each["id"]}}
    for process, name in processes.items():
        yield {"ph": "M", "name": "process_name", "ts": 0, "pid": process, "args": {"name": name}}
        order = {"sort_index": 0 if process == _PLAN else 1 if process == _COMPUTE else 2}
        yield {"ph": "M", "name": "process_sort_index", "ts": 0, "pid": process, "args": order}


def _slice(name: str, kind: str, from_ns: int, to_ns: int, **more: Any) -> dict[str, Any]:
    times = {"ts": _us(from_ns), "dur": _us(max(0, to_ns - from_ns))}
    return {"ph": "X", "name": name, "cat": kind, **times, **more}


def _calls(film: Film, window: Window) -> Iterator[dict[str, Any]]:
    for call in film["calls"]:
        if window.has(call["invoked_ns"]):
            end_ns = call["returned_ns"]
            told = {"outcome": call["outcome"], "lsn": call["lsn"], "call": call["number"]}
            yield _slice(
                call["text"], "call", call["invoked_ns"],
                film["run"]["end_ns"] if end_ns is None else end_ns,
                args=told, **_place(film, call["client"]),
            )  # fmt: skip


def _disks(film: Film, window: Window) -> Iterator[dict[str, Any]]:
    """From `WriteStarted` to what ends the write: its sync, its failure or a restart."""
    events = film["events"]
    kinds = [each["name"] for each in film["kinds"]]
    begun: dict[int, int] = {}
    for number, at_ns in enumerate(events["t"]):
        kind, node = kinds[events["kind"][number]], events["node"][number]
        if kind == "WriteStarted":
            begun[node] = number
        elif kind in ("WriteSynced", "WriteFailed", "Restored", "Crashed") and node in begun:
            start = begun.pop(node)
            if window.has(events["t"][start]):
                told = {"started": events["text"][start], "ended": events["text"][number]}
                yield _slice(
                    "write", "disk", events["t"][start], at_ns, args=told, **_place(film, node)
                )


def _marks(film: Film, window: Window) -> Iterator[dict[str, Any]]:
    events = film["events"]
    for number, at_ns in enumerate(events["t"]):
        kind = film["kinds"][events["kind"][number]]
        if window.has(at_ns) and kind["lane"] and kind["name"] != "WriteSynced":
            yield {
                "ph": "i", "s": "t", "name": kind["name"], "cat": kind["class"], "ts": _us(at_ns),
                "args": {"text": events["text"][number], "event": number},
                **_place(film, events["node"][number]),
            }  # fmt: skip


def _messages(film: Film, window: Window) -> Iterator[dict[str, Any]]:
    for index, letter in enumerate(film["messages"]):
        if letter["type"] == HEARTBEAT or not window.has(letter["sent_ns"]):
            continue
        sender = _place(film, letter["from"])
        told = {"text": letter["text"], "lost": letter["lost"], "bytes": letter["bytes"]}
        at_ns = letter["sent_ns"]
        name = f"{letter['type']} →"
        yield _slice(name, "message", at_ns, at_ns + _MESSAGE_NS, args=told, **sender)
        arrow = {"name": letter["type"], "cat": "message", "id": index + 1}
        if letter["arrived"]:
            to_ns, receiver = letter["arrived"][0], _place(film, letter["to"])
            yield _slice(f"→ {letter['type']}", "message", to_ns, to_ns + _MESSAGE_NS, **receiver)
            yield {"ph": "s", "ts": _us(at_ns), **arrow, **sender}
            yield {"ph": "f", "bp": "e", "ts": _us(to_ns), **arrow, **receiver}


def _narrow(found: Sequence[dict[str, Any]]) -> None:
    """Have no message's slice begin in another and end after it: slices of a thread are nested."""
    threads: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for each in found:
        if each["ph"] == "X":
            threads.setdefault((each["pid"], each["tid"]), []).append(each)
    for slices in threads.values():
        edges = sorted({at for each in slices for at in (each["ts"], each["ts"] + each["dur"])})
        for each in slices:
            if each["cat"] == "message":
                edge = edges[bisect_right(edges, each["ts"])]
                each["dur"] = min(each["dur"], round(edge - each["ts"], 3))


def _faults(film: Film, window: Window) -> Iterator[dict[str, Any]]:
    for each in film["episodes"]:
        if window.has(each["from_ns"]):
            place = {"pid": _PLAN, "tid": _FAULTS + each["action"]}
            name = {"name": each["title"]}
            yield {"ph": "M", "name": "thread_name", "ts": 0, **place, "args": name}
            yield _slice(each["title"], "fault", each["from_ns"], each["to_ns"], **place)


def _counters(film: Film, window: Window) -> Iterator[dict[str, Any]]:
    """The watermarks, whenever one is assigned."""
    events, slots, nodes = film["events"], film["slots"], film["nodes"]
    for number, sets in enumerate(events["sets"]):
        if not sets or not window.has(events["t"][number]):
            continue
        for slot, value in zip(sets[::2], sets[1::2], strict=True):
            node, field = slots[slot]["node"], slots[slot]["field"]
            if field in _COUNTED and node >= 0:
                name = f"{field.upper()} of {nodes[node]['id']}"
                yield {
                    "ph": "C", "name": name, "ts": _us(events["t"][number]),
                    "pid": _place(film, node)["pid"], "args": {field: value},
                }  # fmt: skip
