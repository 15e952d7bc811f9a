"""Corners of writers and recoveries: tails on a few, tables on a few, seals behind slow disks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sim.plan.chance import below, between, choice, happens, some
from sim.plan.schedule import MS
from sim.plan.shapes.corner import Corner
from sim.plan.shapes.reach import ALL, LETTERS

_PAGE_BYTES: Final = 8_000


def table_on_a_few(run: Corner) -> None:
    """A recovery annuls a tail at a few segments and dies; the next one, without those, keeps it.

    What the third adopts decides whether the tail survives that a reader has seen.
    """
    random = run.random
    run.keep_apart(1.0)
    run.put(0)
    run.settle()
    behind, ahead = run.split(3)
    run.part(run.writer(), behind)
    run.put(1)
    run.settle()
    run.fault("crash_writer")
    run.cut(ahead, run.writer(1))
    run.come()
    few = ",".join(behind.split(",")[: choice(random, (1, 1, 2))])
    others = ",".join(each for each in LETTERS if each not in few)
    run.cut(run.writer(), others, after=run.hops(1, 2))
    run.settle()
    run.settle()
    run.fault("crash_writer")
    run.part(few, run.writer(1))
    run.come()
    run.settle()
    run.settle()
    run.put(2 % run.pages)
    run.settle()
    run.settle()
    if happens(random, 0.5):
        run.heal()
    run.come()
    run.settle()


def table_spoilt(run: Corner) -> None:
    """A segment has what a recovery annuls; all adopt that table, and its own copy of it rots.

    It hears of the next recovery alone, whose table does not name that range any more.
    """
    random, knobs = run.random, run.knobs
    who, rest = run.split(1)
    group = between(random, 0, knobs.pg_count - 1)
    if not run.budget.may_rot(f"{who}{group}"):
        return
    run.keep_apart(1.0)
    run.cut(run.writer(), rest)
    run.put(group)
    run.settle()
    run.fault("crash_writer")
    run.part(who, run.writer(1))
    run.come()
    run.settle()
    run.settle()
    run.heal()
    run.now += choice(random, (1, 2, 3)) * knobs.resend_max_ns
    if happens(random, 0.7):
        run.put()
        run.settle()
    run.keep_apart(1.0)
    run.part(who, run.writer(1))
    run.fault("crash_writer")
    frame = choice(random, (-1, -2, -2, -3))
    run.fault("bit_rot", f"{who}{group}", bits=3, places=2, frame=frame)
    run.fault("crash", f"{who}{group}")
    run.fault("restart", f"{who}{group}", after=run.hops(1, 10))
    run.wait(1, 10)
    run.come()
    run.settle()
    run.settle()


def tail_on_a_few(run: Corner) -> None:
    """A write reaches a few; who copies it dies as soon as it has opened, and those few are gone.

    What it had not copied to enough others is lost then.
    """
    random = run.random
    run.keep_apart()
    count = choice(random, (1, 1, 2, 3))
    few, rest = run.split(count)
    run.cut(run.writer(), rest)
    run.put()
    run.settle()
    run.fault("crash_writer")
    sealed = rest.split(",")
    run.part(",".join(sealed[: between(random, 0, 3)]), run.writer(1))
    run.come()
    run.settle()
    run.wait(0, choice(random, (4, 12, 30)))
    if happens(random, 0.5):
        run.read("get", run.page(), client=run.client())
    run.fault("crash_writer")
    run.part(few, run.writer(1))
    run.come()
    run.settle()


def all_that_may_be(run: Corner) -> None:
    """As much as a writer may write reaches a few, and a recovery without those annuls all of it.

    So something stands at the first LSN of the annulled range, at the last, and at each between.
    """
    random = run.random
    run.keep_apart(1.0)
    few, rest = run.split(choice(random, (1, 2, 3)))
    run.cut(run.writer(), rest)
    page = run.page()
    for _ in range(min(run.knobs.lal, 20)):
        run.put(page)
        run.wait(0, 2)
    run.settle()
    run.fault("crash_writer")
    run.part(few, run.writer(1))
    run.come()
    run.settle()
    run.settle()
    if happens(random, 0.5):
        run.put(page)
        run.settle()


def half_an_mtr(run: Corner) -> None:
    """An MTR is complete in part for longer than a heartbeat; then another writer comes.

    The part is one group's, or as many batches as one group has taken.
    """
    random, knobs = run.random, run.knobs
    late = choice(random, (3, 4, 6, 6, 6))
    letters = run.split(late)[0].split(",")
    if knobs.pg_count > 1:
        run.part(",".join(f"{each}{knobs.pg_count - 1}" for each in letters), run.writer())
    else:
        run.cut(run.writer(), ",".join(letters), after=run.hops(1, 3))
    count = min(run.most, choice(random, (2, 3, 4)))
    first = choice(random, (0, 0, 0, 1))  # mostly what the group has that is complete
    length = choice(random, (8, 2_000, _PAGE_BYTES, _PAGE_BYTES))
    for _ in range(between(random, 1, 2)):
        run.put(*((first + at) % run.pages for at in range(count)), length=length)
        run.wait(1, 10)
    run.now += choice(random, (0, 2, 2)) * knobs.heartbeat_interval_ns
    run.settle()
    run.come(choice(random, ("recover", "take_over")))
    run.settle()
    run.some_calls(2)


def seal_behind_a_write(run: Corner) -> None:
    """Slow disks are busy with a batch when a seal comes; the new writer may then reach nobody."""
    random = run.random
    run.keep_apart()
    busy, rest = run.split(choice(random, (3, 4, 4, 5, 6)))
    run.cut(run.writer(), rest)
    run.fault("slow_disk", busy, factor=choice(random, (50, 100)))
    run.wait(1, 10)
    run.put()
    run.wait(2, 12)
    run.come("take_over")
    if happens(random, 0.7):
        run.cut(run.writer(), ALL, after=run.hops(1, 8))
    run.now += choice(random, (4, 10, 20)) * MS
    run.fault("slow_disk", busy, factor=1)
    run.settle()


def long_log(run: Corner) -> None:
    """More to fetch than fits into one answer; parts get lost, or their source falls silent."""
    random, knobs = run.random, run.knobs
    if happens(random, 0.5):
        run.cut(run.split(between(random, 1, 6))[0], run.writer())
    for _ in range(between(random, 1, 3)):
        count = min(run.most, choice(random, (2, 3, 4)))
        pages = tuple(run.page() for _ in range(count))
        run.put(*pages, length=min(_PAGE_BYTES, knobs.max_mtr_bytes // count))
    run.settle()
    run.come(choice(random, ("recover", "take_over")))
    way = choice(random, ("whole", "lost", "silent", "held"))
    begin = run.hops(3, 10)
    who = run.split(between(random, 1, 6))[0]
    if way == "lost":
        run.cut(who, run.writer(), after=begin)
    elif way == "silent":
        run.fault("pause", who, after=begin)
    elif way == "held":
        run.fault("clog", who, after=begin, others=run.writer())
    run.wait(10, 40)
    run.heal()
    if way == "silent":
        run.fault("resume", who)
    run.settle()


def source_is_lost(run: Corner) -> None:
    """Who alone has the end of a log seals, and is gone for good when it is asked for that end."""
    random = run.random
    letter, group = choice(random, LETTERS), below(random, run.knobs.pg_count)
    segment = f"{letter}{group}"
    if not run.budget.may_go(segment):
        return
    run.keep_apart(1.0)
    others = [each for each in LETTERS if each != letter]
    run.cut(run.writer(), ",".join(others))
    run.put(group)
    run.settle()
    run.fault("crash_writer")
    run.cut(",".join(some(random, others, 3)), run.writer(1))
    run.come()
    run.cut(run.writer(), segment, after=run.hops(1, 2))
    run.settle()
    run.settle()
    run.fault("wipe", segment)
    run.wait(0, 20)


def two_at_once(run: Corner) -> None:
    """Writers that open the volume at once, each first at its own segments: seals are refused."""
    random = run.random
    for _ in range(between(random, 2, 3)):
        if happens(random, 0.6):
            run.part(run.split(between(random, 1, 3))[0], run.writer(1))
        run.come("take_over")
        run.wait(0, choice(random, (1, 3, 10)))
        run.read("get", run.page(), early=True, sticky=False)
    run.wait(4, 20)
    run.heal()
    run.settle()


def nearly_open(run: Corner) -> None:
    """A recovery has its plan and cannot open: who calls it early is refused."""
    random = run.random
    run.put()
    run.settle()
    away = run.split(3)[0]
    run.part(away, run.writer(1))
    run.come(choice(random, ("recover", "take_over")))
    run.settle()
    run.settle()
    for _ in range(between(random, 2, 6)):
        after = run.hops(0, 20)
        if happens(random, 0.5):
            run.put(early=True, sticky=False, after=after)
        else:
            kind = choice(random, ("get", "strict_get", "view"))
            run.read(kind, run.page(), early=True, sticky=False, after=after, cached=False)
    run.wait(10, 30)
    run.heal()
    run.settle()


def deposed(run: Corner) -> None:
    """A deposed writer does not know it, and is asked for what its successor has changed."""
    random = run.random
    page, faithful = run.page(), [run.client() for _ in range(between(random, 2, 4))]
    run.put(page, client=faithful[0])
    run.settle()
    for client in faithful[1:]:
        run.read(choice(random, ("get", "strict_get", "strict_get")), page, client=client)
    run.settle()
    run.keep_apart()
    few, most = run.split(choice(random, (0, 0, 1, 2, 2)))
    run.part(run.writer(), most)
    run.part(few, run.writer(1))
    run.come("take_over")
    run.settle()
    run.settle()
    for _ in range(between(random, 1, 2)):
        run.put(page)
    run.settle()
    run.settle()
    healed = happens(random, 0.6)
    if healed:
        run.heal()
    for client in faithful:
        kind = choice(random, ("strict_get", "strict_get", "strict_get_at", "get"))
        cached = happens(random, 0.8)
        run.read(kind, page, client=client, after=run.hops(0, 3), cached=cached)
    run.wait(2, 10)
    run.some_calls(2)
    run.settle()


WRITER_CORNERS: Final[tuple[Callable[[Corner], None], ...]] = (
    table_on_a_few,
    table_spoilt,
    table_spoilt,
    tail_on_a_few,
    all_that_may_be,
    half_an_mtr,
    half_an_mtr,
    seal_behind_a_write,
    long_log,
    two_at_once,
    nearly_open,
    deposed,
    deposed,
)
LAST_WRITER_CORNERS: Final[tuple[Callable[[Corner], None], ...]] = (source_is_lost,)
"""Those that nothing may follow: the next writer would make good what they are after."""
