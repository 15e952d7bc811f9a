"""What a crash leaves of a write that was under way, and what rot makes of bytes: all is drawn.

Each function draws from what it is given and from nothing else, so that six disks that lose power
at once are torn each in a way of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

Draw: TypeAlias = Callable[[], float]
"""`Random.random` of a disk's own stream: a number from 0 to 1, exclusive."""

BLOCK_BYTES: Final = 4096
_ENDS: Final = 4
_SLOT_ENDS: Final = 5


def torn_append(draw: Draw, data: bytes) -> bytes:
    """What is left of ``data``: nothing, or a prefix, bare or with zeros or rubbish after."""
    kept = data[: _below(draw, len(data) + 1)]
    rest = _below(draw, len(data) - len(kept) + 1)
    kind = _below(draw, _ENDS)
    if kind == 0:
        return b""
    if kind == 1:
        return kept
    if kind == 2:
        return kept + bytes(rest)
    return kept + bytes(_below(draw, 256) for _ in range(rest))


def torn_blocks(draw: Draw, data: bytes) -> bytes:
    """What is left of a file that was not synced: any of its blocks, up to any of them."""
    blocks = [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]
    kept = blocks[: _below(draw, len(blocks) + 1)]
    return b"".join([each if draw() < 0.5 else bytes(len(each)) for each in kept])


def torn_promises(draw: Draw, slots: bytes, data: bytes) -> bytes:
    """Two slots on their way to hold ``data`` each: first the one is written, then the other.

    Neither is touched yet; or the first is torn, or new; or the second is torn, too, or new. So a
    slot that was sound before, or is by now, is always whole beside the torn one.
    """
    first, second = slots[: len(data)], slots[len(data) :]
    end = _below(draw, _SLOT_ENDS)
    if end == 1:
        return _torn_slot(draw, first, data) + second
    if end == 3:
        return data + _torn_slot(draw, second, data)
    return (data if end >= 2 else first) + (data if end >= 4 else second)


def _torn_slot(draw: Draw, old: bytes, new: bytes) -> bytes:
    """A slot in the middle of the bytes that change: most of a slot never does."""
    changing = [at for at, (was, is_) in enumerate(zip(old, new, strict=True)) if was != is_]
    if len(changing) < 2:
        return old
    kept = changing[1 + _below(draw, len(changing) - 1)]
    return new[:kept] + old[kept:]


def flip(draw: Draw, data: bytearray, start: int, end: int, bits: int) -> tuple[int, ...]:
    """Flip ``bits`` bits in the bytes ``start <= at < end``, which are some; return where."""
    offsets = [start + _below(draw, end - start) for _ in range(bits)]
    for place in offsets:
        data[place] ^= 1 << _below(draw, 8)
    return tuple(offsets)


def _below(draw: Draw, end: int) -> int:
    """A number drawn from 0 to ``end``, exclusive."""
    return int(draw() * end)
