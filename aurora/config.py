"""Limits and intervals of the compute side, and of a whole cluster. Everything is bounded here.

docs/settings.md is made from these classes; `segments.config` says how a setting is defined.
"""

from __future__ import annotations

from typing import Final

import attrs

from aurora.transport import DEFAULT_INBOX_BYTES
from segments.config import (
    DAY_S,
    LARGEST_BATCH_BYTES,
    Relation,
    SegmentConfig,
    check_relations,
    made_of,
    setting,
)
from segments.protocol.errors import InvalidConfig
from segments.protocol.record import RECORD_OVERHEAD_BYTES
from segments.protocol.volume import DEFAULT_LAL, MAX_LAL, MAX_PG_COUNT, VolumeGeometry


@attrs.frozen(kw_only=True)
class RouterConfig:
    """How a writer chooses the segment that answers a read; times in seconds."""

    explore_every: int = setting(
        32, 2, 1_000_000, unit="reads",
        cost="larger: a segment that has become fast is noticed later; smaller: more reads that "
        "begin with a slow one",
    )  # fmt: skip
    """One read in this many begins with the segment that was asked least recently."""
    smoothing: float = setting(
        0.2, 0.001, 1.0, unit="",
        cost="larger: one slow answer counts for more; smaller: a change is noticed later",
    )  # fmt: skip
    """Weight of the newest latency in the moving average."""
    hedge_multiple: float = setting(
        3.0, 1.0, 1_000.0, unit="times",
        cost="larger: longer waits for a slow segment; smaller: more requests that were not needed",
    )  # fmt: skip
    """A second segment is asked after this multiple of the first one's expected latency, but no
    sooner than `hedge_min_s` and no later than `hedge_max_s`."""
    hedge_min_s: float = setting(
        0.002, 0.0001, 60.0, unit="seconds",
        cost="larger: longer waits for a slow segment; smaller: more requests that were not needed",
    )  # fmt: skip
    """A second segment is asked no sooner than this."""
    hedge_max_s: float = setting(
        0.25, 0.0001, 60.0, unit="seconds",
        cost="larger: longer waits for a segment that has just become slow; smaller: more requests "
        "to others while all are slow",
    )  # fmt: skip
    """A second segment is asked no later than this."""
    attempt_timeout_s: float = setting(
        1.0, 0.001, 600.0, unit="seconds",
        cost="larger: a silent segment is held for sound for longer; smaller: a slow one is asked "
        "again and again",
    )  # fmt: skip
    """A request without an answer for this long has failed; its answer is still welcome."""
    failure_backoff_min_s: float = setting(
        0.1, 0.001, 3_600.0, unit="seconds",
        cost="larger: a segment that is well again is avoided for longer; smaller: more reads that "
        "begin with one that fails",
    )  # fmt: skip
    """A segment that failed is asked last for this long; doubled with each failure in a row."""
    failure_backoff_max_s: float = setting(
        5.0, 0.001, 3_600.0, unit="seconds",
        cost="as of `failure_backoff_min_s`",
    )  # fmt: skip
    """The longest that `failure_backoff_min_s` grows to by doubling."""
    retry_min_s: float = setting(
        0.02, 0.001, 60.0, unit="seconds",
        cost="larger: a read notices later that a segment is back; smaller: more requests "
        "while nobody can answer",
    )  # fmt: skip
    """Pause before all candidates are tried again; doubled each time."""
    retry_max_s: float = setting(
        1.0, 0.001, 60.0, unit="seconds",
        cost="as of `retry_min_s`",
    )  # fmt: skip
    """The longest that `retry_min_s` grows to by doubling."""

    def __attrs_post_init__(self) -> None:
        check_relations(self, ROUTER_RELATIONS)


ROUTER_RELATIONS: Final = (
    Relation(("hedge_min_s",), ("hedge_max_s",), "there is a time between the two"),
    Relation(
        ("hedge_max_s",), ("attempt_timeout_s",),
        "another segment is asked before the first is given up",
    ),
    Relation(
        ("failure_backoff_min_s",), ("failure_backoff_max_s",), "there is a time between the two"
    ),
    Relation(("retry_min_s",), ("retry_max_s",), "there is a time between the two"),
)  # fmt: skip
"""What a router's settings demand of each other."""


@attrs.frozen(kw_only=True)
class EngineConfig:
    """A writer's settings; sizes in bytes, times in seconds."""

    retention_lsns: int | None = setting(
        16_384, 0, 2**40, unit="LSNs", optional=True,
        cost="larger: about 4 KB of memory for each record kept, in six copies, 65 MB for the "
        "default, and as many records on disk; smaller: old versions are gone sooner; None: memory "
        "and disk grow with every write, without a limit",
    )  # fmt: skip
    """How many LSNs behind the VDL page versions stay readable, at least; LSNs that a recovery has
    annulled do not count, and a read view that is open keeps its own for longer. Older versions are
    folded into the pages, so that memory, disk and the time it takes to open the volume follow its
    pages and this number, however long it is written to. None keeps every version for ever."""
    retention_s: float | None = setting(
        None, 0.001, 36_500 * DAY_S, unit="seconds", optional=True,
        cost="larger: disk for all that is written in that time; smaller: old versions are gone "
        "sooner; None: their number alone counts",
    )  # fmt: skip
    """Page versions that were current so lately stay readable, besides those of `retention_lsns`:
    the floor is the lower of both. What a writer finds at its opening counts as written then."""
    max_mtr_writes: int = setting(
        4 << 20, 1, 1 << 32, unit="records",
        cost="larger: memory, of the writer for what is gathered, and of segments for what cannot "
        "be folded before all of it is durable; the loop is held up while it is gathered, and "
        "others wait for longer to write",
    )  # fmt: skip
    """Records in one mini-transaction. It may also have no more than the LAL."""
    max_mtr_bytes: int = setting(
        1 << 30, 8_192, 1 << 40, unit="bytes",
        cost="as of `max_mtr_writes`",
    )  # fmt: skip
    """Payload in one mini-transaction."""
    part_writes: int = setting(
        4_096, 1, 1 << 20, unit="records",
        cost="larger: the loop is held up while one part is made",
    )  # fmt: skip
    """Records that a mini-transaction makes part of the log in one step. One with more of them, or
    more of `part_bytes`, or with more pages than `buffer_pool_pages`, takes several."""
    part_bytes: int = setting(
        4 << 20, 8_192, 1 << 30, unit="bytes",
        cost="larger: the loop is held up while one part is made, and memory",
    )  # fmt: skip
    """Payload that a mini-transaction makes part of the log in one step."""
    buffer_pool_pages: int = setting(
        4_096, 1, 1 << 27, unit="pages",
        cost="larger: memory, 8,192 bytes for each page; smaller: more reads go to segments, and "
        "mini-transactions come in more parts",
    )  # fmt: skip
    """Pages of 8,192 bytes cached by the writer."""
    old_versions: int = setting(
        1_024, 0, 1 << 27, unit="pages",
        cost="larger: memory, 8,192 bytes for each; smaller: more reads of older versions go to "
        "segments",
    )  # fmt: skip
    """Versions of pages below their newest that the writer caches, besides its buffer pool."""
    outgoing_bytes: int = setting(
        64 << 20, 16 << 10, 64 << 30, unit="bytes",
        cost="larger: memory while a segment is away; smaller: a segment that is back sooner "
        "depends on gossip, and writers wait sooner",
    )  # fmt: skip
    """Encoded log kept per protection group for segments that are behind. Beyond it only what no
    write quorum holds yet is kept, and beyond twice as much writers wait."""
    batch_bytes: int = setting(
        256 << 10, 1 << 10, LARGEST_BATCH_BYTES, unit="bytes",
        cost="larger: one message holds up its segment for longer; smaller: more messages under "
        "load",
    )  # fmt: skip
    """The most that one message to a segment carries, unless a single record is longer."""
    batches_in_flight: int = setting(
        4, 1, 1_024, unit="batches",
        cost="larger: more small messages under load; smaller: less throughput over a slow network",
    )  # fmt: skip
    """Batches sent to a segment and not acknowledged; what comes meanwhile shares the next one."""
    resend_min_s: float = setting(
        0.05, 0.001, 60.0, unit="seconds",
        cost="larger: what was lost comes later; smaller: what was only slow is sent twice",
    )  # fmt: skip
    """A batch is sent again no sooner than this after it was sent, and at growing intervals while
    its segment stays silent."""
    resend_max_s: float = setting(
        1.0, 0.001, 60.0, unit="seconds",
        cost="larger: a segment that is back hears of it later; smaller: more messages to those "
        "that are away",
    )  # fmt: skip
    """The longest that the interval between two sendings of a batch grows to."""
    heartbeat_interval_s: float = setting(
        0.1, 0.001, 60.0, unit="seconds",
        cost="larger: segments fold and collect later; smaller: more messages when idle",
    )  # fmt: skip
    """How long a segment goes without hearing of an advanced VDL."""
    tick_interval_s: float = setting(
        0.02, 0.001, 10.0, unit="seconds",
        cost="larger: what is to be sent again waits longer; smaller: processor time when idle",
    )  # fmt: skip
    """How often the passing of time is looked at."""
    read_timeout_s: float = setting(
        30.0, 0.001, DAY_S, unit="seconds",
        cost="larger: callers wait longer for what is not there; smaller: reads fail that would "
        "have been answered",
    )  # fmt: skip
    """A read that nobody can answer for this long fails as unavailable."""
    reads_in_flight: int = setting(
        64, 1, 65_536, unit="pages",
        cost="larger: segments are asked for more at a time, and others wait behind it; smaller: "
        "a scan waits for more answers one after the other",
    )  # fmt: skip
    """Pages that one call for many pages asks segments for at the same time."""
    list_pages: int = setting(
        4_096, 1, 65_536, unit="pages",
        cost="larger: memory, and longer turns; smaller: more messages for a long list",
    )  # fmt: skip
    """Pages fetched at a time for a list of those that exist, from all protection groups."""
    seal_retry_s: float = setting(
        0.1, 0.001, 60.0, unit="seconds",
        cost="larger: recovery takes longer when messages are lost; smaller: more messages",
    )  # fmt: skip
    """A recovering writer asks the silent again after this."""
    seal_attempts: int = setting(
        16, 1, 1_000_000, unit="epochs",
        cost="larger: two writers that both want the volume fight for longer; smaller: one gives "
        "up sooner",
    )  # fmt: skip
    """Epochs a recovering writer tries before it gives way to a rival."""
    receive_limit: int = setting(
        256, 1, 65_536, unit="messages",
        cost="larger: commits wait for more messages before they return; smaller: more turns of "
        "the loop for the same messages",
    )  # fmt: skip
    """Messages handled before their consequences are sent."""
    router: RouterConfig = attrs.field(factory=RouterConfig, validator=made_of(RouterConfig))

    def __attrs_post_init__(self) -> None:
        check_relations(self, ENGINE_RELATIONS)


ENGINE_RELATIONS: Final = (
    Relation(
        ("part_bytes",), ("outgoing_bytes",),
        "the log that waits for segments stays bounded, whatever one part adds to it",
    ),
    Relation(
        ("part_writes", RECORD_OVERHEAD_BYTES), ("outgoing_bytes",),
        "the log that waits for segments stays bounded, whatever one part adds to it",
    ),
    Relation(("resend_min_s",), ("resend_max_s",), "there is a time between the two"),
    Relation(
        ("tick_interval_s",), ("resend_max_s",),
        "a batch is sent again in time: that is when the passing of time is looked at",
    ),
    Relation(
        ("tick_interval_s",), ("heartbeat_interval_s",),
        "segments hear of the VDL in time: that is when the passing of time is looked at",
    ),
    Relation(
        ("router.hedge_max_s",), ("read_timeout_s",),
        "a read has the time to ask another segment than the first",
    ),
    Relation(
        ("read_timeout_s",), (10_000, "router.retry_max_s"),
        "one read makes a bounded number of requests",
    ),
)  # fmt: skip
"""What a writer's settings demand of each other."""


@attrs.frozen(kw_only=True)
class ClusterConfig:
    """A volume's shape, and the settings of everyone in it."""

    pg_count: int | None = setting(
        None, 1, MAX_PG_COUNT, unit="groups", optional=True,
        cost="larger: six segments for each, with tasks and memory of their own, and every "
        "recovery needs a quorum of each; 640 groups take 4 s to make, 9 s to recover and 200 MB",
    )  # fmt: skip
    """Protection groups that share the pages of a new volume. A volume keeps the number that
    it was made with. None stands for that, or 1 for a new volume; another value than an existing
    volume's is refused."""
    lal: int | None = setting(
        None, 1, MAX_LAL, unit="LSNs", optional=True,
        cost="larger: each recovery leaves a wider gap between LSNs; smaller: writers wait sooner "
        "for storage that is slow, and no mini-transaction has more records",
    )  # fmt: skip
    """LSN allocation limit of a new volume: how far LSNs may run ahead of the VDL (2017 §4.2.1).
    A volume keeps the one that it was made with. None stands for that, or 10,000,000 for a new
    volume; another value than an existing volume's is refused."""
    inbox_messages: int = setting(
        8_192, 64, 1 << 20, unit="messages",
        cost="larger: memory while a party is slow; smaller: more is lost and sent again",
    )  # fmt: skip
    """Messages that may wait at one party, or be held of a paused one; more are lost, as on any
    network, and come again."""
    inbox_bytes: int = setting(
        DEFAULT_INBOX_BYTES, 1 << 20, 64 << 30, unit="bytes",
        cost="larger: memory while a party is slow; smaller: more is lost and sent again",
    )  # fmt: skip
    """Size of the messages that may wait at one party, or be held of a paused one; a single one
    always may."""
    ended_writers: int = setting(
        8, 0, 1_024, unit="writers",
        cost="larger: memory, a buffer pool for each",
    )  # fmt: skip
    """Writers that have ended and can still be looked at; older ones are forgotten."""
    vdl_note_interval_s: float = setting(
        5.0, 0.001, DAY_S, unit="seconds",
        cost="larger: of more that older copies of disks have lost nobody may know; smaller: a "
        "small file is written more often",
    )  # fmt: skip
    """How often the VDL that the volume has reached is kept beside its segments, if it has moved:
    no writer opens the volume below it unawares."""
    engine: EngineConfig = attrs.field(factory=EngineConfig, validator=made_of(EngineConfig))
    segment: SegmentConfig = attrs.field(factory=SegmentConfig, validator=made_of(SegmentConfig))

    def __attrs_post_init__(self) -> None:
        check_relations(self, CLUSTER_RELATIONS)

    def new_geometry(self) -> VolumeGeometry:
        """What a new volume is made with."""
        return VolumeGeometry(
            1 if self.pg_count is None else self.pg_count,
            DEFAULT_LAL if self.lal is None else self.lal,
        )

    def of_volume(self, geometry: VolumeGeometry) -> ClusterConfig:
        """These settings for a volume, with what it was made with filled in.

        Raises `InvalidConfig` if they ask for something else, or cannot serve so many groups.
        """
        for name, asked, found in (
            ("pg_count", self.pg_count, geometry.pg_count),
            ("lal", self.lal, geometry.lal),
        ):
            if asked not in (None, found):
                raise InvalidConfig(
                    f"{name} is {asked}, and the volume was made with {found}, which it keeps: "
                    f"expected {found}, or None for what the volume has"
                )
        return attrs.evolve(self, pg_count=geometry.pg_count, lal=geometry.lal)


CLUSTER_RELATIONS: Final = (
    Relation(
        (6, "pg_count"), ("inbox_messages",),
        "a writer can hear from all segments at a time, six in each group",
    ),
    Relation(
        ("engine.batch_bytes", "engine.batches_in_flight"), ("inbox_bytes",),
        "what a writer sends at a time is not lost and sent again for ever",
    ),
    Relation(
        ("engine.batch_bytes", "engine.batches_in_flight"), ("segment.queue_bytes",),
        "what a writer sends at a time is not dropped and sent again for ever",
    ),
    Relation(
        ("segment.gossip_bytes",), ("inbox_bytes",),
        "what a segment sends at a time is not lost and sent again for ever",
    ),
    Relation(
        ("segment.gossip_bytes",), ("segment.queue_bytes",),
        "what a segment sends at a time is not dropped and sent again for ever",
    ),
)  # fmt: skip
"""What the settings of a cluster's parts demand of each other."""
