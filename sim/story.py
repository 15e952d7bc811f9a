"""The causal story of a failing run, told from its events: what `explain` prints.

A finding names LSNs, pages, segments and writers. Everything the run did is kept, and what has to
do with those names is told: how a record came about, whom it reached and when, who sealed what,
which faults came between. Each line has a weight; the heaviest that fit are shown in order of time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import attrs

from segments.protocol.ids import Lsn, SegmentId
from sim.history import Call
from sim.schedule import MS, SECOND
from sim.world import RunResult, World

_MAX_EVENTS: Final = 2_000_000
_MAX_LSNS: Final = 2
_WIDTH: Final = 100
_LSN_WORDS: Final = re.compile(r"\b(?:LSN|commit|VDL|SCL|PGCL|at|up to) (\d+)")
_SEGMENT: Final = re.compile(r"\b[A-F]\d+\b")
_WRITER: Final = re.compile(r"\bwriter-\d+\b")
_PAGE: Final = re.compile(r"\bpage (\d+)")
_COLLECTED: Final = re.compile(r"\b(?:reader of \S+ is|version) at (\d+)")

WORDS: Final[Mapping[str, str]] = {
    "mtr_allocated": "allocates the LSNs of an MTR",
    "pool_applied": "adds redo to the pages in its buffer pool",
    "sent": "sends a message to {segment}",
    "acknowledged": "hears that {segment} has SCL {scl}",
    "commits_acknowledged": "tells its callers that they are durable: its VDL is {vdl}",
    "pool_looked_up": "looks for page {page_id} at {read_point} in its cache",
    "read_started": "reads page {page_id} at {read_point}, and needs SCL {required_scl}",
    "read_sent": "asks {segment} for a page",
    "batch_received": "receives a batch of {writer}",
    "write_started": "begins to write {bytes} bytes",
    "write_synced": "has synced: its log has {log_bytes} bytes",
    "write_failed": "fails to write: nothing of it counts",
    "records_applied": "joins records to its chain: SCL from {before} to {scl}",
    "ack_sent": "acknowledges SCL {scl} to {writer}",
    "page_materialized": "makes page {page_id} at {read_point}: changed last at {page_lsn}",
    "gossip_received": "receives missing records from {peer}",
    "pages_received": "receives pages up to {base_lsn} from {peer}",
    "hydrated": "is hydrated: SCL from {before} to {scl}",
    "refused": "refuses epoch {epoch}: it has sealed {sealed}",
    "sealed": "has sealed epoch {epoch} with SCL {scl}",
    "collected": "collects up to {floor}",
}
"""What an event means, for the steps that the story has no sentence of its own for."""


class Step(NamedTuple):
    """Something that a core did, or the schedule did to it."""

    time_ns: int
    source: str
    event: str
    values: Mapping[str, Any]


class Line(NamedTuple):
    """One sentence of the story."""

    time_ns: int
    weight: int
    """The heaviest lines are told when there is not room for all."""
    text: str


@attrs.frozen
class Focus:
    """What the finding is about."""

    lsns: tuple[Lsn, ...]
    pages: frozenset[int]
    segments: frozenset[SegmentId]
    writers: frozenset[str]


def focus_of(finding: str) -> Focus:
    """The names in a finding."""
    lsns = dict.fromkeys(int(each) for each in _LSN_WORDS.findall(finding))
    return Focus(
        lsns=tuple([each for each in lsns if each][:_MAX_LSNS]),
        pages=frozenset(int(each) for each in _PAGE.findall(finding)),
        segments=frozenset(_SEGMENT.findall(finding)),
        writers=frozenset(_WRITER.findall(finding)),
    )


class Recorder:
    """Keeps what a world does; made before it runs."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.steps: list[Step] = []
        world.observer = self._on_step
        world.trace.listener = self._on_event

    def _on_step(self, source: str, event: str, values: Mapping[str, Any]) -> None:
        if event == "collected" and (core := self.world.cluster.hosts[source].core) is not None:
            values = {**values, "announced": core.state.announced_floor}
        if len(self.steps) < _MAX_EVENTS:
            self.steps.append(Step(self.world.scheduler.now_ns, source, event, values))

    def _on_event(self, time_ns: int, kind: str, values: tuple[object, ...]) -> None:
        if kind == "action":
            self.steps.append(Step(time_ns, "schedule", kind, {"text": values[1]}))
        elif kind == "dropped":
            _, source, destination, _, reason = values
            lost = {"source": source, "destination": destination, "reason": reason}
            self.steps.append(Step(time_ns, "network", kind, lost))


def tell(recorder: Recorder, result: RunResult, limit: int) -> list[str]:
    """The story in at most ``limit`` lines."""
    focus = focus_of(result.finding)
    story = _Story(recorder.world, recorder.steps, focus, result)
    lines = list(dict.fromkeys(story.lines()))
    lines.sort(key=lambda line: (-line.weight, -line.time_ns))
    chosen = sorted(lines[:limit], key=lambda line: line.time_ns)
    return [_clipped(f"{line.time_ns / SECOND:9.4f}s  {line.text}") for line in chosen]


def _clipped(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


class _Story:
    def __init__(
        self, world: World, steps: Sequence[Step], focus: Focus, result: RunResult
    ) -> None:
        self._world = world
        self._steps = steps
        self._focus = focus
        self._result = result
        self._by_event: dict[str, list[Step]] = {}
        for step in steps:
            self._by_event.setdefault(step.event, []).append(step)
        begun = self._by_event.get("writer_started")
        self._begin_ns = begun[0].time_ns if begun else 0

    def lines(self) -> Iterator[Line]:
        """Every sentence there is."""
        for lsn in self._focus.lsns:
            yield from self._birth(lsn)
            yield from self._way(lsn)
            yield from self._holders(lsn)
        yield from self._recoveries()
        yield from self._collections()
        yield from self._failing_call()
        yield from self._faults()
        yield from self._losses()
        yield from self._restarts()
        yield from self._last_steps()

    def _of(self, *events: str) -> list[Step]:
        found = [step for event in events for step in self._by_event.get(event, ())]
        return sorted(found, key=lambda step: step.time_ns) if len(events) > 1 else found

    # ---- records ---------------------------------------------------------------------------------

    def _birth(self, lsn: Lsn) -> Iterator[Line]:
        for step in self._of("mtr_allocated"):
            records = step.values["records"]
            if records[0].lsn <= lsn <= records[-1].lsn:
                pages = ", ".join(str(each) for each in dict.fromkeys(r.page_id for r in records))
                first, last = records[0].lsn, records[-1].lsn
                which = f"LSN {lsn}" if first == last else f"LSN {first} to {last} (one MTR)"
                yield Line(step.time_ns, 9, f"{step.source} allocates {which} on page {pages}")

    def _way(self, lsn: Lsn) -> Iterator[Line]:
        """To whom the record went, who acknowledged it, and when its commit was reported."""
        received = _first_each(
            step
            for step in self._of("batch_received", "gossip_received")
            if step.values["lsns"] and step.values["lsns"][0] <= lsn <= step.values["lsns"][1]
        )
        yield from _grouped(received, 7, f"LSN {lsn} reaches")
        durable = _first_each(
            step
            for step in self._of("records_applied", "hydrated")
            if step.values.get("before", lsn) < lsn <= step.values.get("scl", 0)
        )
        yield from _grouped(durable, 9, f"synced, SCL >= {lsn}:")
        acked = _first_each(step for step in self._of("ack_sent") if step.values["scl"] >= lsn)
        yield from _grouped(acked, 8, f"acknowledged, SCL >= {lsn}:")
        for step in self._of("acknowledged"):
            before, vdl = step.values["vdl"]
            if before < lsn <= vdl:
                text = f"{step.source} counts SCL {step.values['scl']} of {step.values['segment']}"
                yield Line(step.time_ns, 9, f"{text}: its VDL goes from {before} to {vdl}")
                return

    def _holders(self, lsn: Lsn) -> Iterator[Line]:
        """Who has the record when the run ends."""
        has: list[str] = []
        lacks: list[str] = []
        for segment, host in self._world.cluster.hosts.items():
            if host.core is None:
                continue
            state = host.core.state
            note = f" (lost, SCL {state.scl})" if host.lost else f" (SCL {state.scl})"
            down = self._world.checker.disks.is_down(segment)
            if down and not host.lost:
                note = f" (down, SCL {state.scl})"
            held = lsn in state.index or (lsn <= state.scl and not state.table.annuls(lsn))
            plain = held and not down and not host.lost
            (has if held else lacks).append(segment if plain else segment + note)
        if has and not lacks:
            text = f"at the end every segment has LSN {lsn}, or is past it"
        else:
            text = (
                f"at the end LSN {lsn} is on {' '.join(has) or 'nobody'}, not on {' '.join(lacks)}"
            )
        yield Line(self._result.virtual_ns, 7, text)

    # ---- writers ---------------------------------------------------------------------------------

    def _recoveries(self) -> Iterator[Line]:
        replies: dict[str, list[str]] = {}
        for step in self._of(
            "sealing", "seal_reply", "recovery_planned", "opened", "fenced", "table_adopted"
        ):
            name, values = step.source, step.values
            match step.event:
                case "sealing":
                    replies[name] = []
                    yield Line(step.time_ns, 5, f"{name} begins to seal epoch {values['epoch']}")
                case "seal_reply":
                    replies.setdefault(name, []).append(f"{values['segment']} ({values['scl']})")
                case "recovery_planned":
                    plan = values["plan"]
                    from_whom = ", ".join(replies.get(name, []))
                    yield Line(
                        step.time_ns, 8,
                        f"{name} plans VDL {plan.vdl}, range to {plan.table.last_annulled_lsn}, "
                        f"from the SCLs of {from_whom}",
                    )  # fmt: skip
                case "opened":
                    yield Line(step.time_ns, 7, f"{name} opens the volume at VDL {values['vdl']}")
                case "fenced":
                    yield Line(step.time_ns, 6, f"{name} learns from {values['by']} of a successor")
                case "table_adopted":
                    weight = 6 if step.source in self._focus.segments else 3
                    text = f"{name} adopts the table of {values['epoch']}; SCL {values['scl']} now"
                    yield Line(step.time_ns, weight, text)

    def _collections(self) -> Iterator[Line]:
        """Who has collected the version that a reader needs, and what the writer had allowed."""
        found = _COLLECTED.search(self._result.finding)
        if found is None:
            return
        read_point = int(found[1])
        groups: dict[tuple[Lsn, Lsn], list[Step]] = {}
        for step in self._of("collected"):
            floor, announced = step.values["floor"], step.values["announced"]
            if floor > read_point:
                groups.setdefault((floor, announced), []).append(step)
        for (floor, announced), steps in groups.items():
            who = " ".join(_first_each(steps))
            allowed = f"the floor announced is {announced}, a reader is at {read_point}"
            yield Line(steps[0].time_ns, 10, f"collected up to {floor}: {who}; {allowed}")

    # ---- the call that showed it -----------------------------------------------------------------

    def _failing_call(self) -> Iterator[Line]:
        call = self._last_call()
        if call is None:
            return
        yield Line(
            call.invoked_ns, 9, f"call {call.number} through {call.writer}: {call.operation}"
        )
        if call.operation.kind == "put":
            return
        page_id = call.operation.pages[0]
        for step in self._of("pool_looked_up", "read_sent", "page_materialized", "read_refused"):
            if step.time_ns < call.invoked_ns or _page_of(step) != page_id:
                continue
            yield Line(step.time_ns, 8, _read_step(step, self._scl(step)))

    def _scl(self, until: Step) -> Lsn:
        """The SCL that the step's source had by then."""
        scl = 0
        for step in self._of("records_applied", "hydrated", "table_adopted", "restored"):
            if step.time_ns > until.time_ns:
                break
            if step.source == until.source:
                scl = step.values.get("scl", scl)
        return scl

    def _last_call(self) -> Call | None:
        ended = [call for call in self._world.calls if call.returned_ns == self._result.virtual_ns]
        return ended[-1] if ended else None

    # ---- faults ----------------------------------------------------------------------------------

    def _faults(self) -> Iterator[Line]:
        for step in self._of("action"):
            text = str(step.values["text"]).partition(" ")[2]
            near = any(name in text for name in (*self._focus.segments, "writer", "recover"))
            yield Line(step.time_ns, 6 if near else 5, f"fault: {text}")

    def _losses(self) -> Iterator[Line]:
        """Lost messages, counted for each pair of those that matter."""
        lost: dict[tuple[str, str, str], list[int]] = {}
        for step in self._of("dropped"):
            key = (step.values["source"], step.values["destination"], step.values["reason"])
            lost.setdefault(key, []).append(step.time_ns)
        for (source, destination, reason), times in lost.items():
            matters = {source, destination} & (self._focus.segments | self._focus.writers)
            times_text = (
                "a message is lost" if len(times) == 1 else f"{len(times)} messages are lost"
            )
            text = f"from here on {times_text} from {source} to {destination} ({reason})"
            yield Line(times[0], 4 if matters else 1, text)

    def _restarts(self) -> Iterator[Line]:
        for step in self._of("restored"):
            values = step.values
            if step.time_ns <= self._begin_ns:
                continue
            torn = f", {values['torn_bytes']} torn bytes cut off" if values["torn_bytes"] else ""
            whole = "" if values["whole"] else ", damaged: not a witness"
            weight = 6 if step.source in self._focus.segments or torn or whole else 3
            text = f"{step.source} restarts from its log with SCL {values['scl']}{torn}{whole}"
            yield Line(step.time_ns, weight, text)

    def _last_steps(self) -> Iterator[Line]:
        """What the cores did last of all."""
        for step in [each for each in self._steps[-12:] if each.source != "network"][-3:]:
            if step.event != "action":
                yield Line(step.time_ns, 4, f"{step.source} {_in_words(step)}")


def _first_each(steps: Iterable[Step]) -> dict[str, int]:
    """When each source first appears."""
    found: dict[str, int] = {}
    for step in steps:
        found.setdefault(step.source, step.time_ns)
    return found


def _grouped(times: Mapping[str, int], weight: int, text: str) -> Iterator[Line]:
    """One line for what several segments did, beginning with the first."""
    if times:
        (first, start_ns), *rest = sorted(times.items(), key=lambda item: item[1])
        names = [first, *(f"{name} +{(at_ns - start_ns) / MS:.1f}ms" for name, at_ns in rest)]
        yield Line(start_ns, weight, f"{text} {', '.join(names)}")


def _page_of(step: Step) -> int | None:
    request = step.values.get("request")
    found = step.values.get("page_id") if request is None else request.page_id
    return found if isinstance(found, int) else None


def _read_step(step: Step, scl: Lsn) -> str:
    values, name = step.values, step.source
    match step.event:
        case "pool_looked_up":
            found = values["page_lsn"]
            page = f"page {values['page_id']} at {values['read_point']}"
            if found is None:
                return f"{name} does not have {page} in its cache"
            return f"{name} takes {page} from its cache: changed last at {found}"
        case "read_sent":
            request = values["request"]
            return (
                f"{name} asks {values['segment']} for page {request.page_id} at "
                f"{request.read_point} (required SCL {request.required_scl})"
            )
        case "read_refused":
            return f"{name} refuses: SCL {values['scl']}, floor {values['floor']}"
    return (
        f"{name} (SCL {scl}) makes page {values['page_id']} at {values['read_point']}: "
        f"changed last at {values['page_lsn']}, from an image of {values['image_lsn']} and "
        f"{len(values['records'])} records"
    )


def _in_words(step: Step) -> str:
    if step.event in WORDS:
        return WORDS[step.event].format_map(step.values)
    values = (
        f"{name.replace('_', ' ')} {value}"
        for name, value in step.values.items()
        if isinstance(value, int | str | tuple) and len(str(value)) < 40
    )
    return f"reports {step.event.replace('_', ' ')}: {', '.join(values)}".removesuffix(": ")
