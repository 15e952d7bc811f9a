"""The live files of one segment, while it runs: what the manifest on its disk says, and more. Pure.

The manifest does not say how long the last file of the log is, nor how far up the records of each
file reach. The second decides when a file may go: once all that is in it is in layers, or annulled.
Files go from the front only, since a later one may hold the table that annuls what an earlier one
says, and each begins with all that those before it have said of epochs, tables and watermarks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random

from segments.manifest import SALT_BITS, LayerFile, LogFile, Manifest
from segments.protocol.ids import Lsn


class LiveFiles:
    """The files of one segment."""

    def __init__(self, manifest: Manifest, tops: Mapping[int, Lsn]) -> None:
        """``tops``: for each file of the log, by number, the highest LSN in it; 0 if none is."""
        self._manifest = manifest
        self._length = manifest.logs[-1].length  # of the last log file, as it grows
        self.log_bytes_written = 0
        """Bytes that have joined the log, in files that were live or have become so."""
        self.layer_bytes_written = 0
        """Bytes of all layers that have become live."""
        self._tops = dict(tops)
        self._next_number = manifest.next_number

    def take_number(self) -> int:
        """A number for a new file: it is not used again while this segment runs."""
        self._next_number += 1
        return self._next_number - 1

    def new_log(self, random: Random) -> LogFile:
        """A new file of the log, with nothing in it."""
        return LogFile(self.take_number(), 0, random.getrandbits(SALT_BITS))

    @property
    def manifest(self) -> Manifest:
        """What is live; its last log file has its true length here."""
        *others, last = self._manifest.logs
        if last.length != self._length:
            logs = (*others, last._replace(length=self._length))
            self._manifest = self._manifest._replace(logs=logs)
        return self._manifest

    @property
    def last_log(self) -> LogFile:
        """The file of the log that frames go to."""
        last = self._manifest.logs[-1]
        return LogFile(last.number, self._length, last.salt)

    @property
    def log_bytes(self) -> int:
        """Bytes in the log that are durable."""
        return sum([each.length for each in self._manifest.logs[:-1]], self._length)

    @property
    def layer_bytes(self) -> int:
        """Bytes in all layers."""
        return sum(each.length for each in self.manifest.layers)

    def appended(self, size: int, top: Lsn) -> None:
        """``size`` bytes were added to the log, with records up to ``top`` (0: none)."""
        self.log_bytes_written += size
        self._length += size
        number = self._manifest.logs[-1].number
        if top > self._tops.get(number, 0):
            self._tops[number] = top

    def cut(self, length: int) -> None:
        """The last file of the log was cut to ``length`` bytes."""
        self._length = length

    def republished(self, edit: Callable[[Manifest], Manifest], tops: Mapping[int, Lsn]) -> None:
        """The manifest on disk was edited; ``tops`` tells of log files that are new in it."""
        before = self.manifest
        self._manifest = after = edit(before)
        self._length = after.logs[-1].length
        self.log_bytes_written += _new_bytes(before.logs, after.logs)
        self.layer_bytes_written += _new_bytes(before.layers, after.layers)
        self._tops = {
            each.number: tops.get(each.number, self._tops.get(each.number, 0))
            for each in after.logs
        }

    def edited(self, edit: Callable[[Manifest], Manifest]) -> Manifest:
        """What the manifest is to say after ``edit``."""
        return edit(self.manifest)._replace(next_number=self._next_number)

    def without_folded(self, folded: Lsn) -> tuple[LogFile, ...]:
        """The log files that are left when all records up to ``folded`` are in layers."""
        logs = self.manifest.logs
        gone = 0
        while gone < len(logs) - 1 and self._tops.get(logs[gone].number, 0) <= folded:
            gone += 1
        return logs[gone:]


def _new_bytes(before: Iterable[LogFile | LayerFile], now: Iterable[LogFile | LayerFile]) -> int:
    """What files take that were not live before; numbers are never used twice."""
    known = {each.number for each in before}
    return sum(each.length for each in now if each.number not in known)
