"""The scrub: what rots on the disk is found before somebody needs it, and mended from memory."""

from __future__ import annotations

from random import Random

import attrs
import pytest

from segments.manifest import MANIFEST, PROMISE, WHOLE, decode_manifest
from segments.protocol import events
from segments.protocol.messages import Seal
from tests.files_on_disks import scanned
from tests.store_rig import SECOND, TINY, StoreRig, durable, records

CHAIN = records(range(1, 201))


def filled(last: int = 100, *, wal_file_bytes: int = TINY.wal_file_bytes) -> StoreRig:
    rig = StoreRig(config=attrs.evolve(TINY, wal_file_bytes=wal_file_bytes))
    for at in range(0, last, 10):
        rig.take(CHAIN[at : at + 10])
    return rig


def scrub(rig: StoreRig, rounds: int = 100) -> int:
    """Let it read its disk again for a while; returns the damage found in all."""
    core = rig.core.scrub
    for at in range(rounds):
        core.tick(at * 1.0)
        piece = core.take_piece(at + 0.5)
        if piece is not None:
            core.checked(piece, rig.disk.read(*piece[:3]))
        if core.promises_to_read:
            core.promises_checked(rig.disk.read(PROMISE, 0, WHOLE))
        if core.manifest_to_read:
            found = decode_manifest(rig.disk.read(MANIFEST, 0, len(rig.disk.files[MANIFEST]) // 2))
            core.manifest_checked(sound=found is not None)
    return core.damages_found


def test_a_sound_disk_is_read_over_and_over_and_left_alone() -> None:
    rig = filled()
    files = {name: bytes(data) for name, data in rig.disk.files.items()}
    assert scrub(rig) == 0 and rig.core.take_write() is None and not rig.take_job(99.0)
    assert rig.disk.files == files


def test_all_files_of_the_log_are_read_piece_by_piece() -> None:
    rig = filled()
    read: dict[str, int] = {}
    core = rig.core.scrub
    for at in range(30):
        core.tick(at * 1.0)
        piece = core.take_piece(at + 0.5)
        assert piece is not None and piece.length <= TINY.scrub_bytes
        read[piece.name] = piece.offset + piece.length
        core.checked(piece, rig.disk.read(*piece[:3]))
    assert read == {each.name: each.length for each in rig.files.manifest.logs}


def test_a_piece_is_due_an_interval_after_the_one_before() -> None:
    core = filled().core.scrub
    assert core.take_piece(5.0) is None
    core.tick(5.0)
    assert core.take_piece(5.05) is None
    assert core.take_piece(5.1) is not None
    assert core.take_piece(99.0) is None


@pytest.mark.parametrize("seed", range(25))
def test_a_flipped_bit_is_found_wherever_it_is_and_healed(seed: int) -> None:
    """2017 §3.3: the scrub checks every checksum; memory has what the disk has lost."""
    rig = filled()
    before, random = durable(rig), Random(seed)
    name = random.choice([each.name for each in rig.files.manifest.logs])
    at = random.randrange(len(rig.disk.files[name]))
    rig.disk.files[name][at] ^= 1 << random.randrange(8)
    assert scrub(rig) > 0, (name, at)
    assert any(isinstance(each, events.ScrubFoundDamage) for each in rig.events)
    rig.work(now=100.0)
    assert rig.core.background.rewrites == 1 and not rig.core.scrub.log_is_damaged
    found = scanned(rig.disk.files)
    assert not found.damage and not found.torn_bytes
    rig.restart()
    assert durable(rig) == before and rig.state.whole


def test_a_file_that_is_shorter_than_it_was_is_damaged() -> None:
    rig = filled()
    name = rig.files.manifest.logs[1].name
    del rig.disk.files[name][scanned(rig.disk.files, name).frames[-1].start :]
    assert scrub(rig) > 0
    rig = filled()
    del rig.disk.files[name]
    assert scrub(rig) > 0


def test_a_frame_longer_than_a_piece_is_read_whole() -> None:
    rig = filled(0, wal_file_bytes=1 << 20)
    large = [record._replace(payload=bytes(8000)) for record in records(range(1, 9))]
    rig.take(large)
    rig.take(records([9, 10], prev=8))
    assert scrub(rig) == 0
    rig.disk.files["wal-1"][-5] ^= 1
    assert scrub(rig) > 0


def test_what_is_appended_while_a_piece_is_read_is_no_damage() -> None:
    rig = filled(10, wal_file_bytes=1 << 20)
    core = rig.core.scrub
    core.tick(0.0)
    piece = core.take_piece(1.0)
    assert piece is not None
    data = rig.disk.read(*piece[:3])
    rig.take(CHAIN[10:20])
    core.checked(piece, data)
    assert core.damages_found == 0
    assert scrub(rig) == 0


def test_what_was_read_of_a_file_that_is_gone_says_nothing() -> None:
    rig = filled()
    core = rig.core.scrub
    core.tick(0.0)
    piece = core.take_piece(10.0)
    assert piece is not None
    old = bytearray(rig.disk.read(*piece[:3]))
    old[200] ^= 1
    core.log_is_damaged = True
    rig.work()
    core.checked(piece, bytes(old))
    assert core.damages_found == 0


def test_a_promise_on_its_way_to_the_disk_is_not_taken_for_damage() -> None:
    rig = filled(10)
    core = rig.core.scrub
    core.promises_to_read = True
    before = bytes(rig.disk.files[PROMISE])
    rig.step(Seal(SECOND, 1))
    write = rig.core.take_write()
    assert write is not None and write.promise is not None
    for slots in (before, write.promise + before[len(before) // 2 :], write.promise * 2):
        core.promises_checked(slots)
        assert not core.promise_due and core.promises_to_read
    rig.store(write)
    rig.core.wrote()
    core.promises_checked(before)
    assert (core.promise_due, core.damages_found) == (True, 1)
    rig.disk.files[PROMISE] = bytearray(len(before))
    rig.settle()
    assert rig.disk.files[PROMISE] == write.promise * 2
    assert rig.core.take_write() is None
    core.promises_checked(bytes(rig.disk.files[PROMISE]))
    assert core.damages_found == 1


def test_a_spoilt_manifest_is_written_again() -> None:
    rig = filled()
    sound = bytes(rig.disk.files[MANIFEST])
    rig.disk.files[MANIFEST][7] ^= 1
    assert scrub(rig) > 0
    assert any(isinstance(each, events.ScrubFoundBadManifest) for each in rig.events)
    assert rig.work() == 1 and rig.disk.files[MANIFEST] == sound
    assert not rig.core.scrub.manifest_is_damaged


def test_the_files_of_a_log_are_read_in_its_order_whatever_their_numbers() -> None:
    """A log that was written anew stands before the file that it went on in meanwhile."""
    rig = filled()
    rig.core.scrub.log_is_damaged = True
    rig.work()
    rig.take(CHAIN[100:110])
    first, *others = [each.number for each in rig.files.manifest.logs]
    assert others and first > others[0]
    assert scrub(rig) == 0
    rig.disk.files[f"wal-{others[0]}"][-5] ^= 1
    assert scrub(rig) > 0
