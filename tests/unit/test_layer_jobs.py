"""Folding, merging and collecting: random sequences with tiny blocks, beside a list of records."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.layers.block import image_row, join
from segments.layers.fold import _chunks, fold_job
from segments.layers.images import Spacing
from segments.layers.job import PAUSE, Create, Extend, Job, Read, SyncFile
from segments.layers.layer import Layer
from segments.layers.ordered import BlocksSource, LayerSource, Ordered, Source
from segments.protocol.errors import Corrupt, DamagedLayer
from segments.protocol.ids import Lsn
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import Rows, encode_rows
from tests.layer_history import NO_IMAGES, TINY, History, image_keys
from tests.layer_rig import Files, chain


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(0, 150),
    st.integers(1, 8),
    st.sampled_from([TINY, Spacing(1, 1), Spacing(5, 1), Spacing(1, 700), Spacing()]),
    st.sampled_from([1, 150, 600, 16_384]),
    st.sampled_from([1, 5, 40, 1_000]),
    st.sampled_from([0, 5, 60]),
)
def test_random_sequences(
    seed: int,
    count: int,
    pages: int,
    spacing: Spacing,
    block_bytes: int,
    step_rows: int,
    drift: int,
) -> None:
    random = Random(seed)
    history = History(chain(random, count, pages, drift=drift), spacing, block_bytes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segments.layers.ordered._STEP_ROWS", step_rows)
        patch.setattr("segments.layers.ordered._READ_BYTES", step_rows * 50)
        patch.setattr("segments.layers.fold._CHUNK_ROWS", step_rows)
        take_random_actions(random, history)
    history.check()


def take_random_actions(random: Random, history: History) -> None:
    """Folds of all there is, with merges and collections in between and behind."""
    last = history.records[-1].lsn if history.records else 5
    while history.folded < last or random.random() < 0.7:
        if history.layers and random.random() < 0.2:
            lowest = history.layers[0].end if history.layers[0].base else 1
            history.take_base(random.randint(lowest, history.folded))
        layers = len(history.layers)
        action = random.random()
        if history.folded < last and (action < 0.6 or not layers):
            history.fold(random.randint(history.folded + 1, last), random.randint(1, 9))
        elif action < 0.85 and layers:
            deltas = 1 if history.layers[0].base else 0
            if deltas < layers:
                first = random.randrange(deltas, layers)
                history.merge(first, random.randint(first + 1, layers))
        elif layers:
            history.collect(random.randint(1, layers))


def test_histories_go_over_the_bounds_of_steps_reads_and_chunks() -> None:
    records = chain(Random(4), 9_000, 5)
    history = History(records, Spacing(50, 3_000), 2_000)
    history.fold(records[5_000].lsn, 1)
    history.fold(records[5_100].lsn, 200)
    history.fold(records[-1].lsn, 2)
    history.merge(0, 3)
    history.check()
    history.collect(1)
    history.check()


def test_large_payloads_go_over_the_bounds_of_bytes() -> None:
    records = chain(Random(5), 700, 9, payload=PAGE_SIZE)
    history = History(records, Spacing(20, 30_000), 16_384)
    for at in (200, 450, 699):
        history.fold(records[at].lsn)
    history.merge(1, 3)
    history.merge(0, 2)
    history.check()
    history.collect(1)
    history.check()


def test_a_layer_depends_on_its_records_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on how they came, nor on what a step takes: so layers of two segments can be equal."""
    records = chain(Random(9), 400, 6)

    def files(pieces: int) -> dict[str, bytes]:
        history = History(records)
        for at in (100, 200, 399):
            history.fold(records[at].lsn, pieces)
        old = list(history.layers)
        history.merge(0, 3)
        history.layers = old
        history.collect(2)
        return history.files.data

    once = files(1)
    for rows, size in ((1, 10**6), (7, 10**6), (10**6, 1), (10**6, 500)):
        monkeypatch.setattr("segments.layers.ordered._STEP_ROWS", rows)
        monkeypatch.setattr("segments.layers.ordered._STEP_BYTES", size)
        monkeypatch.setattr("segments.layers.ordered._READ_BYTES", size)
        monkeypatch.setattr("segments.layers.fold._CHUNK_ROWS", min(rows * 5, 10**6))
        assert files(13) == once


def test_a_page_is_asked_for_only_where_its_version_is_not_known() -> None:
    records = chain(Random(1), 60, 1, payload=9)
    history = History(records, Spacing(10, 1))
    history.fold(records[29].lsn)
    assert history.asked == [], "its first record is here"
    history.fold(records[59].lsn)
    assert history.asked == [0], "once for three images"
    history.merge(0, 2)
    assert history.asked == [0]
    history.check()


def test_images_that_stand_are_kept_and_close_ones_left_out() -> None:
    records = chain(Random(1), 25, 1, payload=9)
    history = History(records, Spacing(10, 1))
    history.fold(records[12].lsn)  # an image behind the tenth, three records behind it
    history.fold(records[24].lsn)  # behind the tenth again: the 23rd
    merged = history.merge(0, 2)
    rows = {lsn for _, lsn in image_keys(history.files.blocks(merged))}
    assert rows == {records[9].lsn, records[19].lsn}
    history.check()


@pytest.mark.parametrize("spacing", [Spacing(10, 1), Spacing(1, 10 * 41 - 40)])
def test_an_image_half_as_far_as_it_might_be_is_kept(spacing: Spacing) -> None:
    records = [each._replace(is_cpl=False) for each in chain(Random(1), 17, 1, payload=1)]
    history = History(records, spacing)  # 41 bytes each
    history.fold(records[5].lsn)
    history.fold(records[16].lsn)  # an image behind its tenth, the sixteenth of all
    merged = history.merge(0, 2)
    rows = {lsn for _, lsn in image_keys(history.files.blocks(merged))}
    assert rows == {records[9].lsn, records[15].lsn}
    history.check()


def test_an_image_that_stands_where_one_is_due_is_not_made_again() -> None:
    records = chain(Random(1), 40, 1, payload=9)
    history = History(records, Spacing(10, 1))
    history.fold(records[9].lsn)
    history.fold(records[39].lsn)
    history.asked.clear()
    history.merge(1, 2)
    assert history.asked == []
    history.check()


def test_a_layer_without_images_has_its_records_only() -> None:
    records = chain(Random(2), 300, 4)
    history = History(records, NO_IMAGES)
    assert history.fold(records[-1].lsn).count == 300


def test_the_file_is_created_extended_and_synced_and_not_published() -> None:
    records = chain(Random(2), 300, 4)
    history = History(records, NO_IMAGES)
    history.fold(records[-1].lsn)
    kinds = [type(op) for op in history.files.ops]
    assert (kinds[0], set(kinds[1:-1]), kinds[-1]) == (Create, {Extend}, SyncFile)


def test_each_block_is_read_once() -> None:
    records = chain(Random(2), 900, 30)
    history = History(records)
    for at in (300, 600, 899):
        history.fold(records[at].lsn)
    old = list(history.layers)
    history.files.ops.clear()
    history.merge(0, 3)
    history.check()
    reads = [op for op in history.files.ops if isinstance(op, Read) and op.name != "layer-4"]
    read = {layer.name: sum(op.length for op in reads if op.name == layer.name) for layer in old}
    asked = sum(op.length == 1 for op in reads)  # by page_before
    blocks = sum(len(layer.first_pages) for layer in old)
    assert len(reads) - asked < blocks / 4, "several are read at once"
    read["layer-1"] -= asked
    assert read == {layer.name: layer.offsets[-1] - layer.offsets[0] for layer in old}


def test_steps_are_long_enough_and_bounded() -> None:
    """In rows, and in bytes where rows are large; whatever the blocks."""
    for size, most_rows, most_steps in ((40, 1_024, 8), (PAGE_SIZE, 256, 60)):
        records = chain(Random(3), 2_400, 50, payload=size)
        history = History(records, NO_IMAGES)
        for at in (800, 1_600, 2_399):
            history.fold(records[at].lsn)
        source = Ordered([LayerSource(layer) for layer in history.layers], 0)
        sizes = history.files.run(sizes_of(source))
        assert sum(sizes) == 2_400
        assert max(sizes) <= most_rows
        assert len(sizes) <= most_steps


def test_what_a_fold_sorts_at_once_is_bounded_in_rows_and_bytes() -> None:
    record = RedoRecord(9, 4, 0, bytes(PAGE_SIZE), 8, False, 8, 7, 6)
    small, large = encode_rows([record._replace(payload=b"x")]), encode_rows([record])
    long = join([small] * 9_000)
    assert [len(rows) // 40 for rows, _ in _chunks([long])] == [4_096, 4_096, 808]
    assert [len(rows) // 40 for rows, _ in _chunks([small] * 9_000)] == [4_096, 4_096, 808]
    assert [len(payloads) >> 10 for _, payloads in _chunks([large] * 200)] == [1_024, 576]
    for pieces in ([long], [small] * 9_000, [large, long, small]):
        assert join(list(_chunks(pieces))) == join(pieces)


def test_what_is_written_at_once_is_bounded() -> None:
    history = History(chain(Random(3), 800, 50, payload=PAGE_SIZE), NO_IMAGES)
    history.fold(history.records[-1].lsn)
    sizes = [len(op.data) for op in history.files.ops if isinstance(op, Extend)]
    assert max(sizes) < 768 << 10 and min(sizes[:-1]) >= 256 << 10


def sizes_of(source: Source) -> Job[list[int]]:
    """How many rows each block of ``source`` has."""
    sizes = []
    while (block := (yield from source.next_block())) is not None:
        sizes.append(len(block))
    return sizes


def test_a_job_that_is_closed_leaves_a_file_that_is_not_synced() -> None:
    records = chain(Random(2), 9_000, 30)
    files = Files()
    job = fold_job(
        1, 0, records[-1].lsn, [encode_rows(records)],
        block_bytes=1_000, spacing=NO_IMAGES, page_before=History(records).before(0),
    )  # fmt: skip
    while (op := next(job)) is PAUSE or not isinstance(op, Extend):
        if op is not PAUSE:
            files.execute(op)
    job.close()
    assert list(files.data) == ["layer-1"] and not files.synced


# ---- what is wrong is not written ----------------------------------------------------------------


def fold_of(records: list[RedoRecord], start: Lsn, end: Lsn, rows: list[Rows]) -> Job[Layer]:
    return fold_job(
        1, start, end, rows,
        block_bytes=300, spacing=TINY, page_before=History(records).before(start),
    )  # fmt: skip


def test_a_record_missing_in_its_chain_is_not_folded_over() -> None:
    records = chain(Random(6), 60, 3)
    heads = {record.page_id: record.lsn for record in records}
    for missing in records[20:]:
        rows = [encode_rows([each]) for each in records[20:] if each is not missing]
        job = fold_of(records, records[19].lsn, records[-1].lsn, rows)
        if heads[missing.page_id] == missing.lsn:
            assert Files().run(job).count >= 39  # nobody names it here
        else:
            with pytest.raises(Corrupt, match=f"page {missing.page_id}: "):
                Files().run(job)


def test_rows_that_no_record_can_have_are_not_folded() -> None:
    records = chain(Random(6), 60, 3)
    rows = encode_rows(records)
    for broken in (
        Rows(rows.rows, rows.payloads[:-1]),
        Rows(rows.rows, rows.payloads + b"x"),
        join([rows, image_row(99_999, records[-1].lsn, b"x")]),
        encode_rows([records[0]._replace(prev_volume_lsn=records[0].lsn)]),
        join(
            [encode_rows(records[:1]), image_row(records[0].page_id, records[0].lsn, b"x" * 9_000)]
        ),
    ):
        with pytest.raises(Corrupt, match="expected"):
            Files().run(fold_of(records, 0, records[-1].lsn, [broken]))


def test_a_damaged_block_ends_the_merge_and_says_which_layer() -> None:
    records = chain(Random(6), 200, 3)
    history = History(records)
    for at in (100, 199):
        history.fold(records[at].lsn)
    layer = history.layers[1]
    data = bytearray(history.files.data[layer.name])
    data[layer.offsets[2] + 30] ^= 1
    history.files.data[layer.name] = bytes(data)
    with pytest.raises(DamagedLayer, match=f"layer-2: the block at {layer.offsets[2]}") as caught:
        history.merge(0, 2)
    assert caught.value.layer == 2
    with pytest.raises(DamagedLayer, match="layer-2: "):
        history.collect(2)


def test_rows_that_are_lost_between_sources_are_missed() -> None:
    """A merge that loses some at a boundary would be a bug of ours, and writes nothing."""
    records = chain(Random(6), 200, 3)
    history = History(records, NO_IMAGES)
    for at in (100, 199):
        history.fold(records[at].lsn)
    sources = [history.files.blocks(layer) for layer in history.layers]
    for number, blocks in enumerate(sources):
        for lost in range(len(blocks) - 1):
            kept = [*blocks[:lost], *blocks[lost + 1 :]]
            given_now = [kept if at == number else each for at, each in enumerate(sources)]
            ordered = Ordered([BlocksSource(each) for each in given_now], 0)
            with pytest.raises(Corrupt, match="expected it to follow that"):
                history.files.run(sizes_of(ordered))
    whole = Ordered([BlocksSource(each) for each in sources], 0)
    assert sum(history.files.run(sizes_of(whole))) == 200
