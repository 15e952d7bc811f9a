"""Words for segments, zones and writers: one meaning, however they are spelt."""

from __future__ import annotations

from typing import Any

import pytest

from aurora import ClusterConfig, InvalidTarget, open_cluster
from aurora.targets import Named, resolve, spelt, words_of
from segments.protocol.volume import VolumeGeometry

GROUPS = VolumeGeometry(2).groups()
AZ1_AND_C0 = ("A0", "B0", "A1", "B1", "C0")
SPELLINGS: list[Any] = [
    "az1,C0", "AZ1 c0", " az1 ,, c0,", "az1\tC0", ["az1", "C0"], ("az1", "c0"), ["az1 C0"],
    ["az1,C0", "A0"], "az1 C0 az1 B",
]  # fmt: skip


@pytest.mark.parametrize("target", SPELLINGS, ids=repr)
def test_one_meaning_however_it_is_spelt(target: Any) -> None:
    assert resolve(target, GROUPS).segments == AZ1_AND_C0
    assert resolve(target, GROUPS, with_writers=True) == Named(AZ1_AND_C0, ())
    assert words_of(target)[:2] == ("az1", "C0")
    assert words_of(spelt(target)) == words_of(target)


def test_the_order_is_that_of_the_words_and_each_counts_once() -> None:
    assert resolve("C0 b A0 B1 az2", GROUPS).segments == ("C0", "B0", "B1", "A0", "D0", "C1", "D1")


def test_writers_are_named_where_they_can_be_meant() -> None:
    named = resolve("Writer, A0 writer-12 WRITERS", GROUPS, with_writers=True)
    assert named == Named(("A0",), ("writer", "writer-12", "writers"))
    with pytest.raises(
        InvalidTarget, match=r"'writer' names a writer: expected A0 to F1, .*crash_"
    ):
        resolve(["A0", "Writer"], GROUPS)


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("", "target is '': expected A0 to F1, A to F, az1 to az3"),
        (" , ", "target is ' , '"),
        ([], r"target is \[\]"),
        ("A0 A7", "'A7' names no segment: did you mean 'A"),
        ("az4", "'az4' names no segment: did you mean 'az3'"),
        ("A-0", "'A-0' names no segment"),
        ("ＡＺ１", "names no segment"),
        ("writer-x", "'writer-x' names no segment"),
        (7, "target is 7: expected names such as"),
        (None, "target is None"),
        (b"A0", "target is b'A0'"),
        (["A0", 7], r"target is \['A0', 7\]"),
        ({"A0"}, "target is {'A0'}"),
        (["A0", ["B0"]], "target is "),
    ],
)
def test_what_names_nothing_is_refused(target: Any, problem: str) -> None:
    with pytest.raises(InvalidTarget, match=problem):
        resolve(target, GROUPS)


def test_an_error_stays_short_in_the_largest_volume() -> None:
    with pytest.raises(InvalidTarget, match="expected A0 to F6399") as raised:
        resolve("A6400", VolumeGeometry(6400).groups())
    assert len(str(raised.value)) < 120


# ---- in the API ----------------------------------------------------------------------------------


async def _api(target: Any) -> tuple[str, ...]:
    async with open_cluster(config=ClusterConfig(pg_count=2)) as cluster:
        cluster.crash(target)
        down = tuple(name for name, host in cluster.hosts.items() if not host.up)
        await cluster.restart(target)
        assert all(host.up for host in cluster.hosts.values())
        for change in (cluster.pause, cluster.resume, cluster.wipe):
            change(target)
        cluster.slow(target, 0)
        assert tuple(cluster.lost_segments()) == down
    return down


@pytest.mark.parametrize("target", SPELLINGS, ids=repr)
async def test_in_the_api(target: Any) -> None:
    assert sorted(await _api(target)) == sorted(AZ1_AND_C0)


async def test_addresses_are_those_of_writers_too() -> None:
    async with open_cluster() as cluster:
        await cluster.recover()
        assert cluster.addresses("writer A0") == ["A0", "writer-2"]
        found = cluster.addresses("writers writer-1 writer-9")
        assert found == ["writer-1", "writer-2", "writer-9"]
