"""One segment as its writer sees it: windows, silence, resends (protocol §4, steps 2 and 5)."""

from __future__ import annotations

from aurora.config import EngineConfig
from aurora.outgoing_log import OutgoingLog
from aurora.segment_stream import Announcement, SegmentStream
from segments.protocol.ids import Lsn
from segments.protocol.messages import InstallTable, Message, WriteAck, WriteBatch
from segments.protocol.run import read_records
from segments.protocol.truncation import TruncationTable
from tests.store_rig import FIRST, records

TABLE = TruncationTable(FIRST)
CONFIG = EngineConfig(batches_in_flight=2, batch_bytes=16 << 10)


class Talk:
    """A stream over a log of records 1, 2, 3, ..."""

    def __init__(self, *, installed: bool = True, config: EngineConfig = CONFIG) -> None:
        self.log = OutgoingLog(0)
        self.stream = SegmentStream("A0", 0, self.log, {}, config, installed=installed)
        self.announcement = Announcement(FIRST, 0, 0, TABLE, settled=False)
        self.last = 0

    def append(self, count: int, payload: int = 4) -> None:
        run = records(range(self.last + 1, self.last + count + 1), prev=self.last)
        self.log.append([record._replace(payload=bytes(payload)) for record in run])
        self.last += count

    def messages(self, now: float) -> list[Message]:
        found: list[Message] = []
        while (message := self.stream.next_message(self.announcement, now)) is not None:
            found.append(message)
        return found

    def batches(self, now: float) -> list[list[Lsn]]:
        return [lsns_of(each) for each in self.messages(now)]

    def ack(self, seq: int, scl: Lsn, now: float) -> None:
        self.stream.on_ack(WriteAck(FIRST, "A0", seq, scl), now)


def lsns_of(message: Message) -> list[Lsn]:
    assert isinstance(message, WriteBatch)
    return [record.lsn for record in read_records(message.records)]


def span(first: int, last: int) -> list[Lsn]:
    return list(range(first, last + 1))


def test_everything_that_waits_goes_in_one_batch() -> None:
    talk = Talk()
    talk.append(1)
    assert talk.batches(0.0) == [[1]]
    talk.append(3)
    assert talk.batches(0.0) == [[2, 3, 4]]


def test_a_full_window_gathers_and_an_acknowledgement_opens_it() -> None:
    talk = Talk()
    for _ in range(2):
        talk.append(1)
        talk.messages(0.0)
    talk.append(5)
    assert talk.batches(0.0) == [] and talk.stream.in_flight == 2
    talk.ack(1, 1, 0.01)
    assert talk.batches(0.01) == [span(3, 7)]


def test_batches_are_bounded_in_bytes() -> None:
    talk = Talk()
    talk.append(9, payload=4_000)
    assert talk.batches(0.0) == [span(1, 4), span(5, 8)]


def test_old_and_repeated_acknowledgements_change_nothing() -> None:
    talk = Talk()
    talk.append(4)
    talk.messages(0.0)
    talk.ack(1, 4, 0.01)
    talk.ack(1, 2, 0.02)
    talk.ack(1, 4, 0.03)
    assert (talk.stream.acked_lsn, talk.stream.sent_lsn, talk.stream.in_flight) == (4, 4, 0)
    assert talk.batches(1.0) == []


def test_after_silence_it_resends_from_the_scl_it_heard_of_ever_more_slowly() -> None:
    talk = Talk()
    talk.append(4)
    talk.messages(0.0)
    talk.ack(1, 2, 0.001)
    now, waits = 0.001, []
    for _ in range(8):
        start = now
        while not talk.stream.on_timer(now):
            now += 0.01
            assert now - start < 3, "patience must end"
        waits.append(round(now - start, 3))
        assert talk.batches(now) == [[3, 4]]
    assert waits == sorted(waits) and waits[-1] <= CONFIG.resend_max_s + 0.02
    assert waits[0] < waits[3], "slower"


def test_a_silent_segment_gets_one_batch_at_a_time_until_it_is_back() -> None:
    """§4.5: a bounded window; resends when it is back."""
    talk = Talk()
    talk.append(9, payload=4_000)
    talk.messages(0.0)
    assert talk.stream.on_timer(5.0)
    assert talk.batches(5.0) == [span(1, 4)]
    talk.append(1)
    assert talk.batches(5.0) == []
    talk.ack(3, 4, 5.1)
    assert talk.batches(5.1) == [span(5, 8), span(9, 10)]


def test_a_gap_at_the_segment_is_no_progress() -> None:
    """The first batch was lost, the second arrived: the SCL says so."""
    talk = Talk()
    for _ in range(2):
        talk.append(2)
        talk.messages(0.0)
    talk.ack(2, 0, 0.01)
    assert talk.stream.in_flight == 2
    assert talk.stream.on_timer(5.0) and talk.batches(5.0) == [span(1, 4)]


def test_what_has_left_the_log_is_left_to_gossip() -> None:
    talk = Talk()
    talk.append(6)
    talk.messages(0.0)
    talk.log.release(4)
    assert talk.stream.on_timer(5.0) and talk.stream.behind
    assert talk.batches(5.0) == []
    beat = talk.stream.heartbeat(talk.announcement, 6.0)
    assert beat is not None and lsns_of(beat) == [], "which also asks how far gossip has brought it"
    talk.ack(3, 4, 6.1)
    assert not talk.stream.behind and talk.batches(6.1) == [[5, 6]]


def test_gossip_may_be_faster_than_the_stream() -> None:
    talk = Talk()
    talk.append(6)
    talk.ack(0, 5, 0.0)
    assert talk.batches(0.0) == [[6]]


def test_the_table_comes_before_any_record() -> None:
    talk = Talk(installed=False)
    talk.append(2)
    assert talk.messages(0.0) == [InstallTable(FIRST, 0, TABLE)]
    assert talk.messages(0.001) == [] and not talk.stream.on_timer(0.001)
    assert talk.stream.heartbeat(talk.announcement, 0.05) is None
    assert talk.stream.on_timer(5.0) and talk.messages(5.0) == [InstallTable(FIRST, 0, TABLE)]
    talk.stream.on_installed(1)
    assert talk.batches(5.0) == [[2]]


def test_a_segment_without_the_table_gets_it_and_everything_after_its_scl() -> None:
    talk = Talk()
    talk.append(4)
    talk.messages(0.0)
    talk.ack(1, 2, 0.01)
    talk.stream.on_need_table()
    assert talk.messages(0.02) == [InstallTable(FIRST, 0, TABLE)]
    talk.stream.on_installed(2)
    assert talk.batches(0.03) == [[3, 4]]


def test_heartbeats_bring_news_and_then_only_remind() -> None:
    talk = Talk()
    assert talk.stream.heartbeat(talk.announcement, 0.5) is None, "no news"
    talk.announcement = Announcement(FIRST, 9, 3, TABLE, settled=False)
    beat = talk.stream.heartbeat(talk.announcement, 1.0)
    assert isinstance(beat, WriteBatch) and (beat.vdl, beat.floor, lsns_of(beat)) == (9, 3, [])
    talk.ack(1, 0, 1.1)
    assert talk.stream.heartbeat(talk.announcement, 2.0) is None
    talk.announcement = Announcement(FIRST, 10, 3, TABLE, settled=False)
    assert talk.stream.heartbeat(talk.announcement, 1.0 + 1e-6) is None, "not so soon"


def test_a_segment_that_may_have_restarted_is_reminded_of_the_watermarks() -> None:
    talk = Talk()
    talk.announcement = Announcement(FIRST, 9, 3, TABLE, settled=False)
    assert talk.stream.heartbeat(talk.announcement, 1.0) is not None
    talk.ack(1, 0, 1.1)
    assert talk.stream.heartbeat(talk.announcement, 2.5) is None
    assert talk.stream.heartbeat(talk.announcement, 2.7) is not None
    talk.ack(2, 0, 2.8)
    assert talk.stream.heartbeat(talk.announcement, 2.9) is None


def test_news_that_may_be_lost_come_again_until_they_are_heard() -> None:
    talk = Talk()
    talk.announcement = Announcement(FIRST, 9, 3, TABLE, settled=False)
    assert talk.stream.heartbeat(talk.announcement, 1.0) is not None
    assert talk.stream.heartbeat(talk.announcement, 2.0) is not None, "the first one was lost"
    talk.ack(1, 0, 2.5)
    assert talk.stream.heartbeat(talk.announcement, 3.0) is not None, "an older one was heard"
    talk.ack(3, 0, 3.1)
    assert talk.stream.heartbeat(talk.announcement, 4.0) is None


def test_patience_follows_the_usual_latency() -> None:
    talk = Talk()
    for at in range(30):
        talk.append(1)
        talk.messages(float(at))
        talk.ack(at + 1, at + 1, at + 0.1)
    assert talk.stream.latency_s is not None and abs(talk.stream.latency_s - 0.1) < 1e-6
    talk.append(1)
    talk.messages(100.0)
    assert not talk.stream.on_timer(100.3), "no resend to a segment that is only slow"
    assert talk.stream.on_timer(101.1)
