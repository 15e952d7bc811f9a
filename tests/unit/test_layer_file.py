"""A layer's file: what goes in comes out, the index finds it, and damage anywhere is noticed."""

from __future__ import annotations

from bisect import bisect_right
from contextlib import suppress
from random import Random

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.layers.block import Block, encode_block, image_row, join, read_block, sorted_block
from segments.layers.bloom import Bloom, BloomBuilder
from segments.layers.layer import Layer
from segments.layers.layer_writer import LayerWriter
from segments.protocol.codec import checksum
from segments.protocol.errors import Corrupt, DamagedLayer
from segments.protocol.ids import MAX_INTEGER
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import IMAGE_BIT, Rows, encode_rows
from tests.layer_rig import Files, by_page, chain, replayed, write_layer

modestly = settings(max_examples=60, deadline=None)


def with_images(records: list[RedoRecord], every: int) -> Rows:
    """``records``, sorted, with an image behind every so many of them."""
    pieces = []
    for number, record in enumerate(by_page(records)):
        pieces.append(encode_rows([record]))
        if number % every == every - 1:
            page = replayed(records, record.page_id, record.lsn)
            pieces.append(image_row(record.page_id, record.lsn, page))
    return join(pieces)


def keys(block: Block) -> list[tuple[int, int, bool]]:
    """Page and LSN of each row, and whether it is an image."""
    images = [meta & IMAGE_BIT != 0 for meta in block.metas]
    return list(zip(block.pages, block.lsns, images, strict=True))


def made(
    seed: int, count: int, pages: int, every: int, block_bytes: int
) -> tuple[Files, Layer, Rows, list[RedoRecord]]:
    random = Random(seed)
    records = chain(random, count, pages)
    rows = with_images(records, every)
    files = Files()
    writer = LayerWriter(
        7, 0, records[-1].lsn, base=False, block_bytes=block_bytes, most_pages=count
    )
    cuts = [random.randrange(2 * count) for _ in range(random.randrange(9))]
    return files, write_layer(files, writer, rows, pieces=cuts), rows, records


layers = st.builds(
    made,
    st.integers(0, 10_000),
    st.integers(1, 120),
    st.integers(1, 12),
    st.integers(1, 20),
    st.sampled_from([1, 100, 400, 4_000, 100_000]),
)


@modestly
@given(layers)
def test_what_is_written_is_read(layer_made: tuple[Files, Layer, Rows, list[RedoRecord]]) -> None:
    files, layer, rows, records = layer_made
    opened, new_pages = files.opened(7)
    assert known_of(opened) == known_of(layer)
    assert layer.length == len(files.data["layer-7"])
    assert layer.user_bytes == sum(len(record.payload) + 8 * record.is_cpl for record in records)
    assert layer.page_count == len({record.page_id for record in records})
    blocks = files.blocks(opened)
    assert join([block.cut(0, len(block)) for block in blocks]) == rows
    firsts = [record for record in by_page(records) if record.prev_page_lsn == 0]
    assert list(zip(*new_pages, strict=True)) == [(each.page_id, each.lsn) for each in firsts]
    for block in blocks:
        for row in range(len(block)):
            assert len(block.payload(row)) == block.metas[row] & 0x3FFF
    assert layer.count == sum(map(len, blocks))


def known_of(layer: Layer) -> tuple[object, ...]:
    """Everything known of a layer, to compare: equal ones have the same number only."""
    values = attrs.asdict(layer)
    return (values.pop("bloom").packed, *values.values())


@modestly
@given(layers, st.randoms(use_true_random=False))
def test_the_index_finds_every_row(
    layer_made: tuple[Files, Layer, Rows, list[RedoRecord]], random: Random
) -> None:
    """Nothing is missed, and what is named in vain is a block at either end at most."""
    files, layer, _, records = layer_made
    blocks = files.blocks(layer)
    for _ in range(20):
        page = random.choice(records).page_id + random.choice((0, 0, 0, 1))
        low, high = sorted(random.randint(0, layer.end + 1) for _ in range(2))
        wanted = [
            number
            for number, block in enumerate(blocks)
            if any(each == page and low < lsn <= high for each, lsn, _ in keys(block))
        ]
        named = layer.blocks_of(page, low, high)
        assert set(wanted) <= set(named)
        assert len(named) <= len(wanted) + 2
        if wanted:
            assert layer.bloom.may_hold(page)


@modestly
@given(layers)
def test_a_block_finds_its_rows(
    layer_made: tuple[Files, Layer, Rows, list[RedoRecord]],
) -> None:
    files, layer, _, records = layer_made
    for block in files.blocks(layer):
        rows = keys(block)
        for page in {record.page_id for record in records} | {5}:
            start, stop = block.of_page(page)
            assert rows[start:stop] == [each for each in rows if each[0] == page]
            for lsn in (0, records[0].lsn, records[-1].lsn // 2, MAX_INTEGER):
                assert block.behind(page, lsn) == bisect_right(
                    [each[:2] for each in rows], (page, lsn)
                )


def test_blocks_are_of_the_size_asked_for() -> None:
    files, layer, _, _ = made(1, 3_000, 40, 10_000, 4_000)
    sizes = [block.stored_bytes(0, len(block)) for block in files.blocks(layer)]
    assert all(4_000 <= each < 4_100 for each in sizes[:-1]) and len(sizes) > 40


def test_an_image_begins_its_block_where_images_are_close() -> None:
    """So a read of what follows it, up to the next one, is one block."""
    files, layer, _, _ = made(1, 3_000, 2, 50, 4_000)
    blocks = files.blocks(layer)
    for block in blocks:
        assert list(block.images) in ([], [0])
    assert min(map(len, blocks[:-1])) > 30, "an image of 8 KiB does not fill it"


@modestly
@given(st.sets(st.integers(0, MAX_INTEGER), max_size=300), st.integers(0, 3_000))
def test_a_filter_denies_no_page_that_is_there(pages: set[int], more: int) -> None:
    builder = BloomBuilder(len(pages) + more)
    builder.add(sorted(pages))
    bloom = Bloom(builder.packed())
    assert all(map(bloom.may_hold, pages))
    assert len(bloom.packed) <= max(8, len(pages) * 20 // 8 + 2)


def test_a_filter_denies_most_others() -> None:
    builder = BloomBuilder(200_000)  # many more than come
    builder.add(range(0, 50_000, 5))
    bloom = Bloom(builder.packed())
    wrong = sum(map(bloom.may_hold, range(1, 50_000, 5)))
    assert wrong < 10_000 * 0.02
    assert any(map(bloom.may_hold, range(1, 1_000_000, 5))), "a filter, not a set"


# ---- what is not right is noticed ----------------------------------------------------------------


def test_damage_of_every_byte_is_found() -> None:
    files, layer, _, _ = made(3, 25, 5, 6, 300)
    name, data = layer.name, files.data["layer-7"]
    assert len(layer.first_pages) > 3
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        files.data[name] = bytes(damaged)
        with pytest.raises(DamagedLayer, match="layer-7: "):
            files.blocks(files.opened(7)[0])


def test_a_file_that_is_cut_short_is_damaged() -> None:
    files, layer, _, _ = made(3, 25, 5, 6, 300)
    data = files.data[layer.name]
    for length in range(len(data)):
        files.data[layer.name] = data[:length]
        with pytest.raises(DamagedLayer, match="layer-7: "):
            files.opened(7)


def test_a_block_at_another_place_is_damaged() -> None:
    data = encode_block(encode_rows([RedoRecord(9, 4, 100, b"abc", 8, True, 8, 7, 6)]), 64)
    assert len(read_block(data, 64, 7)) == 1
    with pytest.raises(DamagedLayer, match="layer-7: the block at 65 has the sum"):
        read_block(data, 65, 7)


@modestly
@given(
    st.integers(0, 400),
    st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=4),
    st.booleans(),
)
def test_mutated_blocks_raise_nothing_else(
    seed: int, changes: list[tuple[int, int]], mend: bool
) -> None:
    """Also with a sum that is right, which only a bug would write."""
    random = Random(seed)
    records = chain(random, random.randint(1, 30), 4)
    data = bytearray(encode_block(with_images(records, 4), 64))
    for at, value in changes:
        data[at % len(data)] = value
    damaged = resummed(bytes(data), 64) if mend else bytes(data)
    with suppress(DamagedLayer):
        block = read_block(damaged, 64, 7)
        assert keys(block) == sorted(keys(block))
        page = bytearray(PAGE_SIZE)
        for row in range(len(block)):
            if not block.metas[row] & IMAGE_BIT:
                block.apply(page, row, row + 1)
        assert len(page) == PAGE_SIZE


def resummed(data: bytes, offset: int) -> bytes:
    """A block with the sum that fits the rest of it."""
    return checksum(data[8:], offset).to_bytes(8, "little") + data[8:]


@modestly
@given(st.binary(max_size=600))
def test_any_bytes_are_a_layer_or_damaged(data: bytes) -> None:
    files = Files({"layer-7": data})
    with suppress(DamagedLayer):
        files.opened(7)
    with suppress(DamagedLayer):
        read_block(data, 64, 7)


RECORD = RedoRecord(9, 4, 100, b"abc", 8, True, 8, 7, 6)
NEXT = RedoRecord(12, 4, 0, b"abc", 8, True, 9, 9, 9)


def test_rows_that_follow_each_other_are_taken() -> None:
    image = image_row(4, 9, b"x")
    other = encode_rows([NEXT._replace(page_id=5)])
    for pieces in ([RECORD, NEXT], [NEXT]):
        assert len(sorted_block(encode_rows(pieces))) == len(pieces)
    assert len(sorted_block(join([encode_rows([RECORD]), image, encode_rows([NEXT]), other]))) == 4
    assert len(sorted_block(encode_rows([NEXT]), before=(4, 9))) == 1
    assert len(sorted_block(image, before=(4, 9))) == 1
    assert len(sorted_block(image_row(4, 9, b""))) == 1


@pytest.mark.parametrize(
    "rows",
    [
        encode_rows([NEXT, RECORD]),
        encode_rows([RECORD, RECORD]),
        encode_rows([RECORD, NEXT._replace(prev_page_lsn=8)]),
        encode_rows([RECORD._replace(page_id=5), NEXT]),
        encode_rows([RECORD._replace(prev_page_lsn=9)]),
        encode_rows([RECORD._replace(prev_volume_lsn=9)]),
        encode_rows([RECORD._replace(prev_volume_lsn=5)]),
        encode_rows([RECORD._replace(offset=PAGE_SIZE - 2)]),
        encode_rows([RECORD._replace(payload=b"")]),
        encode_rows([RECORD._replace(mtr_id=0)]),
        encode_rows([RECORD._replace(page_id=MAX_INTEGER + 1)]),
        encode_rows([RECORD._replace(lsn=MAX_INTEGER + 1, mtr_id=MAX_INTEGER)]),
        Rows(encode_rows([RECORD]).rows, b"ab"),
        Rows(encode_rows([RECORD]).rows, b"abcd"),
        image_row(4, 0, b"x"),
        image_row(4, 9, b"x\0"),
        image_row(4, 9, b"x" * (PAGE_SIZE + 1)),
        image_row(MAX_INTEGER + 1, 9, b"x"),
        join([image_row(4, 9, b"x"), image_row(4, 9, b"x")]),
        join([encode_rows([RECORD]), image_row(4, 10, b"x")]),
        join([encode_rows([RECORD]), image_row(3, 9, b"x")]),
    ],
)
def test_rows_that_cannot_be_are_refused(rows: Rows) -> None:
    with pytest.raises(Corrupt, match="expected"):
        sorted_block(rows)
    with pytest.raises(DamagedLayer, match="layer-3: the block at 64"):
        read_block(encode_block(rows, 64), 64, 3)


def test_the_first_record_of_a_page_follows_none_of_its_own_layer() -> None:
    """Else one is missing between them."""
    assert len(sorted_block(encode_rows([RECORD]), start=6)) == 1
    with pytest.raises(Corrupt, match="follows 6"):
        sorted_block(encode_rows([RECORD]), start=5)


def test_a_writer_takes_only_what_is_in_its_layer() -> None:
    def writer(start: int, end: int, base: bool = False) -> LayerWriter:
        return LayerWriter(1, start, end, base=base, block_bytes=100, most_pages=1)

    rows = encode_rows([RECORD])
    assert writer(8, 9).add(rows) == []
    for refusing in (writer(9, 20), writer(6, 8), writer(0, 9, base=True)):
        with pytest.raises(Corrupt, match="expected"):
            refusing.add(rows)
    assert writer(0, 9, base=True).add(image_row(4, 9, b"x")) == []


def test_a_layer_of_nothing_can_be_opened() -> None:
    files = Files()
    writer = LayerWriter(2, 5, 9, base=False, block_bytes=100, most_pages=0)
    last, layer = writer.finish()
    files.data["layer-2"] = writer.begin() + last
    opened, new_pages = files.opened(2)
    assert (opened.count, opened.end, len(new_pages.pages)) == (0, 9, 0)
    assert opened == layer
    assert list(opened.blocks_of(4, 0, 100)) == []


@pytest.mark.parametrize(("start", "end", "base"), [(9, 8, False), (1, 9, True), (0, 2**63, True)])
def test_a_layer_of_impossible_ends_is_damaged(start: int, end: int, base: bool) -> None:
    files = Files()
    writer = LayerWriter(2, start, end, base=base, block_bytes=100, most_pages=0)
    files.data["layer-2"] = writer.begin() + writer.finish()[0]
    with pytest.raises(DamagedLayer, match="layer-2: begins with"):
        files.opened(2)


def test_the_new_pages_of_a_base_are_all_of_its_pages() -> None:
    files = Files()
    writer = LayerWriter(2, 0, 9, base=True, block_bytes=100, most_pages=2)
    write_layer(files, writer, join([image_row(4, 8, b"x"), image_row(6, 9, b"")]))
    layer, new_pages = files.opened(2)
    assert layer.base
    assert [list(each) for each in new_pages] == [[4, 6], [8, 9]]
