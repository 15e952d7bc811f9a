"""Starting a cluster's segments and its first writer in time, or an error that says why not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Final

import trio

from aurora.health import HealthReport, SegmentStatus, WaitKind, duration
from aurora.health_watch import INTERVAL_S, HealthWatch
from aurora.quorum import QuorumModel
from aurora.recovery import OVERRIDE
from segments.protocol.errors import NotOpened, Unavailable, VolumeRolledBack
from segments.protocol.ids import SegmentId
from segments.protocol.volume import ProtectionGroup

OPENING_TIMEOUT_S: Final = 60.0
"""How long `open_cluster` waits for a write quorum of segments unless told."""
_FORBIDDEN_S: Final = 5.0
"""An opening for which only permissions are missing is given up after this."""


async def open_in_time(
    start: Callable[[], Awaitable[object]],
    health: Callable[[], HealthReport],
    models: Sequence[QuorumModel],
    nursery: trio.Nursery,
    timeout_s: float | None,
    *,
    read_only: bool = False,
) -> None:
    """Have ``start`` open the volume, and ``nursery`` watch its ``health`` from then on.

    ``models`` are those of its groups. Raises `NotOpened` if it takes longer than ``timeout_s``,
    and what ``start`` raises.
    """
    started, watch = trio.current_time(), HealthWatch(health)
    nursery.start_soon(watch.run, name="health")
    with trio.move_on_after(inf if timeout_s is None else timeout_s) as opening:
        if timeout_s is not None:
            task = partial(_give_up_if_forbidden, models, watch, opening, read_only=read_only)
            nursery.start_soon(task, name="opening")
        await start()
        watch.look()  # so that what is lost is reported at once
    if opening.cancelled_caught:
        raise _not_opened(watch.report, trio.current_time() - started)
    opening.cancel()  # ends its task


@trio.lowlevel.enable_ki_protection
async def _give_up_if_forbidden(
    models: Sequence[QuorumModel],
    watch: HealthWatch,
    opening: trio.CancelScope,
    *,
    read_only: bool,
) -> None:
    while not opening.cancel_called:
        if forbidden_for_s(watch.report, models, read_only=read_only) >= _FORBIDDEN_S:
            opening.cancel()
        await trio.sleep(INTERVAL_S)


def _not_opened(report: HealthReport, after_s: float) -> NotOpened:
    waits = [each for each in report.waits if each.kind is WaitKind.OPENING]
    missing = waits[-1].missing if waits else report.writes.missing
    return NotOpened(f"the volume could not be opened within {duration(after_s)}: {missing}")


def _is_enough(model: QuorumModel, segments: Container[SegmentId], *, read_only: bool) -> bool:
    """Whether the volume can be opened with these of a group's segments alone."""
    return model.has_read(segments) if read_only else model.has_write(segments)


def check_openable(
    groups: Iterable[ProtectionGroup],
    lost: Mapping[SegmentId, str],
    rolled_back: Container[SegmentId] = (),
    *,
    read_only: bool = False,
) -> None:
    """Raise if so many disks are lost that no writer can ever open the volume.

    Nor, with ``read_only``, anybody read it alone. ``lost`` says of each lost segment why. Raises
    `VolumeRolledBack` if one of them is among those ``rolled_back``, else `Unavailable`.
    """
    quorum = "read" if read_only else "write"
    for group in groups:
        gone = [segment for segment in group.members if segment in lost]
        left = [segment for segment in group.members if segment not in lost]
        if not _is_enough(QuorumModel(group.members), left, read_only=read_only):
            reasons = "; ".join(lost[segment] for segment in gone)
            what = (
                f"protection group {group.pg_id} has lost {', '.join(gone)}: "
                f"expected a {quorum} quorum of its segments ({reasons})"
            )
            if any(segment in rolled_back for segment in gone):
                raise VolumeRolledBack(f"{what}; {OVERRIDE}")
            raise Unavailable(what)


def forbidden_for_s(
    report: HealthReport, models: Sequence[QuorumModel], *, read_only: bool = False
) -> float:
    """For how long permissions alone have kept a group from being enough to open; 0 if not."""
    gone = (SegmentStatus.LOST, SegmentStatus.REFUSED)
    longest = 0.0
    for group, model in zip(report.groups, models, strict=True):
        others = [each.segment for each in group.segments if each.status not in gone]
        refused = [each.for_s for each in group.segments if each.status is SegmentStatus.REFUSED]
        if refused and not _is_enough(model, others, read_only=read_only):
            longest = max(longest, min(refused))
    return longest
