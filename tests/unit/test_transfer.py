"""A layer from a peer: what is asked of whom, who can give it, and parts lost or strange."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.layers.block import encode_block, image_row
from segments.layers.layer import unreadable
from segments.layers.layer_map import LayerMap
from segments.protocol.ids import NO_EPOCH, Lsn, PageId
from segments.protocol.messages import FetchLayer, GossipLayer, GossipStatus
from segments.protocol.run import Rows, encode_rows
from segments.protocol.truncation import TruncationTable
from segments.transfer import Transfer, Wanted, can_give, wanted
from tests.layer_rig import chain


def layers(*ends: Lsn, base: bool = False, damaged: tuple[Lsn, ...] = ()) -> LayerMap:
    """Layers that end at ``ends``, the first a base or not; those that end so are damaged."""
    made = [
        unreadable(number, start, end, base and number == 1, 999)
        for number, (start, end) in enumerate(pairwise([0, *ends]), 1)
    ]
    return LayerMap(tuple(made), frozenset(each.number for each in made if each.end in damaged))


def status(base_lsn: Lsn, folded: Lsn, scl: Lsn) -> GossipStatus:
    return GossipStatus(NO_EPOCH, "B0", TruncationTable(), scl, scl, 0, base_lsn, folded, False)


# ---- what is wanted ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "scl", "peer", "what"),
    [
        (layers(), 0, status(0, 0, 50), None),  # records are gossiped
        (layers(), 50, status(0, 50, 90), None),
        (layers(), 49, status(0, 50, 90), Wanted(0, 50, base=False)),
        (layers(20), 49, status(0, 50, 90), Wanted(20, 50, base=False)),
        (layers(20), 49, status(20, 50, 90), Wanted(20, 50, base=False)),
        (layers(20), 49, status(21, 50, 90), Wanted(0, 21, base=True)),
        (layers(20, base=True), 20, status(50, 50, 90), Wanted(0, 50, base=True)),
        (layers(20, base=True), 20, status(10, 50, 90), Wanted(20, 50, base=False)),
        (layers(20, 30, damaged=(30,)), 49, status(0, 49, 90), Wanted(20, 30, base=False)),
        (layers(20, 30, damaged=(30,)), 49, status(20, 49, 90), Wanted(20, 30, base=False)),
        (layers(20, 30, damaged=(30,)), 49, status(21, 49, 90), Wanted(0, 21, base=True)),
        (layers(20, 30, damaged=(30,)), 49, status(40, 49, 90), Wanted(0, 40, base=True)),
        (layers(20, 30, damaged=(20, 30)), 49, status(0, 49, 90), Wanted(0, 20, base=False)),
        (layers(20, 30, base=True, damaged=(20,)), 49, status(0, 0, 90), Wanted(0, 20, base=True)),
        (
            layers(20, 30, base=True, damaged=(20,)),
            49,
            status(25, 30, 90),
            Wanted(0, 25, base=True),
        ),
        (layers(20, 30, damaged=(30,)), 49, status(0, 0, 30), Wanted(20, 30, base=False)),
        (layers(20, 30, damaged=(30,)), 49, status(0, 0, 29), None),  # it has not got that far
        (layers(20, 30, damaged=(20, 30)), 49, status(0, 0, 29), Wanted(0, 20, base=False)),
        (layers(20, 30, damaged=(30,)), 30, status(0, 60, 90), Wanted(30, 60, base=False)),
    ],
)
def test_what_is_wanted_of_a_peer(
    held: LayerMap, scl: Lsn, peer: GossipStatus, what: Wanted | None
) -> None:
    """What is missing first, then what is damaged; a base where the peer has nothing else left."""
    assert wanted(held, scl, peer) == what


def request(what: Wanted) -> FetchLayer:
    return FetchLayer(NO_EPOCH, "A0", *what, 0, 0)


@pytest.mark.parametrize(
    ("what", "given"),
    [
        (Wanted(20, 50, base=False), True),
        (Wanted(25, 90, base=False), True),  # of the open log, too
        (Wanted(25, 91, base=False), False),
        (Wanted(19, 50, base=False), False),  # collected
        (Wanted(0, 50, base=False), False),
        (Wanted(0, 20, base=True), True),
        (Wanted(0, 60, base=True), True),
        (Wanted(0, 19, base=True), False),
        (Wanted(0, 91, base=True), False),
        (Wanted(1, 50, base=True), False),
        (Wanted(50, 50, base=False), False),
        (Wanted(50, 40, base=False), False),
        (Wanted(0, 0, base=True), False),
    ],
)
def test_what_a_segment_can_give(what: Wanted, given: bool) -> None:
    assert can_give(layers(20, 50, base=True), 90, request(what)) == given


def test_nothing_is_given_of_a_layer_that_is_known_to_be_damaged() -> None:
    held = layers(20, 50, 70, damaged=(50,))
    for start, end, given_ in [(0, 20, True), (0, 21, False), (49, 60, False), (50, 90, True)]:
        assert can_give(held, 90, request(Wanted(start, end, base=False))) == given_
    assert not can_give(held, 90, request(Wanted(0, 60, base=True)))


@given(st.integers(0, 100_000))
def test_who_is_asked_can_give_and_what_comes_fits(seed: int) -> None:
    """For any two segments of one chain; and when nothing is wanted any more, all is here."""
    random = Random(seed)
    ours, theirs = drawn_layers(random), drawn_layers(random)
    scl = ours.folded + random.choice([0, 0, 5, 30])
    their_scl = theirs.folded + random.choice([0, 0, 5, 30])
    peer = status(theirs.base_lsn, theirs.folded, their_scl)
    asked = set()
    while (what := wanted(ours, scl, peer)) is not None:
        assert what not in asked, "each brings it further"
        asked.add(what)
        asked_of = theirs.between(what.start, what.end)
        sound = not any(each.number in theirs.damaged for each in asked_of)
        assert can_give(theirs, their_scl, request(what)) == sound
        layer = unreadable(1_000 + len(asked), what.start, what.end, what.base, 9)
        ours = ours.with_layer(layer)  # raises `Invalid` if it does not fit
        assert ours.folded <= max(scl, theirs.folded)
        scl = max(scl, ours.folded)
    assert scl >= theirs.folded
    assert all(layer.end > their_scl for layer in ours.damaged_layers())


def drawn_layers(random: Random) -> LayerMap:
    ends = sorted(random.sample(range(1, 60), random.randint(0, 5)))
    made = layers(*ends, base=random.random() < 0.5)
    return LayerMap(made.layers, frozenset(each for each in made.numbers if random.random() < 0.3))


# ---- parts ---------------------------------------------------------------------------------------

RECORDS = chain(Random(1), 12, 1, first=101)
WHAT = Wanted(100, RECORDS[-1].lsn, base=False)


def part(start: int, stop: int, *, source: str = "B0", what: Wanted = WHAT) -> GossipLayer:
    """The rows of ``RECORDS[start:stop]``; the following part begins there, or there is none."""
    run = RECORDS[start:stop]
    first: tuple[PageId, Lsn] = (0, RECORDS[start].lsn) if start else (0, 0)
    following = (0, RECORDS[stop].lsn) if stop < len(RECORDS) else (0, 0)
    return GossipLayer(
        NO_EPOCH, source, TruncationTable(), 999, *what, *first, *following, 1,
        encode_block(encode_rows(run), 0),
    )  # fmt: skip


def begun(what: Wanted = WHAT) -> Transfer:
    return Transfer.begin("B0", what, 16.0, 100.0)


def given_to(transfer: Transfer, message: GossipLayer, now: float = 101.0) -> bool:
    return transfer.is_next(message.segment, message) and transfer.take(message, now)


def test_parts_come_one_after_the_other_each_when_the_one_before_is_written() -> None:
    transfer = begun()
    assert given_to(transfer, part(0, 5)._replace(pages=1234))
    assert transfer.part == encode_rows(RECORDS[:5]) and not transfer.complete
    assert transfer.pages == 1234
    assert not given_to(transfer, part(5, 9)), "the one before is not written yet"
    transfer.take_out()
    assert not given_to(transfer, part(0, 5)), "once more"
    assert not given_to(transfer, part(6, 9)), "not the next"
    assert given_to(transfer, part(5, 9))
    transfer.take_out()
    assert given_to(transfer, part(9, 12)) and transfer.complete
    transfer.take_out()
    assert not given_to(transfer, part(9, 12)) and not transfer.asks(1e9)


def test_parts_of_another_layer_or_of_another_peer_are_not_taken() -> None:
    for what in (WHAT._replace(start=99), WHAT._replace(end=WHAT.end + 1), Wanted(0, 9, base=True)):
        assert not given_to(begun(), part(0, 5, what=what))
    assert not given_to(begun(), part(0, 5, source="C0"))
    transfer = begun()
    transfer.given_up = True
    assert not given_to(transfer, part(0, 5))


@pytest.mark.parametrize(
    "rows",
    [
        b"rubbish",
        encode_block(encode_rows(RECORDS[5:9]), 0)[:-1],
        encode_block(encode_rows(RECORDS[5:9]), 1),  # a block of another place
        encode_block(encode_rows(RECORDS[4:9]), 0),  # rows that came before
        encode_block(encode_rows([RECORDS[6], RECORDS[5]]), 0),
        encode_block(encode_rows([RECORDS[5], RECORDS[7]]), 0),  # a record is missing
        encode_block(image_row(7, WHAT.end + 1, b"x"), 0),
        encode_block(image_row(7, WHAT.start, b"x"), 0),
    ],
)
def test_a_part_that_cannot_be_one_changes_nothing(rows: bytes) -> None:
    transfer = begun()
    given_to(transfer, part(0, 5))
    transfer.take_out()
    before = attrs.asdict(transfer, recurse=False)
    assert not given_to(transfer, part(5, 9)._replace(rows=rows), now=110.0)
    assert attrs.asdict(transfer, recurse=False) == before


def test_a_layer_without_rows_is_one_empty_part() -> None:
    transfer = begun()
    assert given_to(transfer, part(0, 12)._replace(rows=b""))
    assert transfer.complete and transfer.part == Rows(b"", b"")


def test_a_part_that_does_not_come_is_asked_for_again_and_again() -> None:
    transfer = begun()
    assert not transfer.asks(150.0), "its job has not begun"
    transfer.asked = True
    asked = [now for now in range(100, 120) if transfer.asks(float(now))]
    assert asked == [*range(101, 120)], "sixteen times in the time that it has, and no oftener"
    assert given_to(transfer, part(0, 5), now=120.0)
    assert transfer.deadline == 136.0
    assert not transfer.asks(150.0), "it has come, and is being written"
    transfer.take_out()
    assert transfer.asks(150.0)
    transfer.given_up = True
    assert not transfer.asks(151.0)


def test_no_time_passes_for_a_transfer_whose_job_waits_for_another_one() -> None:
    transfer = begun()
    transfer.pass_time(500.0)
    transfer.asked = True
    assert not transfer.asks(500.9) and transfer.asks(501.0)
    transfer.pass_time(516.0)
    assert not transfer.given_up
    transfer.pass_time(516.1)
    assert transfer.given_up


def test_no_time_passes_while_a_part_waits_to_be_written() -> None:
    """Its peer owes nothing then."""
    transfer = begun()
    transfer.asked = True
    assert given_to(transfer, part(0, 5), now=110.0)
    transfer.pass_time(900.0)
    transfer.take_out()
    transfer.pass_time(916.0)
    assert not transfer.given_up
    transfer.pass_time(916.1)
    assert transfer.given_up
