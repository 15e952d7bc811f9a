"""What settings bound (23): predicates, and which setting is held by which of them.

Every setting stands in `HELD_BY` or, with the reason, in `NOT_HELD`. `sim.check.bound_checks` and
`sim.check.wire_checks` hold the predicates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from segments.config import SegmentConfig
from segments.core import Pending
from segments.protocol.ids import Lsn, SegmentId, VolumeEpoch
from segments.protocol.run import read_records
from segments.wal import RecordsEntry
from segments.wal_scan import LogPart, scan
from sim.check import (
    invariants,
    rules_of_floors,
    rules_of_layers,
    rules_of_space,
    rules_of_the_end,
    rules_of_wire,
)
from sim.check.invariants import Broken, holds
from sim.world.history import Call

_HEAD_AND_FRAME: Final = 2
_ENTRY_BYTES: Final = 64
"""Of an entry that waits for the disk: what counts beside its records."""
_ESCAPED: Final = 4 / 3
"""How much a frame may grow by what keeps its magic out of its body."""
_HEADS_BYTES: Final = 4096
"""What a log takes besides its records, as far as that does not have it written anew."""


@holds("bounds-are-kept")
def mtr_fits(writer: str, count: int, size: int, most: int, most_bytes: int) -> None:
    """23: the records of one mini-transaction, and their payload."""
    if count > most or size > most_bytes:
        raise Broken(
            f"{writer} makes a mini-transaction of {count} records and {size} bytes: expected at "
            f"most {most} and {most_bytes}"
        )


@holds("bounds-are-kept")
def part_fits(writer: str, count: int, size: int, most: int, most_bytes: int) -> None:
    """23: the records that are made in one step, and their payload."""
    if count > most or size > most_bytes:
        raise Broken(
            f"{writer} makes {count} records of {size} bytes in one step: expected at most {most} "
            f"and {most_bytes}"
        )


@holds("bounds-are-kept")
def pool_fits(writer: str, pages: int, pinned: int, capacity: int) -> None:
    """23: pages in the buffer pool, and those whose place is promised."""
    if pages > capacity or pinned > capacity:
        raise Broken(
            f"{writer} has {pages} pages in its pool and {pinned} pinned: expected at most "
            f"{capacity}"
        )


@holds("bounds-are-kept")
def old_versions_fit(writer: str, versions: int, capacity: int) -> None:
    """23: versions of pages that are kept beside the buffer pool."""
    if versions > capacity:
        raise Broken(f"{writer} keeps {versions} old versions: expected at most {capacity}")


@holds("bounds-are-kept")
def reads_fit(writer: str, asked: int, most: int) -> None:
    """23: pages that one call asks segments for at the same time."""
    if asked > most:
        raise Broken(f"{writer} asks for {asked} pages for one call: expected at most {most}")


@holds("bounds-are-kept")
def redo_is_let_go(writer: str, page_id: int, kept: Lsn, folded: Lsn) -> None:
    """23: of a page in the pool, redo from ``kept`` on; its image is as of ``folded``."""
    if kept <= folded:
        raise Broken(
            f"{writer} keeps the redo of page {page_id} from {kept} on, which is part of its image "
            f"up to {folded}: expected what is newer"
        )


@holds("bounds-are-kept")
def outgoing_fits(
    writer: str, pg_id: int, size: int, limit: int, at_start: int, mtr_bytes: int
) -> None:
    """23: ``size`` bytes of encoded log wait for segments; writers wait at twice the ``limit``.

    The part of a mini-transaction that comes before that may be of any size; so may be what a
    recovery has left to be copied, ``at_start``.
    """
    most = max(2 * limit, at_start) + mtr_bytes
    if size > most:
        raise Broken(
            f"{writer} keeps {size} bytes of log for the segments of group {pg_id}: expected at "
            f"most {most}"
        )


@holds("bounds-are-kept")
def durable_log_is_let_go(
    writer: str, pg_id: int, size: int, limit: int, base: Lsn, pgcl: Lsn
) -> None:
    """23: beyond the ``limit`` only what no write quorum holds is kept for segments.

    ``pgcl`` was the PGCL some ticks ago.
    """
    if size > limit and base < pgcl:
        raise Broken(
            f"{writer} keeps {size} bytes of log for the segments of group {pg_id}, from {base} on:"
            f" expected at most {limit}, or only what is above {pgcl}"
        )


@holds("bounds-are-kept")
def queue_fits(segment: SegmentId, waiting: Sequence[Pending], limit: int) -> None:
    """23: what waits for the disk.

    The first message may be of any size; a promise comes in as long as the rest is within bounds.
    """
    if not waiting:
        return
    sizes = [
        _ENTRY_BYTES + (len(each.entry.records) if isinstance(each.entry, RecordsEntry) else 0)
        for each in waiting
    ]
    if sum(sizes) > max(limit, sizes[0]) + _ENTRY_BYTES:
        raise Broken(
            f"{segment} has {sum(sizes)} bytes waiting for its disk: expected at most {limit}"
        )


@holds("bounds-are-kept")
def knows_its_queue(segment: SegmentId, counted: int, waiting: Sequence[Pending]) -> None:
    """23: what a segment refuses messages by is the size of what waits."""
    size = sum(each.size for each in waiting)
    if counted != size:
        raise Broken(f"{segment} believes that {counted} bytes wait for its disk: it is {size}")


@holds("bounds-are-kept")
def writes_what_it_lacks(segment: SegmentId, writing: Sequence[Pending], scl: Lsn) -> None:
    """23: records that are durable already are not written once more."""
    for each in writing:
        if each.run is not None and each.run.last_lsn <= scl:
            raise Broken(
                f"{segment} writes records up to {each.run.last_lsn}, with SCL {scl}: expected "
                "only what it lacks"
            )


@holds("bounds-are-kept")
def promises_with_reason(segment: SegmentId, slots: bytes, rotted: bool) -> None:
    """23: a promise is written alone only to mend ``slots`` that were found spoilt."""
    if not rotted and slots[: len(slots) // 2] * 2 == slots:
        raise Broken(f"{segment} writes its promise anew, of which both slots are whole")


@holds("bounds-are-kept")
def file_fits(segment: SegmentId, name: str, file: LogPart, limit: int) -> None:
    """23: the last file of the log, if it has more than its head and one frame."""
    size = len(file.data)
    if size > limit and len(scan([file]).frames) > _HEAD_AND_FRAME:
        raise Broken(
            f"{segment} has a file {name} of {size} bytes: expected another one at {limit}"
        )


@holds("bounds-are-kept")
def runs_fit(segment: SegmentId, file: LogPart, limit: int) -> None:
    """23: each run of records in a ``file`` just written anew, unless it has a single one."""
    entries = (entry for scanned in scan([file]).frames for entry in scanned.frame.entries)
    for entry in entries:
        if isinstance(entry, RecordsEntry) and len(entry.records) > limit + _ENTRY_BYTES:
            count = len(read_records(entry.records))
            if count > 1:
                raise Broken(
                    f"{segment} writes {count} records of {len(entry.records)} bytes in one frame "
                    f"of a new log: expected at most {limit}"
                )


@holds("bounds-are-kept")
def write_fits(segment: SegmentId, size: int, entries: int, limit: int) -> None:
    """23: the bytes of one write, unless it has a single entry."""
    if entries > 1 and size > limit * _ESCAPED + 4 * _ENTRY_BYTES:
        raise Broken(
            f"{segment} writes {size} bytes of {entries} entries at once: expected at most {limit}"
        )


@holds("bounds-are-kept")
def is_written_anew_with_reason(
    segment: SegmentId, size: int, needed: int, config: SegmentConfig, short: bool
) -> None:
    """23: a sound log is written anew as the settings say, and not more often.

    ``needed`` bytes of it are still open; ``short``: the segment has too little space.
    """
    if not is_long(size, needed, config, short):
        raise Broken(
            f"{segment} writes its log of {size} bytes anew, of which {needed} are not in layers, "
            "and nothing rotted: expected it to wait"
        )


def is_long(size: int, needed: int, config: SegmentConfig, short: bool) -> bool:
    """Whether a log of ``size`` bytes is to be written anew, of which ``needed`` are still open.

    However few they are where space is ``short``.
    """
    most = config.compact_ratio * (needed + _HEADS_BYTES)
    return size > (0 if short else config.compact_bytes) and size > most


@holds("bounds-are-kept")
def unlinked_fits(segment: SegmentId, unlinked: int, limit: int) -> None:
    """23: records kept above a gap."""
    if unlinked > limit:
        raise Broken(f"{segment} keeps {unlinked} records above a gap: expected at most {limit}")


@holds("bounds-are-kept")
def cache_fits(segment: SegmentId, what: str, sizes: Sequence[int], limit: int) -> None:
    """23: versions of pages, or blocks of layers, in memory, each of so many bytes."""
    if sum(sizes) > limit:
        raise Broken(
            f"{segment} keeps {len(sizes)} {what} of {sum(sizes)} bytes: expected at most {limit}"
        )


@holds("bounds-are-kept")
def queries_fit(segment: SegmentId, waiting: int, limit: int) -> None:
    """23: questions that wait for blocks of layers."""
    if waiting > limit:
        raise Broken(f"{segment} has {waiting} questions waiting: expected at most {limit}")


@holds("bounds-are-kept")
def fetched_once(writer: str, group: str, last: Lsn, lsns: Sequence[Lsn]) -> None:
    """23: a recovery keeps each record once: ``lsns`` were fetched after all up to ``last``."""
    for lsn in lsns:
        if lsn <= last:
            raise Broken(f"{writer} has fetched LSN {lsn} of group {group} after LSN {last}")
        last = lsn


@holds("bounds-are-kept")
def gives_way(writer: str, epochs: int, limit: int) -> None:
    """23: epochs that a recovering writer tries to seal."""
    if epochs > limit + 1:
        raise Broken(f"{writer} tries {epochs} epochs: expected at most {limit + 1}")


@holds("bounds-are-kept")
def gives_way_once_sealed(
    writer: str, before: VolumeEpoch, sealed: bool, epoch: VolumeEpoch
) -> None:
    """23: two that open at once do not outbid each other for ever.

    ``sealed``: a read quorum of every group had sealed the epoch ``before`` for it.
    """
    if sealed and epoch != before:
        raise Broken(
            f"{writer} tries epoch {epoch} after a read quorum of every group has sealed epoch "
            f"{before} for it: expected it to give way"
        )


@holds("bounds-are-kept")
def holds_back_little(segment: SegmentId, messages: Sequence[int], most: int, size: int) -> None:
    """23: the sizes of what is held of a paused party, of which a single one always may be."""
    if len(messages) > most or sum(messages[1:]) > size:
        raise Broken(
            f"{len(messages)} messages of {sum(messages)} bytes are held of {segment}, which is "
            f"paused: expected at most {most} and {size}"
        )


@holds("bounds-are-kept")
def few_ended_writers(ended: int, limit: int) -> None:
    """23: writers that have ended and are kept to be looked at."""
    if ended > limit:
        raise Broken(f"{ended} writers that have ended are kept: expected at most {limit}")


@holds("bounds-are-kept")
def answered_in_time(call: Call, most_ns: int) -> None:
    """23: a read that nobody can answer fails in time."""
    assert call.returned_ns is not None
    if call.returned_ns - call.invoked_ns > most_ns:
        raise Broken(
            f"call {call.number}, a {call.operation.kind}, took "
            f"{call.returned_ns - call.invoked_ns} ns: expected at most {most_ns}"
        )


# ---- in the end ----------------------------------------------------------------------------------


@holds("bounds-are-kept")
def log_is_compacted(
    segment: SegmentId, size: int, needed: int, config: SegmentConfig, short: bool
) -> None:
    """23, in the end: a log that is long has been written anew; ``needed`` bytes are still open."""
    if is_long(size, needed, config, short):
        raise Broken(
            f"{segment} has a log of {size} bytes, of which {needed} are not in layers: expected "
            f"at most {config.compact_bytes}, or {config.compact_ratio} times as much"
        )


# ---- which setting is held by what ---------------------------------------------------------------

HELD_BY: Final[Mapping[str, Callable[..., object]]] = {
    "engine.retention_lsns": rules_of_floors.keeps_what_is_retained,
    "engine.retention_s": rules_of_floors.keeps_what_is_young,
    "engine.max_mtr_writes": mtr_fits,
    "engine.max_mtr_bytes": mtr_fits,
    "engine.part_writes": part_fits,
    "engine.part_bytes": part_fits,
    "engine.buffer_pool_pages": pool_fits,
    "engine.old_versions": old_versions_fit,
    "engine.reads_in_flight": reads_fit,
    "engine.outgoing_bytes": outgoing_fits,
    "engine.batch_bytes": rules_of_wire.records_fit,
    "engine.batches_in_flight": rules_of_wire.window_kept,
    "engine.resend_min_s": rules_of_wire.sends_again_in_time,
    "engine.resend_max_s": rules_of_wire.sends_again_in_time,
    "engine.heartbeat_interval_s": rules_of_the_end.floor_is_known,
    "engine.read_timeout_s": answered_in_time,
    "engine.list_pages": rules_of_wire.list_fits,
    "engine.seal_attempts": gives_way,
    "cluster.lal": invariants.within_lal,
    "cluster.inbox_messages": holds_back_little,
    "cluster.inbox_bytes": holds_back_little,
    "cluster.ended_writers": few_ended_writers,
    "segment.queue_bytes": queue_fits,
    "segment.write_bytes": write_fits,
    "segment.unlinked_limit": unlinked_fits,
    "segment.image_interval": rules_of_layers.replays_little,
    "segment.image_cache_bytes": cache_fits,
    "segment.gossip_bytes": rules_of_wire.records_fit,
    "segment.list_pages": rules_of_wire.list_fits,
    "segment.wal_file_bytes": file_fits,
    "segment.fold_bytes": rules_of_layers.log_is_folded,
    "segment.block_bytes": rules_of_layers.block_fits,
    "segment.block_cache_bytes": cache_fits,
    "segment.fan_out": rules_of_layers.layers_are_few,
    "segment.collect_ratio": rules_of_the_end.is_collected,
    "segment.disk_bytes": rules_of_space.tells_its_space,
    "segment.queries": queries_fit,
    "segment.compact_bytes": log_is_compacted,
    "segment.compact_ratio": log_is_compacted,
    "segment.scrub_interval_s": rules_of_the_end.disk_is_whole,
    "segment.scrub_bytes": rules_of_the_end.disk_is_whole,
}
"""Settings, each by class and name, with the predicate that holds what it promises."""

_PACE: Final = "a pace: how often something is done, and not how much there is of it"
_FOLDS: Final = "what the VDL reaches can be folded at once, however much that is"
_CHOICE: Final = "whom to ask first is a choice: any answer is right, and reads end in time"
_NETWORK: Final = "the network gives out no more messages at a time than it is asked for"

NOT_HELD: Final[Mapping[str, str]] = {
    "cluster.vdl_note_interval_s": _PACE,
    "segment.unfolded_bytes": _FOLDS,
    "router.explore_every": _CHOICE,
    "router.smoothing": _CHOICE,
    "router.hedge_multiple": _CHOICE,
    "router.hedge_min_s": _CHOICE,
    "router.hedge_max_s": _CHOICE,
    "router.attempt_timeout_s": _CHOICE,
    "router.failure_backoff_min_s": _CHOICE,
    "router.failure_backoff_max_s": _CHOICE,
    "router.retry_min_s": _PACE,
    "router.retry_max_s": _PACE,
    "engine.tick_interval_s": _PACE,
    "engine.seal_retry_s": _PACE,
    "engine.receive_limit": _NETWORK,
    "cluster.pg_count": "a shape: the world is made with it",
    "segment.receive_limit": _NETWORK,
    "segment.tick_interval_s": _PACE,
    "segment.gossip_interval_s": _PACE,
    "segment.hydration_timeout_s": _PACE,
    "segment.storage_retry_s": _PACE,
}
"""Settings that nothing is held against, and why."""
