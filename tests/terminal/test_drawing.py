"""Labels on one line, messages in one order, values as JSON: the small pieces."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.terminal.network import HELD_LIMIT, HeldNetwork
from aurora.terminal.picture import place
from aurora.terminal.text import show_bytes, show_page
from aurora.terminal.watch import plain
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import ConfirmEpoch, PageImage
from segments.protocol.record import RedoRecord
from tests.terminal.playing import play

LABELS = st.dictionaries(st.integers(0, 59), st.text("abc ", min_size=1, max_size=12), max_size=6)


@given(LABELS)
def test_labels_never_overlap_and_each_is_under_its_mark(labels: dict[int, str]) -> None:
    names = {column: f"{chr(65 + at)}{text}." for at, (column, text) in enumerate(labels.items())}
    rows = place(list(names.items()), "▲", 60)
    assert [column for column, char in enumerate(rows[0]) if char == "▲"] == sorted(names)
    assert all(len(row) <= 60 for row in rows)
    for column, text in names.items():
        (at,) = [at for at, row in enumerate(rows) if text in row]
        start = rows[at].index(text)
        assert start <= column
        if start + len(text) < 60 and len(names) == 1:
            assert start == column
        alone = all(other not in rows[at] for other in names.values() if other != text)
        assert start == column or alone, rows
        assert all(row[column] == "│" for row in rows[1:at]), rows


def test_labels_on_as_few_rows_as_needed() -> None:
    assert place([(1, "ab"), (8, "cd")], "▲", 12) == [" ▲      ▲", " ab     cd"]
    assert place([(1, "abc"), (3, "cd")], "▲", 12) == [" ▲ ▲", " │ cd", " abc"]
    assert place([(1, "ab"), (4, "cd")], "▲", 12) == [" ▲  ▲", " │  cd", " ab"]
    assert place([(10, "abcd")], "▲", 12) == ["          ▲", "        abcd"]


@pytest.mark.parametrize("width", [80, 100])
def test_names_stand_under_their_own_arrow(width: int) -> None:
    """Two SCLs so near to each other that their segments' names do not fit side by side."""
    played = play("put 1 0 a", "crash az3 A", "put 1 0 b", "state", "step on", width=width)
    marks, *rows = played.outputs[3].splitlines()[-3:]
    arrows = [column for column, char in enumerate(marks) if char == "▲"]
    assert [len(marks), len(arrows)] == [arrows[-1] + 1, 2]
    assert rows[0].index("B0 C0 D0") == arrows[1]
    assert rows[0].index("│") == rows[1].index("A0 E0 F0") == arrows[0]


async def test_messages_arrive_in_one_order_however_they_were_sent() -> None:
    orders = []
    for names in (("A0", "B0", "C0"), ("C0", "A0", "B0")):
        network = HeldNetwork(64)
        endpoints = {name: network.attach(name) for name in ("writer-1", *names)}
        network.holding = True
        for name in names:
            endpoints["writer-1"].send(name, b"1")
            endpoints["writer-1"].send(name, b"2")
        first = network.deliver_next()
        assert first is not None
        endpoints["A0"].send("writer-1", b"3")  # sent later: arrives behind the others
        order = [first, *iter(network.deliver_next, None)]
        orders.append([(held.destination, held.envelope.payload) for held, _ in order])
        assert all(arrived for _, arrived in order)
    assert orders[0] == orders[1]
    assert orders[0][-1] == ("writer-1", b"3")


async def test_what_is_held_is_bounded_and_a_cut_loses_it() -> None:
    network = HeldNetwork(64)
    writer = network.attach("writer-1")
    network.attach("A0")
    network.holding = True
    for _ in range(HELD_LIMIT + 5):
        writer.send("A0", b"x")
    assert len(network.under_way()) == HELD_LIMIT
    network.cut(["writer-1"], ["A0"])
    delivered = network.deliver_next()
    assert delivered is not None
    assert not delivered[1]
    assert network.drop_next() is not None
    assert len(network.under_way()) == HELD_LIMIT - 2


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"abc", '"abc"'),
        ("grüße".encode(), '"grüße"'),
        (b"\x1b[31m", "0x1b5b33316d"),
        (b"\xff", "0xff"),
        (b"a" * 60, '"' + "a" * 48 + '"… (60 bytes)'),
    ],
)
def test_bytes_are_shown_without_ever_moving_the_cursor(data: bytes, shown: str) -> None:
    assert show_bytes(data) == shown


def test_a_page_is_shown_as_its_runs() -> None:
    assert show_page(bytes(8192)) == ["     0  only zeros"]
    page = bytearray(8192)
    page[5:7] = b"ab"
    page[8191:] = b"z"
    assert show_page(bytes(page)) == ['     5  "ab"', '  8191  "z"']
    assert show_page(b"a\0" * 4096)[-2:] == ['    14  "a"', "      …"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (VolumeEpoch(2, 7), "2.7"),
        ((1, 2), [1, 2]),
        ({"A0": 3}, {"A0": 3}),
        (
            ConfirmEpoch(VolumeEpoch(2, 7), 1),
            {"message": "ConfirmEpoch", "epoch": "2.7", "request_id": 1},
        ),
        (PageImage(1, 2, b"x"), {"page_id": 1, "page_lsn": 2}),
        (b"\x00\xff", "00ff"),
    ],
)
def test_values_as_json(value: Any, expected: Any) -> None:
    assert plain(value) == expected


def test_a_record_as_json() -> None:
    record = RedoRecord(3, 1, 0, b"a", 3, True, 2, 2, 1)
    shown = plain(record)
    assert isinstance(shown, dict)
    assert (shown["lsn"], shown["payload"], shown["is_cpl"]) == (3, "61", True)
