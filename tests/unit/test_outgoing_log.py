"""The outgoing log against a list that is searched from its start."""

from __future__ import annotations

from random import Random

import pytest

from aurora.outgoing_log import OutgoingLog
from segments.protocol.record import RedoRecord
from segments.protocol.run import encode_run, read_records
from tests.oracles import encoded_size
from tests.store_rig import records


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("longest", [30, 8000])
def test_runs_are_what_a_search_finds(seed: int, longest: int) -> None:
    random = Random(seed)
    log, lsn, base = OutgoingLog(7), 7, 7
    held: list[RedoRecord] = []
    for _ in range(300):
        if random.random() < 0.5:
            made = []
            for _ in range(random.randint(1, 4)):
                (record,) = records([lsn + random.randint(1, 3)], prev=lsn)
                made.append(record._replace(payload=bytes(random.randint(1, longest)), offset=0))
                lsn = record.lsn
            log.append(made)
            held += made
        elif random.random() < 0.4:
            through = random.randint(base - 2, lsn + 1)
            log.release(through)
            gone = [each.lsn for each in held if each.lsn <= through]
            base = gone[-1] if gone else base
            held = [each for each in held if each.lsn > through]
        if held:
            after, limit = random.randint(base, lsn - 1), random.randint(1, 10 * longest)
            run = log.run_after(after, limit)
            expected = [each for each in held if each.lsn > after]
            count = max(
                n
                for n in range(1, len(expected) + 1)
                if n == 1 or encoded_size(expected[:n]) <= limit
            )
            assert run.last_lsn == expected[count - 1].lsn
            assert run.records == encode_run(expected[:count])
        assert (len(log), log.base_lsn, log.tail_lsn) == (len(held), base, lsn)
        assert log.size_bytes == encoded_size(held)


def test_a_record_longer_than_the_limit_goes_alone() -> None:
    log = OutgoingLog(0)
    chain = records([1, 2])
    log.append(chain)
    run = log.run_after(0, 1)
    assert read_records(run.records) == chain[:1]


def test_what_was_released_can_not_be_asked_for() -> None:
    log = OutgoingLog(0)
    log.append(records([1, 2, 3]))
    log.release(2)
    with pytest.raises(AssertionError):
        log.run_after(1, 100)
    with pytest.raises(AssertionError):
        log.run_after(3, 100)


def test_what_was_released_does_not_stay_in_memory() -> None:
    """Whatever has passed through it, a log takes about what it holds."""
    log = OutgoingLog(0)
    for lsn in range(1, 2_001):
        (record,) = records([lsn], prev=lsn - 1)
        log.append([record._replace(payload=bytes(1_000), offset=0)])
        log.release(lsn - 10)
    assert len(log) == 10
    assert len(log._rows) + len(log._payloads) < 4 * (64 << 10)
