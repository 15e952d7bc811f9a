"""A film: one run as the page shows it, as JSON has it.

The page assigns and computes no protocol. Its columns, slots and keyframes are described in
docs/viewer.md.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from sim.bugs import BUGS
from sim.check.invariants import INVARIANTS
from sim.commands.case import Case
from sim.commands.explain import explanation
from sim.run import Run, RunResult
from sim.story.calls import call_text
from sim.view.board import VOLUME, Value
from sim.view.landmarks import episodes, landmarks, planned
from sim.view.lives import NEVER, Life
from sim.view.maker import MAX_EVENTS, SCHEDULE, FilmMaker
from sim.view.sentences import client_of, statements_of
from sim.view.tale import story
from sim.view.words import FIELDS, words
from sim.wording import PROGRAM
from sim.world.fault import ADDRESSES, FAULTS, NOBODY

Film: TypeAlias = dict[str, Any]
FORMAT: Final = "aurora-sim film"
VERSION: Final = 1
_UNNAMED: Final = re.compile(r"\(id [0-9a-f]{6}\)")
_TARGETS: Final = {NOBODY: "nobody", ADDRESSES: "segments or writers"}


def make_film(case: Case, most_events: int = MAX_EVENTS) -> Film:
    """Run a case, and make a film of it; of a run of more events the rest is left out."""
    makers: list[FilmMaker] = []

    def listen(run: Run) -> None:
        makers.append(FilmMaker(run, most_events))

    result = case.run(listen)
    (maker,) = makers
    maker.finish(result.finding)
    return film_of(maker, result, case)


def film_of(maker: FilmMaker, result: RunResult, case: Case) -> Film:
    """The film of a run that is over."""
    told = explanation(maker.recorder, result, case)
    calls = _calls(maker, result)
    outcomes = {each["number"]: each["outcome"] for each in calls}
    found = {
        "format": FORMAT,
        "version": VERSION,
        "run": _run(maker, result, case),
        "kinds": [kind.as_json() for _, kind in maker.kinds.values()],
        "words": words(),
        "events": _events(maker),
        "keyframes": _keyframes(maker),
        "messages": [letter.as_json() for letter in maker.mail.letters],
        "calls": calls,
        "commits": [_commit(life, maker, outcomes) for life in maker.lives.lives],
        "episodes": episodes(maker, result.virtual_ns),
        "landmarks": [each.as_json() for each in landmarks(maker)],
        "invariants": _invariants(maker, result),
        "story": story(told, maker.nodes, maker.event_of_step),
        "planned": planned(result.schedule),
        "faults": _faults(),
    }
    found["slots"] = [
        {"node": -1 if who == VOLUME else maker.node_of(who), "field": field}
        for who, field in maker.board.slots
    ]
    found["nodes"] = _nodes(maker)
    return found


def as_json(film: Film) -> bytes:
    """A film as UTF-8 text, as short as JSON is."""
    return json.dumps(film, separators=(",", ":"), ensure_ascii=False).encode()


def packed(film: Film) -> bytes:
    """The same compressed, always to the same bytes."""
    return gzip.compress(as_json(film), 6, mtime=0)


# ---- the parts -----------------------------------------------------------------------------------


def _run(maker: FilmMaker, result: RunResult, case: Case) -> Film:
    schedule = result.schedule
    how = "replay" if case.is_recording else "run"
    return {
        "title": f"{case.source}{_of_bug(case)}",
        "seed": schedule.seed,
        "name": schedule.name,
        "shape": schedule.shape,
        "bug": case.bug or "",
        "bug_words": BUGS[case.bug].summary if case.bug is not None else "",
        "bug_breaks": BUGS[case.bug].section if case.bug is not None else "",
        "bug_edits": _edits(case),
        "command": f"{PROGRAM} {how} {case.source}",
        "source": case.source,
        "view_command": f"{PROGRAM} view {case.source}",
        "fork_command": f"{PROGRAM} fork {case.source}",
        "inevitable_command": f"{PROGRAM} inevitable {case.source}",
        "verdict": result.verdict.value,
        "finding": result.finding,
        "invariant": result.invariant,
        "digest": result.digest,
        "end_ns": result.virtual_ns,
        "heal_ns": schedule.knobs.duration_ns,
        "messages": result.messages,
        "commits": result.commits,
        "calls": len(result.calls),
        "cut": maker.cut,
    }


def _of_bug(case: Case) -> str:
    if case.bug is None or f"--bug {case.bug}" in case.source:
        return ""
    return f" (bug {case.bug})"


def _edits(case: Case) -> list[Film]:
    """What a planted bug changes, as ``bugs show`` shows it."""
    edits = BUGS[case.bug].edits if case.bug is not None else ()
    return [
        {"target": each.target, "old": each.old.strip("\n"), "new": each.new.strip("\n")}
        for each in edits
    ]


def _nodes(maker: FilmMaker) -> list[Film]:
    az = {each: group.az_of(each) for group in maker.world.groups for each in group.members}
    pg = {each: group.pg_id for group in maker.world.groups for each in group.members}
    found = []
    for name in maker.nodes:
        kind = name.partition(" ")[0].partition("-")[0]
        if name in az:
            kind = "segment"
            told = f"a copy of protection group {pg[name]}, in availability zone {az[name]}"
        elif kind == "writer":
            told = "gives LSNs to changes, sends them to all six copies, and counts to four"
        elif kind == "client":
            told = "calls the engine, one call after the other"
        else:
            told = {SCHEDULE: FIELDS[SCHEDULE]}.get(
                name, "carries messages, and may lose, repeat and delay them"
            )
        found.append(
            {"id": name, "kind": kind, "az": az.get(name), "group": pg.get(name), "words": told}
        )
    return found


def _events(maker: FilmMaker) -> Film:
    names = maker.writer_names()
    rows = maker.rows
    return {
        "t": [row.time_ns for row in rows],
        "kind": [row.kind for row in rows],
        "node": [row.node for row in rows],
        "text": [_named(row.text, names) for row in rows],
        "message": [row.message for row in rows],
        "call": [row.call for row in rows],
        "pages": [list(row.pages) or 0 for row in rows],
        "lsns": [list(row.lsns) if row.lsns is not None else 0 for row in rows],
        "sets": [[_named(each, names) for each in row.sets] or 0 for row in rows],
    }


def _keyframes(maker: FilmMaker) -> list[Film]:
    names, slots = maker.writer_names(), len(maker.board.slots)
    return [
        {
            "event": event,
            "state": [_named(each, names) for each in values] + [None] * (slots - len(values)),
        }
        for event, values in maker.keyframes
    ]


def _named(value: Value, names: Mapping[int, str]) -> Value:
    """A value with the names of writers that were not known yet when it was shown."""
    if not isinstance(value, str) or "(id " not in value:
        return value
    tags = {f"(id {number & 0xFF_FFFF:06x})": f"({name})" for number, name in names.items()}
    return _UNNAMED.sub(lambda found: tags.get(found[0], found[0]), value)


def _calls(maker: FilmMaker, result: RunResult) -> list[Film]:
    found = []
    for call in result.calls:
        invoked, returned = maker.returns.get(call.number, (NEVER, NEVER))
        found.append({
            "number": call.number,
            "client": maker.node_of(client_of(call)),
            "writer": maker.nodes.get(call.writer, -1),
            "kind": call.operation.kind,
            "text": call_text(call),
            "said": statements_of(call),
            "invoked_ns": call.invoked_ns,
            "returned_ns": call.returned_ns,
            "outcome": call.outcome.value,
            "lsn": call.lsn or None,
            "invoked": invoked,
            "returned": returned,
        })  # fmt: skip
    return found


def _commit(life: Life, maker: FilmMaker, outcomes: Mapping[int, str]) -> Film:
    return {
        "lsn": life.lsn,
        "first_lsn": life.first_lsn,
        "pages": life.pages,
        "writer": maker.nodes[life.writer],
        "call": life.call,
        "allocated": life.allocated,
        "quorum": life.quorum,
        "durable": life.durable,
        "told": life.told,
        "kept": life.kept,
        "outcome": outcomes.get(life.call, ""),
        "annulled": life.annulled,
        "backed": life.backed,
        "pg": life.pg_id,
        "holders": [
            {
                "node": maker.nodes[each.segment],
                "received": each.received,
                "dropped": each.dropped,
                "disk": each.synced if each.above == NEVER else each.above,
                "synced": each.synced,
                "acked": each.acked,
                "heard": each.heard,
                "lost": each.lost,
            }
            for each in life.holders.values()
        ],
        "readers": life.readers,
    }


def _invariants(maker: FilmMaker, result: RunResult) -> list[Film]:
    last = len(maker.rows) - 1
    return [
        {
            "number": each.number,
            "name": each.name,
            "words": each.text,
            "checks": result.checks.get(each.name, 0),
            "broken_at": last if each.name == result.invariant and not maker.cut else None,
        }
        for each in INVARIANTS.values()
        if not each.of_sql or result.schedule.has_sql
    ]


def _faults() -> list[Film]:
    return [
        {
            "kind": fault.name,
            "words": fault.summary,
            "targets": _TARGETS.get(fault.hits, "segments"),
            "params": [
                {
                    "name": name,
                    "default": param.default,
                    "missing": param.missing,
                    "words": param.expected,
                    "one_of": list(param.one_of),
                }
                for name, param in fault.params.items()
            ],
        }
        for fault in FAULTS.values()
    ]
