"""What a restart decides: what is cut, what is written anew, what is lost (protocol §6, §8)."""

from __future__ import annotations

import pytest

from segments.config import SegmentConfig
from segments.manifest import Stored
from segments.protocol.errors import SegmentLost
from segments.restart import RestartPlan, plan_restart
from segments.wal import NO_PROMISE, PROMISE_SLOT_BYTES, Promise, encode_promise, scan
from tests.segment_rig import FIRST, SECOND, SegmentRig, records


def stored() -> Stored:
    """A disk with three records in two frames behind the format's."""
    rig = SegmentRig()
    rig.take(records([1, 2]))
    rig.take(records([1, 2, 3])[2:])
    return Stored(bytes(rig.log), rig.promises)


def plan(disk: Stored) -> RestartPlan:
    return plan_restart("A0", disk, SegmentConfig())


def test_a_sound_disk_is_left_as_it_is() -> None:
    disk = stored()
    decided = plan(disk)
    assert (decided.state.scl, decided.state.whole) == (3, True)
    assert (decided.log_bytes, decided.torn_bytes) == (len(disk.log), 0)
    assert (decided.damage, decided.promise) == ((), None)


def test_a_torn_tail_is_cut_where_the_last_sound_frame_ends() -> None:
    disk = stored()
    decided = plan(disk._replace(log=disk.log[:-1]))
    last = scan(disk.log).frames[-1]
    assert (decided.log_bytes, decided.torn_bytes) == (last.start, last.end - last.start - 1)
    assert (decided.state.scl, decided.state.whole) == (2, True)


def test_damage_is_told_and_stays() -> None:
    disk = stored()
    spoilt = bytearray(disk.log)
    start, end, _ = scan(disk.log).frames[1]
    spoilt[start + 20] ^= 1
    decided = plan(disk._replace(log=bytes(spoilt)))
    assert (decided.damage, decided.torn_bytes) == (((start, end),), 0)
    assert decided.log_bytes == len(disk.log) and not decided.state.whole


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("other", [NO_PROMISE, None], ids=["behind the log", "spoilt"])
def test_a_promise_that_both_slots_do_not_hold_is_written_to_both(
    slot: int, other: Promise | None
) -> None:
    disk = stored()
    bad = bytes(PROMISE_SLOT_BYTES) if other is None else encode_promise(other)
    slots = [encode_promise(Promise(FIRST, FIRST))] * 2
    assert b"".join(slots) == disk.promises
    slots[slot] = bad
    assert plan(disk._replace(promises=b"".join(slots))).promise == slots[1 - slot]


def test_a_promise_above_the_log_is_kept() -> None:
    disk = stored()
    promised = encode_promise(Promise(SECOND, FIRST))
    decided = plan(disk._replace(promises=promised * 2))
    assert (decided.state.epoch, decided.promise) == (SECOND, None)


@pytest.mark.parametrize("log", [b"", b"junk", bytes(4096)])
def test_a_log_without_a_sound_frame_is_lost(log: bytes) -> None:
    with pytest.raises(SegmentLost, match=f"A0 has lost its log: no sound frame in {len(log)} b"):
        plan(stored()._replace(log=log))


def test_a_log_of_spoilt_frames_is_lost_however_many_they_were() -> None:
    disk = stored()
    spoilt = bytearray(disk.log)
    for frame in scan(disk.log).frames:
        spoilt[frame.start + 20] ^= 1
    with pytest.raises(SegmentLost, match="no sound frame"):
        plan(disk._replace(log=bytes(spoilt)))


@pytest.mark.parametrize("slots", [b"", bytes(2 * PROMISE_SLOT_BYTES)])
def test_a_disk_without_a_promise_is_lost(slots: bytes) -> None:
    with pytest.raises(SegmentLost, match="A0 has lost its promises: no "):
        plan(stored()._replace(promises=slots))
