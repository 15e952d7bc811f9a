"""What reads keep: bounded, and dropped by least recent use."""

from __future__ import annotations

import random

from segments.layers.block import Block, image_row, sorted_block
from segments.layers.block_cache import BlockCache
from segments.layers.page_cache import PageCache, Version

OVERHEAD = 256


def block(payload: int) -> Block:
    return sorted_block(image_row(1, 1, b"x" * payload))


def test_blocks_go_by_least_recent_use() -> None:
    one, two, three = block(100), block(100), block(100)
    cache = BlockCache(2 * one.size)
    cache.put(1, 0, one)
    cache.put(1, 1, two)
    assert cache.get(1, 0) is one
    cache.put(2, 0, three)
    assert [cache.get(1, 0), cache.get(1, 1), cache.get(2, 0)] == [one, None, three]
    assert (cache.hits, cache.misses, len(cache), cache.size) == (3, 1, 2, 2 * one.size)


def test_who_only_peeks_leaves_no_trace() -> None:
    one, two, three = block(100), block(100), block(100)
    cache = BlockCache(2 * one.size)
    cache.put(1, 0, one)
    cache.put(1, 1, two)
    assert cache.peek(1, 0) is one
    cache.put(2, 0, three)
    assert [cache.peek(1, 0), cache.peek(1, 1)] == [None, two]
    assert (cache.hits, cache.misses) == (0, 0)


def test_a_block_larger_than_the_cache_drops_no_other() -> None:
    cache = BlockCache(block(100).size)
    cache.put(1, 0, block(100))
    cache.put(1, 1, block(101))
    assert (cache.peek(1, 0) is not None, len(cache)) == (True, 1)


def test_blocks_of_layers_that_are_gone_go() -> None:
    cache = BlockCache(1 << 20)
    for layer in (1, 2, 3):
        cache.put(layer, 0, block(layer))
    cache.keep_only({2})
    assert [cache.peek(layer, 0) is None for layer in (1, 2, 3)] == [True, False, True]
    assert cache.size == block(2).size


def test_a_block_cache_never_holds_more_than_its_limit() -> None:
    draw = random.Random(1)
    cache, held = BlockCache(2_000), dict[tuple[int, int], Block]()
    for _ in range(500):
        key = draw.randrange(3), draw.randrange(6)
        held[key] = block(draw.randint(1, 900))
        cache.put(*key, held[key])
        there = [each for each in held.values() if each in cache._blocks.values()]
        assert cache.size == sum(each.size for each in there) <= 2_000
        assert all(cache.peek(*each) in (None, held[each]) for each in held)


def test_the_version_that_is_valid_furthest_is_kept() -> None:
    cache = PageCache(10_000)
    cache.put(7, Version(10, b"ten", 15))
    cache.put(7, Version(5, b"five", 9))
    assert cache.get(7, 10) == (10, b"ten", 15)
    assert cache.get(7, 9) is None
    assert cache.get(8, 100) is None
    cache.put(7, Version(10, b"ten", 20))
    assert cache.peek(7, 100) == (10, b"ten", 20)
    assert (cache.hits, cache.misses) == (1, 2)


def test_versions_go_by_least_recent_use_and_never_exceed_the_limit() -> None:
    cache = PageCache(2 * (OVERHEAD + 10))
    cache.put(1, Version(1, b"1" * 10, 1))
    cache.put(2, Version(1, b"2" * 10, 1))
    assert cache.get(1, 1) is not None
    assert cache.peek(2, 1) is not None
    cache.put(3, Version(1, b"3" * 10, 1))
    assert [page for page, _ in cache.versions()] == [1, 3]
    cache.put(4, Version(1, b"4" * 11, 1))
    assert [page for page, _ in cache.versions()] == [4]
    assert cache.size == OVERHEAD + 11
    cache.put(4, Version(2, b"4" * 1000, 2))
    assert cache.peek(4, 2) == (1, b"4" * 11, 1)


def test_what_a_truncation_annulled_is_not_vouched_for() -> None:
    cache = PageCache(10_000)
    cache.put(1, Version(10, b"", 10))
    cache.put(2, Version(5, b"", 20))
    cache.put(3, Version(11, b"", 11))
    cache.drop_above(10)
    assert cache.versions() == [(1, Version(10, b"", 10)), (2, Version(5, b"", 10))]
    assert cache.size == 2 * OVERHEAD
