"""The scrub of layers: whatever has become of a file is found, and comes from a peer."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest

from segments.layer_scrub import LayerScrub
from segments.layers.job import Read
from segments.protocol import events
from segments.protocol.ids import Lsn
from sim.world.layer_parts import parts_of
from tests.store_rig import TINY, StoreRig, durable
from tests.unit.test_layers_from_peers import CHAIN, Pair, peer

ROUNDS = 400


def scrub(rig: StoreRig, rounds: int = ROUNDS) -> set[int]:
    """Let it read its layers again for a while; returns those in which it has met damage."""
    core, before = rig.core.layer_scrub, len(rig.events)
    for at in range(rounds):
        core.tick(at * 1.0)
        piece = core.take_piece(at + 0.5)
        if piece is not None:
            rig.run(piece)
    found = [each for each in rig.events[before:] if isinstance(each, events.LayerDamaged)]
    assert all(each.by == "the scrub" for each in found)
    return {each.number for each in found}


def reads(rig: StoreRig, rounds: int = ROUNDS) -> Iterator[Read]:
    """What it reads."""
    for at in range(rounds):
        rig.core.layer_scrub.tick(at * 1.0)
        piece = rig.core.layer_scrub.take_piece(at + 0.5)
        op = next(piece, None) if piece is not None else None
        while piece is not None:
            try:
                if isinstance(op, Read):
                    yield op
                op = piece.send(rig.operate(op))
            except StopIteration:
                break


def clipped() -> StoreRig:
    """A segment with a base of a peer, above which a layer begins amid what it holds."""
    rig = StoreRig("A0", files=peer(200).disk.files)
    layer = rig.state.layers.layers[0]
    rig.disk.files[layer.name][layer.offsets[0] + 30] ^= 1
    assert scrub(rig) == {layer.number}
    pair = Pair(rig, peer(320, floor=150))
    while rig.state.layers.damaged:
        pair.tell()
        assert rig.take_job(pair.now)
        while rig.job is not None:
            rig.step_job()
            pair.deliver()
    assert [each.start for each in rig.files.manifest.layers[1:2]] == [rig.state.floor]
    return rig


def kinds() -> list[StoreRig]:
    """Segments with layers of records and images, a base, and one with a raised start."""
    return [peer(280), peer(280, floor=200), clipped()]


def test_sound_layers_are_read_over_and_over_and_left_alone() -> None:
    for rig in kinds():
        files = {name: bytes(data) for name, data in rig.disk.files.items()}
        assert scrub(rig) == set() and rig.state.whole
        assert rig.disk.files == files


def test_all_bytes_of_all_layers_are_read_in_pieces() -> None:
    rig = peer(280, floor=100)
    missing = {each.name: set(range(each.length)) for each in rig.state.layers}
    for read in reads(rig):
        missing[read.name] -= set(range(read.offset, read.offset + read.length))
        layer = next(each for each in rig.state.layers if each.name == read.name)
        if read.offset in layer.offsets[:-1]:
            assert read.length <= TINY.scrub_bytes
    assert not any(missing.values()), missing


def test_a_block_longer_than_a_piece_is_read_whole() -> None:
    rig = StoreRig()
    large = [each._replace(payload=bytes([1]) * 8000) for each in CHAIN[:6]]
    rig.take(large, vdl=6)
    assert rig.work() and scrub(rig) == set()
    [layer] = rig.state.layers
    assert max(each.length for each in reads(rig)) > TINY.scrub_bytes
    rig.disk.files[layer.name][layer.offsets[-1] - 5] ^= 1
    assert scrub(rig) == {layer.number}


def test_a_piece_is_due_an_interval_after_the_one_before() -> None:
    core = peer(280).core.layer_scrub
    assert core.take_piece(5.0) is None
    core.tick(5.0)
    assert core.take_piece(5.05) is None
    assert core.take_piece(5.1) is not None
    assert core.take_piece(99.0) is None


def test_without_layers_there_is_nothing_to_read() -> None:
    core = StoreRig().core.layer_scrub
    core.tick(0.0)
    assert core.take_piece(9.0) is None


@pytest.mark.parametrize("kind", range(3))
def test_a_flipped_bit_is_found_in_every_part_of_every_layer(kind: int) -> None:
    rig = kinds()[kind]
    files = {name: bytes(data) for name, data in rig.disk.files.items()}
    for layer in rig.state.layers:
        parts = parts_of(layer)
        assert [*range(layer.length)] == [at for part in parts.values() for at in part]
        assert len(layer.offsets) > 2, "more than one block"
        for part, extent in parts.items():
            for at in {*extent[:1], *extent[-1:], *extent[7::61]}:
                rig = StoreRig("A0", files=files)
                rig.disk.files[layer.name][at] ^= 1 << at % 8
                assert scrub(rig, 99) == {layer.number}, (layer, part, at)
                assert rig.state.layers.damaged == {layer.number} and not rig.state.whole


@pytest.mark.parametrize("how", ["gone", "cut", "another"])
def test_a_file_that_is_gone_or_shorter_or_another_is_damaged(how: str) -> None:
    rig = peer(280)
    first, second = rig.state.layers.layers[:2]
    match how:
        case "gone":
            del rig.disk.files[first.name]
        case "cut":
            del rig.disk.files[first.name][-1:]
        case "another":
            rig.disk.files[first.name] = bytearray(rig.disk.files[second.name])
    assert scrub(rig) == {first.number}


def test_a_file_of_the_same_blocks_but_another_filter_is_another_one() -> None:
    """Its own sums are right: it is held against what is known of the layer."""
    rig = peer(280)
    layer = rig.state.layers.layers[0]
    known = attrs.evolve(layer, count=layer.count + 1)
    layers = attrs.evolve(
        rig.state.layers, layers=(known, *rig.state.layers.layers[1:]), damaged=frozenset()
    )
    rig.state.materializer.set_layers(layers)
    assert scrub(rig) == {layer.number}


def test_damage_that_is_known_is_read_no_more_and_all_else_is() -> None:
    rig = peer(280)
    first, second = rig.state.layers.layers[:2]
    for layer in (first, second):
        rig.disk.files[layer.name][layer.offsets[0] + 9] ^= 1
    assert scrub(rig) == {first.number, second.number}
    assert rig.core.scrub.damages_found == 2
    names = {each.name for each in reads(rig)}
    assert names == {each.name for each in rig.state.layers} - {first.name, second.name}


def test_what_was_read_of_a_layer_that_is_gone_says_nothing() -> None:
    rig = peer(280)
    core: LayerScrub = rig.core.layer_scrub
    core.tick(0.0)
    piece = core.take_piece(1.0)
    assert piece is not None
    read = next(piece)
    assert isinstance(read, Read)
    rig.take(CHAIN[280:400], vdl=400, floor=400)
    rig.work(now=99.0)
    assert read.name not in rig.disk.files
    with pytest.raises(StopIteration):
        piece.send(b"")
    assert rig.state.whole and scrub(rig) == set()


# ---- healing -------------------------------------------------------------------------------------


def heal(ours: StoreRig, theirs: StoreRig) -> None:
    before = ours.state.scl
    pair = Pair(ours, theirs)
    pair.catch_up()
    pair.check()
    assert ours.state.scl >= before and scrub(ours) == set()
    assert not ours.state.layers.damaged


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("kind", range(3))
def test_every_part_of_every_layer_is_healed(kind: int, restart: bool) -> None:
    ours = kinds()[kind]
    files = {name: bytes(data) for name, data in ours.disk.files.items()}
    theirs = peer(320, floor=[0, 200, 150][kind])
    for layer in ours.state.layers:
        for part, extent in parts_of(layer).items():
            rig = StoreRig("A0", files=files)
            rig.disk.files[layer.name][extent[len(extent) // 2]] ^= 1
            if restart:
                rig.restart()
            scrub(rig, 99)
            assert rig.state.layers.damaged == {layer.number}, (layer, part)
            heal(rig, theirs)


@pytest.mark.parametrize("floor", [0, 90, 200])
def test_several_damaged_layers_are_healed_by_a_peer_that_has_collected_more(floor: Lsn) -> None:
    ours, theirs = StoreRig("A0", files=peer(280).disk.files), peer(280, floor=floor)
    numbers = {each.number for each in ours.state.layers}
    for layer in ours.state.layers:
        ours.disk.files[layer.name][layer.offsets[0] + 9] ^= 1
    assert scrub(ours) == numbers and len(numbers) > 1
    heal(ours, theirs)
    assert ours.state.floor >= theirs.state.floor
    before = durable(ours)
    ours.restart()
    assert durable(ours) == before


def test_two_that_are_damaged_in_different_places_heal_each_other() -> None:
    ours, theirs = StoreRig("A0", files=peer(280).disk.files), peer(280)
    first, last = ours.state.layers.layers[0], theirs.state.layers.layers[-1]
    ours.disk.files[first.name][first.offsets[0] + 9] ^= 1
    theirs.disk.files[last.name][last.offsets[0] + 9] ^= 1
    assert scrub(ours) == {first.number} and scrub(theirs) == {last.number}
    heal(ours, theirs)
    heal_back = Pair(theirs, ours)
    heal_back.catch_up()
    assert scrub(theirs) == set() and theirs.state.whole
