"""What a segment computes before it acknowledges, and how long it keeps the loop otherwise."""

from __future__ import annotations

import time
from random import Random
from statistics import median, quantiles
from typing import Final

from scripts.figures.figure import Bound, Figure, Sizes, judge
from scripts.figures.life import EPOCH, LIVES, SEGMENT, Changes
from segments.config import SegmentConfig
from segments.core import SegmentCore
from segments.protocol import codec
from segments.restart import format_files, plan_restart

_BEFORE_US: Final = {64: 281.0, 1: 36.0}
"""What a batch of so many records cost when records were decoded before they were acknowledged."""
_AT_MOST_US: Final = {64: 25.0, 1: 15.0}


def _batch_us(records: int, batches: int) -> float:
    """Microseconds of computing for a batch: from its bytes to the bytes of its acknowledgement."""
    config, changes = SegmentConfig(unfolded_bytes=1 << 40), Changes(10_000)  # nobody folds here
    plan = plan_restart(SEGMENT, format_files(EPOCH, 1), config)
    core = SegmentCore(SEGMENT, 0, (), plan.state, plan.files, config, Random(1))
    payloads = [codec.encode(changes.batch(records)) for _ in range(batches)]
    started = time.thread_time()
    for payload in payloads:
        core.step("writer", codec.decode(payload), 0.0)
        core.take_write()
        core.wrote()
        for _, message in core.take_sends():
            codec.encode(message)
    taken = time.thread_time() - started
    assert core.state.scl == changes.last_lsn, f"SCL {core.state.scl}"
    return 1e6 * taken / batches


def _foreground(records: int, sizes: Sizes) -> Figure:
    value = min(_batch_us(records, sizes.batches) for _ in range(sizes.turns))
    before = _BEFORE_US[records]
    return judge(
        f"foreground-{records}", f"computing for a batch of {records}, without its write", "us",
        value, "recorded when each record was decoded first", before,
        Bound(_AT_MOST_US[records] / before, at_least=False),
        f"at most {_AT_MOST_US[records]:g} us, on a machine that does nothing else",
    )  # fmt: skip


def foreground_64(sizes: Sizes) -> Figure:
    """A batch of 64 records."""
    return _foreground(64, sizes)


def foreground_1(sizes: Sizes) -> Figure:
    """A batch of one record."""
    return _foreground(1, sizes)


def background_steps(sizes: Sizes) -> Figure:
    """How long work in the background holds up the loop at a time."""
    LIVES.get(sizes.history, sizes)
    steps = LIVES.steps
    cpu, wall = (1_000 * quantiles(each, n=1_000)[-1] for each in (steps.cpu_s, steps.wall_s))
    return judge(
        "background-step", f"99.9 % of {len(steps.cpu_s):,} steps in the background compute",
        "ms", cpu, "as long as an acknowledgement may be kept waiting", 10.0,
        note=f"{wall:.2f} ms as measured, with what others took of the machine; "
        f"median {1_000 * median(steps.cpu_s):.3f} ms, longest {1_000 * max(steps.cpu_s):.1f} ms",
    )  # fmt: skip
