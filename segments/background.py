"""What a segment does on its own account, one job at a time (2017 §3.3; protocol §6).

Records that no recovery can annul any more leave the log for a layer (*fold*); neighbouring layers
become one (*merge*); what is below the floor becomes the newest version of each page (*collect*);
and what is missing or damaged here comes from a peer as a layer (*take over*). None of it is in the
path of a write: a job writes files that nobody knows, and the manifest makes them live.

**Order on the disk**, in `_publish` alone: the bytes of a new layer, its name, the manifest that
names it and no longer names what it replaces, and then the deletion of that.

(More than 400 lines: which job comes before which is decided beside what they do.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final

from segments.config import SegmentConfig
from segments.fold_rule import FoldRule
from segments.gossip import Gossip
from segments.layers.collect import collect_job
from segments.layers.fold import fold_job
from segments.layers.images import PageBefore, Spacing
from segments.layers.job import (
    PAUSE,
    Create,
    Delete,
    Extend,
    Job,
    Republish,
    SyncFile,
    SyncNames,
    Wait,
    giving_way,
)
from segments.layers.layer import Layer, NewPages, narrowed, open_layer
from segments.layers.merge import merge_job
from segments.layers.tiers import Collect, Merge, Tiers
from segments.layers.writing import written
from segments.live_files import LiveFiles
from segments.manifest import LayerFile, Manifest, filled
from segments.protocol import events
from segments.protocol.errors import Corrupt, DamagedLayer, SpoiltRun, StorageFailed
from segments.protocol.events import Tracer
from segments.protocol.ids import Lsn, SegmentId
from segments.scrub import Scrub
from segments.space import SpaceWatch
from segments.state import SegmentState
from segments.transfer import Transfer, fits, is_lacking, layer_job

_RESTS: Final = 10.0
"""So many `storage_retry_s` a disk is left alone that has refused something to a job."""


class Background:
    """Which job is due, and the jobs."""

    def __init__(
        self,
        segment: SegmentId,
        state: SegmentState,
        files: LiveFiles,
        gossip: Gossip,
        scrub: Scrub,
        config: SegmentConfig,
        random: Random,
        ask: Callable[[Transfer], None],
        raised: Callable[[], None],
        trace: Tracer | None = None,
    ) -> None:
        """``random`` draws the salts of new files.

        ``ask`` sends a peer the question for the next part of a layer; ``raised`` is told when a
        layer of a peer has raised the SCL.
        """
        self._segment = segment
        self._state = state
        self._files = files
        self._gossip = gossip
        self._scrub = scrub
        self._config = config
        self._random = random
        self._ask = ask
        self._raised = raised
        self._trace = trace
        self._spacing = Spacing(config.image_interval)
        self.tiers = Tiers(config.fold_bytes, config.fan_out, config.collect_ratio)
        self.fold_rule = FoldRule(state, files, config)
        self.watch = SpaceWatch(segment, state, files, self.tiers, config, trace)
        self.look_at_space()
        self.new_file_due = False
        """Whether the log is to go on in a new file: the others are about to be written anew."""
        self.rewrites = 0
        """How often the log was written anew."""
        self.naming: Layer | None = None
        """The layer that the manifest is about to name, whatever happens meanwhile."""
        self._beginning_file = False
        self._owed = 0
        """Bytes to be read for merges before the next fold, where merging lags: those of the last
        fold, as often as there are too many layers. So their number comes to rest."""
        self._job_failed = False
        """Whether the last job that has ended came to nothing."""
        self._not_before = 0.0
        """When to try again: a disk that refuses has to be left alone for a while."""
        self._rewrite_at = 0.0
        self._rewrite_pause_s = 0.0
        """Between two rewrites because of damage: doubled by each until the log is found sound."""

    def take_job(self, now: float) -> Job[None] | None:
        """The job that is due, if any; none is taken before the last one has ended."""
        job = None if now < self._not_before else self._due(now)
        return None if job is None else self._guarded(job, now)

    def _guarded(self, job: Job[None], now: float) -> Job[None]:
        """``job``, which ends at damage that it meets: what is damaged has to come from a peer.

        Until then it would meet the same again and again.
        """
        try:
            yield from job
        except Corrupt as error:
            if isinstance(error, DamagedLayer):
                self.found_damage(error, "a job")
            if isinstance(error, SpoiltRun):
                self._state.give_up(error)
            self.failed(str(error), now)

    def _due(self, now: float) -> Job[None] | None:
        if (transfer := self._gossip.transfer) is not None:
            return self._take_over(transfer)
        if self._scrub.manifest_is_damaged:
            return self._mend_manifest()
        if self._rewrite_due(now):
            return self._rewrite(now)
        plan = self.planned()
        if isinstance(plan, Collect) and self._gossip.gives_layers(now):
            plan = None
        if (fold := self._due_fold(merging=plan is not None)) is not None:
            return fold
        match plan:
            case Collect(old):
                return self._collect(old)
            case Merge(old):
                return self._merge(old)
        return None

    def _due_fold(self, *, merging: bool) -> Job[None] | None:
        """The fold that is due: what has not been folded is in memory until then.

        So it waits for no merge or collection, which take long, unless they are far behind; and of
        course only if there is one: ``merging``.
        """
        through = self.fold_rule.through()
        if through <= self._state.folded or (merging and self._merges_come_first()):
            return None
        return self._fold(through)

    def _merges_come_first(self) -> bool:
        """Whether there are so many layers that a fold has to wait until there are fewer."""
        if self.fold_rule.is_asked_for or self.watch.space.short or self._lag() <= 1:
            return False
        return self._owed > 0 or self.fold_rule.may_wait

    def _lag(self) -> float:
        return self.tiers.lag(self._state.layers.layers, self.collectable_floor)

    def _merged(self, size: int) -> None:
        self._owed -= size

    @property
    def records_wait(self) -> bool:
        """Whether writers are so far ahead of folding that records wait until a fold is done.

        That takes a fold that comes about: none does where the disk refuses layers, or one is
        damaged; nor amid a transfer that may heal it, which takes as long as a peer may be silent.
        """
        return self.fold_rule.is_far_behind and not self._job_failed and not self._heals

    @property
    def _heals(self) -> bool:
        """Whether a transfer may heal a layer. A fold that met the damage would end it."""
        return self._gossip.transfer is not None and bool(self._state.layers.damaged)

    def planned(self) -> Collect | Merge | None:
        """What is due to be collected or merged; nothing while a layer is damaged."""
        state = self._state
        if state.layers.damaged:
            return None
        return self.tiers.plan(
            state.layers.layers, self.collectable_floor, short=self.watch.space.short
        )

    @property
    def collectable_floor(self) -> Lsn:
        """Layers that end at or below this may be collected."""
        return min(self._state.announced_floor, self._state.vdl)

    def look_at_space(self) -> None:
        self.watch.look(self.collectable_floor)

    def failed(self, reason: str, now: float) -> None:
        """The job under way has come to nothing: the next one comes a little later."""
        self._job_failed, self._owed = True, 0
        self._not_before = now + _RESTS * self._config.storage_retry_s
        if self._trace is not None:
            self._trace(self._segment, events.JobFailed(reason))

    def found_damage(self, damage: DamagedLayer, by: str) -> None:
        """A part of a layer is not what was written: what it holds has to come from a peer.

        ``by`` says what has met it, as of `LayerDamaged`.
        """
        layers = self._state.layers
        if damage.layer in layers.numbers and damage.layer not in layers.damaged:
            self._scrub.damages_found += 1
            self._state.damaged(damage.layer)
            if self._trace is not None:
                self._trace(self._segment, events.LayerDamaged(damage.layer, by, str(damage)))

    # ---- the fold --------------------------------------------------------------------------------

    def _fold(self, through: Lsn) -> Job[None]:
        state, config, number = self._state, self._config, self._files.take_number()
        start = state.folded
        yield from self._learn_pages()
        yield from state.index.look_into_steps(through)
        if state.scl < through:  # a run has been given up meanwhile
            return
        layer = yield from written(
            number,
            fold_job(
                number, start, through, state.index.pieces(start, through),
                block_bytes=config.block_bytes, spacing=self._spacing,
                page_before=self._page_as_of(start),
            ),
        )  # fmt: skip
        yield from self._publish(layer, ())
        lag = self._lag()
        self._owed = round(lag * layer.length) if lag > 1 else 0

    def _learn_pages(self) -> Job[None]:
        """Learn the pages of all records in steps, where it would be done at once after that."""
        while self._state.is_behind(self._state.scl) and self._state.learn_more():
            yield PAUSE

    # ---- merges and collection -------------------------------------------------------------------

    def _merge(self, old: Sequence[Layer]) -> Job[None]:
        config, number = self._config, self._files.take_number()
        merged = merge_job(
            number, old, block_bytes=config.block_bytes, spacing=self._spacing,
            page_before=self._page_as_of(old[0].start),
        )  # fmt: skip
        layer = yield from written(number, self._giving_way(merged, old[-1].end))
        yield from self._publish(layer, old)

    def _collect(self, old: Sequence[Layer]) -> Job[None]:
        number = self._files.take_number()
        collected = collect_job(number, old, block_bytes=self._config.block_bytes)
        layer = yield from written(number, self._giving_way(collected, old[-1].end))
        rows, announced = sum(each.count for each in old), self._state.announced_floor
        why = events.LogCollected(layer.end, rows, announced)
        # Its writer may have a successor by then, with readers below it.
        yield from self._publish(
            layer, old, why=why, still=lambda: layer.end <= self.collectable_floor
        )

    def _giving_way(self, job: Job[Layer], end: Lsn) -> Job[Layer]:
        """``job``, which makes one layer of some up to ``end``, and what cannot wait for that."""
        return giving_way(job, partial(self._due_meanwhile, end), self._merged)

    def _due_meanwhile(self, end: Lsn) -> Job[None] | None:
        transfer = self._gossip.transfer
        if transfer is not None and transfer.what.start >= end:
            return self._take_over(transfer)
        return self._due_fold(merging=True)

    def _page_as_of(self, lsn: Lsn) -> PageBefore:
        return lambda page_id: self._state.materializer.read_job(page_id, lsn)

    # ---- a layer of a peer -----------------------------------------------------------------------

    def _take_over(self, transfer: Transfer) -> Job[None]:
        """Write what comes of a layer, part by part, until all of it is here and live."""
        state, number = self._state, self._files.take_number()
        what, layers = transfer.what, state.layers
        if not is_lacking(what, layers, state.scl) or not fits(what, layers):
            transfer.given_up = True
        try:
            taking = layer_job(
                transfer, number, block_bytes=self._config.block_bytes, ask=self._ask
            )
            taken = yield from written(
                number, giving_way(taking, self._due_amid_transfer, lambda _: None)
            )
            if taken is not None:
                layer, new_pages = taken
                old = state.layers.between(layer.start, layer.end)
                yield from self._publish(layer, old, new_pages)
        finally:
            self._gossip.transferred()

    def _due_amid_transfer(self) -> Job[None] | None:
        return None if self._heals else self._due_fold(merging=False)

    # ---- the log, written anew -------------------------------------------------------------------

    def _rewrite_due(self, now: float) -> bool:
        """Whether the log is to be written anew: it is damaged, or much too long.

        Not before the segment is whole: a clean log would hide what is still missing. Damage on a
        disk that spoils whatever is written to it is mended at growing intervals.
        """
        state, config, size = self._state, self._config, self._files.log_bytes
        if not state.whole:
            return False
        if self._scrub.log_is_damaged:
            return now >= self._rewrite_at
        # The records alone tell so nearly always, and no head has to be made for it.
        # What was annulled may be all that takes space.
        worth = 0 if self.watch.space.short else config.compact_bytes
        least = max(worth, config.compact_ratio * state.index.encoded_bytes())
        return size > least and size > config.compact_ratio * state.live_bytes()

    def _rewrite(self, now: float) -> Job[None]:
        """Write what the log must hold into a file that takes the place of all there are now.

        The log goes on in a new file first. What comes meanwhile goes there; the file that is made
        here may have some of that, too, and stands before it.
        """
        state, files = self._state, self._files
        damaged, epoch = self._scrub.log_is_damaged, state.table.epoch
        if self._trace is not None:
            self._trace(self._segment, events.RewriteStarted())
        self.new_file_due = True
        while self.new_file_due:
            yield Wait()
        old = {each.number for each in files.manifest.logs[:-1]}
        file, top = files.new_log(self._random), 0
        name = file.name
        try:
            yield Create(name)
            for body, highest in state.log_frames():
                file, [frame] = filled(file, [body])
                yield Extend(name, frame)
                top = max(top, highest)
            yield SyncFile(name)
            if state.table.epoch != epoch:  # it may have what this table annuls
                yield Delete((name,))
                return
            yield SyncNames()

            def edit(manifest: Manifest) -> Manifest:
                kept = (each for each in manifest.logs if each.number not in old)
                return manifest._replace(logs=(file, *kept))

            yield Republish(edit, {file.number: top})
        except (StorageFailed, SpoiltRun):
            yield Delete((name,))
            raise
        self.rewrites += 1
        self.look_at_space()
        if damaged:
            self._scrub.log_is_damaged = False
            self._rewrite_at = now + self._rewrite_pause_s
            self._rewrite_pause_s = max(self._config.scrub_interval_s, 2.0 * self._rewrite_pause_s)
        if self._trace is not None:
            self._trace(self._segment, events.LogRewritten(file.length))
        yield Delete(tuple(f"wal-{each}" for each in sorted(old)))

    def taken_new_file(self) -> None:
        """The write that begins a new file is under way."""
        self._beginning_file = True

    def wrote(self) -> None:
        """The write under way is durable."""
        if self.watch.look_is_due:
            self.look_at_space()
        if self._beginning_file:
            self.new_file_due = self._beginning_file = False

    def write_failed(self) -> None:
        """The write under way came to nothing."""
        self._beginning_file = False

    def _mend_manifest(self) -> Job[None]:
        yield Republish(lambda manifest: manifest)
        self._scrub.manifest_is_damaged = False

    # ---- files -----------------------------------------------------------------------------------

    def _publish(
        self,
        layer: Layer,
        old: Sequence[Layer],
        new_pages: NewPages | None = None,
        why: events.Event | None = None,
        still: Callable[[], bool] = lambda: True,
    ) -> Job[None]:
        """Make ``layer``, whose bytes are durable, live in place of ``old``; tell of ``why``.

        ``new_pages`` are those of a layer that comes from a peer. It is given up unless it is
        ``still`` wanted as the manifest is about to name it.
        """
        yield from self._learn_pages()
        rest = yield from self._rest_above(layer)
        layers = self._state.layers.with_layer(layer, rest)
        # A damaged log says that something is missing: no file of it goes before that is here.
        whole, files = self._state.whole, self._files
        logs = files.without_folded(layers.folded) if whole else files.manifest.logs
        left = {each.number for each in logs}
        folded = [each for each in files.manifest.logs if each.number not in left]
        live = {each.number for each in layers}
        gone = [each.name for each in folded]
        gone += [each.name for each in old if each.number not in live]
        layer_files = tuple(
            LayerFile(each.number, each.length, each.start, each.end, each.base) for each in layers
        )
        numbers = {each.number for each in folded}  # others may have been added by then

        def edit(manifest: Manifest) -> Manifest:
            logs = tuple(each for each in manifest.logs if each.number not in numbers)
            return manifest._replace(logs=logs, layers=layer_files)

        try:
            yield SyncNames()
            if not still():
                yield Delete((layer.name,))
                return
            self.naming = layer
            yield Republish(edit)
        except StorageFailed:
            yield Delete((layer.name,))
            raise
        finally:
            self.naming = None
        self._job_failed = False
        before = self._state.scl
        if new_pages is not None:
            self._state.materializer.load_pages(*new_pages)
        self._state.use_layers(layers.with_damage_of(self._state.layers))
        self.look_at_space()
        if self._trace is not None:
            if why is not None:
                self._trace(self._segment, why)
            published = events.LayerPublished(
                layer.number, layer.start, layer.end, layer.base, layer.count, layer.length,
                tuple(each.number for each in old if each.number not in live),
            )  # fmt: skip
            self._trace(self._segment, published)
            if new_pages is not None:
                self._trace(self._segment, events.Hydrated(before, self._state.scl))
        if self._state.scl > before:
            self._raised()
        yield Delete(tuple(gone))

    def _rest_above(self, layer: Layer) -> Job[Layer | None]:
        """What stays of an older layer that ``layer`` ends amid; not all its new pages are there.

        None if there is none, or it cannot be read.
        """
        cut = self._state.layers.cut_by(layer)
        if cut is None:
            return None
        try:
            opened, new_pages = yield from open_layer(cut.number, cut.length)
            rest, _ = yield from narrowed(opened, new_pages, layer.end, cut.end)
        except DamagedLayer as damage:
            self.found_damage(damage, "a job")
        except StorageFailed:
            pass  # it is only counted too high
        else:
            return rest
        return None
