"""What a restart makes of a disk: a pure decision (protocol §6, §8).

`restart_job` says what the files of a segment stand for, and what is to be done to them before it
serves. The server does it; the simulator asks the same function what a segment that is down would
come back with. So there is one meaning of a restart.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

import attrs

from segments.config import SegmentConfig
from segments.layers.job import PAUSE, Job, Read, finished, reader_of
from segments.layers.layer import Layer, NewPages, narrowed, open_layer, unreadable
from segments.layers.layer_map import LayerMap
from segments.live_files import LiveFiles
from segments.manifest import (
    MANIFEST,
    PROMISE,
    WHOLE,
    LayerFile,
    LogFile,
    Manifest,
    decode_manifest,
    encode_manifest,
    filled,
    leftovers,
    log_part,
    numbered_above,
)
from segments.protocol.errors import (
    DamagedLayer,
    MalformedFrame,
    SegmentLost,
    SegmentRolledBack,
)
from segments.protocol.ids import Lsn, SegmentId, VolumeEpoch
from segments.protocol.run import last_lsn_of
from segments.protocol.truncation import TruncationTable
from segments.state import SegmentState
from segments.wal import (
    HeadEntry,
    HeldEntry,
    Promise,
    RecordsEntry,
    decode_promises,
    encode_body,
    encode_promise,
)
from segments.wal_scan import DamagedRange, LogPart, LogScan, scan_steps


@attrs.frozen
class RestartPlan:
    """What a segment comes back with, and what is to be done to its disk first."""

    state: SegmentState
    files: LiveFiles
    """What is live, the torn tail cut off."""
    manifest: bytes
    """The manifest as it is on the disk."""
    torn_bytes: int
    """Length of the tail of the last log file that is to be cut off: what it was writing."""
    damage: tuple[DamagedRange, ...]
    """What is spoilt in the part of the log that stays; the state may then not be whole."""
    damaged_layers: tuple[DamagedLayer, ...]
    """What is wrong with the layers that cannot be opened; the state is not whole with one."""
    promise: bytes | None
    """What to write to both promise slots; None if both hold it.

    They do not when a crash or rot came between the log and its promise, or between the slots.
    """
    manifest_is_spoilt: bool
    """Whether one half of the manifest is to be written again."""
    leftovers: Sequence[str]
    """Files that a crash has left, to be deleted."""


def format_files(epoch: VolumeEpoch, salt: int) -> dict[str, bytes]:
    """The files of a segment of a new volume, whose first writer has ``epoch``, in their order.

    ``salt`` is that of the first file of the log. The manifest, without which they are nothing,
    comes last.
    """
    table = TruncationTable(epoch)
    head = encode_body(epoch, [HeldEntry(0), HeadEntry(epoch, table, 0, 0)])
    log, [frame] = filled(LogFile(1, 0, salt), [head])
    return {
        PROMISE: encode_promise(Promise(epoch, table.epoch)) * 2,
        log.name: frame,
        MANIFEST: encode_manifest(Manifest((log,), (), 2)),
    }


def plan_restart(
    segment: SegmentId,
    files: Mapping[str, bytes | bytearray],
    config: SegmentConfig,
    *,
    accepts_rollback: bool = False,
) -> RestartPlan:
    """What `restart_job` returns for a disk with these files, at once."""
    job = restart_job(segment, tuple(sorted(files)), config, accepts_rollback=accepts_rollback)
    return finished(job, reader_of(files))


def restart_job(
    segment: SegmentId,
    names: Sequence[str],
    config: SegmentConfig,
    *,
    accepts_rollback: bool = False,
) -> Job[RestartPlan]:
    """Decide from all that a disk with these files holds.

    Raises `SegmentLost` if the manifest, the log or the promises are lost. A file of a log has a
    frame from the first on, and never loses its last: without one in the last file nobody knows how
    far the log went. Without a promise nobody knows what the segment may still accept. Raises
    `SegmentRolledBack` if it is known to be an older copy, unless that is accepted.
    """
    found = yield Read(MANIFEST, 0, WHOLE)
    manifest = _manifest_in(segment, found, names)
    slots = yield Read(PROMISE, 0, WHOLE)
    promise = promise_in(segment, slots)
    layers, new_pages, damaged_layers = yield from _open_layers(manifest.layers)
    log, starts = yield from _read_log(manifest)
    scan = yield from scan_steps(log)
    if scan.durable_length <= starts[-1]:
        raise SegmentLost(
            f"segment {segment} has lost its log: no sound frame in {manifest.logs[-1].name}, in "
            f"{len(log[-1].data)} bytes, expected one at least"
        )
    state = yield from SegmentState.restore_steps(config, layers, scan, promise)
    if state.lost is not None and not accepts_rollback:
        raise SegmentRolledBack(state.lost)
    for each in new_pages:
        state.materializer.load_pages(*each)
        yield PAUSE
    *sealed, last = manifest.logs
    last = last._replace(length=scan.durable_length - starts[-1])
    kept = encode_promise(state.promise)
    return RestartPlan(
        state,
        LiveFiles(manifest._replace(logs=(*sealed, last)), _tops(manifest, starts, scan)),
        found,
        scan.torn_bytes,
        scan.damage,
        damaged_layers,
        kept if slots != kept * 2 else None,
        found != encode_manifest(manifest),
        leftovers(names, manifest),
    )


# ---- the parts -----------------------------------------------------------------------------------


def _manifest_in(segment: SegmentId, data: bytes, names: Sequence[str]) -> Manifest:
    manifest = decode_manifest(data)
    if manifest is None:
        found = "a spoilt manifest" if MANIFEST in names else "no manifest"
        raise SegmentLost(
            f"segment {segment} has lost its log: {found}: expected one that names its files"
        )
    last = manifest.logs[-1].name
    if last not in names:
        raise SegmentLost(
            f"segment {segment} has lost its log: no file {last}: expected it, as the manifest "
            "names it last"
        )
    return numbered_above(manifest, names)


def promise_in(segment: SegmentId, slots: bytes) -> Promise:
    """What the slots of a segment promise. Raises `SegmentLost` if neither holds anything."""
    try:
        if not slots:
            raise MalformedFrame("no bytes: expected two slots")
        return decode_promises(slots)
    except MalformedFrame as error:
        raise SegmentLost(f"segment {segment} has lost its promises: {error}") from error


def _open_layers(
    files: Iterable[LayerFile],
) -> Job[tuple[LayerMap, list[NewPages], tuple[DamagedLayer, ...]]]:
    """The layers that the manifest names; of one that is damaged its place is kept."""
    layers: list[Layer] = []
    damaged: list[DamagedLayer] = []
    pages: list[NewPages] = []
    for file in files:
        try:
            layer, new_pages = yield from _open_layer(file)
            pages.append(new_pages)
        except DamagedLayer as damage:
            layer = unreadable(file.number, file.start, file.end, file.base, file.length)
            damaged.append(damage)
        layers.append(layer)
    numbers = frozenset(each.layer for each in damaged)
    return LayerMap(tuple(layers), numbers), pages, tuple(damaged)


def _open_layer(file: LayerFile) -> Job[tuple[Layer, NewPages]]:
    layer, new_pages = yield from open_layer(file.number, file.length)
    if layer.base != file.base:
        what = ("a delta layer", "a base layer")
        raise DamagedLayer(file.number, f"is {what[layer.base]}: expected {what[file.base]}")
    return (yield from narrowed(layer, new_pages, file.start, file.end))


def _read_log(manifest: Manifest) -> Job[tuple[list[LogPart], list[int]]]:
    """All files of the log, and where each starts in it.

    What is missing of one that is not the last is zeros, so that all behind it stays where it was.
    """
    parts: list[LogPart] = []
    starts, start = [], 0
    *sealed, last = manifest.logs
    for file in sealed:
        data = yield Read(file.name, 0, file.length)
        parts.append(log_part(file, data))
        starts.append(start)
        start += file.length
    parts.append(LogPart(last.salt, (yield Read(last.name, 0, WHOLE))))
    starts.append(start)
    return parts, starts


def _tops(manifest: Manifest, starts: Sequence[int], scan: LogScan) -> dict[int, Lsn]:
    """The highest LSN in each file of the log."""
    tops = {file.number: 0 for file in manifest.logs}
    for scanned in scan.frames:
        number = manifest.logs[bisect_right(starts, scanned.start) - 1].number
        for entry in scanned.frame.entries:
            if isinstance(entry, RecordsEntry) and entry.records:
                tops[number] = max(tops[number], last_lsn_of(entry.records))
    return tops
