"""How fast writers send again, on the wire: neither sooner nor later than patience demands (23).

Of each way from a writer to a segment it is known what was sent and not acknowledged yet, and how
quick the quickest and the slowest answer was. What a writer makes of these lies in between, and so
does the pause before it sends anything again, doubled with each silence.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from math import inf
from typing import Final

import attrs

from segments.protocol import codec
from segments.protocol.ids import Address, Lsn
from segments.protocol.messages import WriteBatch
from segments.protocol.run import read_run
from sim.check import rules_of_wire
from sim.check.findings import Findings
from sim.plan.schedule import SECOND
from sim.world.network import NetworkEvent
from sim.world.world import World

_PATIENCE: Final = 4
"""A batch is sent again after so many times its usual trip (`aurora.segment_stream`)."""
_DOUBLINGS: Final = 16
_SETTLED_AT: Final = 1 + WriteBatch._fields.index("settled")
_RECORDS_AT: Final = 1 + WriteBatch._fields.index("records")
_ROUNDING_NS: Final = 1_000
"""Seconds are floats to those who wait."""


@attrs.define(eq=False)
class _Way:
    """From a writer to a segment."""

    waiting: deque[tuple[int, Lsn, int]] = attrs.Factory(deque)
    """Batches without an acknowledgement: number, last LSN, and when each was sent."""
    sent_lsn: Lsn = 0
    silences: int = 0
    """How often something was sent again since the segment was last heard of."""
    unsure: bool = False
    """Whether the writer may have come to one of these before what it heard at the same moment."""
    heard_ns: int = -1
    quickest_ns: float = inf
    slowest_ns: int = 0
    timed: bool = False
    """Whether the writer has surely timed an answer; it may have given up all batches before."""
    told_ns: int | None = None
    """When a batch was last sent, if only an empty one."""
    settled: bool = False
    """Whether that one said that the writer's table is settled."""
    asked_ns: int | None = None
    """When it was last sent the table; None once it has said that it has it."""
    due_ns: tuple[int, int] | None = None
    """The least and the most until it is sent the table again; None if that cannot be told."""


class PaceChecks:
    """The paces of one run."""

    def __init__(self, world: World, findings: Findings) -> None:
        engine = world.config.engine
        self._hold = findings.hold
        self._least_ns, self._most_ns = _ns(engine.resend_min_s), _ns(engine.resend_max_s)
        self._beat_ns, self._tick_ns = _ns(engine.heartbeat_interval_s), _ns(engine.tick_interval_s)
        self._ways: dict[tuple[Address, Address], _Way] = {}

    # ---- what writers send -----------------------------------------------------------------------

    def beats(self, event: NetworkEvent) -> None:
        """A writer sends an empty batch; it may do so at once to say that its table is settled."""
        way = self._way(event.source, event.destination)
        settled = codec.unpack(event.payload)[_SETTLED_AT]
        if way.told_ns is not None and settled == way.settled:
            pause_ns = event.time_ns - way.told_ns
            self._hold(
                rules_of_wire.beats_no_sooner,
                event.source, event.destination, pause_ns, self._beat_ns - _ROUNDING_NS,
            )  # fmt: skip
        way.told_ns, way.settled = event.time_ns, settled

    def sends(self, event: NetworkEvent) -> None:
        """A writer sends a batch of records."""
        way = self._way(event.source, event.destination)
        message = codec.unpack(event.payload)
        seq, records = message[2], message[_RECORDS_AT]
        way.told_ns, way.settled = event.time_ns, message[_SETTLED_AT]
        first, last = _ends(records)
        if first <= way.sent_lsn and way.waiting:
            self._sends_again(event, way)
            way.waiting.clear()
            way.silences += 1
            way.unsure |= way.heard_ns == event.time_ns
            way.sent_lsn = last
        way.sent_lsn = max(way.sent_lsn, last)
        way.waiting.append((seq, last, event.time_ns))

    def _sends_again(self, event: NetworkEvent, way: _Way) -> None:
        now_ns, sent_ns = event.time_ns, way.waiting[0][2]
        if way.heard_ns == now_ns:
            return  # which of the two the writer came to first cannot be told
        least_ns, most_ns = self._pause_ns(way)
        self._hold(
            rules_of_wire.sends_again_in_time,
            event.source, event.destination, way.silences,
            now_ns - sent_ns, least_ns, now_ns - max(sent_ns, way.heard_ns), most_ns,
        )  # fmt: skip

    def _pause_ns(self, way: _Way) -> tuple[int, int]:
        """The least and the most until something is sent again, at the next tick."""
        least_ns, most_ns = (
            min(
                self._most_ns, max(self._least_ns, _PATIENCE * each) * (1 << min(known, _DOUBLINGS))
            )
            for each, known in (
                (way.quickest_ns if way.timed else 0, way.silences - way.unsure),
                (way.slowest_ns, way.silences),
            )
        )
        return int(least_ns) - _ROUNDING_NS, int(most_ns) + self._tick_ns + _ROUNDING_NS

    def installs(self, event: NetworkEvent) -> None:
        """A writer sends its truncation table."""
        way = self._way(event.source, event.destination)
        if way.asked_ns is not None and way.due_ns is not None:
            pause_ns = event.time_ns - way.asked_ns
            self._hold(
                rules_of_wire.sends_again_in_time,
                event.source, event.destination, way.silences,
                pause_ns, way.due_ns[0], pause_ns, way.due_ns[1],
            )  # fmt: skip
        way.asked_ns = event.time_ns
        way.due_ns = self._pause_ns(way) if way.heard_ns != event.time_ns else None
        way.silences += 1

    # ---- what they hear --------------------------------------------------------------------------

    def acknowledged(self, event: NetworkEvent) -> None:
        """An acknowledgement has come to a writer."""
        _, _, _, seq, scl, *_ = codec.unpack(event.payload)
        way = self._way(event.destination, event.source)
        patient_ns, _ = self._pause_ns(way)
        way.heard_ns, way.silences, way.unsure = event.time_ns, 0, False
        way.sent_lsn = max(way.sent_lsn, scl)
        while way.waiting and way.waiting[0][1] <= scl:
            number, _, sent_ns = way.waiting.popleft()
            if number == seq:
                latency_ns = event.time_ns - sent_ns
                # One that took longer may have been given up, with nothing to send, or timed, too.
                way.timed |= latency_ns < patient_ns
                way.quickest_ns = min(way.quickest_ns, latency_ns)
                way.slowest_ns = max(way.slowest_ns, latency_ns)

    def installed(self, event: NetworkEvent) -> None:
        """A segment has told a writer that it has its table."""
        way = self._way(event.destination, event.source)
        if way.asked_ns is not None:
            way.asked_ns, way.silences, way.heard_ns = None, 0, event.time_ns
            way.unsure = False
            way.waiting.clear()
            way.sent_lsn = 0

    def needs_table(self, event: NetworkEvent) -> None:
        """A segment has told a writer that it lacks its table."""
        way = self._way(event.destination, event.source)
        way.waiting.clear()
        way.sent_lsn = 0

    def _way(self, writer: Address, segment: Address) -> _Way:
        way = self._ways.get((writer, segment))
        if way is None:
            way = self._ways[writer, segment] = _Way()
        return way


@lru_cache(maxsize=32)
def _ends(records: bytes) -> tuple[Lsn, Lsn]:
    """The first and the last LSN of a run, which six segments get."""
    lsns = read_run(records).lsns
    return lsns[0], lsns[-1]


def _ns(seconds: float) -> int:
    return int(seconds * SECOND)
