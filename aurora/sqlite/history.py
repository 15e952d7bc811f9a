"""The commits of a database: which there were, and which one a moment means.

All of it is read from page 0, whose newest change at any read point is the stamp of the newest
commit there (`aurora.sqlite.commit_page`). A read point inside a mini-transaction would show half
of it, so every moment is rounded down to a commit.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from aurora.sqlite.commit_page import COMMIT_PAGE, CommitStamp
from aurora.sqlite.moments import AtTime, as_datetime, moment
from aurora.sqlite.volume import Volume
from segments.protocol.errors import Invalid, InvalidLsn, NoSuchCommit, ReadPointBelowFloor
from segments.protocol.ids import MAX_INTEGER, Lsn
from segments.protocol.showing import shown


class CommitInfo(NamedTuple):
    """One commit."""

    lsn: Lsn
    """Its last LSN: what `Database.at` takes."""
    time: datetime
    """When it was committed, by the clock of its writer, in UTC; never before its predecessor."""
    pages: int
    """Pages that it changed."""
    bytes: int
    """Bytes that it changed in them."""


async def commit_at(volume: Volume, lsn: Lsn) -> CommitInfo | None:
    """The newest commit at or below ``lsn``, a read point; None if there was none yet."""
    page = await volume.page(COMMIT_PAGE, lsn)
    if not page.image:
        return None
    stamp = CommitStamp.decode(page.image)
    return CommitInfo(page.page_lsn, as_datetime(stamp.time_ns), stamp.pages, stamp.size_bytes)


async def commits(volume: Volume, limit: int) -> list[CommitInfo]:
    """The newest commits that can be read, at most ``limit``, the newest first."""
    found: list[CommitInfo] = []
    with volume.held(volume.floor) as floor, volume.held() as vdl:
        lsn = vdl
        while len(found) < limit and lsn >= floor:
            commit = await commit_at(volume, lsn)
            if commit is None or (commit.lsn < floor and found):
                break
            found.append(commit._replace(lsn=max(commit.lsn, floor)))  # as in `_kept`
            lsn = commit.lsn - 1
    return found


async def commit_of(volume: Volume, when: object) -> CommitInfo:
    """The newest commit at or before a moment; it is for the caller to hold it.

    Raises `Invalid` for what is no moment, or one to come, `ReadPointAboveVdl`,
    `ReadPointBelowFloor` for what is no longer kept, and `NoSuchCommit` before the first one.
    """
    now_ns = volume.clock()
    point = moment(when, now_ns)
    if isinstance(point, AtTime):
        with volume.held(volume.floor) as floor:
            return await _commit_of_time(volume, point.time_ns, floor, now_ns)
    if not 0 <= point <= MAX_INTEGER:
        raise InvalidLsn(f"lsn is {shown(point)}: expected an integer from 0 to {MAX_INTEGER}")
    with volume.held(point):
        commit = await commit_at(volume, point)
        if commit is None:
            first = await _first_above(volume, point)
            raise NoSuchCommit(f"lsn {point}: expected one at or above {_named(first)}")
        return await _kept(volume, commit)


async def _commit_of_time(volume: Volume, time_ns: int, floor: Lsn, now_ns: int) -> CommitInfo:
    """Halve the LSNs between the floor and the VDL until only one commit is left."""
    time = as_datetime(time_ns)
    with volume.held() as vdl:
        newest = await commit_at(volume, vdl)
        if newest is None:
            raise NoSuchCommit(f"{time}: expected a time after {_named(None)}")
        if newest.time <= time:
            if time_ns > now_ns and time > newest.time:  # a commit may be ahead of the clock
                raise Invalid(
                    f"{time} is to come: expected a time that has been; the newest commit is "
                    f"LSN {newest.lsn}, {newest.time}"
                )
            return await _kept(volume, newest)
        best = await commit_at(volume, floor)
        if best is not None and best.time > time:
            raise ReadPointBelowFloor(
                f"{time}: expected {best.time} (LSN {max(best.lsn, floor)}) or later; older "
                "versions are no longer kept"
            )
        low, high = floor, newest.lsn
        while high - low > 1:
            middle = (low + high) // 2
            commit = await commit_at(volume, middle)
            if commit is not None and commit.time > time:
                high = commit.lsn
            else:
                low, best = middle, commit
        if best is None:
            first = await commit_at(volume, high)
            raise NoSuchCommit(f"{time}: expected a time at or after {_named(first)}")
        return await _kept(volume, best)


async def _first_above(volume: Volume, lsn: Lsn) -> CommitInfo | None:
    """The first commit, above a held LSN at which there was none; None if there is none yet."""
    with volume.held() as vdl:
        first = await commit_at(volume, vdl)
        while first is not None and first.lsn - lsn > 1:
            middle = (lsn + first.lsn) // 2
            commit = await commit_at(volume, middle)
            if commit is None:
                lsn = middle
            else:
                first = commit
    return first


def _named(first: CommitInfo | None) -> str:
    return f"the first commit, {f'LSN {first.lsn}, {first.time}' if first else 'which is to come'}"


async def _kept(volume: Volume, commit: CommitInfo) -> CommitInfo:
    """``commit``, with an LSN at which it can be read; raises `ReadPointBelowFloor`.

    The newest commit is what the floor shows, where that is above it: an import that was given up
    has left pages that no commit knows. Below a newer commit the floor may be amid that.
    """
    if commit.lsn < volume.floor:
        with volume.held() as vdl:
            if await commit_at(volume, vdl) == commit:
                return commit._replace(lsn=max(commit.lsn, volume.floor))
    with volume.held(commit.lsn):  # raises if it is below the floor
        return commit
