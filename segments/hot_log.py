"""The hot log of a segment, and its manifest, on the disk: which file is written when.

Straight-line input and output over a `Storage`; what the files mean is in `segments.manifest`.

**A file counts once the manifest names it**, and the manifest names it when all of it is durable:
its bytes first, then its name, then the manifest, whose replacement is atomic. What the manifest no
longer names is deleted after that. So a crash anywhere leaves what was live before or after, and
perhaps files that nobody needs, which the next restart deletes.

A file of the log that the manifest names has at least one frame, its head, made together with it.
So if the last file has none, it is not torn: it was spoilt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from types import MappingProxyType
from typing import Final

import trio

from segments.live_files import LiveFiles
from segments.manifest import MANIFEST, Manifest, encode_manifest, filled
from segments.protocol.errors import StorageBroken, StorageFailed
from segments.protocol.ids import Lsn
from segments.storage import WHOLE, Ended, Storage
from segments.wal import FrameBody

NOTHING_NEW: Final[Mapping[int, Lsn]] = MappingProxyType({})
"""For a manifest that names no new file of the log."""


class HotLog:
    """The log and the manifest of one segment, for as long as its storage is open.

    One task appends; others may republish meanwhile. Operations raise as those of the storage; of
    one that was refused nothing counts.
    """

    def __init__(
        self,
        storage: Storage,
        files: LiveFiles,
        manifest: bytes,
        random: Random,
        *,
        file_bytes: int,
    ) -> None:
        """``manifest`` is what stands on the disk; ``random`` draws the salts of new files.

        A file takes no further frame that would make it longer than ``file_bytes``.
        """
        self._storage = storage
        self._files = files
        self._random = random
        self._file_bytes = file_bytes
        self._manifest = manifest
        """What the manifest on disk is, or is about to be."""
        self._publishing = False
        self._turn = trio.Lock()

    async def append(self, body: FrameBody, top: Lsn, head: Callable[[], FrameBody]) -> None:
        """Write one frame to the end, all of it or nothing, durably.

        ``top`` is the highest LSN in it, 0 if there is none; ``head`` makes what a new file begins
        with.
        """
        last = self._files.last_log
        if last.length + body.frame_bytes > self._file_bytes:
            await self._begin_file([head(), body], top)
        else:
            await self._storage.append(last.name, body.at(last.salt, last.length))
            self._files.appended(body.frame_bytes, top)

    def begin_append(self, body: FrameBody, top: Lsn, ended: Ended) -> bool:
        """Begin to write one frame to the end of the last file: whether it could be begun.

        ``top`` as of `append`, ``ended`` as of `Storage.begin_append`. What cannot be begun so,
        as it needs a new file, `append` does.
        """
        last = self._files.last_log
        if last.length + body.frame_bytes > self._file_bytes:
            return False

        def appended(error: Exception | None) -> None:
            if error is None:
                self._files.appended(body.frame_bytes, top)
            ended(error)

        return self._storage.begin_append(last.name, body.at(last.salt, last.length), appended)

    async def new_file(self, head: FrameBody) -> None:
        """Go on in a new file, which begins with ``head``."""
        await self._begin_file([head], 0)

    async def _begin_file(self, bodies: Iterable[FrameBody], top: Lsn) -> None:
        file, frames = filled(self._files.new_log(self._random), bodies)
        storage = self._storage
        try:
            await storage.create(file.name)
            for frame in frames:
                await storage.extend(file.name, frame)
            await storage.sync_file(file.name)
            await storage.sync_names()
            await self.republish(
                lambda manifest: manifest._replace(logs=(*manifest.logs, file)), {file.number: top}
            )
        except StorageBroken:
            raise
        except StorageFailed:
            await storage.delete([file.name])
            raise

    async def republish(
        self, edit: Callable[[Manifest], Manifest], tops: Mapping[int, Lsn] = NOTHING_NEW
    ) -> None:
        """Replace the manifest by ``edit`` of it; ``tops`` as of `LiveFiles.republished`."""
        async with self._turn:
            files = self._files
            manifest = encode_manifest(files.edited(edit))
            self._publishing = True
            try:
                await self._storage.publish(MANIFEST, manifest)
            finally:
                self._publishing = False
            self._manifest = manifest
            files.republished(edit, tops)

    async def manifest_is_sound(self) -> bool:
        """Whether the manifest on disk is what was written; also while it is written."""
        expected = self._manifest
        found = await self._storage.read(MANIFEST, 0, WHOLE)
        return found == expected or self._publishing or self._manifest is not expected
