"""Bugs of the files that a log consists of: what is durable when, and in which order they are read.

Whatever a crash makes of them is drawn, so only random seeds play them.
"""

from __future__ import annotations

from typing import Final

from sim.bugs.registry import Bug, Edit

_PUT_IN_PLACE: Final = "segments.hot_log:HotLog._put_in_place"
_SYNC: Final = "await self._storage.sync_names()\n"
_PUBLISH: Final = "await self._publish([*before, *made])\n"

FILE_BUGS: Final = (
    Bug(
        name="publish-before-sync",
        summary="a manifest names new files before it is sure that their names last",
        section="protocol §6",
        edits=(
            Edit(
                _PUT_IN_PLACE,
                f"        {_SYNC}        {_PUBLISH}",
                f"        {_PUBLISH}        {_SYNC}",
            ),
        ),
    ),
    Bug(
        name="delete-before-publish",
        summary="the files of the old log are deleted, then the manifest names the new ones",
        section="protocol §6",
        edits=(
            Edit(
                _PUT_IN_PLACE,
                f"        {_PUBLISH}",
                "        if not before:\n"
                "            await self._storage.delete([each.name for each in self._files])\n"
                f"        {_PUBLISH}",
            ),
        ),
    ),
    Bug(
        name="manifest-not-synced",
        summary="a later manifest is written like any file, and its name is not synced",
        section="protocol §6",
        edits=(
            Edit(
                "segments.hot_log:HotLog._publish",
                "        await self._storage.publish(MANIFEST, manifest)\n",
                "        if not self._manifest:\n"
                "            await self._storage.publish(MANIFEST, manifest)\n"
                "        else:\n"
                "            await self._storage.delete([MANIFEST])\n"
                "            await self._make(MANIFEST, [manifest])\n",
            ),
        ),
    ),
    Bug(
        name="wal-files-out-of-order",
        summary="a restart reads the files of a log by their names, wal-10 before wal-9",
        section="protocol §6",
        edits=(
            Edit(
                "segments.log_files:decode_manifest",
                "return _half(data[:middle]) or _half(data[middle:])",
                "found = _half(data[:middle]) or _half(data[middle:])\n"
                "    return found and found._replace(\n"
                "        files=tuple(sorted(found.files, key=lambda each: each.name))\n"
                "    )",
            ),
        ),
    ),
)
