"""Reads over whatever holds watermarks, without a loop and without a writer."""

from __future__ import annotations

from collections.abc import Container, Mapping

import attrs
import pytest

from aurora.config import EngineConfig
from aurora.quorum import QuorumModel
from aurora.reading import Reading
from segments.protocol.errors import ReadPointAboveVdl, ReadPointBelowFloor, Unavailable
from segments.protocol.ids import Lsn, PageId, PgId, SegmentId, VolumeEpoch
from segments.protocol.messages import (
    ConfirmEpoch,
    EpochConfirmed,
    Message,
    PageImage,
    PageReply,
    ReadPage,
)
from segments.protocol.record import PAGE_SIZE
from segments.protocol.volume import pg_of_page, standard_members

EPOCH = VolumeEpoch(3, 1)
MEMBERS = standard_members(0)
CONFIG = EngineConfig(read_timeout_s=5.0, resend_max_s=2.0)


@attrs.define
class Told:
    """What somebody who never writes has been told of a volume of one group."""

    epoch: VolumeEpoch = EPOCH
    vdl: Lsn = 50
    pg_count: int = 1
    heard: Mapping[SegmentId, Lsn] = attrs.field(factory=lambda: {"B0": 50, "C0": 40})

    def pg_of(self, page_id: PageId) -> PgId:
        return pg_of_page(page_id, self.pg_count)

    def members(self, pg_id: PgId) -> tuple[SegmentId, ...]:
        return standard_members(pg_id)

    def scls(self, _: PgId) -> Mapping[SegmentId, Lsn]:
        return self.heard

    def required_scl(self, _: PgId, read_point: Lsn) -> Lsn:
        return read_point

    def has_read_quorum(self, pg_id: PgId, segments: Container[SegmentId]) -> bool:
        return QuorumModel(self.members(pg_id)).has_read(segments)


class Reader:
    """Reads, and what they send."""

    def __init__(self, told: Told | None = None, floor: Lsn = 10) -> None:
        self.sent: list[tuple[SegmentId, Message]] = []
        self.reading = Reading(
            told or Told(), lambda *message: self.sent.append(message), CONFIG, floor
        )

    def take(self) -> list[tuple[SegmentId, Message]]:
        sent, self.sent = self.sent, []
        return sent


def test_a_page_is_asked_of_a_segment_that_is_complete_enough() -> None:
    reader = Reader()
    read = reader.reading.read_page(7, 45, now=0.0)
    ((segment, question),) = reader.take()
    assert segment == "B0", "all others are behind"
    assert question == ReadPage(EPOCH, 1, 7, 45, 45)
    assert reader.reading.oldest_read_point == 45
    page = PageImage(7, 44, bytes(PAGE_SIZE))
    reader.reading.step(PageReply(EPOCH, "B0", 1, 45, page), 0.01)
    assert reader.reading.take_finished() == [read]
    assert (read.done, read.next_timer()) == (True, None)
    result = read.result()
    assert isinstance(result, PageReply)
    assert result.page is page
    read.end()
    assert reader.reading.oldest_read_point is None
    reader.reading.step(PageReply(EPOCH, "B0", 1, 45, page), 0.02)
    assert reader.reading.take_finished() == [], "nobody waits for it any more"


def test_the_watermarks_are_looked_at_when_they_are_needed() -> None:
    told = Told()
    reader = Reader(told)
    with pytest.raises(ReadPointAboveVdl):
        reader.reading.checked_read_point(51)
    told.vdl = 60
    assert reader.reading.checked_read_point(51) == 51
    reader.reading.hold(20)
    reader.reading.update_floor(30)
    assert reader.reading.floor == 20, "somebody reads there"
    reader.reading.release(20)
    reader.reading.update_floor(30)
    with pytest.raises(ReadPointBelowFloor):
        reader.reading.checked_read_point(29)


def confirm(reader: Reader, names: str) -> None:
    for name in names:
        reader.reading.step(EpochConfirmed(EPOCH, f"{name}0", 1), 0.1)


def asked(reader: Reader) -> str:
    """Who is asked to confirm the epoch."""
    sent = reader.take()
    assert {message for _, message in sent} <= {ConfirmEpoch(EPOCH, 1)}
    return "".join(segment[0] for segment, _ in sent)


def test_a_strict_read_is_confirmed_by_a_read_quorum() -> None:
    reader = Reader()
    confirmation = reader.reading.confirm(7, now=0.0)
    assert asked(reader) == "ABCDEF"
    confirm(reader, "AAZ")
    confirm(reader, "B")
    assert list(confirmation.confirmed_by) == ["A0", "B0"], "not twice, and no stranger"
    assert not confirmation.done
    assert confirmation.next_timer() == CONFIG.resend_max_s
    confirmation.on_timer(CONFIG.resend_max_s)
    assert asked(reader) == "CDEF", "those that have not answered"
    assert confirmation.next_timer() == 2 * CONFIG.resend_max_s
    assert reader.reading.take_finished() == []
    confirm(reader, "F")
    assert reader.reading.take_finished() == [confirmation]
    assert confirmation.next_timer() is None
    confirmation.result()
    confirmation.end()
    confirm(reader, "C")
    assert reader.reading.take_finished() == []


def test_a_strict_read_that_too_few_confirm_says_who_did() -> None:
    reader = Reader()
    confirmation = reader.reading.confirm(7, now=0.0)
    confirm(reader, "CA")
    times = []
    while (timer := confirmation.next_timer()) is not None:
        times.append(timer)
        confirmation.on_timer(timer)
    assert times == [2.0, 4.0, CONFIG.read_timeout_s]
    with pytest.raises(Unavailable, match=r"page 7: epoch .* confirmed by A0, C0 alone"):
        confirmation.result()
