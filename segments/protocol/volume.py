"""The volume's geometry: which pages, protection groups and segments there are (2017 §2.2)."""

from __future__ import annotations

from typing import Final

import attrs

from segments.protocol.errors import InvalidConfig
from segments.protocol.ids import PageId, PgId, SegmentId

DEFAULT_LAL: Final = 10_000_000
"""LSNs the log may be ahead of the VDL (2017 §4.2.1)."""
MAX_LAL: Final = 2**40
"""Each recovery annuls as many LSNs as the LAL: with this one, eight million recoveries fit."""
MAX_PG_COUNT: Final = 6_400
"""Protection groups of 10 GB in the paper's largest volume, 64 TB (2017 §2.2)."""

_LETTERS: Final = "ABCDEF"
_ZONES: Final = (1, 1, 2, 2, 3, 3)


def pg_of_page(page_id: PageId, pg_count: int) -> PgId:
    """The one protection group a page belongs to; neighbouring pages go to different groups."""
    return page_id % pg_count


def standard_members(pg_id: PgId) -> tuple[SegmentId, ...]:
    """The first six identities of a protection group: ``A0`` to ``F0`` for group 0."""
    return tuple(f"{letter}{pg_id}" for letter in _LETTERS)


@attrs.frozen
class ProtectionGroup:
    """The segments that hold the same log: two in each of three availability zones."""

    pg_id: PgId
    members: tuple[SegmentId, ...]
    zones: tuple[int, ...]
    """The availability zone of each member, in the same order."""

    def __attrs_post_init__(self) -> None:
        if len(set(self.members)) != len(self.members) or len(self.zones) != len(self.members):
            raise InvalidConfig(
                f"members {self.members!r} in zones {self.zones!r}: "
                "expected different members and one zone for each"
            )

    @classmethod
    def standard(cls, pg_id: PgId) -> ProtectionGroup:
        """The group as a fresh volume has it: A and B in zone 1, C and D in 2, E and F in 3."""
        return cls(pg_id, standard_members(pg_id), _ZONES)

    def az_of(self, member: SegmentId) -> int:
        """The availability zone of a member."""
        return self.zones[self.members.index(member)]


@attrs.frozen
class VolumeGeometry:
    """What is settled when a volume is made, and can never change under a log that exists."""

    pg_count: int
    """How many protection groups the volume's pages are dealt to."""
    lal: int = DEFAULT_LAL
    """LSN allocation limit. A recovery annuls as many LSNs as an earlier writer can have sent
    beyond its VDL, and so must know that writer's limit."""

    def __attrs_post_init__(self) -> None:
        if type(self.lal) is not int or not 1 <= self.lal <= MAX_LAL:
            raise InvalidConfig(f"lal is {self.lal!r}: expected 1 to {MAX_LAL}")
        if type(self.pg_count) is not int or not 1 <= self.pg_count <= MAX_PG_COUNT:
            raise InvalidConfig(f"pg_count is {self.pg_count!r}: expected 1 to {MAX_PG_COUNT}")

    @property
    def pg_ids(self) -> range:
        """All protection groups, ascending."""
        return range(self.pg_count)

    def pg_of(self, page_id: PageId) -> PgId:
        """The protection group of a page."""
        return pg_of_page(page_id, self.pg_count)

    def groups(self) -> tuple[ProtectionGroup, ...]:
        """Every protection group as a fresh volume has it."""
        return tuple(ProtectionGroup.standard(pg_id) for pg_id in self.pg_ids)
