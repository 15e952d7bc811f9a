"""Choosing a segment to read from, and the life of one read (2018 §3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora.config import RouterConfig
from aurora.read_router import PendingRead, Question, ReadRouter, ReadTarget, Requests
from segments.protocol.errors import InvalidConfig, ReadPointBelowFloor, Unavailable
from segments.protocol.ids import VolumeEpoch
from segments.protocol.messages import (
    ListPages,
    PageImage,
    PageReply,
    PagesListed,
    ReadPage,
    ReadRefused,
)
from segments.protocol.record import PAGE_SIZE
from segments.protocol.volume import standard_members

MEMBERS = standard_members(0)
EPOCH = VolumeEpoch(2, 1)
PAGE = PageImage(7, 40, b"\x01" * PAGE_SIZE)
THE_PAGE = ReadPage(EPOCH, 0, 7, 45, 50)
ALL_COMPLETE = dict.fromkeys(MEMBERS, 50)


def router(**settings: float) -> ReadRouter:
    return ReadRouter(RouterConfig(**settings))  # type: ignore[arg-type]


# ---- the order of candidates ---------------------------------------------------------------------


def test_only_segments_that_reached_the_required_scl_are_candidates() -> None:
    """2018 §3.1: no read quorum; one segment that is complete up to the read point is enough."""
    scls = dict(zip(MEMBERS, (50, 49, 51, 0, 50), strict=False))  # F0 was never heard of
    assert router().candidates(MEMBERS, scls, 50, 0.0) == ["A0", "C0", "E0"]
    assert router().candidates(MEMBERS, scls, 52, 0.0) == []
    assert router().candidates(MEMBERS, {}, 0, 0.0) == list(MEMBERS)  # an empty group: anyone


def test_the_lowest_recent_latency_comes_first() -> None:
    choice = router()
    for segment, latency in zip(MEMBERS, (0.06, 0.05, 0.01, 0.03, 0.04, 0.02), strict=True):
        choice.observe_latency(segment, latency)
    expected = ["C0", "F0", "D0", "E0", "B0", "A0"]
    assert choice.candidates(MEMBERS, ALL_COMPLETE, 50, 0.0) == expected
    for _ in range(30):
        choice.observe_latency("C0", 0.1)
    assert choice.candidates(MEMBERS, ALL_COMPLETE, 50, 0.0) == [*expected[1:], "C0"]


def test_what_failed_comes_last_for_a_while_that_doubles() -> None:
    choice = router(failure_backoff_min_s=1.0, failure_backoff_max_s=3.0)

    def first(now: float) -> str:
        return choice.candidates(("A0", "B0"), ALL_COMPLETE, 50, now)[0]

    choice.observe_latency("A0", 0.01)
    choice.observe_latency("B0", 0.02)
    choice.observe_failure("A0", 10.0)
    assert [first(10.0), first(10.9), first(11.0)] == ["B0", "B0", "A0"]
    choice.observe_failure("A0", 20.0)
    assert [first(21.9), first(22.0)] == ["B0", "A0"]
    for _ in range(100):
        choice.observe_failure("A0", 30.0)
    assert [first(32.9), first(33.0)] == ["B0", "A0"]  # at most the maximum
    choice.observe_failure("A0", 40.0)
    choice.observe_latency("A0", 0.01)
    assert first(40.0) == "A0"


def test_a_failed_segment_is_still_better_than_none() -> None:
    choice = router()
    choice.observe_failure("B0", 0.0)
    assert choice.candidates(("B0",), ALL_COMPLETE, 50, 0.0) == ["B0"]


def test_now_and_then_the_one_asked_least_recently_is_tried() -> None:
    choice = router(explore_every=4)
    for index, segment in enumerate(MEMBERS):
        choice.observe_latency(segment, 0.01 * (index + 1))
    choice.observe_failure("F0", 0.0)  # not sound: not explored
    firsts = [choice.candidates(MEMBERS, ALL_COMPLETE, 50, 0.0)[0] for _ in range(20)]
    assert firsts[3::4] == ["B0", "C0", "D0", "E0", "B0"]
    assert set(firsts) - set(firsts[3::4]) == {"A0"}
    assert firsts.count("A0") == 15


def test_hedge_delay_follows_the_latency_within_its_limits() -> None:
    choice = router(hedge_multiple=3.0, hedge_min_s=0.01, hedge_max_s=0.5)
    assert choice.hedge_delay("F0") == 0.01
    for segment, latency, expected in (("A0", 0.001, 0.01), ("B0", 0.1, 0.3), ("C0", 9.0, 0.5)):
        choice.observe_latency(segment, latency)
        assert choice.hedge_delay(segment) == pytest.approx(expected)


def test_silence_raises_the_expected_latency_and_never_lowers_it() -> None:
    choice = router(smoothing=0.5)
    choice.observe_latency("A0", 0.1)
    choice.observe_silence("A0", 0.01)
    assert choice.health("A0").latency_s == 0.1
    choice.observe_silence("A0", 0.3)
    assert choice.health("A0").latency_s == pytest.approx(0.2)
    choice.observe_silence("B0", 0.3)
    assert choice.health("B0").latency_s == 0.3


@pytest.mark.parametrize(
    "wrong",
    [
        {"explore_every": 1},
        {"smoothing": 0.0},
        {"smoothing": 1.1},
        {"hedge_multiple": 0.5},
        {"hedge_min_s": 0.0},
        {"hedge_min_s": 1.0, "hedge_max_s": 0.5},
        {"hedge_max_s": 3.0},
        {"failure_backoff_min_s": 0.0},
        {"failure_backoff_max_s": 0.01},
        {"retry_min_s": 2.0},
        {"retry_min_s": float("nan")},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig):
        RouterConfig(**wrong)


# ---- one read ------------------------------------------------------------------------------------


@attrs.define
class Read:
    """A read with its requests by segment, and answers to them."""

    pending: PendingRead
    ids: dict[str, int] = attrs.Factory(dict)

    def sent(self, requests: Requests) -> list[str]:
        for segment, request in requests:
            assert request._replace(request_id=0) == self.pending.target.question
            self.ids[segment] = request.request_id
        return [segment for segment, _ in requests]

    def reply(self, asked: str, now: float, **changes: Any) -> list[str]:
        reply = PageReply(EPOCH, asked, self.ids[asked], 45, PAGE)
        return self.sent(self.pending.on_reply(reply._replace(**changes), now))

    @property
    def page(self) -> PageImage:
        answer = self.pending.result()
        assert isinstance(answer, PageReply)
        return answer.page

    def refuse(self, segment: str, now: float, floor: int = 0) -> list[str]:
        refusal = ReadRefused(EPOCH, segment, self.ids[segment], 49, floor)
        return self.sent(self.pending.on_refused(refusal, now))

    def timer(self, now: float | None = None) -> list[str]:
        at = self.pending.next_timer() if now is None else now
        assert at is not None
        return self.sent(self.pending.on_timer(at))


def read(
    members: tuple[str, ...] = MEMBERS,
    scls: Mapping[str, int] = ALL_COMPLETE,
    deadline_s: float = 100.0,
    choice: ReadRouter | None = None,
    question: Question = THE_PAGE,
) -> Read:
    target = ReadTarget(question, members, scls)
    ids = count(1)
    return Read(PendingRead(choice or router(), target, deadline_s, lambda: next(ids)))


def test_one_request_one_answer() -> None:
    one = read()
    assert one.sent(one.pending.start(0.0)) == ["A0"]
    assert one.reply("A0", 0.001) == []
    assert one.pending.done
    assert one.page is PAGE
    assert one.pending.next_timer() is None
    assert one.timer(200.0) == []
    assert one.pending.error is None


def test_a_slow_answer_is_hedged_and_the_first_wins() -> None:
    """2018 §3.1: when a segment is slow another is asked as well, and the first answer counts."""
    choice = router()
    choice.observe_latency("A0", 0.01)
    one = read(choice=choice, members=("A0", "B0"))
    choice.observe_latency("B0", 0.02)
    one.pending.start(0.0)
    one.ids = {"A0": 1}
    assert one.pending.next_timer() == pytest.approx(0.03)
    assert one.timer(0.029) == []
    assert one.timer() == ["B0"]
    assert one.reply("B0", 0.05) == []
    other = PageImage(7, 45, b"\x02" * PAGE_SIZE)
    assert one.reply("A0", 0.06, page=other) == []  # late: ignored
    assert one.page is PAGE
    assert (choice.health("A0").latency_s or 0) > 0.01  # and remembered as slow
    assert one.pending.request_ids == [1, 2]


def test_the_slower_of_two_may_still_win() -> None:
    one = read()
    one.sent(one.pending.start(0.0))
    assert one.timer() == ["B0"]
    assert one.refuse("B0", 0.01) == ["C0"]
    one.reply("A0", 0.02)
    assert one.page is PAGE


def test_a_refusal_sends_it_elsewhere_at_once() -> None:
    one = read()
    one.sent(one.pending.start(0.0))
    for segment, following in pairwise(MEMBERS):
        assert one.refuse(segment, 0.001) == [following]
        assert one.refuse(segment, 0.001) == []  # repeated
    assert one.refuse("F0", 0.001) == []
    assert not one.pending.done
    again = one.timer()  # all have failed: after a pause it starts over
    assert len(again) == 1
    one.reply(again[0], 0.1)
    assert one.page is PAGE


def test_silent_segments_fail_and_their_late_answer_is_welcome() -> None:
    choice = router(attempt_timeout_s=1.0)
    one = read(members=("A0",), choice=choice)
    one.sent(one.pending.start(0.0))
    assert one.pending.next_timer() == 1.0
    assert one.timer() == []
    assert choice.health("A0").failures == 1
    first_id = one.ids["A0"]
    assert one.timer() == ["A0"]
    assert one.ids["A0"] != first_id
    one.reply("A0", 1.5, request_id=first_id)
    assert one.page is PAGE


def test_a_late_timer_still_gives_the_next_segment_its_time() -> None:
    one = read(members=("A0", "B0"))
    one.sent(one.pending.start(0.0))
    assert one.timer(1.0) == ["B0"]
    assert one.pending.next_timer() == 2.0


def test_without_a_complete_segment_it_waits_for_one() -> None:
    scls = dict.fromkeys(MEMBERS, 49)
    one = read(scls=scls)
    assert one.pending.start(0.0) == []
    pauses = []
    now = 0.0
    for _ in range(8):
        timer = one.pending.next_timer()
        assert timer is not None
        pauses.append(round(timer - now, 6))
        now = timer
        assert one.timer() == []
    assert pauses == [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0]
    scls["D0"] = 50
    assert one.timer() == ["D0"]


def test_at_the_deadline_it_gives_up_with_the_reason() -> None:
    one = read(scls={"A0": 49}, deadline_s=1.0)
    one.pending.start(0.0)
    one.timer(0.999)
    assert not one.pending.done
    assert one.timer(1.0) == []
    with pytest.raises(
        Unavailable,
        match=r"page 7 at 45: no answer to 0 requests .*SCL >= 50 .*A0: behind, at SCL 49;",
    ):
        one.pending.result()


def test_a_version_is_not_called_collected_while_anyone_may_have_it() -> None:
    """Two have collected it; the one that still holds it is not heard before the deadline."""
    scls = {**ALL_COMPLETE, "F0": 40}
    one = read(scls=scls, deadline_s=3.0, choice=router(attempt_timeout_s=0.5))
    one.sent(one.pending.start(0.0))
    assert one.refuse("A0", 0.0, floor=46) == ["B0"]
    assert one.refuse("B0", 0.0, floor=48) == ["C0"]
    assert one.refuse("C0", 0.0) == ["D0"]
    while not one.pending.done:
        one.timer()
    said = "A0: collected, its floor is 46; B0: collected, its floor is 48; C0: refused at SCL 49; "
    with pytest.raises(Unavailable, match=f"{said}D0, E0: silent; F0: behind, at SCL 40"):
        one.pending.result()


def test_a_segment_that_has_collected_the_version_is_not_asked_again() -> None:
    one = read(members=("A0", "B0"), choice=router(retry_max_s=0.02))
    one.sent(one.pending.start(0.0))
    assert one.refuse("A0", 0.0, floor=46) == ["B0"]
    assert one.refuse("B0", 0.0) == []
    assert one.timer() == ["B0"]
    assert one.refuse("B0", 0.1, floor=48) == []
    with pytest.raises(ReadPointBelowFloor, match="read point 45 of page 7: expected >= 46"):
        one.pending.result()


@pytest.mark.parametrize(
    "changes",
    [
        {"read_point": 44},
        {"page": PAGE._replace(page_id=8)},
        {"page": PAGE._replace(page_lsn=46)},
    ],
)
def test_an_answer_that_does_not_fit_counts_as_a_refusal(changes: dict[str, Any]) -> None:
    one = read()
    one.sent(one.pending.start(0.0))
    assert one.reply("A0", 0.001, **changes) == ["B0"]
    assert one.reply("A0", 0.001, **changes) == []
    assert not one.pending.done


@pytest.mark.parametrize(
    "changes", [{"epoch": VolumeEpoch(1, 1)}, {"segment": "B0"}, {"request_id": 99}]
)
def test_an_answer_to_another_question_is_ignored(changes: dict[str, Any]) -> None:
    one = read()
    one.sent(one.pending.start(0.0))
    assert one.reply("A0", 0.001, **changes) == []
    assert not one.pending.done
    one.reply("A0", 0.002)
    assert one.page is PAGE


THE_LIST = ListPages(EPOCH, 0, 10, 90, 45, 50, 4_096)
LISTED = PagesListed(EPOCH, "A0", 1, 45, 10, 60, (10, 33, 60))


def test_a_list_of_pages_is_asked_for_as_a_page_is() -> None:
    one = read(question=THE_LIST)
    assert one.sent(one.pending.start(0.0)) == ["A0"]
    assert one.timer() == ["B0"]  # hedged
    assert one.refuse("B0", 0.01) == ["C0"]  # and sent elsewhere
    assert one.sent(one.pending.on_reply(LISTED, 0.02)) == []
    assert one.pending.result() is LISTED
    nobody = read(question=THE_LIST, members=("A0",), deadline_s=1.0)
    nobody.pending.start(0.0)
    nobody.timer(1.0)
    with pytest.raises(Unavailable, match="the list of pages from 10 to 90 at 45: "):
        nobody.pending.result()


@pytest.mark.parametrize(
    "wrong",
    [
        {"read_point": 44},
        {"from_page": 11},
        {"through_page": 91},
        {"through_page": 9, "page_ids": ()},
        {"page_ids": (9, 33)},
        {"page_ids": (10, 61)},
    ],
)
def test_a_list_that_does_not_fit_its_question_counts_as_a_refusal(wrong: dict[str, Any]) -> None:
    one = read(question=THE_LIST)
    one.sent(one.pending.start(0.0))
    assert one.sent(one.pending.on_reply(LISTED._replace(**wrong), 0.01)) == ["B0"]
    page = PageReply(EPOCH, "B0", 2, 45, PAGE)
    assert one.sent(one.pending.on_reply(page, 0.01)) == ["C0"]
    one.sent(one.pending.on_reply(LISTED._replace(segment="C0", request_id=3), 0.02))
    assert one.pending.done


_behaviour = st.sampled_from(["answer", "refuse", "silent", "collected", "slow", "incomplete"])


@settings(max_examples=150)
@given(
    st.lists(_behaviour, min_size=1, max_size=6),
    st.sampled_from([0.001, 0.05, 0.4, 1.5]),
    st.floats(0.5, 8.0),
)
def test_every_read_ends_with_a_page_if_anyone_answers_in_time(
    behaviours: list[str], latency: float, deadline: float
) -> None:
    """A world of segments that each always behave the same, driven by nothing but the timers."""
    members = MEMBERS[: len(behaviours)]
    behaviour = dict(zip(members, behaviours, strict=True))
    scls = {each: 0 if behaviour[each] == "incomplete" else 50 for each in members}
    pending = read(members, scls, deadline).pending
    mail: list[tuple[float, str, int]] = []
    now = 0.0
    steps = 0

    def post(requests: Requests) -> None:
        for segment, request in requests:
            delay = latency * (4 if behaviour[segment] == "slow" else 1)
            assert behaviour[segment] != "incomplete"
            if behaviour[segment] != "silent":
                mail.append((now + delay, segment, request.request_id))
        mail.sort()

    post(pending.start(now))
    while not pending.done:
        steps += 1
        assert steps < 2_000
        timer = pending.next_timer()
        assert timer is not None
        assert now <= timer <= deadline
        if not mail or timer < mail[0][0]:
            now = timer
            post(pending.on_timer(now))
            continue
        now, segment, request_id = mail.pop(0)
        if behaviour[segment] in ("answer", "slow"):
            post(pending.on_reply(PageReply(EPOCH, segment, request_id, 45, PAGE), now))
        else:
            floor = 46 if behaviour[segment] == "collected" else 0
            post(pending.on_refused(ReadRefused(EPOCH, segment, request_id, 0, floor), now))
    able = [each for each in behaviours if each in ("answer", "slow")]
    if not able:
        assert pending.answer is None
        all_collected = set(behaviours) == {"collected"}
        told_collected = all_collected and now < deadline
        assert type(pending.error) is (ReadPointBelowFloor if told_collected else Unavailable)
        assert told_collected or now == deadline
    elif "answer" in able and deadline > 6 * 0.25 + 6 * latency + latency:
        assert isinstance(pending.answer, PageReply) and pending.answer.page is PAGE
    assert len(pending.request_ids) <= 6 * (2 + deadline / 0.02)
