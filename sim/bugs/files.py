"""Bugs of files and layers: what is durable when, and what becomes of records that are folded.

Whatever a crash makes of files is drawn: bugs that need one are left to random seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sim.bugs.plan import Plan, folding
from sim.bugs.registry import Bug, Edit

_PUBLISH: Final = "segments.background:Background._publish"
_BEGIN_FILE: Final = "segments.hot_log:HotLog._begin_file"
_MATERIALIZER: Final = "segments.layers.materializer:Materializer"

FILE_BUGS: Final = (
    Bug(
        name="publish-before-sync",
        summary="a manifest names new files before it is sure that their names last",
        section="protocol §6",
        edits=(
            Edit(
                _PUBLISH,
                "        yield Republish(edit)\n",
                "        yield Republish(edit)\n        yield SyncNames()\n",
            ),
            Edit(
                _PUBLISH,
                "        yield SyncNames()\n        if not",
                "        if not",
            ),
            Edit(_BEGIN_FILE, "        await storage.sync_names()\n", ""),
        ),
    ),
    Bug(
        name="delete-before-publish",
        summary="what a layer replaces is deleted, then the manifest names the layer",
        section="protocol §6",
        edits=(
            Edit(
                _PUBLISH,
                "        yield SyncNames()\n",
                "        yield SyncNames()\n        yield Delete(tuple(gone))\n",
            ),
        ),
    ),
    Bug(
        name="manifest-not-synced",
        summary="a later manifest is written like any file, and its name is not synced",
        section="protocol §6",
        edits=(
            Edit(
                "segments.hot_log:HotLog.republish",
                "            await self._storage.publish(MANIFEST, manifest)\n",
                "            await self._storage.delete([MANIFEST])\n"
                "            await self._storage.create(MANIFEST)\n"
                "            await self._storage.extend(MANIFEST, manifest)\n"
                "            await self._storage.sync_file(MANIFEST)\n",
            ),
        ),
    ),
    Bug(
        name="wal-files-out-of-order",
        summary="a restart reads the files of a log by their names, wal-10 before wal-9",
        section="protocol §6",
        edits=(
            Edit(
                "segments.manifest:decode_manifest",
                "return _half(data[:middle]) or _half(data[middle:])",
                "found = _half(data[:middle]) or _half(data[middle:])\n"
                "    return found and found._replace(\n"
                "        logs=tuple(sorted(found.logs, key=lambda each: each.name))\n"
                "    )",
            ),
        ),
    ),
    Bug(
        name="log-file-dropped-early",
        summary="a fold drops all files of the log but the last, whatever is in them",
        section="protocol §6",
        edits=(
            Edit(
                "segments.live_files:LiveFiles.without_folded",
                "and self._tops.get(logs[gone].number, 0) <= folded",
                "",
            ),
        ),
    ),
    Bug(
        name="file-without-a-head",
        summary="a new file of the log does not begin with what those before it have said",
        section="protocol §6",
        edits=(Edit("segments.hot_log:HotLog.append", "[head(), body]", "[body]"),),
    ),
    Bug(
        name="fold-above-vdl",
        summary="a layer takes in what is above the VDL",
        section="protocol §6",
        edits=(
            Edit(
                "segments.fold_rule:FoldRule._foldable",
                "count_through(min(state.vdl, state.scl))",
                "count_through(state.scl)",
            ),
            Edit(
                "segments.state:SegmentState.use_layers",
                "assert self.folded <= layers.folded <= self.vdl,",
                "assert self.folded <= layers.folded,",
            ),
        ),
    ),
    Bug(
        name="heartbeat-vdl-trusted",
        summary="a restart forgets that what is folded was at or below a VDL it had only heard of",
        section="protocol §6",
        edits=(Edit("segments.state:SegmentState.__init__", "= layers.folded\n", "= 0\n"),),
    ),
    Bug(
        name="image-stale-after-fold",
        summary="a version of a page that is kept counts as the newest of what is folded since",
        section="protocol §6",
        edits=(
            Edit(
                f"{_MATERIALIZER}._start",
                "kept = kept_version(page_id, read_point)\n",
                "kept = kept_version(page_id, read_point)\n"
                "    if kept is not None:\n"
                "        through = max(kept.through, min(read_point, self._layers.folded))\n"
                "        kept = kept._replace(through=through)\n",
            ),
        ),
    ),
    Bug(
        name="layer-read-after-delete",
        summary="what a read finds of a layer that was replaced meanwhile counts as damage",
        section="protocol §6",
        edits=(
            Edit(
                "segments.background:Background.found_damage",
                "if damage.layer in layers.numbers and",
                "if",
            ),
        ),
    ),
    Bug(
        name="bloom-denies",
        summary="a filter is asked for other bits than those that were set, and nobody wonders",
        section="protocol §6",
        edits=(
            Edit("segments.layers.bloom:Bloom.may_hold", "digest >> 32 | 1", "digest >> 32"),
            Edit(f"{_MATERIALIZER}._plan", "if not answer.page_lsn:", "if False:"),
        ),
    ),
    Bug(
        name="merge-loses-a-boundary",
        summary="a merge leaves out the first record of each layer",
        section="protocol §6",
        edits=(
            Edit(
                "segments.layers.ordered:LayerSource.next_block",
                "if min(block.lsns) > start and",
                "if min(block.lsns) > start + 1 and",
            ),
            Edit(
                "segments.layers.ordered:LayerSource.next_block",
                "[start < lsn <=",
                "[start + 1 < lsn <=",
            ),
        ),
    ),
    Bug(
        name="source-left-out",
        summary="a layer that begins behind all that has been read is left out of a merge",
        section="protocol §6",
        edits=(
            Edit(
                "segments.layers.ordered:Ordered.next_block",
                "continue",
                "return None",
            ),
        ),
    ),
    Bug(
        name="collect-forgets-the-floor-of-a-page",
        summary="a base takes the version of a page at its last image, without what follows",
        section="protocol §6",
        edits=(
            Edit(
                "segments.layers.collect:Newest._see",
                "if start < stop:",
                "if start < stop and not self._image:",
            ),
        ),
    ),
)


def folded_before_it_is_durable() -> Plan:
    """A, B and C hold a record that is not durable when it is time to fold."""
    plan = folding()
    plan.part(5, "D,E,F", "writer-1")
    plan.put(10, 0)
    return plan


def long_tail() -> Plan:
    """A, B and C hold files full of what is not durable when they fold the first record."""
    plan = folding(wal_file_bytes=1 << 10)
    plan.put(10, 0)
    plan.part(12, "D,E,F", "writer-1")
    for client in range(4):
        plan.put(14 + client, 0, client=client, length=600)
    return plan


def many_files() -> Plan:
    """The log goes on in one file after the other, and what is in the first is folded."""
    plan = folding(wal_file_bytes=1 << 10)
    for turn in range(8):
        plan.put(10 + 20 * turn, turn, length=600)
    return plan


def all_folded() -> Plan:
    """All that a segment has of a VDL is a layer when its power fails."""
    plan = folding()
    plan.put(10, 0)
    plan.fault(300, "crash", "A")
    plan.fault(301, "restart", "A")
    return plan


def read_before_the_fold() -> Plan:
    """A page is read, then written again, and that is folded; then it is read once more.

    Several times over: whether it is asked of whom it was asked before, is chance.
    """
    plan = folding(end_ms=800, buffer_pool_pages=1)
    for put_ms in (10, 200, 390, 580):
        plan.put(put_ms, 0)
        plan.put(put_ms + 4, 1)  # it takes the place of the other in the pool
        for at_ms in range(put_ms + 10, put_ms + 190, 10):
            plan.get(at_ms, 0)
            plan.get(at_ms + 5, 1)
    return plan


def many_layers() -> Plan:
    """Each record is a layer of its own, and the newest of them are merged."""
    plan = folding(end_ms=1_500, retention_lsns=None, fan_out=2)
    for turn in range(10):
        plan.put(10 + 120 * turn, turn % 2)
    return plan


def pages_in_order() -> Plan:
    """Three layers have as many rows as are gathered at once, and those of a fourth are behind."""
    plan = folding(end_ms=1_000, retention_lsns=None, fan_out=2, fold_bytes=8 << 10)
    plan.put(10, *range(341, 682))
    for turn in range(3):
        plan.put(200 + 200 * turn, *range(341))
    return plan


def collected_twice() -> Plan:
    """A page is collected, written again, and collected again."""
    plan = folding()
    plan.put(10, 0)
    plan.put(200, 0)
    return plan


def read_of_layers() -> Plan:
    """Pages are read that are in a layer and not in memory."""
    plan = folding(end_ms=500, retention_lsns=None, buffer_pool_pages=1, image_cache_bytes=0)
    for page in range(8):
        plan.put(10 + 2 * page, page)
        plan.get(300 + 2 * page, page)
    return plan


PLANS: Final[dict[str, Callable[[], Plan]]] = {
    "log-file-dropped-early": long_tail,
    "file-without-a-head": many_files,
    "fold-above-vdl": folded_before_it_is_durable,
    "heartbeat-vdl-trusted": all_folded,
    "image-stale-after-fold": read_before_the_fold,
    "bloom-denies": read_of_layers,
    "merge-loses-a-boundary": many_layers,
    "source-left-out": pages_in_order,
    "collect-forgets-the-floor-of-a-page": collected_twice,
}
