"""Pages, protection groups, segments, zones (2017 §2.2)."""

from __future__ import annotations

import pytest

from segments.protocol.errors import InvalidConfig
from segments.protocol.volume import (
    MAX_PG_COUNT,
    ProtectionGroup,
    VolumeGeometry,
    standard_members,
)


def test_six_members_two_in_each_of_three_zones() -> None:
    """2017 §2.2: six segments make a protection group, two in each availability zone."""
    group = ProtectionGroup.standard(7)
    assert group.members == standard_members(7) == ("A7", "B7", "C7", "D7", "E7", "F7")
    assert [group.az_of(member) for member in group.members] == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("pg_count", [1, 2, 3])
def test_every_page_belongs_to_exactly_one_group(pg_count: int) -> None:
    geometry = VolumeGeometry(pg_count)
    assert [group.pg_id for group in geometry.groups()] == list(geometry.pg_ids)
    assert [geometry.pg_of(page_id) for page_id in range(12)] == ([*geometry.pg_ids] * 12)[:12], (
        "neighbours go to different groups, in turn"
    )


def test_no_identity_is_in_two_groups() -> None:
    members = [member for group in VolumeGeometry(12).groups() for member in group.members]
    assert len(set(members)) == 72


@pytest.mark.parametrize("pg_count", [0, -1, MAX_PG_COUNT + 1, True, 1.0])
def test_impossible_counts_are_refused(pg_count: int) -> None:
    with pytest.raises(InvalidConfig, match=f"pg_count is {pg_count}"):
        VolumeGeometry(pg_count)


def test_impossible_groups_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="different members"):
        ProtectionGroup(0, ("A0", "A0"), (1, 1))
    with pytest.raises(InvalidConfig, match="one zone for each"):
        ProtectionGroup(0, ("A0", "B0"), (1,))
