"""Limits and intervals of the compute side, and of a whole cluster. Everything is bounded here."""

from __future__ import annotations

from typing import Any

import attrs

from aurora.lsn_allocator import DEFAULT_LAL
from aurora.read_router import RouterConfig
from aurora.transport import DEFAULT_INBOX_BYTES
from segments.config import SegmentConfig, at_least, whole_number
from segments.protocol.errors import InvalidConfig


def _optional(minimum: int) -> Any:
    return attrs.validators.optional(whole_number(minimum))


@attrs.frozen(kw_only=True)
class EngineConfig:
    """A writer's settings; sizes in bytes, times in seconds."""

    lal: int = attrs.field(default=DEFAULT_LAL, validator=whole_number(1))
    """LSN allocation limit of a new volume: how far LSNs may run ahead of the VDL (2017 §4.2.1). An
    existing volume keeps its own."""
    retention_lsns: int | None = attrs.field(default=16_384, validator=_optional(0))
    """How many LSNs behind the VDL page versions stay readable, at least; a read view that is open
    keeps its own for longer. Older versions are folded into the pages, so that memory, disk and the
    time it takes to open the volume follow its pages and this number, however long it is written
    to. Each record kept costs about 4 KB of memory, in six copies: 65 MB for the default. None
    keeps every version for ever, and grows without a limit."""
    max_mtr_writes: int = attrs.field(default=4_096, validator=whole_number(1))
    """Records in one mini-transaction."""
    max_mtr_bytes: int = attrs.field(default=4 << 20, validator=whole_number(8_192))
    """Payload in one mini-transaction."""
    buffer_pool_pages: int = attrs.field(default=4_096, validator=whole_number(1))
    """Pages of 8,192 bytes cached by the writer."""
    outgoing_bytes: int = attrs.field(default=64 << 20, validator=whole_number(1 << 20))
    """Encoded log kept per protection group for segments that are behind; beyond it only what no
    write quorum holds yet is kept, and beyond twice as much writers wait."""
    batch_bytes: int = attrs.field(default=256 << 10, validator=whole_number(16 << 10))
    """Most that one message to a segment carries, unless a single record is longer."""
    batches_in_flight: int = attrs.field(default=4, validator=whole_number(1))
    """Batches sent to a segment and not acknowledged; what comes meanwhile shares the next one."""
    resend_min_s: float = attrs.field(default=0.05, validator=at_least(0.0001))
    """A batch is sent again no sooner than this after it was sent ..."""
    resend_max_s: float = attrs.field(default=1.0, validator=at_least(0.0001))
    """... and, while a segment stays silent, at growing intervals up to this."""
    heartbeat_interval_s: float = attrs.field(default=0.1, validator=at_least(0.0001))
    """How long a segment goes without hearing of an advanced VDL."""
    tick_interval_s: float = attrs.field(default=0.02, validator=at_least(0.0001))
    """How often the passing of time is looked at."""
    read_timeout_s: float = attrs.field(default=30.0, validator=at_least(0.001))
    """A read that nobody can answer for this long fails as unavailable."""
    list_pages: int = attrs.field(default=4_096, validator=whole_number(1))
    """Pages that a list of the pages that exist is fetched by, from all protection groups."""
    seal_retry_s: float = attrs.field(default=0.1, validator=at_least(0.0001))
    """A recovering writer asks the silent again after this."""
    seal_attempts: int = attrs.field(default=16, validator=whole_number(1))
    """Epochs a recovering writer tries before it gives way to a rival."""
    receive_limit: int = attrs.field(default=256, validator=whole_number(1))
    """Messages handled before their consequences are sent."""
    router: RouterConfig = attrs.field(factory=RouterConfig)

    def __attrs_post_init__(self) -> None:
        if self.resend_min_s > self.resend_max_s:
            raise InvalidConfig(
                f"resend_min_s is {self.resend_min_s}: expected <= {self.resend_max_s}"
            )


@attrs.frozen(kw_only=True)
class ClusterConfig:
    """A volume's shape, and the settings of everyone in it."""

    pg_count: int = attrs.field(default=1, validator=whole_number(1))
    """Protection groups of a new volume; an existing volume keeps its own."""
    inbox_messages: int = attrs.field(default=8_192, validator=whole_number(64))
    """Messages that may wait at one party; more are lost, as on any network, and come again."""
    inbox_bytes: int = attrs.field(default=DEFAULT_INBOX_BYTES, validator=whole_number(1 << 20))
    """Their size; a message larger than this still passes an empty inbox."""
    ended_writers: int = attrs.field(default=8, validator=whole_number(0))
    """Writers that have ended and can still be looked at; older ones are forgotten."""
    engine: EngineConfig = attrs.field(factory=EngineConfig)
    segment: SegmentConfig = attrs.field(factory=SegmentConfig)
