"""A volume in figures: its writer's, every segment's, and what keeps old versions in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from aurora.engine import Engine, EngineStatistics
from aurora.floor import FloorHold, FloorHolder
from segments.host import SegmentHost
from segments.protocol.errors import AuroraError
from segments.protocol.ids import SegmentId
from segments.statistics import SegmentStatistics, statistics_of


@attrs.frozen
class VolumeStatistics:
    """A volume at one moment."""

    writer: EngineStatistics | None
    """The latest writer's; None unless it has the volume open."""
    floor_held_by: FloorHold
    segments: Mapping[SegmentId, SegmentStatistics]
    """Those that are up: counts begin when a segment comes up."""


def volume_statistics(writer: Engine | None, hosts: Iterable[SegmentHost]) -> VolumeStatistics:
    """Look at the latest writer and at all segments."""
    segments = {
        host.segment: statistics_of(host.core)
        for host in hosts
        if host.up and host.lost is None and host.core is not None
    }
    floor = max((each.announced_floor for each in segments.values()), default=0)
    if writer is None:
        return VolumeStatistics(None, _no_writer(floor, "no writer has been opened"), segments)
    try:
        found = writer.statistics()
    except AuroraError:
        why = "is opening the volume" if writer.error is None else "has ended"
        hold = _no_writer(floor, f"{writer.name} {why}: nobody may raise it")
        return VolumeStatistics(None, hold, segments)
    return VolumeStatistics(found, found.floor_held_by, segments)


def _no_writer(floor: int, text: str) -> FloorHold:
    return FloorHold(FloorHolder.WRITER, floor, text)
