"""The scrub: what is on the disk is read again at intervals, before somebody needs it.

The log is read in pieces, from its beginning to its end, then the promise slots and the manifest,
and so on. What they have lost is still in memory, and is written anew. Layers are read beside that
(`segments.layer_scrub`): what one has lost comes from a peer.
"""

from __future__ import annotations

from typing import NamedTuple

from segments.config import SegmentConfig
from segments.live_files import LiveFiles
from segments.protocol import events
from segments.protocol.events import Tracer
from segments.protocol.ids import SegmentId
from segments.state import SegmentState
from segments.wal import encode_promise
from segments.wal_scan import verify


class Piece(NamedTuple):
    """A piece of a log file to read again."""

    name: str
    offset: int
    length: int
    salt: int
    """Of the file."""


class Scrub:
    """What one segment reads again, and what comes of it."""

    def __init__(
        self,
        segment: SegmentId,
        state: SegmentState,
        files: LiveFiles,
        config: SegmentConfig,
        trace: Tracer | None = None,
    ) -> None:
        self._segment = segment
        self._state = state
        self._files = files
        self._config = config
        self._trace = trace
        self.damages_found = 0
        """How often damage was found."""
        self.log_is_damaged = False
        """Whether the log is to be written anew."""
        self.promise_due = False
        """Whether the promise slots are to be written again: damage was found in them."""
        self.promises_to_read = False
        """Whether the promise slots are to be read again: the log has been, to its end."""
        self.manifest_to_read = False
        """Whether the manifest is, too."""
        self.manifest_is_damaged = False
        """Whether the manifest is to be written again."""
        self._spoilt_runs = 0  # so many of those that the state has dropped were counted
        self._writing_promise = False
        self._at: float | None = None
        self._number = 0
        self._offset = 0
        self._length = config.scrub_bytes

    def tick(self, now: float) -> None:
        """The next piece is due an interval after the last one.

        What is in the log and was dropped, as nobody can have written it, is damage, too.
        """
        if self._state.spoilt_runs > self._spoilt_runs:
            self.damages_found += self._state.spoilt_runs - self._spoilt_runs
            self._spoilt_runs = self._state.spoilt_runs
            self.log_is_damaged = True
        if self._at is None:
            self._at = now + self._config.scrub_interval_s

    # ---- the log ---------------------------------------------------------------------------------

    def take_piece(self, now: float) -> Piece | None:
        """The piece of the log to read again; None if it is not time."""
        if self._at is None or now < self._at:
            return None
        self._at = None
        logs = self._files.manifest.logs
        if self._number not in [each.number for each in logs]:
            self._number, self._offset = logs[0].number, 0
        file = next(each for each in logs if each.number == self._number)
        length = min(self._length, file.length - self._offset)
        return Piece(file.name, self._offset, length, file.salt)

    def checked(self, piece: Piece, data: bytes) -> None:
        """Check what was read of the log. What the disk lost is still in memory."""
        files = {each.number: each for each in self._files.manifest.logs}
        file = files.get(self._number)
        if file is None or piece[:2] != (file.name, self._offset):
            return
        sound_bytes, damaged = verify(data, piece.salt, piece.offset)
        at_end = piece.offset + len(data) >= file.length or len(data) < piece.length
        if damaged or (at_end and sound_bytes < file.length - piece.offset):
            self._found_damage(piece.offset + sound_bytes)
            self.log_is_damaged = True
        elif not at_end and sound_bytes == 0:
            self._length *= 2  # a frame that is longer than a piece
            return
        self._length = self._config.scrub_bytes
        self._offset += sound_bytes
        if at_end or damaged:
            self._next_file(list(files))

    def _next_file(self, numbers: list[int]) -> None:
        """Go on with the file behind this one, in the order of the log."""
        self._offset = 0
        following = numbers[numbers.index(self._number) + 1 :]
        self._number = following[0] if following else 0
        if not following:
            self.promises_to_read = self.manifest_to_read = True

    def _found_damage(self, offset: int) -> None:
        self.damages_found += 1
        if self._trace is not None:
            self._trace(self._segment, events.ScrubFoundDamage(offset))

    # ---- promises --------------------------------------------------------------------------------

    def writing_promise(self) -> None:
        """Both promise slots are about to be written."""
        self._writing_promise = True

    def wrote(self) -> None:
        """The write under way is durable."""
        if self._writing_promise:
            self.promise_due = self._writing_promise = False

    def write_failed(self) -> None:
        """The write under way came to nothing."""
        self._writing_promise = False

    def promises_checked(self, slots: bytes) -> None:
        """Check what was read of the promise slots; the promise itself is still in memory.

        A promise on its way to the disk makes both slots differ, rightly: they are read again then.
        """
        if self._writing_promise:
            return
        self.promises_to_read = False
        if slots == encode_promise(self._state.promise) * 2:
            return
        self.damages_found += 1
        self.promise_due = True
        if self._trace is not None:
            self._trace(self._segment, events.ScrubFoundBadPromise())

    # ---- the manifest ----------------------------------------------------------------------------

    def manifest_checked(self, *, sound: bool) -> None:
        """Check what was read of the manifest; what it is to say is still in memory."""
        self.manifest_to_read = False
        if not sound:
            self.damages_found += 1
            self.manifest_is_damaged = True
            if self._trace is not None:
                self._trace(self._segment, events.ScrubFoundBadManifest())
