"""What a restart decides: what is cut, what is written anew, what is lost (protocol §6, §8)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import attrs
import pytest

from segments.manifest import MANIFEST, PROMISE, decode_manifest, encode_manifest, log_in
from segments.protocol.errors import DamagedLayer, SegmentLost
from segments.restart import RestartPlan, format_files, plan_restart
from segments.wal import NO_PROMISE, PROMISE_SLOT_BYTES, Promise, encode_promise
from tests.files_on_disks import scanned
from tests.store_rig import FIRST, SECOND, TINY, StoreRig, durable, records

CONFIG = attrs.evolve(TINY, wal_file_bytes=1 << 20)
"""With one file of the log."""
Files = dict[str, bytearray]


def stored(rig: StoreRig) -> Files:
    return {name: bytearray(data) for name, data in rig.disk.files.items()}


def one_file() -> Files:
    """A disk with three records in two frames behind the format's."""
    rig = StoreRig(config=CONFIG)
    rig.take(records([1, 2]))
    rig.take(records([1, 2, 3])[2:])
    return stored(rig)


def many() -> tuple[StoreRig, Files]:
    """A segment with two layers, the first a base, and files of its log.

    All that is in the first one is folded.
    """
    rig = StoreRig()
    chain = records(range(1, 201))
    rig.take(chain[:80], vdl=80, floor=80)
    rig.work()
    rig.take(chain[80:120], vdl=120)
    rig.work()
    for at in range(120, 200, 10):
        rig.take(chain[at : at + 10])
    assert [each.base for each in rig.state.layers] == [True, False]
    assert len(rig.files.manifest.logs) >= 4
    return rig, stored(rig)


def plan(files: Files) -> RestartPlan:
    return plan_restart("A0", files, CONFIG)


# ---- a log of one file ---------------------------------------------------------------------------


def test_a_new_segment_restarts_as_it_was_made() -> None:
    decided = plan_restart(
        "A0", {k: bytearray(v) for k, v in format_files(SECOND, 7).items()}, CONFIG
    )
    state = decided.state
    assert (state.epoch, state.table.epoch, state.scl, state.whole) == (SECOND, SECOND, 0, True)
    assert (decided.damage, decided.torn_bytes, decided.promise) == ((), 0, None)


def test_a_sound_disk_is_left_as_it_is() -> None:
    files = one_file()
    decided = plan(files)
    assert (decided.state.scl, decided.state.whole) == (3, True)
    assert (decided.files.log_bytes, decided.torn_bytes) == (len(files["wal-1"]), 0)
    assert (decided.damage, decided.promise, decided.leftovers) == ((), None, [])
    assert not decided.manifest_is_spoilt and decided.manifest == files[MANIFEST]


def test_a_torn_tail_is_cut_where_the_last_sound_frame_ends() -> None:
    files = one_file()
    last = scanned(files, "wal-1").frames[-1]
    del files["wal-1"][-1:]
    decided = plan(files)
    assert decided.files.last_log.length == last.start
    assert decided.torn_bytes == last.end - last.start - 1
    assert (decided.state.scl, decided.state.whole) == (2, True)


def test_damage_is_told_and_stays() -> None:
    files = one_file()
    start, end, _ = scanned(files, "wal-1").frames[1]
    files["wal-1"][start + 20] ^= 1
    decided = plan(files)
    assert (decided.damage, decided.torn_bytes) == (((start, end),), 0)
    assert decided.files.log_bytes == len(files["wal-1"]) and not decided.state.whole


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("other", [NO_PROMISE, None], ids=["behind the log", "spoilt"])
def test_a_promise_that_both_slots_do_not_hold_is_written_to_both(
    slot: int, other: Promise | None
) -> None:
    files = one_file()
    bad = bytes(PROMISE_SLOT_BYTES) if other is None else encode_promise(other)
    slots = [encode_promise(Promise(FIRST, FIRST))] * 2
    assert b"".join(slots) == files[PROMISE]
    slots[slot] = bad
    files[PROMISE] = bytearray(b"".join(slots))
    assert plan(files).promise == slots[1 - slot]


def test_a_promise_above_the_log_is_kept() -> None:
    files = one_file()
    promised = encode_promise(Promise(SECOND, FIRST))
    files[PROMISE] = bytearray(promised * 2)
    decided = plan(files)
    assert (decided.state.epoch, decided.promise) == (SECOND, None)


@pytest.mark.parametrize("log", [b"", b"junk", bytes(4096)])
def test_a_log_without_a_sound_frame_is_lost(log: bytes) -> None:
    files = one_file()
    files["wal-1"] = bytearray(log)
    expected = f"A0 has lost its log: no sound frame in wal-1, in {len(log)} bytes"
    with pytest.raises(SegmentLost, match=expected):
        plan(files)


def test_a_log_of_spoilt_frames_is_lost_however_many_they_were() -> None:
    files = one_file()
    for frame in scanned(files, "wal-1").frames:
        files["wal-1"][frame.start + 20] ^= 1
    with pytest.raises(SegmentLost, match="no sound frame"):
        plan(files)


@pytest.mark.parametrize("slots", [b"", bytes(2 * PROMISE_SLOT_BYTES)])
def test_a_disk_without_a_promise_is_lost(slots: bytes) -> None:
    files = one_file()
    files[PROMISE] = bytearray(slots)
    with pytest.raises(SegmentLost, match="A0 has lost its promises: no "):
        plan(files)


# ---- many files ----------------------------------------------------------------------------------


def test_all_files_together_are_the_segment() -> None:
    rig, files = many()
    decided = plan(files)
    assert decided.files.manifest[:2] == rig.files.manifest[:2]
    for folded in range(100, 202):
        assert decided.files.without_folded(folded) == rig.files.without_folded(folded)
    assert durable(StoreRig(files=files)) == durable(rig)
    assert (decided.state.folded, decided.state.vdl, decided.state.floor) == (120, 120, 80)


def test_files_that_the_manifest_does_not_name_are_deleted_and_their_numbers_not_used() -> None:
    rig, files = many()
    names = sorted(["layer-1", "wal-99", "layer-98", "manifest.new"])
    for name in names:
        files[name] = bytearray(files["wal-99" if "wal-99" in files else rig.files.last_log.name])
    files["notes"] = bytearray(b"nobody's")
    decided = plan(files)
    assert decided.leftovers == names
    assert decided.files.take_number() == 100
    assert durable(StoreRig(files=files)) == durable(rig)


@pytest.mark.parametrize("half", [0, 1])
def test_a_spoilt_half_of_the_manifest_is_told(half: int) -> None:
    rig, files = many()
    files[MANIFEST][half * 4096 + 30] ^= 1
    decided = plan(files)
    assert decided.manifest_is_spoilt and decided.manifest == files[MANIFEST]
    assert decided.files.manifest[:2] == rig.files.manifest[:2]


def last_frame_cut(files: Files, name: str) -> None:
    del files[name][scanned(files, name).frames[-1].start :]


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("how", ["gone", "empty", "shorter", "at a frame", "another"])
def test_a_file_that_is_not_the_last_is_damaged_if_it_is_not_whole(which: int, how: str) -> None:
    """It may be missing, or lack frames at its end: those behind it tell what was held.

    What is in layers is missed by nobody.
    """
    rig, files = many()
    length = len(log_in(files).log)
    name = rig.files.manifest.logs[which].name
    match how:
        case "gone":
            del files[name]
        case "empty":
            files[name].clear()
        case "shorter":
            del files[name][len(files[name].rstrip(b"\0")) - 1 :]  # a frame may end with zeros
        case "at a frame":
            last_frame_cut(files, name)
        case "another":
            files[name] = bytearray(len(files[name]))
    decided = plan(files)
    assert len(log_in(files).log) == length
    state = decided.state
    assert decided.damage and state.whole == (which == 0)
    assert state.scl == 200 if which == 0 else 120 <= state.scl < 200


def test_what_is_behind_the_end_of_a_full_file_is_ignored() -> None:
    rig, files = many()
    files[rig.files.manifest.logs[1].name] += files[rig.files.last_log.name]
    assert durable(StoreRig(files=files)) == durable(rig)


@pytest.mark.parametrize("tail", [b"", b"\xc1WAL torn"])
def test_the_last_file_alone_can_be_torn(tail: bytes) -> None:
    rig, files = many()
    last = rig.files.last_log.name
    last_frame_cut(files, last)
    files[last] += tail
    decided = plan(files)
    assert (decided.damage, decided.torn_bytes, decided.state.whole) == ((), len(tail), True)
    assert decided.state.scl == 190


@pytest.mark.parametrize("left", [None, b"", b"rubbish"])
def test_without_a_frame_in_the_last_file_the_log_is_lost(left: bytes | None) -> None:
    """It was made with one: nobody knows what else was in there."""
    rig, files = many()
    last = rig.files.last_log.name
    del files[last]
    if left is not None:
        files[last] = bytearray(left)
    with pytest.raises(SegmentLost, match=rf"A0 has lost its log: no .*{last}"):
        plan(files)


def test_without_a_manifest_the_log_is_lost() -> None:
    _, files = many()
    files[MANIFEST] = bytearray(len(files[MANIFEST]))
    with pytest.raises(SegmentLost, match="a spoilt manifest: expected one that names its files"):
        plan(files)
    del files[MANIFEST]
    with pytest.raises(SegmentLost, match="no manifest: expected one that names its files"):
        plan(files)


# ---- layers --------------------------------------------------------------------------------------


def spoil_footer(files: Files, name: str) -> None:
    files[name][-20] ^= 1


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda files, name: files.pop(name),
        lambda files, name: files[name].clear(),
        lambda files, name: files[name].pop(),
        spoil_footer,
    ],
    ids=["gone", "empty", "shorter", "spoilt"],
)
def test_a_damaged_layer_keeps_its_place_and_the_segment_is_not_whole(
    which: int, spoil: Callable[[Files, str], object]
) -> None:
    rig, files = many()
    layer = rig.state.layers.layers[which]
    spoil(files, layer.name)
    state = plan(files).state
    assert not state.whole and (state.scl, state.folded, state.floor) == (200, 120, 80)
    assert state.layers.damaged == {layer.number}
    assert [(each.number, each.start, each.end, each.base) for each in state.layers] == [
        (each.number, each.start, each.end, each.base) for each in rig.state.layers
    ]
    back = StoreRig(files=files)
    page = rig.state.materializer.existing_pages(0, 9, 200, 99)[0][0]
    with pytest.raises(DamagedLayer):
        back.page(page, layer.end)


def test_the_layer_of_another_place_is_damaged() -> None:
    rig, files = many()
    base, delta = rig.state.layers
    manifest = decode_manifest(bytes(files[MANIFEST]))
    assert manifest is not None
    for changed in (
        (manifest.layers[0]._replace(base=False), manifest.layers[1]),
        (manifest.layers[0]._replace(end=81), manifest.layers[1]._replace(start=81)),
        (manifest.layers[0]._replace(end=79), manifest.layers[1]._replace(start=79)),
    ):
        files[MANIFEST] = bytearray(encode_manifest(manifest._replace(layers=changed)))
        damaged = plan(files).state.layers.damaged
        assert base.number in damaged
        assert (delta.number in damaged) == (changed[1].start < delta.start)


def test_a_layer_whose_start_was_raised_stands_for_what_is_above_that() -> None:
    _, files = many()
    manifest = decode_manifest(bytes(files[MANIFEST]))
    assert manifest is not None
    base, delta = manifest.layers
    changed = (base, delta._replace(start=90))
    files[MANIFEST] = bytearray(
        encode_manifest(manifest._replace(layers=(base._replace(end=90), changed[1])))
    )
    damaged = plan(files).state.layers
    assert damaged.damaged == {base.number} and damaged.layers[1].start == 90
    assert [each.end for each, _ in pairwise(damaged)] == [90]
