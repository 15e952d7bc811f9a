"""Background work of a segment: coalescing, collection, compaction, scrub (2017 §3.3; protocol §6).

None of it is in the path of a write. Each turn is bounded, so that a turn never holds up the next
message for long.
"""

from __future__ import annotations

from collections.abc import Iterator

from segments.config import SegmentConfig
from segments.protocol import events
from segments.protocol.events import Tracer
from segments.protocol.ids import SegmentId
from segments.state import SegmentState
from segments.wal import encode_promise, verify


class Maintenance:
    """The housekeeping part of one segment."""

    def __init__(
        self,
        segment: SegmentId,
        state: SegmentState,
        config: SegmentConfig,
        log_bytes: int,
        spread: float,
        trace: Tracer | None = None,
    ) -> None:
        """``spread``, from 0 to 1, is this segment's own share of patience before it compacts.

        Nothing is acknowledged while the log is written anew: the six must not all do it at once.
        """
        self._segment = segment
        self._state = state
        self._trace = trace
        self._config = config
        self.log_bytes = log_bytes
        """Durable length of the log."""
        self.damages_found = 0
        """How often the scrub has found damage."""
        self.compactions = 0
        self.behind = False
        """Whether the last turn has left enough to do for another one at once."""
        self._patience = 1.0 + spread / 2.0
        self._now = 0.0
        self._compact_at = 0.0
        """Not before then: a compaction that the disk refused must not hold up writes for ever."""
        self._appending = 0
        self._writing_promise = False
        self._compacting: int | None = None
        self._collected = 0
        """Records collected, and still in the log as far as is known."""
        self._checkpoint_bytes = 0
        """What the last compaction has written; 0 before the first one."""
        self._rewrite = False
        self._rewrite_at = 0.0
        self._rewrite_pause_s = 0.0
        """Between two rewrites because of damage: doubled by each until the log is found sound."""
        self.promise_due = False
        """Whether the promise slots are to be written again: damage was found in them."""
        self.promises_to_scrub = False
        """Whether the promise slots are to be read again: the log has been, to its end."""
        self._generation = 0
        self._scrub_at: float | None = None
        self._scrub_offset = 0
        self._scrub_length = config.scrub_bytes

    def tick(self, now: float, *, sends_pages: bool) -> None:
        """One bounded turn; ``sends_pages`` tells whether a peer is taking page images from here.

        Like a checkpoint they are of one moment: nothing is collected meanwhile.
        """
        self._now = now
        state, budget = self._state, self._config.coalesce_records
        state.index.look_into_more()
        work = state.materializer.coalesce(state.vdl, budget)
        collected = 0
        if self._compacting is None and not sends_pages:
            collected = self._collect(budget)
        self.behind = collected >= budget or work > max(0, budget - 1 - self._config.image_interval)
        if self._scrub_at is None:
            self._scrub_at = now + self._config.scrub_interval_s

    def _collect(self, budget: int) -> int:
        """Collect at most ``budget`` records; returns how many."""
        state = self._state
        up_to = min(state.announced_floor, state.vdl, state.scl)
        collectable = state.index.count_through(up_to)
        if collectable < self._config.collect_records:
            return 0
        if collectable > budget:
            up_to = state.index.linked_lsn(budget - 1)
        removed = state.collect(up_to)
        self._collected += removed
        if self._trace is not None:
            collected = events.LogCollected(up_to, removed, state.announced_floor)
            self._trace(self._segment, collected)
        return removed

    # ---- compaction ------------------------------------------------------------------------------

    @property
    def compaction_due(self) -> bool:
        """Whether the log is to be written anew: much of it is history, or damage was found.

        History counts by its records too, since a restart takes longer over a small record than
        over a large piece of an image. Not before the segment is whole: a clean log would hide
        what is still missing.

        No compaction makes the next one due, in any setting, as none of this is an estimate of
        what one would write. When one has ended, the log is as long as what it *has* written, c,
        and nothing in it is collected. By size the next one is due at more than ``compact_ratio``
        times c, so after a growth of a tenth of c at least; by records, after ``compact_records``
        more have been collected, each of which was written once. Only after a restart is c not
        known, and the estimate alone decides: once. Damage on a disk that spoils whatever is
        written to it is repaired at growing intervals.
        """
        if not self._state.whole or self._now < self._compact_at:
            return False
        if self._rewrite and self._now >= self._rewrite_at:
            return True
        config, size = self._config, self.log_bytes
        if size <= config.compact_bytes:
            return False
        if self._collected >= config.compact_records * self._patience:
            return True
        needed = max(self._checkpoint_bytes, self._state.live_bytes())
        return size > config.compact_ratio * self._patience * needed

    def require_rewrite(self) -> None:
        """Have the log written anew at the next opportunity."""
        self._rewrite = True

    def start_compaction(self) -> Iterator[bytes]:
        """The frames of the new log."""
        self._compacting = 0
        frames = self._state.checkpoint_frames()
        return self._counted(frames)

    def _counted(self, frames: Iterator[bytes]) -> Iterator[bytes]:
        for frame in frames:
            assert self._compacting is not None
            self._compacting += len(frame)
            yield frame

    @property
    def write_due(self) -> bool:
        """Whether anything is to be written on the disk's own account."""
        return self.promise_due or self.compaction_due

    # ---- the length of the log -------------------------------------------------------------------

    def appending(self, size: int) -> None:
        """A frame of ``size`` bytes is about to be appended."""
        self._appending = size

    def writing_promise(self) -> None:
        """Both promise slots are about to be written."""
        self._writing_promise = True

    def wrote(self) -> None:
        """The write under way is durable."""
        if self._compacting is not None:
            self.log_bytes = self._checkpoint_bytes = self._compacting
            self._compacting = None
            self._collected = 0
            if self._rewrite:
                self._rewrite = False
                self._rewrite_at = self._now + self._rewrite_pause_s
                self._rewrite_pause_s = max(
                    self._config.scrub_interval_s, 2.0 * self._rewrite_pause_s
                )
            self.compactions += 1
            self._generation += 1
            self._scrub_offset = 0
        self.log_bytes += self._appending
        self._appending = 0
        if self._writing_promise:
            self.promise_due = self._writing_promise = False

    def write_failed(self) -> None:
        """The write under way came to nothing."""
        if self._compacting is not None:
            self._compact_at = self._now + 10.0 * self._config.storage_retry_s
        self._compacting = None
        self._appending = 0
        self._writing_promise = False

    # ---- scrub -----------------------------------------------------------------------------------

    def take_scrub(self, now: float) -> tuple[int, int, int] | None:
        """What to read again: (generation, offset, length), or None if it is not time."""
        if self._scrub_at is None or now < self._scrub_at or self.log_bytes == 0:
            return None
        self._scrub_at = None
        length = min(self._scrub_length, self.log_bytes - self._scrub_offset)
        return self._generation, self._scrub_offset, length

    def scrubbed(self, generation: int, offset: int, data: bytes) -> None:
        """Check what was read. What the disk lost is still in memory, and is written anew."""
        if generation != self._generation:
            return
        sound_bytes, damaged = verify(data)
        at_end = offset + len(data) >= self.log_bytes
        if damaged or (at_end and sound_bytes < len(data)):
            self.damages_found += 1
            self.require_rewrite()
            if self._trace is not None:
                self._trace(self._segment, events.ScrubFoundDamage(offset + sound_bytes))
            return
        if at_end:
            self._rewrite_pause_s = 0.0
            self._scrub_offset, self._scrub_length = 0, self._config.scrub_bytes
            self.promises_to_scrub = True
        elif sound_bytes == 0:
            self._scrub_length *= 2
        else:
            self._scrub_offset = offset + sound_bytes
            self._scrub_length = self._config.scrub_bytes

    def promises_scrubbed(self, slots: bytes) -> None:
        """Check what was read of the promise slots; the promise itself is still in memory.

        A promise on its way to the disk makes both slots differ, rightly: they are read again then.
        """
        if self._writing_promise:
            return
        self.promises_to_scrub = False
        if slots == encode_promise(self._state.promise) * 2:
            return
        self.damages_found += 1
        self.promise_due = True
        if self._trace is not None:
            self._trace(self._segment, events.ScrubFoundBadPromise())
