"""Corners of callers: no room for writes, nobody who answers reads, versions that are collected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sim.plan.chance import below, between, choice, happens
from sim.plan.schedule import MS
from sim.plan.shapes.corner import Corner
from sim.plan.shapes.reach import ALL, LETTERS

_LARGE: Final = 8_000
_TURN_NS: Final = 60 * MS
"""Longer than a segment waits until it collects again."""
_SOME_ROOM: Final = 20
"""Records; more are not written one after the other only to fill it."""
_EDGES: Final = (
    "read below the floor",
    "read below the floor",
    "view below the floor",
    "read above the VDL",
    "view above the VDL",
    "list above the VDL",
)


def line_for_room(run: Corner) -> None:
    """No write quorum, and more writers at one moment than have room; some give up in the line."""
    random = run.random
    away = run.split(choice(random, (3, 3, 4)))[0]
    run.part(away, run.writer())
    length = choice(random, (8, _LARGE))
    patient = choice(random, (0.2, 0.5, 0.8))
    for _ in range(between(random, 1, 3)):
        for _ in range(between(random, 3, 6)):
            patience = None if happens(random, patient) else below(random, 8 * MS)
            count = run.most if happens(random, 0.3) else between(random, 1, min(3, run.most))
            pages = [run.page() for _ in range(count)]
            most = run.knobs.max_mtr_bytes // count
            run.put(*pages, length=min(length, most), patience_ns=patience, way=_way(run))
        if happens(random, 0.5):
            run.read("get", run.page(), cached=False)
        run.wait(0, 10)
    run.now += below(random, 10 * MS)
    run.heal()
    for _ in range(between(random, 0, 3)):
        patience = below(random, 2 * MS) if happens(random, 0.5) else None
        run.put(patience_ns=patience)
    run.settle()


def _way(run: Corner) -> str:
    return choice(run.random, ("put_many", "put_many", "submit", "mtr"))


def pinned_in_vain(run: Corner) -> None:
    """Who has filled the pool waits for pages that nobody answers, and gives up: the next turn."""
    random, most = run.random, run.most
    for page in range(min(run.pages, 2 * most)):
        run.put(page)
        run.settle()
    run.part(run.writer(), ",".join(LETTERS))
    first = run.pages  # nobody has written those pages, but the pool knows no more that it is so
    for _ in range(min(2, -(-run.knobs.buffer_pool_pages // most))):
        run.put(*range(first, first + most), patience_ns=MS + below(random, 6 * MS))
        first += most
    run.put(first, after=run.hops(1, 5))
    run.now += 8 * MS
    run.heal()
    run.now += 4_000 * MS  # longer than it may wait; nothing else becomes durable, and so calls it


def short_behind_long(run: Corner) -> None:
    """A write that has no room is first in line; those behind it give up, and are short enough."""
    random, room = run.random, run.knobs.lal
    if run.most == 1 or room > _SOME_ROOM:
        return
    page = run.page()

    def put(count: int, patience_ns: int | None = None) -> None:
        pages = ((page + at) % run.pages for at in range(count))
        run.put(*pages, way="put_many", patience_ns=patience_ns)

    put(run.most)
    run.settle()
    run.part(run.split(3)[0], run.writer())
    left = between(random, 1, run.most - 1)
    while room > left:
        count = min(run.most, room - left)
        put(count)
        room -= count
        run.wait(0, 1)
    run.wait(2, 6)
    put(between(random, left + 1, run.most))
    run.wait(1, 4)
    for _ in range(between(random, 1, 3)):
        patience = None if happens(random, 0.2) else 1 + run.hops(0, 8)
        put(between(random, 1, left), patience)
        run.wait(0, 4)
    run.wait(2, 12)
    run.heal()
    run.settle()


def larger_than_the_pool(run: Corner) -> None:
    """A mini-transaction in parts cannot become durable; others want the pages that it has left."""
    random, most = run.random, min(run.knobs.lal, run.knobs.max_mtr_writes)
    first, among = run.page(), max(run.pages, most)
    pages = [(first + at) % among for at in range(most)]
    if happens(random, 0.5):
        run.put(*pages[: run.most])
        run.settle()
    if happens(random, 0.8):
        run.part(run.split(3)[0], run.writer())
    patience = below(random, 2 * MS) if happens(random, 0.2) else None
    run.put(*pages, way=_way(run), length=8, patience_ns=patience)
    run.wait(0, 6)
    for _ in range(between(random, 2, 8)):
        page = choice(random, pages)
        if happens(random, 0.25):
            run.put(page)
        else:
            run.read(choice(random, ("head", "head", "head", "get", "many")), page)
        run.wait(0, 3)
    run.heal()
    run.settle()


def two_wait_for_one(run: Corner) -> None:
    """Two tasks wait for one commit, and one of them gives up."""
    random = run.random
    if happens(random, 0.7):
        run.part(run.split(3)[0], run.writer())
    for _ in range(between(random, 1, 4)):
        run.put(way="submit", hold_ns=1 + below(random, choice(random, (MS // 2, 3 * MS))))
        run.wait(0, 10)
    run.now += below(random, 5 * MS)
    run.heal()
    run.settle()


def much_beside_two(run: Corner) -> None:
    """One or two are away for long, and more is written than any log keeps for them."""
    random = run.random
    run.part(run.split(choice(random, (1, 2)))[0], run.writer())
    client = run.client()
    count = min(run.most, 3)
    for _ in range(between(random, 4, 12)):
        pages = [run.page() for _ in range(count)]
        run.put(*pages, client=client, length=min(_LARGE, run.knobs.max_mtr_bytes // count))
    run.now += choice(random, (50, 800, 1_500)) * MS
    run.heal()
    run.settle()
    if happens(random, 0.4):  # those who were away must make up for others now
        run.now += 2 * run.knobs.gossip_interval_ns
        run.part(run.split(2)[0], run.writer())
        run.put()
        run.now += run.knobs.resend_max_ns
        run.heal()
        run.settle()


def nobody_answers(run: Corner) -> None:
    """Segments fall silent while they are read; some are back before a read gives up."""
    random = run.random
    pages = list(range(min(run.pages, 4)))
    for page in pages:
        run.put(page)
    run.settle()
    run.settle()
    who = ",".join(LETTERS)
    if happens(random, 0.6):
        who = run.split(choice(random, (1, 2, 3, 5)))[0]
    kind = choice(random, ("partition", "cut", "pause", "answers"))
    if kind == "pause":
        run.fault("pause", who)
    elif kind == "answers":
        run.cut(who, run.writer())
    else:
        run.fault(kind, run.writer(), others=who)
    for page in pages:
        after = run.hops(0, 30)
        what = choice(random, ("get", "get", "get_at", "strict_get", "view"))
        run.read(what, page, after=after, cached=False, age=random.random() * 0.2)
    run.now += choice(random, (20, 150, 450, 700)) * MS
    run.heal()
    if kind == "pause":
        run.fault("resume", who)
    run.settle()


def damaged_and_asked(run: Corner) -> None:
    """A segment has lost what it acknowledged, says so to who reads, and no peer helps it yet."""
    random = run.random
    letter, group = choice(random, LETTERS), below(random, run.knobs.pg_count)
    segment = f"{letter}{group}"
    for _ in range(between(random, 1, 3)):
        run.put()
    run.settle()
    if not run.budget.may_rot(segment):
        return
    run.keep_apart()
    run.fault("bit_rot", segment, bits=1, frame=between(random, 0, 3))
    run.fault("crash", segment, after=1)
    run.fault("restart", segment, after=2 + run.hops(0, 4))
    for _ in range(between(random, 4, 10)):
        kind = choice(random, ("get", "get", "get_at", "strict_get"))
        run.read(kind, run.page(), after=run.hops(2, 60), cached=False)
    run.wait(40, 80)


def annulled_and_damaged(run: Corner) -> None:
    """A damaged segment lacks a tail that a recovery annuls; after that nothing is written."""
    random = run.random
    group = below(random, run.knobs.pg_count)
    run.put(group)
    run.settle()
    run.keep_apart(1.0)
    behind, ahead = run.split(3)
    segment = f"{choice(random, ahead.split(','))}{group}"
    run.part(run.writer(), behind)
    for _ in range(between(random, 2, 4)):
        run.put(group)
        run.settle()
    run.fault("crash_writer")
    if run.budget.may_rot(segment):
        run.fault("bit_rot", segment, bits=1, frame=between(random, -4, -2))
        run.fault("crash", segment)
        run.fault("restart", segment, after=1 + run.hops(0, 6))
    run.part(ahead, run.writer(1))
    run.wait(1, 8)
    run.come()
    run.settle()
    run.settle()


def edges_of_history(run: Corner) -> None:
    """Reads at the floor and just below it, at the VDL and just above it, while both rise."""
    random = run.random
    page = run.page()
    for _ in range(between(random, 2, 5)):
        run.put(page)
        run.settle()
        run.now += choice(random, (0, 1, 1)) * run.knobs.heartbeat_interval_ns
        for _ in range(between(random, 1, 3)):
            after, wrong = run.hops(0, 20), choice(random, _EDGES)
            if happens(random, 0.6):
                run.read("wrong", page, after=after, wrong=wrong)
            else:
                age = choice(random, (0.0, 1.0, 1.0, random.random()))
                kind = choice(random, ("get_at", "view", "list", "strict_get_at"))
                run.read(kind, page, after=after, age=age, cached=False)


def strict_read_of_the_past(run: Corner) -> None:
    """A strict read of the oldest version is confirmed late, and the floor would have passed it."""
    random = run.random
    page = run.page()
    for _ in range(between(random, 1, 3)):
        run.put(page)
        run.settle()
    silent = run.split(choice(random, (4, 4, 5)))[0]
    run.cut(*choice(random, ((silent, run.writer()), (run.writer(), silent))))
    for _ in range(between(random, 1, 3)):
        age = choice(random, (1.0, 1.0, random.random()))
        run.read("strict_get_at", page, after=run.hops(0, 20), age=age, cached=False)
    run.now += choice(random, (25, 60)) * MS
    run.heal()
    run.settle()


def floor_of_a_former_writer(run: Corner) -> None:
    """A few know a floor below which the next writer, which has not heard of it, has readers.

    They have collected up to there, or are about to when they hear of that writer.
    """
    random = run.random
    page = run.page()
    for _ in range(between(random, 2, 4)):
        run.put(page)
        run.settle()
    few, most = run.split(choice(random, (1, 1, 2)))
    late = happens(random, 0.7)
    run.cut(run.writer(), ALL if late else most)
    run.keep_apart(1.0)
    if late:  # the floor has risen, and those few hear of it with a write
        run.now += run.tick_ns + below(random, run.tick_ns // 2)
        run.heal()
        run.cut(run.writer(), most)
        run.keep_apart(1.0)
        run.put(page)
        run.wait(2, 5)
    else:
        run.now += run.knobs.heartbeat_interval_ns + _TURN_NS
    run.fault("crash_writer")
    if happens(random, 0.2):
        run.part(few, run.writer(1))
    else:
        run.cut(few, run.writer(1))  # they hear of it at once, and it does not of them
    run.come()
    run.settle()
    run.settle()
    hold_ns = choice(random, (0, 200 * MS, 200 * MS, 200 * MS))
    client, age = run.client(), choice(random, (1.0, 1.0, random.random()))
    run.read("view", page, client=client, age=age, cached=False, hold_ns=hold_ns)
    run.wait(2, 10)
    run.put()
    run.settle()
    run.heal()
    for _ in range(between(random, 3, 8)):
        after, age = run.hops(0, 60), random.random()
        run.read("get_at", page, after=after, age=age, cached=False)
    run.wait(20, 80)
    run.now += choice(random, (0, _TURN_NS))


CALLER_CORNERS: Final[tuple[Callable[[Corner], None], ...]] = (
    line_for_room,
    line_for_room,
    short_behind_long,
    larger_than_the_pool,
    larger_than_the_pool,
    two_wait_for_one,
    much_beside_two,
    nobody_answers,
    damaged_and_asked,
    edges_of_history,
    strict_read_of_the_past,
    floor_of_a_former_writer,
    floor_of_a_former_writer,
    floor_of_a_former_writer,
)
LAST_CALLER_CORNERS: Final[tuple[Callable[[Corner], None], ...]] = (
    annulled_and_damaged,
    pinned_in_vain,
)
"""Those that nothing may follow, or what they are after would be made good."""
