"""The whole system at one moment, as values: what the picture and the tables are drawn from.

It looks from outside at everybody at once, as nobody within the system can.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from aurora.cluster import Cluster
from aurora.engine import Engine, EngineStatistics
from aurora.health import SegmentHealth, SegmentStatus
from segments.host import SegmentHost
from segments.protocol.errors import AuroraError, Closed, Fenced
from segments.protocol.ids import Address, Lsn, PgId, SegmentId, name_writers
from segments.protocol.record import RedoRecord


@attrs.frozen
class SegmentView:
    """One segment: what it durably holds, and whether it answers."""

    segment: SegmentId
    az: int
    pg_id: PgId
    status: str
    """A `SegmentStatus`, or ``slow`` or ``cut off`` where that is known to be the reason."""
    scl: Lsn = 0
    epoch: str = ""
    """The volume epoch it has sealed, as people read it."""
    log_bytes: int = 0
    folded: Lsn = 0
    """F: what is at or below it is in layers, and no longer in its log."""
    layers: int = 0
    """How many there are, and what their files take."""
    layer_bytes: int = 0
    records: tuple[Lsn, ...] = ()
    """LSNs in its log, ascending; those above the SCL wait for what is missing before them."""
    gaps: tuple[tuple[Lsn, Lsn], ...] = ()
    """Half-open ranges that lack at least one record of the chain."""


@attrs.frozen
class WriterView:
    """The latest writer; its watermarks are None unless it has the volume open."""

    name: str
    status: str
    """``open``, ``recovering``, ``fenced`` or ``gone``."""
    epoch: int
    statistics: EngineStatistics | None = None


@attrs.frozen
class VolumeView:
    """Compute and storage."""

    writer: WriterView
    segments: tuple[SegmentView, ...]
    log: tuple[RedoRecord, ...]
    """Every record that is in any segment's log, ascending, without payloads being of interest."""
    annulled: tuple[tuple[Lsn, Lsn], ...]
    """Half-open ranges of LSNs that no longer exist, from the newest table adopted anywhere."""
    pg_count: int


def take(cluster: Cluster, cut_off: Mapping[SegmentId, bool]) -> VolumeView:
    """Look at everyone. ``cut_off`` tells which segments a partition keeps from the writer."""
    hosts, names = list(cluster.hosts.values()), cluster.writer_names
    health = cluster.health().segments
    log: dict[Lsn, RedoRecord] = {}
    tables = []
    for host in hosts:
        if host.core is not None and host.lost is None:
            log.update((record.lsn, record) for record in host.core.state.index.held())
            tables.append(host.core.state.table)
    newest = max(tables, key=lambda table: table.epoch, default=None)
    annulled = tuple(each[:2] for each in newest.ranges) if newest is not None else ()
    held = [log[lsn] for lsn in sorted(log)]
    return VolumeView(
        _writer(cluster.engine),
        tuple(
            _segment(
                host, _status(host, health[host.segment], cut_off.get(host.segment, False)), names
            )
            for host in hosts
        ),
        tuple(each for each in held if not any(low <= each.lsn < high for low, high in annulled)),
        annulled,
        len(cluster.groups),
    )


def _writer(engine: Engine) -> WriterView:
    epoch = engine.core.epoch.counter if engine.core is not None else 0
    if epoch == 0 and engine.recovery is not None:
        epoch = engine.recovery.epoch.counter
    if engine.error is not None:
        status = "fenced" if isinstance(engine.error, Fenced) else "gone"
        return WriterView(engine.name, status, epoch)
    try:
        return WriterView(engine.name, "open", epoch, engine.statistics())
    except Closed:
        return WriterView(engine.name, "gone", epoch)
    except AuroraError:
        return WriterView(engine.name, "recovering", epoch)


def _segment(host: SegmentHost, status: str, names: Mapping[int, Address]) -> SegmentView:
    view = SegmentView(host.segment, host.az, host.group.pg_id, status)
    core = host.core
    if host.lost is not None or core is None:
        return view
    index = core.state.index
    return attrs.evolve(
        view,
        scl=core.state.scl,
        epoch=name_writers(str(core.state.epoch), names),
        log_bytes=core.files.log_bytes,
        folded=core.state.folded,
        layers=len(core.state.layers),
        layer_bytes=core.files.layer_bytes,
        records=tuple(record.lsn for record in index.held()),
        gaps=tuple(index.missing_ranges()),
    )


def _status(host: SegmentHost, health: SegmentHealth, cut_off: bool) -> str:
    """What its health says; or what makes it slow to answer, if somebody here has seen to that."""
    if health.status in (SegmentStatus.UP, SegmentStatus.SILENT, SegmentStatus.BEHIND):
        if cut_off:
            return "cut off"
        if host.delay_s:
            return "slow"
    return health.status
