"""What a restart makes of a disk: a pure decision (protocol §6, §8).

`plan_restart` says what a log and the promise beside it stand for, and what is to be done to the
disk before its segment serves. The server does it; the simulator asks the same function what a
segment that is down would come back with. So there is one meaning of a restart.
"""

from __future__ import annotations

import attrs

from segments.config import SegmentConfig
from segments.protocol.errors import MalformedFrame, SegmentLost
from segments.protocol.ids import SegmentId
from segments.state import SegmentState
from segments.steps import Steps, finished
from segments.storage import Stored
from segments.wal import DamagedRange, Promise, decode_promises, encode_promise, scan_steps


@attrs.frozen
class RestartPlan:
    """What a segment comes back with, and what is to be done to its disk first."""

    state: SegmentState
    log_bytes: int
    """Cut the log to this length, and append here."""
    torn_bytes: int
    """Length of the tail that is cut off: the write during which it crashed."""
    damage: tuple[DamagedRange, ...]
    """What is spoilt in the part that stays; the state may then not be whole."""
    promise: bytes | None
    """What to write to both promise slots; None if both hold it.

    They do not when a crash or rot came between the log and its promise, or between the slots.
    """


def plan_restart(segment: SegmentId, stored: Stored, config: SegmentConfig) -> RestartPlan:
    """What `plan_restart_steps` returns, at once."""
    return finished(plan_restart_steps(segment, stored, config))


def plan_restart_steps(
    segment: SegmentId, stored: Stored, config: SegmentConfig, *, accepts_rollback: bool = False
) -> Steps[RestartPlan]:
    """Decide from all that a disk holds.

    Raises `SegmentLost` if its log or its promises are lost: a formatted log has a frame, and never
    loses its last, and without a promise nobody knows what the segment may still accept. Also if it
    is known to be an older copy, unless that is accepted.
    """
    found = yield from scan_steps(stored.log)
    if not found.frames:
        raise SegmentLost(
            f"segment {segment} has lost its log: no sound frame in "
            f"{len(stored.log)} bytes, expected one at least"
        )
    promise = _promise_in(segment, stored.promises)
    state = yield from SegmentState.restore_steps(config, found, promise)
    if state.lost is not None and not accepts_rollback:
        raise SegmentLost(state.lost)
    slots = encode_promise(state.promise)
    return RestartPlan(
        state,
        found.durable_length,
        found.torn_bytes,
        found.damage,
        slots if stored.promises != slots * 2 else None,
    )


def _promise_in(segment: SegmentId, slots: bytes) -> Promise:
    try:
        if not slots:
            raise MalformedFrame("no bytes: expected two slots")
        return decode_promises(slots)
    except MalformedFrame as error:
        raise SegmentLost(f"segment {segment} has lost its promises: {error}") from error
