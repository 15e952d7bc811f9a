"""Bugs of files and layers: what is durable when, and what becomes of records that are folded.

Whatever a crash makes of files is drawn, so only random seeds play most of them.
"""

from __future__ import annotations

from typing import Final

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
                "        yield SyncNames()\n        yield Republish(edit)\n",
                "        yield Republish(edit)\n        yield SyncNames()\n",
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
        edits=(Edit("segments.hot_log:HotLog.append", "[head(), frame]", "[frame]"),),
    ),
    Bug(
        name="fold-above-vdl",
        summary="a layer takes in what is above the VDL",
        section="protocol §6",
        edits=(
            Edit(
                "segments.background:Background.foldable",
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
        summary="a filter is asked for other bits than those that were set",
        section="protocol §6",
        edits=(Edit("segments.layers.bloom:Bloom.may_hold", "digest >> 32 | 1", "digest >> 32"),),
    ),
    Bug(
        name="merge-loses-a-boundary",
        summary="a merge leaves out the first record of each layer",
        section="protocol §6",
        edits=(
            Edit(
                "segments.layers.ordered:LayerSource.next_block",
                "if min(block.lsns) > start:",
                "if min(block.lsns) > start + 1:",
            ),
            Edit(
                "segments.layers.ordered:LayerSource.next_block",
                "[lsn > start for",
                "[lsn > start + 1 for",
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
