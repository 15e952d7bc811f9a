"""The outgoing log against a list that is searched from its start."""

from __future__ import annotations

from random import Random

import pytest

from aurora.outgoing_log import OutgoingLog
from segments.protocol import codec
from tests.segment_rig import records


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_what_a_search_finds(seed: int) -> None:
    random = Random(seed)
    log, lsn = OutgoingLog(7), 7
    held: list[tuple[int, bytes]] = []
    base = 7
    for _ in range(300):
        if random.random() < 0.5:
            lsn += random.randint(1, 3)
            encoded = bytes(random.randint(1, 30))
            log.append(lsn, encoded)
            held.append((lsn, encoded))
        elif random.random() < 0.4:
            through = random.randint(base - 2, lsn + 1)
            log.release(through)
            gone = [each for each, _ in held if each <= through]
            base = gone[-1] if gone else base
            held = [each for each in held if each[0] > through]
        if held:
            after, limit = random.randint(base, lsn - 1), random.randint(1, 100)
            run = log.run_after(after, limit)
            expected = [each for each in held if each[0] > after]
            count = max(
                1,
                max(
                    (n for n in range(len(expected) + 1) if size(expected[:n]) <= limit), default=0
                ),
            )
            assert (run.first_lsn, run.last_lsn) == (expected[0][0], expected[count - 1][0])
            assert run.records == codec.join_records([each for _, each in expected[:count]])
        assert (len(log), log.base_lsn, log.tail_lsn) == (len(held), base, lsn)
        assert log.size_bytes == size(held)


def size(run: list[tuple[int, bytes]]) -> int:
    return sum(len(encoded) for _, encoded in run)


def test_a_record_longer_than_the_limit_goes_alone() -> None:
    log = OutgoingLog(0)
    chain = records([1, 2])
    for record in chain:
        log.append(record.lsn, codec.encode_record(record))
    run = log.run_after(0, 1)
    assert codec.decode_records(run.records) == chain[:1]


def test_what_was_released_can_not_be_asked_for() -> None:
    log = OutgoingLog(0)
    for record in records([1, 2, 3]):
        log.append(record.lsn, codec.encode_record(record))
    log.release(2)
    with pytest.raises(AssertionError):
        log.run_after(1, 100)
    with pytest.raises(AssertionError):
        log.run_after(3, 100)
