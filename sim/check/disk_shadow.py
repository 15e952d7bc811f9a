"""What a disk would restore, followed as it changes, so that not all of it is read every time.

Names and bytes decide, as they do for a restart, and nothing else. But bytes that have been read
say the same as long as they are the same, byte for byte: of a log file only the frames are decoded
that were not there before, and a layer is opened once. As long as the layers are the same, and the
log has only grown, new frames are applied to the state before; after anything else (a fold, a log
written anew, a cut tail, records let go) a state is made of all frames, as a restart makes it.
Whatever is not sound is left to the restart itself (`plan_restart`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from segments.config import SegmentConfig
from segments.layers.job import finished, reader_of
from segments.layers.layer import Layer, NewPages, open_layer
from segments.layers.layer_map import LayerMap
from segments.manifest import (
    MANIFEST,
    PROMISE,
    LayerFile,
    LogFile,
    Manifest,
    decode_manifest,
    with_length,
)
from segments.protocol.errors import DamagedLayer, MalformedFrame
from segments.protocol.ids import SegmentId
from segments.restart import plan_restart
from segments.state import SegmentState
from segments.steps import finished as done
from segments.wal import Promise, decode_promises
from segments.wal_scan import LogPart, LogScan, ScannedFrame, highest_ever_held, scan


@attrs.define(eq=False)
class _ReadLog:
    """A file of the log, all of it sound frames."""

    salt: int
    data: bytes = b""
    frames: list[ScannedFrame] = attrs.Factory(list)


@attrs.frozen
class _Disk:
    """All that was read of a disk without any damage."""

    layers: Sequence[tuple[Layer, NewPages]]
    logs: Sequence[tuple[str, list[ScannedFrame]]]
    promise: Promise


class DiskShadow:
    """The state that one segment's disk stands for."""

    def __init__(self, segment: SegmentId, config: SegmentConfig) -> None:
        self._segment = segment
        self._config = config
        self._manifest = b""
        self._said: Manifest | None = None
        self._logs: dict[str, _ReadLog] = {}
        self._layers: dict[LayerFile, tuple[bytes, tuple[Layer, NewPages]]] = {}
        self._state: SegmentState | None = None
        self._made_of: tuple[tuple[LayerFile, ...], list[tuple[str, int]]] = ((), [])
        """The layers that the state stands on, and how many frames of which files are in it."""

    def restored(self, files: Mapping[str, bytearray]) -> SegmentState | None:
        """What a restart would make of it now; None if the log is damaged or torn.

        It belongs to the shadow, and changes with the next call. Raises `SegmentLost`.
        """
        state, self._state = self._state, None
        disk = self._read(files)
        if disk is None:
            plan = plan_restart(self._segment, files, self._config)
            return None if plan.damage or plan.torn_bytes else plan.state
        assert self._said is not None
        if state is not None and self._has_only_grown(self._said.layers, disk.logs):
            state = self._grown(state, disk)
        else:
            state = None
        if state is None:
            state = self._made_anew(disk)
            if state.lost is not None:
                return plan_restart(self._segment, files, self._config).state  # which raises
        self._made_of = self._said.layers, [(name, len(frames)) for name, frames in disk.logs]
        self._state = state
        return state

    def _has_only_grown(
        self, layers: tuple[LayerFile, ...], logs: Sequence[tuple[str, list[ScannedFrame]]]
    ) -> bool:
        """Whether all that the state is made of is still there, and the rest stands behind it."""
        before, known = self._made_of
        now = [(name, len(frames)) for name, frames in logs[: len(known)]]
        if layers != before or not known or len(now) < len(known) or now[:-1] != known[:-1]:
            return False
        return now[-1][0] == known[-1][0] and now[-1][1] >= known[-1][1]

    def _grown(self, state: SegmentState, disk: _Disk) -> SegmentState | None:
        """The state with all frames that are new; None if that is not what a restart makes of them.

        So it is where records were let go for want of room: which of them count, the last frame
        says.
        """
        if state.left_out:
            return None
        for at, (_, frames) in enumerate(disk.logs):
            known = self._made_of[1][at][1] if at < len(self._made_of[1]) else 0
            for scanned in frames[known:]:
                state.apply_frame(scanned.frame)
        state.raise_epoch(disk.promise.epoch)
        last = LogScan((disk.logs[-1][1][-1],), (), 0, 0)
        return None if state.index.highest_lsn > highest_ever_held(last) else state

    def _made_anew(self, disk: _Disk) -> SegmentState:
        frames = tuple([each for _, frames in disk.logs for each in frames])
        layers = LayerMap(tuple([layer for layer, _ in disk.layers]), frozenset())
        found = LogScan(frames, (), 0, 0)
        state = done(SegmentState.restore_steps(self._config, layers, found, disk.promise))
        for _, pages in disk.layers:
            state.materializer.load_pages(*pages)
        return state

    # ---- what was read before is not read again --------------------------------------------------

    def _read(self, files: Mapping[str, bytearray]) -> _Disk | None:
        """All of a disk; None if anything is amiss."""
        said = self._manifest_in(files)
        named = () if said is None else with_length(said.logs, files)
        if said is None or not named:
            return None
        logs = [self._log(each, files.get(each.name, bytearray())) for each in named]
        layers = [self._layer(each, files) for each in said.layers]
        try:
            promise = decode_promises(bytes(files.get(PROMISE, b"")))
        except MalformedFrame:
            return None
        sound_logs = [each for each in logs if each is not None]
        sound_layers = [each for each in layers if each is not None]
        if len(sound_logs) < len(logs) or len(sound_layers) < len(layers) or not sound_logs[-1][1]:
            return None
        self._logs = {name: self._logs[name] for name, _ in sound_logs}
        self._layers = {each: self._layers[each] for each in said.layers}
        return _Disk(sound_layers, sound_logs, promise)

    def _manifest_in(self, files: Mapping[str, bytearray]) -> Manifest | None:
        data = files.get(MANIFEST, b"")
        if data != self._manifest or self._said is None:
            self._manifest = bytes(data)
            self._said = decode_manifest(self._manifest)
        return self._said

    def _log(self, file: LogFile, data: bytearray) -> tuple[str, list[ScannedFrame]] | None:
        """The frames of a file of the log, unless it is spoilt, torn, or not as long as it was."""
        known = self._logs.get(file.name)
        if known is None or known.salt != file.salt or not data.startswith(known.data):
            known = self._logs[file.name] = _ReadLog(file.salt)
        if len(data) != file.length:
            return None
        if len(data) > len(known.data):
            found = scan((LogPart(file.salt, bytes(data)),), len(known.data))
            if found.damage or found.torn_bytes:
                return None
            known.frames += found.frames
            known.data = bytes(data)
        return file.name, known.frames

    def _layer(
        self, file: LayerFile, files: Mapping[str, bytearray]
    ) -> tuple[Layer, NewPages] | None:
        """What a restart keeps of a layer in memory, unless it is spoilt."""
        data, known = files.get(file.name, b""), self._layers.get(file)
        if known is not None and known[0] == data:
            return known[1]
        try:
            layer, pages = finished(open_layer(file.number, file.length), reader_of(files))
        except DamagedLayer:
            return None
        if (layer.end, layer.base) != (file.end, file.base) or layer.start > file.start:
            return None
        found = attrs.evolve(layer, start=file.start), pages
        self._layers[file] = bytes(data), found
        return found
