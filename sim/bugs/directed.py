"""A schedule for each bug of protocol §12, made to expose it in a fraction of a second.

The right code passes each of them: all that goes wrong ends when the world heals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from sim.bugs.plan import ALL, LINK, Plan

# ---- quorums and watermarks ----------------------------------------------------------------------


def ack_on_three() -> Plan:
    """A write reaches A, B and C; the writer crashes, and another recovers from D, E and F."""
    plan = Plan()
    plan.keep_apart(5)
    plan.part(5, "D,E,F", "writer-1")
    plan.put(10, 0)
    plan.fault(20, "crash_writer")
    plan.part(20, "A,B,C", "writer-2")
    plan.fault(21, "recover")
    return plan


def recover_from_two() -> Plan:
    """A write reaches A to D; the next writer hears of E and F first."""
    plan = Plan()
    plan.keep_apart(5)
    plan.part(5, "E,F", "writer-1")
    plan.put(10, 0)
    plan.fault(20, "crash_writer")
    plan.part(20, "A,B,C,D", "writer-2")
    plan.fault(21, "recover")
    plan.fault(30, "heal_network")
    return plan


def power_cycle_after_ack() -> Plan:
    """A write reaches A to D, of which two lose power before they have synced it."""
    plan = Plan()
    plan.keep_apart(5)
    plan.part(5, "E,F", "writer-1")
    plan.put(10, 0)
    plan.fault(10.25, "crash", "A,B")
    plan.fault(15, "restart", "A,B")
    return plan


def half_an_mtr() -> Plan:
    """A mini-transaction changes a page of either group, and reaches only one of them."""
    plan = Plan(pg_count=2)
    plan.part(5, "A1,B1,C1,D1,E1,F1", "writer-1")
    plan.put(10, 0, 1)
    plan.fault(20, "recover")
    return plan


def second_group_first() -> Plan:
    """The first of two groups is out of reach; a commit in the second must wait for it."""
    plan = Plan(pg_count=2)
    plan.part(5, "A0,B0,C0,D0,E0,F0", "writer-1")
    plan.put(10, 0, client=0)
    plan.put(11, 1, client=1)
    return plan


def idle_group() -> Plan:
    """One of two groups is never written, and holds nobody up."""
    plan = Plan(pg_count=2)
    plan.put(10, 1)
    return plan


def a_hole_in_the_fifth() -> Plan:
    """Record 1 reaches A to D, record 2 reaches A, B, C and E: no four hold both."""
    plan = Plan()
    plan.keep_apart(5)
    plan.cut(5, "writer-1", "E,F")
    plan.put(10, 0, client=0)
    plan.fault(11, "heal_network")
    plan.keep_apart(11)
    plan.cut(11, "writer-1", "D,F")
    plan.put(12, 1, client=1)
    return plan


def too_many_lsns() -> Plan:
    """Three writes at an allocation limit of two, while no quorum answers."""
    plan = Plan(lal=2)
    plan.part(5, "D,E,F", "writer-1")
    for client in range(3):
        plan.put(10 + client, client, client=client)
    return plan


# ---- fencing and recovery ------------------------------------------------------------------------


def zombie() -> Plan:
    """A writer that is cut off is deposed, writes on, and comes back."""
    plan = Plan()
    plan.put(6, 0, client=0)
    plan.part(10, "writer-1", ALL)
    plan.fault(11, "take_over")
    plan.put(20, 0, client=0)
    plan.fault(25, "heal_network")
    return plan


def commit_between_scl_and_seal() -> Plan:
    """A, B and C answer the new writer; what it sends next is held up, and the old one commits."""
    plan = Plan()
    plan.keep_apart(5)
    plan.cut(9, "writer-1", "A,B")
    plan.cut(9, "D,E,F", "writer-2")
    plan.fault(10, "take_over")
    plan.fault(10.15, "clog", "writer-2", others="C,D,E,F")
    plan.put(12, 1)
    plan.fault(20, "heal_network")
    return plan


def queue_across_the_seal() -> Plan:
    """Four slow disks are busy with one write, and hold another in the queue, when Seal arrives."""
    plan = Plan()
    plan.keep_apart(5)
    plan.fault(6, "slow_disk", "C,D,E,F", factor=100)
    plan.put(10, 0, client=0)
    plan.cut(10.5, "writer-1", "A,B")
    plan.put(11, 1, client=1)
    plan.fault(12, "take_over")
    return plan


def ragged_tail() -> Plan:
    """A write reaches A, B and C; a recovery from D, E and F knows nothing of it."""
    plan = ack_on_three()
    plan.fault(30, "heal_network")
    plan.put(40, 1, client=1)
    return plan


def twice_nothing() -> Plan:
    """A writer makes nothing durable, and the next one must not use its LSNs again."""
    plan = Plan(lal=20)
    plan.put(6, 0)
    plan.fault(10, "recover")
    plan.keep_apart(15)
    plan.part(15, "D,E,F", "writer-2")
    plan.put(16, 1, client=1)
    plan.fault(20, "crash_writer")
    plan.part(20, "A,B,C", "writer-3")
    plan.fault(21, "recover")
    plan.fault(30, "heal_network")
    plan.put(40, 2, client=2)
    return plan


def one_table_too_many() -> Plan:
    """Recovery 2 truncates record 2 at A alone; recovery 3 runs without A, and keeps it."""
    plan = Plan(lal=20)
    plan.keep_apart(5)
    plan.put(6, 0)
    plan.part(9, "writer-1", "A,B,C")
    plan.put(10, 1)
    plan.fault(15, "crash_writer")
    plan.cut(15, "D,E,F", "writer-2")
    plan.fault(16, "recover")
    plan.cut(16.15, "writer-2", "B,C,D,E,F")
    plan.fault(20, "crash_writer")
    plan.part(20, "A", "writer-3")
    plan.fault(21, "recover")
    plan.put(30, 2, client=1)
    plan.fault(40, "recover")
    return plan


def stale_tail() -> Plan:
    """F alone has record 2, is away while it is annulled, and comes back to another recovery."""
    plan = Plan(lal=20)
    plan.put(6, 0)
    plan.part(9, "F", "A,B,C,D,E")
    plan.cut(9, "writer-1", "A,B,C,D,E")
    plan.put(10, 1)
    plan.fault(15, "crash_writer")
    plan.part(15, "F", "writer-2")
    plan.fault(16, "recover")
    plan.put(20, 2, client=1)
    plan.fault(25, "crash_writer")
    plan.fault(26, "heal_network")
    plan.fault(27, "recover")
    plan.get(40, 1, client=2)
    return plan


def record_on_one() -> Plan:
    """Only A has the record; a recovery that hears of it must copy it before it opens."""
    plan = Plan()
    plan.keep_apart(5)
    plan.cut(5, "writer-1", "B,C,D,E,F")
    plan.put(10, 0)
    plan.fault(15, "crash_writer")
    plan.cut(15, "D,E,F", "writer-2")
    plan.fault(16, "recover")
    plan.fault(16.5, "heal_network")
    plan.keep_apart(16.5)
    plan.get(25, 0, client=1)
    return plan


def gossip_from_the_past() -> Plan:
    """F gossips a record that was annulled while it was away, before any writer has told it."""
    plan = Plan(end_ms=900, lal=20)
    plan.put(6, 0)
    plan.part(9, "F", "A,B,C,D,E")
    plan.cut(9, "writer-1", "A,B,C,D,E")
    plan.put(10, 1)
    plan.fault(15, "crash_writer")
    plan.part(15, "F", "writer-2")
    plan.fault(16, "recover")
    plan.fault(25, "heal_network")
    plan.part(25, "F", "writer-2")
    return plan


# ---- segments ------------------------------------------------------------------------------------


def old_reader() -> Plan:
    """A version is read that the floor still protects, long after it was overwritten."""
    plan = Plan(end_ms=700, buffer_pool_pages=1, fold_bytes=1, collect_ratio=0.01)
    plan.put(6, 0)
    plan.put(8, 0)
    plan.put(10, 1)
    plan.get_at(500, 0, 0.4)
    return plan


def lagging_segment() -> Plan:
    """A has missed a write, and is asked for the page."""
    plan = Plan(buffer_pool_pages=1)
    plan.keep_apart(5)
    plan.part(5, "A", "writer-1")
    plan.put(10, 0)
    plan.put(11, 1)
    plan.fault(12, "heal_network")
    plan.get(12.5, 0)
    return plan


def read_before_the_vdl_is_known() -> Plan:
    """Segments hold two records, and have heard of a VDL of 1, when the first page is read.

    Other reads follow, so that segments are looked at before they hear of more.
    """
    plan = Plan(buffer_pool_pages=1)
    plan.put(10, 0)
    plan.put(12, 1)
    for page in range(8):
        plan.get(14 + 2 * page, page)
    return plan


def everything_twice() -> Plan:
    """Each message arrives twice, and both copies wait together for a busy disk."""
    plan = Plan(link=attrs.evolve(LINK, duplication=1.0), end_ms=200)
    plan.fault(5, "slow_disk", "az1,az2,az3", factor=20)
    for client in range(4):
        plan.put(10 + client, 0, 1, client=client)
    return plan


def torn_twice() -> Plan:
    """F loses power in the middle of a write, again and again."""
    plan = Plan(end_ms=300)
    plan.fault(5, "slow_disk", "F", factor=50)
    for turn in range(6):
        start = 10 + 40 * turn
        plan.put(start, turn)
        plan.fault(start + 2, "crash", "F")
        plan.fault(start + 3, "restart", "F")
    return plan


def sealed_and_wiped() -> Plan:
    """F seals the epoch of a new writer, loses its disk, and copies from those who did not."""
    plan = Plan(end_ms=900)
    plan.put(6, 0)
    plan.part(9, "F", "A,B,C,D,E")
    plan.cut(9, "writer-2", "A,B,C,D,E")
    plan.fault(10, "take_over")
    plan.fault(15, "wipe", "F")
    plan.fault(16, "heal_network")
    plan.part(16, "writer-2", ALL)
    plan.fault(20, "restart", "F")
    return plan


def wiped_witness() -> Plan:
    """A write reaches A to D; A loses its disk, and answers with E and F."""
    plan = Plan()
    plan.keep_apart(5)
    plan.part(5, "E,F", "writer-1")
    plan.put(10, 0)
    plan.fault(20, "wipe", "A")
    plan.fault(21, "restart", "A")
    plan.fault(25, "crash_writer")
    plan.part(25, "B,C,D", "writer-2")
    plan.fault(26, "recover")
    plan.fault(35, "heal_network")
    return plan


# ---- the cache -----------------------------------------------------------------------------------


def small_pool() -> Plan:
    """One page fits into the cache, and its newest change is not durable."""
    plan = Plan(buffer_pool_pages=1)
    plan.part(5, "D,E,F", "writer-1")
    plan.put(10, 0, client=0)
    plan.put(11, 1, client=1)
    return plan


def read_the_first() -> Plan:
    """Write, read, write, read, and read as of the first."""
    plan = Plan()
    plan.put(10, 0)
    plan.get(12, 0)
    plan.put(14, 0)
    plan.get(16, 0)
    plan.get_at(18, 0, 0.5)
    return plan


def twice_in_one_mtr() -> Plan:
    """One mini-transaction writes a page twice; another page takes its place in the cache."""
    plan = Plan(buffer_pool_pages=1)
    plan.put(8, 2)  # the first call writes nothing but zeros
    plan.put(10, 0, 0)
    plan.put(12, 1)
    plan.get(14, 0)
    return plan


PLANS: Final[dict[str, Callable[[], Plan]]] = {
    "write-quorum-3": ack_on_three,
    "read-quorum-2": recover_from_two,
    "ack-before-persist": power_cycle_after_ack,
    "vdl-not-cpl": half_an_mtr,
    "no-fencing": zombie,
    "scl-before-seal": commit_between_scl_and_seal,
    "queue-survives-seal": queue_across_the_seal,
    "no-truncation": ragged_tail,
    "short-range": twice_nothing,
    "tables-unioned": one_table_too_many,
    "tables-ignored": stale_tail,
    "third-highest-scl": ack_on_three,
    "open-before-rereplication": record_on_one,
    "open-after-one-install": record_on_one,
    "gossip-resurrects": gossip_from_the_past,
    "count-per-record": a_hole_in_the_fifth,
    "vcl-max-pgcl": second_group_first,
    "vcl-min-pgcl": idle_group,
    "gc-above-pgmrpl": old_reader,
    "evict-above-vdl": small_pool,
    "serve-below-required": lagging_segment,
    "lal-ignored": too_many_lsns,
    "coalesce-above-vdl": read_before_the_vdl_is_known,
    "retransmit-not-idempotent": everything_twice,
    "torn-tail-kept": torn_twice,
    "wiped-rejoins": sealed_and_wiped,
    "amnesiac-votes": wiped_witness,
    "newer-for-older": read_the_first,
    "same-mtr-chain": twice_in_one_mtr,
}
