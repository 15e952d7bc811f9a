"""A layer for a peer, in parts: put together they are its rows, wherever these lie."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segments.layers.block import (
    encode_block,
    image_row,
    join,
    sorted_block,
    unchecked_block,
)
from segments.layers.images import Spacing
from segments.layers.job import PAUSE, Read
from segments.layers.layer import Layer
from segments.layers.layer_map import LayerMap
from segments.layers.layer_writer import LayerWriter
from segments.layers.stream import NO_ROWS, Gathered, part_job
from segments.protocol.errors import Corrupt, DamagedLayer
from segments.protocol.ids import NO_EPOCH, Lsn, PageId
from segments.protocol.messages import GossipLayer
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import Rows, encode_rows
from segments.protocol.truncation import TruncationTable
from segments.transfer import Transfer, Wanted
from tests.layer_history import TINY, History
from tests.layer_rig import by_page, chain, replayed


def drawn(
    random: Random, count: int = 120, *, payload: int = 40
) -> tuple[History, list[RedoRecord]]:
    """Layers with images, perhaps a base that ends amid one, and records that are not folded."""
    drift = random.choice([0, 20])
    records = chain(random, count, random.randint(1, 6), payload=payload, drift=drift)
    history = History(records, random.choice([TINY, Spacing(1, 1), Spacing()]), 300)
    ends = sorted(random.sample(range(count), random.randint(1, 5)))
    for at in ends:
        history.fold(records[at].lsn)
        if random.random() < 0.3:
            lowest = history.layers[0].end if history.layers[0].base else 1
            history.take_base(random.randint(lowest, history.folded))
    return history, [each for each in records if each.lsn > history.folded]


def rows_of(history: History, opened: list[RedoRecord], start: Lsn, end: Lsn) -> list[Rows]:
    """The oracle: every row of the range, of layers and above them, each with its image."""
    rows: dict[tuple[PageId, Lsn], list[Rows]] = {}
    for record in by_page([*history.within(start, end)]):
        rows[record.page_id, record.lsn] = [encode_rows([record])]
    for layer in history.layers:
        for block in history.files.blocks(layer):
            for row in block.images:
                key = block.pages[row], block.lsns[row]
                if max(start, layer.start) < key[1] <= end and not layer.base:
                    rows[key].append(block.cut(row, row + 1))
    assert {each.lsn for each in opened} <= {lsn for _, lsn in rows} | {
        each.lsn for each in opened if not start < each.lsn <= end
    }
    return [join(each) for _, each in sorted(rows.items())]


def newest_of(history: History, end: Lsn) -> list[Rows]:
    """The oracle of a base: an image of each page."""
    heads = {each.page_id: each.lsn for each in history.within(0, end)}
    return [
        image_row(page, lsn, replayed(history.records, page, lsn))
        for page, lsn in sorted(heads.items())
    ]


def size_of(rows: Rows) -> int:
    return len(rows.rows) + len(rows.payloads)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 100_000), st.booleans(), st.sampled_from([1, 100, 700, 5_000, 1 << 30]))
def test_parts_put_together_are_the_rows_of_the_range(seed: int, base: bool, limit: int) -> None:
    random = Random(seed)
    history, opened = drawn(random)
    last = history.records[-1].lsn
    oldest = history.layers[0].end if history.layers[0].base else 0
    if base:
        start, end = 0, random.randint(max(1, oldest), last)
        units = newest_of(history, end)
    else:
        start = random.randint(oldest, last - 1)
        end = random.randint(start + 1, last)
        units = rows_of(history, opened, start, end)
    within = [each for each in opened if start < each.lsn <= end]
    parts, first = list[Rows](), (0, 0)
    while True:
        rows, following = history.part(
            start, end, base=base, first=first, limit=limit, opened=within
        )
        if rows.rows:
            parts.append(rows)
            assert size_of(rows) <= max(limit, *map(size_of, units))
        if following is None:
            break
        assert rows.rows and following > first, "each part goes further"
        first = following
    assert (join(parts) if parts else NO_ROWS) == (join(units) if units else NO_ROWS)
    if parts and size_of(join(parts)) > 2 * limit:
        fullest = [size_of(a) + size_of(b) for a, b in pairwise(parts)]
        assert all(each > limit for each in fullest), "two parts that one would have held"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.booleans())
def test_a_part_from_any_row_on_is_the_rest(seed: int, base: bool) -> None:
    """What follows does not depend on what came before, so a part that was lost comes again."""
    random = Random(seed)
    history, _ = drawn(random)
    oldest = history.layers[0].end if history.layers[0].base else 0
    start, end = (0, history.folded) if base else (oldest, history.folded)
    if start == end:
        return
    whole = history.part(start, end, base=base).rows
    if not whole.rows:
        return
    block = sorted_block(whole, start=start)
    keys = list(zip(block.pages, block.lsns, strict=True))
    at = keys.index(random.choice(keys))
    rest = history.part(start, end, base=base, first=keys[at]).rows
    assert rest == block.cut(at, len(block))
    page, lsn = keys[-1]
    assert history.part(start, end, base=base, first=(page, lsn + 1)) == (NO_ROWS, None)


# ---- what the receiver makes of it ---------------------------------------------------------------


def received(history: History, what: Wanted, limit: int, opened: list[RedoRecord]) -> Layer:
    """The layer that comes of a transfer, part by part."""
    transfer = Transfer.begin("B0", what, 1.0, 0.0)
    writer: LayerWriter | None = None
    data = b""
    while not transfer.complete:
        first = transfer.next_page, transfer.next_lsn
        rows, following = history.part(
            what.start, what.end, base=what.base, first=first, limit=limit, opened=opened
        )
        message = GossipLayer(
            NO_EPOCH, "B0", TruncationTable(), what.end, *what, *first, *(following or (0, 0)),
            len(history.records), encode_block(rows, 0) if rows.rows else b"",
        )  # fmt: skip
        assert transfer.is_next("B0", message) and transfer.take(message, 0.0)
        if writer is None:
            writer = LayerWriter(
                77, what.start, what.end,
                base=what.base, block_bytes=250, most_pages=transfer.pages,
            )  # fmt: skip
            data = writer.begin()
        assert transfer.part is not None
        if transfer.part.rows:
            data += b"".join(writer.add(transfer.part))
        transfer.take_out()
    assert writer is not None
    last, layer = writer.finish()
    history.files.data[layer.name] = data + last
    return layer


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([1, 150, 2_000]))
def test_a_layer_that_was_received_reads_the_same(seed: int, limit: int) -> None:
    random = Random(seed)
    history, opened = drawn(random)
    oldest = history.layers[0].end if history.layers[0].base else 0
    last = history.records[-1].lsn
    if random.random() < 0.4:
        what = Wanted(0, random.randint(max(1, oldest), last), base=True)
        expected = newest_of(history, what.end)
    else:
        start = random.randint(oldest, last - 1)
        what = Wanted(start, random.randint(start + 1, last), base=False)
        expected = rows_of(history, opened, what.start, what.end)
    within = [each for each in opened if what.start < each.lsn <= what.end]
    layer = received(history, what, limit, within)
    found, new_pages = history.files.opened(layer.number)
    assert (found.start, found.end, found.base) == what and found.length == layer.length
    rows = [block.cut(0, len(block)) for block in history.files.blocks(found)]
    assert (join(rows) if rows else NO_ROWS) == (join(expected) if expected else NO_ROWS)
    firsts: dict[PageId, Lsn] = {}
    for record in history.records:
        firsts.setdefault(record.page_id, record.lsn)
    if not what.base:
        expected_new = {p: lsn for p, lsn in firsts.items() if what.start < lsn <= what.end}
        assert dict(zip(*new_pages, strict=True)) == expected_new


# ---- what is wrong -------------------------------------------------------------------------------


def test_damage_in_a_layer_ends_the_part_and_says_which() -> None:
    history, _ = drawn(Random(3))
    for layer in history.layers:
        block = history.files.blocks(layer)[0]
        sound = history.files.data[layer.name]
        spoilt = bytearray(sound)
        spoilt[layer.offsets[0] + 25] ^= 1
        history.files.data[layer.name] = bytes(spoilt)
        with pytest.raises(DamagedLayer, match=layer.name):
            history.part(history.layers[0].start, history.folded, first=(block.pages[0], 0))
        history.files.data[layer.name] = sound


def test_a_record_that_is_missing_is_not_sent_over() -> None:
    records = chain(Random(4), 60, 2)
    history = History(records)
    history.fold(records[20].lsn)
    opened = records[21:]
    last = {each.page_id: each.lsn for each in opened}
    for lost in opened:
        kept = [each for each in opened if each is not lost]
        if last[lost.page_id] != lost.lsn:
            with pytest.raises(Corrupt, match=f"page {lost.page_id}"):
                history.part(0, records[-1].lsn, opened=kept)


def test_a_small_part_does_not_read_all_there_is() -> None:
    """Nor what lies before its first page: else a transfer would take the square of its length."""
    records = chain(Random(5), 4_000, 40, payload=PAGE_SIZE // 8)
    history = History(records, Spacing(), 4_000)
    for at in (1_500, 3_000, 3_999):
        history.fold(records[at].lsn)
    pages = sorted({each.page_id for each in records})
    total = sum(layer.length for layer in history.layers)
    for page in (pages[0], pages[20], pages[-1]):
        history.files.ops.clear()
        history.part(0, history.folded, first=(page, 0), limit=5_000)
        read = sum(op.length for op in history.files.ops if isinstance(op, Read))
        assert read < total // 4


def test_a_small_layer_is_read_at_once_however_many_there_are() -> None:
    """A read takes its time, however little it brings."""
    records = chain(Random(5), 400, 1, payload=40)
    history = History(records, Spacing(), 400)
    for at in range(19, 400, 20):
        history.fold(records[at].lsn)
    assert all(len(layer.first_pages) > 2 for layer in history.layers)
    history.files.ops.clear()
    history.part(0, history.folded, limit=1_000)
    assert sum(isinstance(op, Read) for op in history.files.ops) == len(history.layers)


@given(st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_layers_of_ranges_of_pages_with_raised_starts(seed: int) -> None:
    """A source that seemed to be near may turn out to go on far behind what others have."""
    random = Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        if random.random() < 0.5:
            patch.setattr("segments.layers.ordered._STEP_ROWS", random.choice([1, 3, 8, 20]))
            patch.setattr("segments.layers.ordered._STEP_BYTES", random.choice([50, 400, 4_000]))
            patch.setattr("segments.layers.ordered._READ_BYTES", random.choice([1, 300, 4_000]))
        layers = [pages_of_a_layer(random) for _ in range(random.randint(2, 6))]
        history = history_of(layers, random)
        for _ in range(6):
            check_a_range(history, random)
        deltas = [at for at, layer in enumerate(history.layers) if not layer.base]
        if len(deltas) > 1:
            first = random.randrange(len(deltas) - 1)
            history.merge(deltas[first], deltas[random.randint(first + 2, len(deltas)) - 1] + 1)
        history.collect(random.randint(1, len(history.layers)))
        history.check()


def pages_of_a_layer(random: Random) -> list[PageId]:
    starts = [random.randrange(200) for _ in range(random.randint(1, 3))]
    return [page for start in starts for page in range(start, start + random.randint(1, 15))]


def history_of(layers: list[list[PageId]], random: Random) -> History:
    """A layer for each list of pages, with one record of each; starts may have been raised."""
    made: list[RedoRecord] = []
    heads: dict[PageId, Lsn] = {}
    for lsn, page in enumerate([page for pages in layers for page in pages], 1):
        last = lsn - 1
        made.append(RedoRecord(lsn, page, 0, b"x" * 20, lsn, True, last, last, heads.get(page, 0)))
        heads[page] = lsn
    history = History(made, Spacing(3, 100), random.choice([60, 150, 400]))
    for pages in layers:
        history.fold(history.folded + len(pages))
        if random.random() < 0.3:
            lowest = history.layers[0].end if history.layers[0].base else 1
            history.take_base(random.randint(lowest, history.folded))
    return history


def check_a_range(history: History, random: Random) -> None:
    """Its parts, from some page on, have all of its records."""
    last = history.folded
    lowest = history.layers[0].end if history.layers[0].base else 0
    start = random.randint(min(lowest, last - 1), last - 1)
    end = random.randint(start + 1, last)
    if start < lowest:
        return
    first = (random.choice([0, random.randrange(200)]), 0)
    keys = sorted((each.page_id, each.lsn) for each in history.within(start, end))
    limit, found = random.choice([100, 600, 3_000, 1 << 30]), []
    following: tuple[PageId, Lsn] | None = first
    while following is not None:
        rows, following = history.part(start, end, first=following, limit=limit)
        block = unchecked_block(rows)
        images = set(block.images)
        rows_of_block = enumerate(zip(block.pages, block.lsns, strict=True))
        found += [key for row, key in rows_of_block if row not in images]
    assert found == [key for key in keys if key >= first]


@pytest.mark.parametrize("job", ["a part", "a merge"])
def test_a_layer_is_not_read_before_its_first_page_comes(job: str) -> None:
    """In an import each layer has pages of its own, and any number of them may be merged."""
    records = chain(Random(5), 2_000, 1, payload=PAGE_SIZE // 8, drift=1_000)
    history = History(records, Spacing(), 4_000)
    for at in range(199, 2_000, 200):
        history.fold(records[at].lsn)
    history.files.ops.clear()
    if job == "a part":
        page = records[900].page_id
        history.part(0, history.folded, first=(page, 0), limit=5_000)
        read = {op.name for op in history.files.ops if isinstance(op, Read)}
        assert "layer-5" in read and not read & {f"layer-{each}" for each in range(6, 11)}
        return
    history.merge(0, 10)
    reads = [op for op in history.files.ops if isinstance(op, Read) and op.name != "layer-11"]
    names = [op.name for op in reads if op.length > 1]
    assert sorted(names, key=lambda name: int(name.split("-")[1])) == names


def test_a_part_is_made_in_steps() -> None:
    records = chain(Random(5), 6_000, 9)
    history = History(records, Spacing(), 4_000)
    for at in (2_500, 5_999):
        history.fold(records[at].lsn)
    job = part_job(
        LayerMap(tuple(history.layers)).layers, [], 0, history.folded,
        base=False, first=(0, 0), limit_bytes=1 << 30,
    )  # fmt: skip
    pauses, answer = 0, None
    while True:
        try:
            op = job.send(answer)
        except StopIteration:
            break
        pauses += op is PAUSE
        answer = None if op is PAUSE else history.files.execute(op)
    assert pauses >= 6_000 // 1_024


def test_a_record_leaves_with_its_image_though_a_block_ends_between_the_two() -> None:
    """Else it would be sent twice: a part begins with a record, never with an image alone."""
    records = chain(Random(3), 3, 1, payload=40)
    image = image_row(records[1].page_id, records[1].lsn, b"x" * 100)
    first = sorted_block(encode_rows(records[:2]))
    second = unchecked_block(join([image, encode_rows(records[2:])]))
    out = Gathered(size_of(first.cut(0, 2)))
    assert out.add(first, 0, 2)
    assert not out.add(second, 0, 1)
    assert out.rows == first.cut(0, 1), "the next part begins with the record, then its image"
    alone = Gathered(1)
    assert alone.add(first, 1, 2) and alone.add(second, 0, 1), "the least that can be sent"
    assert not alone.add(second, 1, 2)
    assert alone.rows == join([first.cut(1, 2), image])
