"""A run as data: the world's knobs, what clients do, and what goes wrong, each with its time.

A schedule can be drawn from a seed, read from a scenario file, recorded, cut down and replayed.
Times are integer nanoseconds of virtual time since the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

import attrs

from aurora.config import ClusterConfig, EngineConfig, RouterConfig
from aurora.targets import spelt
from segments.config import SegmentConfig
from segments.protocol.errors import Invalid
from segments.protocol.record import RECORD_OVERHEAD_BYTES
from sim.durations import moment_column
from sim.plan.profiles import DiskProfile, LinkProfile
from sim.plan.redraws import Redraw

MS: Final = 1_000_000
"""Nanoseconds in a millisecond."""
SECOND: Final = 1_000_000_000
READS: Final = (
    "get", "strict_get", "get_at", "strict_get_at", "view", "list", "scan", "many", "head",
    "changes",
)  # fmt: skip
"""The ways to read: a page now, now and strictly, at an older point, both, some pages of a view,
which pages exist in a view, and which exist without one, many pages at an older point, and the
newest version of one, durable or not, and which pages have changed since an older point."""
WAYS: Final = ("put_many", "put", "submit", "mtr")
"""The ways to write; ``put`` takes one page, ``mtr`` also reads what it is about to write."""
SQL: Final = "sql"
"""The kind of a call on the volume as a SQLite database; what it does is its way."""
SQL_WRITES: Final = (
    "setup", "transfer", "auto", "function", "many", "savepoint", "caught", "rollback", "bulk",
    "unbulk", "delete", "vacuum", "backtrack",
)  # fmt: skip
"""What SQL clients do to a bank: see `sim.world.sql_ways`. Those that change, or are to."""
SQL_READS: Final = (
    "query",
    "few",
    "snapshot",
    "at",
    "head",
    "history",
    "audit",
    "refused",
    "close",
)
"""Those that only read, are refused, or close the database beneath the others."""
SQL_WAYS: Final = (*SQL_WRITES, *SQL_READS)


@attrs.frozen(kw_only=True)
class Knobs:
    """Everything about the world that does not change during a run."""

    pg_count: int = 1
    lal: int = 100_000
    # The settings of engine and segments, by their names there.
    retention_lsns: int | None = None
    retention_ns: int | None = None
    max_mtr_writes: int = 4_096
    max_mtr_bytes: int = 4 << 20
    part_writes: int = 4_096
    part_bytes: int = 4 << 20
    buffer_pool_pages: int = 64
    old_versions: int = 0
    reads_in_flight: int = 64
    outgoing_bytes: int = 64 << 20
    batch_bytes: int = 256 << 10
    batches_in_flight: int = 4
    resend_min_ns: int = 20 * MS
    resend_max_ns: int = 500 * MS
    heartbeat_interval_ns: int = 100 * MS
    seal_retry_ns: int = 100 * MS
    read_timeout_ns: int = 5 * SECOND
    queue_bytes: int = 32 << 20
    write_bytes: int = 4 << 20
    unlinked_limit: int = 65_536
    image_interval: int = 16
    image_cache_bytes: int = 64 << 20
    gossip_interval_ns: int = 200 * MS
    gossip_bytes: int = 64 << 10
    hydration_timeout_ns: int = 5 * SECOND
    wal_file_bytes: int = 16 << 10
    fold_bytes: int = 16 << 10
    block_bytes: int = 4 << 10
    block_cache_bytes: int = 1 << 20
    disk_bytes: int | None = None
    fan_out: int = 4
    collect_ratio: float = 0.5
    compact_bytes: int = 64 << 10
    compact_ratio: float = 2.0
    scrub_interval_ns: int = 500 * MS
    scrub_bytes: int = 1 << 20
    storage_retry_ns: int = 100 * MS
    link: LinkProfile = attrs.field(factory=LinkProfile)
    """Links within an availability zone, and everywhere by default."""
    cross_az_link: LinkProfile | None = None
    """Links from one availability zone to another."""
    disk: DiskProfile = attrs.field(factory=DiskProfile)
    check_every: int = 64
    """Steps of the cores between two rounds of the costly checks."""
    duration_ns: int = 2 * SECOND
    """When the faults end and the world heals."""
    liveness_ns: int = 60 * SECOND
    """How long after that everything pending may take to finish."""

    def cluster_config(self) -> ClusterConfig:
        """The settings of engine and segments for this world."""
        return ClusterConfig(
            pg_count=self.pg_count,
            lal=self.lal,
            engine=EngineConfig(
                retention_lsns=self.retention_lsns,
                retention_s=None if self.retention_ns is None else self.retention_ns / SECOND,
                max_mtr_writes=self.max_mtr_writes,
                max_mtr_bytes=self.max_mtr_bytes,
                part_writes=min(self.part_writes, self.outgoing_bytes // RECORD_OVERHEAD_BYTES),
                part_bytes=min(self.part_bytes, self.outgoing_bytes),
                buffer_pool_pages=self.buffer_pool_pages,
                old_versions=self.old_versions,
                reads_in_flight=self.reads_in_flight,
                outgoing_bytes=self.outgoing_bytes,
                batch_bytes=self.batch_bytes,
                batches_in_flight=self.batches_in_flight,
                resend_min_s=self.resend_min_ns / SECOND,
                resend_max_s=self.resend_max_ns / SECOND,
                heartbeat_interval_s=self.heartbeat_interval_ns / SECOND,
                tick_interval_s=min(20 * MS, self.heartbeat_interval_ns) / SECOND,
                seal_retry_s=self.seal_retry_ns / SECOND,
                read_timeout_s=self.read_timeout_ns / SECOND,
                list_pages=16,
                router=RouterConfig(hedge_max_s=0.1, attempt_timeout_s=0.3),
            ),
            segment=SegmentConfig(
                queue_bytes=self.queue_bytes,
                write_bytes=self.write_bytes,
                unlinked_limit=self.unlinked_limit,
                image_interval=self.image_interval,
                image_cache_bytes=self.image_cache_bytes,
                tick_interval_s=min(50 * MS, self.gossip_interval_ns, self.scrub_interval_ns)
                / SECOND,
                gossip_interval_s=self.gossip_interval_ns / SECOND,
                gossip_bytes=self.gossip_bytes,
                hydration_timeout_s=max(self.hydration_timeout_ns, 4 * self.gossip_interval_ns)
                / SECOND,
                list_pages=8,
                wal_file_bytes=self.wal_file_bytes,
                fold_bytes=self.fold_bytes,
                unfolded_bytes=max(16 << 10, 64 * self.fold_bytes),
                block_bytes=self.block_bytes,
                block_cache_bytes=self.block_cache_bytes,
                disk_bytes=self.disk_bytes,
                fan_out=self.fan_out,
                collect_ratio=self.collect_ratio,
                compact_bytes=self.compact_bytes,
                compact_ratio=self.compact_ratio,
                scrub_interval_s=self.scrub_interval_ns / SECOND,
                scrub_bytes=self.scrub_bytes,
                storage_retry_s=self.storage_retry_ns / SECOND,
            ),
        )


def _spelt_others(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """A fault's parameters, ``others`` spelt as targets are; what is no text is left to checks."""
    others = params.get("others")
    return {**params, "others": spelt(others)} if isinstance(others, str | list | tuple) else params


@attrs.frozen(kw_only=True)
class Action:
    """One thing that happens to the world: a fault, or the end of one."""

    at_ns: int
    kind: str
    """A key of `sim.world.faults.FAULTS`."""
    target: str = attrs.field(default="", converter=spelt)
    """Segments, or writers too, in the words of `aurora.targets`; so is ``others`` below."""
    params: Mapping[str, Any] = attrs.field(factory=dict, converter=_spelt_others)

    def __str__(self) -> str:
        values = "".join(f" {name}={value}" for name, value in self.params.items())
        return f"{moment_column(self.at_ns)}  {self.kind} {self.target}{values}".rstrip()


@attrs.frozen(kw_only=True)
class Operation:
    """One call of one client. A client's operations follow each other, each not before its time."""

    at_ns: int
    client: int
    kind: str
    """``put``, one of `READS`, ``open`` (another writer takes over), ``wrong`` or ``sql``."""
    pages: tuple[int, ...]
    """Pages written by one MTR, the page read (a view and ``many``: those), or the first that may
    be listed. For ``sql`` two accounts, from the first of which money goes to the second."""
    offset: int = 0
    """Of what is written; for ``sql`` how much money."""
    length: int = 16
    """Bytes written; for ``sql`` the rows of a large statement."""
    age: float = 0.0
    """For reads at an older point: how old it is, from 0, the VDL, to 1, the floor."""
    cached: bool = True
    """Whether the buffer pool may answer a read; otherwise a segment has to."""
    sticky: bool = False
    """Whether the client keeps its writer even when another has taken over."""
    early: bool = False
    """Whether it calls the latest writer, opened or not; otherwise it waits for one that is."""
    way: str = "put_many"
    """Which call of the engine writes: one of `WAYS`; for ``sql`` one of `SQL_WAYS`."""
    hold_ns: int = 0
    """For how long a view, or a mini-transaction that reads, is kept open; for ``submit``, how long
    another task waits for the commit, too, before it gives up."""
    patience_ns: int | None = None
    """The caller gives up, cancelling the call, after this long; None: it waits for ever."""
    wrong: str = ""
    """For ``wrong``: what is wrong with the call, a key of `sim.plan.wrong_calls.WRONG_CALLS`."""

    @property
    def may_write(self) -> bool:
        """Whether it may become part of the log, by itself or by SQL; a wrong call is not to."""
        return self.kind == "put" or (self.kind == SQL and self.way in SQL_WRITES)

    def __str__(self) -> str:
        where = ",".join(map(str, self.pages))
        what = f"sql {self.way} account" if self.kind == SQL else f"{self.kind} page"
        return f"{moment_column(self.at_ns)}  client {self.client} {what} {where}"


@attrs.frozen(kw_only=True)
class Schedule:
    """A whole run."""

    seed: int
    """Of the random streams that decide what the schedule does not say: latencies and losses."""
    knobs: Knobs = attrs.field(factory=Knobs)
    actions: tuple[Action, ...] = ()
    operations: tuple[Operation, ...] = ()
    name: str = ""
    shape: str = ""
    """The name of the shape (`sim.plan.shapes`) that a seed drew; empty if nothing was drawn."""
    redraws: tuple[Redraw, ...] = ()
    """From when on other numbers are drawn for what the schedule does not say; ascending."""

    @property
    def has_sql(self) -> bool:
        """Whether its volume is a SQLite database: nobody else writes to it."""
        return any(each.kind == SQL for each in self.operations)

    def __attrs_post_init__(self) -> None:
        for items in (self.actions, self.operations):
            times = [each.at_ns for each in items]
            if times != sorted(times) or any(at < 0 for at in times):
                raise Invalid("a schedule's times: expected ascending and not negative")
        turns = [each.at_ns for each in self.redraws]
        if any(one >= next_one for one, next_one in pairwise(turns)):
            raise Invalid(f"redraws at {turns} ns: expected ascending, each moment once")
