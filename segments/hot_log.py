"""The log of a segment on its disk: which file is written when, and what makes it count.

Straight-line input and output over a `Storage`; what the files mean is in `segments.log_files`.

**A file counts once the manifest names it**, and the manifest names it when all of it is durable:
its bytes first, then its name, then the manifest, whose replacement is atomic. What the manifest no
longer names is deleted after that. So a crash anywhere leaves the old log, or the new one, and
perhaps files that nobody needs, which `tidy` deletes.

A file that the manifest names has at least one frame, for the first one is made together with it.
So if the last file has none, it is not torn: it was spoilt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from segments.log_files import (
    MANIFEST,
    PROMISE,
    LogFile,
    Stored,
    decode_manifest,
    encode_manifest,
    leftovers,
    manifest_in,
    stored_in,
)
from segments.protocol.errors import StorageBroken, StorageFailed
from segments.storage import WHOLE, Storage


class HotLog:
    """The log of one segment, for as long as its storage is open; one operation at a time writes.

    Offsets are those in the log as a whole, over all of its files. Operations raise as those of the
    storage; of one that was refused nothing counts.
    """

    def __init__(self, storage: Storage, file_bytes: int) -> None:
        """A file takes no further frame that would make it longer than ``file_bytes``."""
        self._storage = storage
        self._file_bytes = file_bytes
        self._files: list[LogFile] = []
        self._next_number = 1
        self._names: tuple[str, ...] = ()
        """All files that the restart has found."""
        self._manifest = b""
        """What the manifest on disk is, or is about to be."""
        self._publishing = False
        self._outdated: list[str] = []
        """Files that the manifest no longer names, and that are still there."""

    # ---- a restart -------------------------------------------------------------------------------

    async def load(self) -> Stored:
        """All that a restart needs, as it is on disk."""
        storage = self._storage
        self._names = await storage.names()
        found = dict.fromkeys(self._names, b"")
        for name in (MANIFEST, PROMISE):
            if name in found:
                found[name] = await storage.read(name, 0, WHOLE)
        self._manifest = found.get(MANIFEST, b"")
        manifest = manifest_in(self._names, self._manifest)
        for file in manifest.files if manifest is not None else ():
            if file.name in found:
                found[file.name] = await storage.read(file.name, 0, WHOLE)
        stored = stored_in(found)
        self._files = list(stored.files)
        self._next_number = manifest.next_number if manifest is not None else 1
        return stored

    async def truncate(self, length: int) -> None:
        """Keep the first ``length`` bytes, which end in the last file."""
        *sealed, last = self._files
        kept = length - sum(each.length for each in sealed)
        await self._storage.truncate(last.name, kept)
        self._files[-1] = LogFile(last.number, kept)

    async def tidy(self) -> None:
        """Make of a log that was found sound, and cut, one as it should be.

        A spoilt half of a manifest is written again; what crashes have left is deleted. A disk that
        has no room for that keeps nobody from serving: the scrub finds it again.
        """
        expected = encode_manifest(self._files, self._said_next())
        if self._manifest != expected:
            self._manifest = expected
            try:
                await self._publish(self._files)
            except StorageBroken:
                raise
            except StorageFailed:
                pass
        if left := leftovers(self._names, self._files):
            await self._storage.delete(left)

    def _said_next(self) -> int:
        """The lowest unused number by the manifest that was found."""
        manifest = decode_manifest(self._manifest)
        return manifest.next_number if manifest is not None else self._next_number

    # ---- writing ---------------------------------------------------------------------------------

    async def append(self, frame: bytes) -> None:
        """Write one frame to the end, all of it or nothing, durably."""
        last = self._files[-1]
        if last.length + len(frame) > self._file_bytes:
            await self._put_in_place([frame], self._files)
        else:
            await self._storage.append(last.name, frame)
            self._files[-1] = LogFile(last.number, last.length + len(frame))

    async def replace(self, frames: Iterable[bytes]) -> None:
        """Make the log consist of ``frames``: after a crash it is wholly the old or the new one.

        ``frames`` is consumed while others run.
        """
        old = [each.name for each in self._files]
        await self._put_in_place(frames, [])
        self._outdated += old

    async def sweep(self) -> None:
        """Delete what a replacement has left, which nobody needs to wait for."""
        if self._outdated:
            outdated, self._outdated = self._outdated, []
            await self._storage.delete(outdated)

    async def _put_in_place(self, frames: Iterable[bytes], before: list[LogFile]) -> None:
        """Make new files of ``frames``; the log is ``before``, and those, once all is durable."""
        made: list[LogFile] = []
        cut = _Cut(frames, self._file_bytes)
        try:
            while cut.more:
                made.append(LogFile(self._take_number(), 0))
                length = await self._make(made[-1].name, cut.next_file())
                made[-1] = LogFile(made[-1].number, length)
            await self._storage.sync_names()
            await self._publish([*before, *made])
        except StorageBroken:
            raise
        except StorageFailed:
            await self._storage.delete([each.name for each in made])
            raise
        self._files = [*before, *made]

    async def _make(self, name: str, frames: Iterable[bytes]) -> int:
        """Make a new file of ``frames``, and all in it durable; its length."""
        storage, length = self._storage, 0
        await storage.create(name)
        for frame in frames:
            await storage.extend(name, frame)
            length += len(frame)
        await storage.sync_file(name)
        return length

    async def _publish(self, files: list[LogFile]) -> None:
        manifest = encode_manifest(files, self._next_number)
        self._publishing = True
        try:
            await self._storage.publish(MANIFEST, manifest)
        finally:
            self._publishing = False
        self._manifest = manifest

    def _take_number(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    # ---- looking ---------------------------------------------------------------------------------

    def size(self) -> int:
        """Bytes in the log that are durable."""
        return sum(each.length for each in self._files)

    async def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes as they are on disk now; fewer where the log ends, zeros for lost ones.

        Once the log has been replaced meanwhile, the answer is of no use.
        """
        parts, start, end = [], 0, offset + length
        for file in list(self._files):
            first, last = max(offset, start) - start, min(end, start + file.length) - start
            if first < last:
                part = await self._storage.read(file.name, first, last - first)
                parts.append(part.ljust(last - first, b"\0"))
            start += file.length
        return b"".join(parts)

    async def manifest_is_sound(self) -> bool:
        """Whether the manifest on disk is what was written; also while it is written."""
        expected = self._manifest
        found = await self._storage.read(MANIFEST, 0, WHOLE)
        return found == expected or self._publishing or self._manifest is not expected


class _Cut:
    """Frames, cut into files: each takes as many as fit, and one at least."""

    def __init__(self, frames: Iterable[bytes], file_bytes: int) -> None:
        self._frames = iter(frames)
        self._file_bytes = file_bytes
        self._next = next(self._frames, None)

    @property
    def more(self) -> bool:
        """Whether there are frames for another file."""
        return self._next is not None

    def next_file(self) -> Iterator[bytes]:
        """The frames of the next file."""
        length = 0
        while self._next is not None:
            if length and length + len(self._next) > self._file_bytes:
                return
            length += len(self._next)
            yield self._next
            self._next = next(self._frames, None)
