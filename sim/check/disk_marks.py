"""Coverage marks of disks and of power: what crashed amid what, and which limits were filled.

They look at the disks themselves besides the trace events. `sim.check.marks` counts them with all
others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from aurora.events import RollbackFound
from segments.core import SegmentCore
from segments.manifest import MANIFEST, PROMISE, decode_manifest, leftovers
from segments.protocol.errors import MalformedFrame
from segments.protocol.events import (
    AckSent,
    BatchReceived,
    Event,
    JobFailed,
    Restored,
    RolledBack,
    ScrubFoundBadManifest,
    ScrubFoundBadPromise,
    WriteFailed,
    WriteStarted,
    WriteSynced,
)
from segments.protocol.ids import Address, Lsn, SegmentId
from segments.wal import PROMISE_SLOT_BYTES, decode_promises
from sim.check.mark import Mark
from sim.plan.schedule import MS, Action
from sim.world.listener import Listener
from sim.world.world import World

DISK_MARKS: Final = (
    Mark("power lost by all six", "all segments of a group stopped within a millisecond"),
    Mark("power lost by all six and the writer", "and so did the writer"),
    Mark("crash before the answer", "a write was durable, and its segment stopped before it spoke"),
    Mark("second crash during repair", "a damaged segment stopped again before it was whole"),
    Mark(
        "damaged and kept from help", "a damaged segment restarted, longer than a scrub after that"
    ),
    Mark("rot at rest", "a disk rotted while its segment was down"),
    Mark("promise slot torn", "a crash left one of the two promise slots torn"),
    Mark("promise slot rotten", "a promise slot had rotted, and was written again"),
    Mark("promises lost", "a segment stopped with neither promise slot sound: it is lost"),
    Mark("log of three files", "a segment restarted with a log of three files at least"),
    Mark("files left by a crash", "a segment stopped, and left files that no manifest names"),
    Mark("rotten manifest found", "the scrub found a manifest spoilt"),
    Mark("disk rolled back", "a disk became an older copy of itself"),
    Mark("rolled back and told so", "its segment heard of that, and was lost"),
    Mark("rolled back and left out", "a recovery held its seal reply against what others heard"),
    Mark("full disk with slack", "a disk with little room took a write"),
    Mark("no room for a job", "a disk with little room refused a new layer, or its log anew"),
    Mark("queue limit filled", "a segment dropped what would have exceeded its queue"),
    Mark("write limit filled", "a segment left a part of its queue for the next write"),
    Mark("unlinked records let go", "a record too far above a gap had to come again"),
)
_MANY_FILES: Final = 3
_TOGETHER_NS: Final = MS
"""Within this time everybody has lost power at once."""


class DiskCoverage(Listener):
    """Counts the marks of disks in one run."""

    def __init__(self, world: World, count: Callable[[str], None]) -> None:
        self._world = world
        self._count = count
        self._stopped_ns: dict[SegmentId, int] = {}
        self._writer_stopped_ns = -1 << 62
        self._writing: dict[SegmentId, tuple[WriteStarted, int]] = {}
        """The write under way, and the size of the log before it."""
        self._damaged_ns: dict[SegmentId, int] = {}
        """Since when a segment that has restarted damaged is not whole."""
        self._promise_rotten: set[SegmentId] = set()
        self._dropped: dict[SegmentId, int] = {}
        self._batches: dict[tuple[SegmentId, Address], tuple[int, Lsn]] = {}
        """The last batch of each writer: its number and its highest LSN."""

    def handler_of(self, kind: type[Event]) -> Callable[[str, Any], None] | None:
        """What is to be called with each step of a kind; None if it counts for nothing here."""
        handler = _ON_EVENT.get(kind)
        return None if handler is None else partial(handler, self)

    # ---- power -----------------------------------------------------------------------------------

    def on_action(self, _: int, action: Action) -> None:
        if action.kind in ("crash_writer", "recover") and self._world.cluster.engine.error is None:
            self._writer_stopped_ns = self._world.scheduler.now_ns
            if any(self._is_dark(pg_id) for pg_id in range(len(self._world.groups))):
                self._count("power lost by all six and the writer")

    def on_crashed(self, segment: SegmentId) -> None:
        now_ns = self._world.scheduler.now_ns
        self._stopped_ns[segment] = now_ns
        pg_id = self._world.cluster.hosts[segment].group.pg_id
        if self._is_dark(pg_id):
            self._count("power lost by all six")
            if now_ns - self._writer_stopped_ns <= _TOGETHER_NS:
                self._count("power lost by all six and the writer")
        if segment in self._damaged_ns:
            self._count("second crash during repair")
        self._look_at_promises(segment)
        disk = self._world.disks[segment]
        manifest = decode_manifest(disk.content(MANIFEST))
        if manifest is not None and leftovers(disk.file_names(), manifest):
            self._count("files left by a crash")

    def _is_dark(self, pg_id: int) -> bool:
        """Whether all six of a group have stopped within the last moment, and none is back."""
        hosts, now_ns = self._world.cluster.hosts, self._world.scheduler.now_ns
        return all(
            not hosts[each].started and now_ns - self._stopped_ns.get(each, -now_ns) <= _TOGETHER_NS
            for each in self._world.groups[pg_id].members
        )

    # ---- promises --------------------------------------------------------------------------------

    def on_promise_rotted(self, segment: SegmentId) -> None:
        self._promise_rotten.add(segment)

    def _look_at_promises(self, segment: SegmentId) -> None:
        slots = self._world.disks[segment].content(PROMISE)
        sound = [
            _is_sound(each) for each in (slots[:PROMISE_SLOT_BYTES], slots[PROMISE_SLOT_BYTES:])
        ]
        if segment not in self._promise_rotten:
            if sound.count(False) == 1:
                self._count("promise slot torn")
        elif not any(sound):
            self._count("promises lost")

    def _on_bad_promise(self, source: str, _: ScrubFoundBadPromise) -> None:
        if source in self._promise_rotten:
            self._promise_rotten.discard(source)
            self._count("promise slot rotten")

    # ---- damage ----------------------------------------------------------------------------------

    def on_rolled_back(self, _: SegmentId) -> None:
        self._count("disk rolled back")

    def _on_told(self, _: str, __: RolledBack) -> None:
        self._count("rolled back and told so")

    def _on_left_out(self, _: str, __: RollbackFound) -> None:
        self._count("rolled back and left out")

    def on_rotted(self, segment: SegmentId) -> None:
        if not self._world.cluster.hosts[segment].started:
            self._count("rot at rest")

    def _on_bad_manifest(self, _: str, __: ScrubFoundBadManifest) -> None:
        self._count("rotten manifest found")

    def _on_restored(self, source: str, event: Restored) -> None:
        if len(self._world.disks[source].log_files) >= _MANY_FILES:
            self._count("log of three files")
        now_ns = self._world.scheduler.now_ns
        if source in self._promise_rotten:
            self._promise_rotten.discard(source)
            self._count("promise slot rotten")
        begun, log_bytes = self._writing.pop(source, (None, 0))
        if begun is not None and begun.frame_bytes and not event.torn_bytes:
            written = self._world.disks[source].log_bytes - log_bytes
            if written == begun.frame_bytes:
                self._count("crash before the answer")
        since_ns = self._damaged_ns.pop(source, now_ns)
        if not event.whole:
            self._damaged_ns[source] = since_ns
            if now_ns - since_ns > self._world.schedule.knobs.scrub_interval_ns:
                self._count("damaged and kept from help")

    # ---- writes ----------------------------------------------------------------------------------

    def _on_write_started(self, source: str, event: WriteStarted) -> None:
        core = self._core(source)
        self._writing[source] = (event, self._world.disks[source].log_bytes)
        if event.frame_bytes and core._queue:
            self._count("write limit filled")
        dropped = self._dropped.get(source, 0)
        if core.dropped_messages > dropped:
            self._count("queue limit filled")
        self._dropped[source] = core.dropped_messages
        if source in self._damaged_ns and core.state.whole:
            del self._damaged_ns[source]

    def _on_write_synced(self, source: str, _: WriteSynced) -> None:
        begun, _size = self._writing.pop(source)
        if begun.frame_bytes and self._world.disks[source].capacity_bytes is not None:
            self._count("full disk with slack")

    def _on_write_failed(self, source: str, _: WriteFailed) -> None:
        self._writing.pop(source)

    def _on_job_failed(self, source: str, _: JobFailed) -> None:
        if self._world.disks[source].capacity_bytes is not None:
            self._count("no room for a job")

    def _on_batch(self, source: str, event: BatchReceived) -> None:
        if event.lsns is not None:
            self._batches[source, event.writer] = (event.seq, event.lsns[1])

    def _on_ack(self, source: str, event: AckSent) -> None:
        seq, highest = self._batches.get((source, event.writer), (0, 0))
        state = self._core(source).state
        let_go = highest > state.index.highest_lsn and not state.table.annuls(highest)
        if seq == event.seq and let_go:
            self._count("unlinked records let go")

    def _core(self, segment: SegmentId) -> SegmentCore:
        core = self._world.cluster.hosts[segment].core
        assert core is not None, segment
        return core


def _is_sound(slot: bytes) -> bool:
    try:
        decode_promises(slot)
    except MalformedFrame:
        return False
    return True


_ON_EVENT: Final[Mapping[type[Event], Callable[[DiskCoverage, str, Any], None]]] = {
    Restored: DiskCoverage._on_restored,
    ScrubFoundBadManifest: DiskCoverage._on_bad_manifest,
    ScrubFoundBadPromise: DiskCoverage._on_bad_promise,
    WriteStarted: DiskCoverage._on_write_started,
    WriteSynced: DiskCoverage._on_write_synced,
    WriteFailed: DiskCoverage._on_write_failed,
    JobFailed: DiskCoverage._on_job_failed,
    BatchReceived: DiskCoverage._on_batch,
    AckSent: DiskCoverage._on_ack,
    RolledBack: DiskCoverage._on_told,
    RollbackFound: DiskCoverage._on_left_out,
}
