"""Runs whose sum is right and whose rows no writer makes: damage, wherever it is met first."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from segments.chain_index import ChainIndex
from segments.protocol.errors import SpoiltRun
from segments.protocol.messages import (
    FetchLayer,
    FetchLog,
    GossipRecords,
    GossipStatus,
    ListPages,
    Message,
    ReadPage,
)
from segments.protocol.record import RedoRecord
from segments.protocol.run import Rows, Run, encode_rows, encode_run, join_rows, read_run
from segments.protocol.truncation import TruncationRange, TruncationTable
from tests.oracles import naive_page
from tests.store_rig import FIRST, SECOND, THIRD, TINY, StoreRig, batch, durable, records

CHAIN = records(range(1, 61), size=40)
TABLE = TruncationTable(FIRST)
CONFIG = attrs.evolve(TINY, fold_bytes=64 << 10, wal_file_bytes=64 << 10)


def impossible(run: list[RedoRecord]) -> list[RedoRecord]:
    """Records the third of which names itself as the one before it of its page."""
    return [*run[:2], run[2]._replace(prev_page_lsn=run[2].lsn), *run[3:]]


def misled() -> StoreRig:
    """It has acknowledged 1 to 40, and never looked into 21 to 24; 51 to 60 wait."""
    rig = StoreRig(config=CONFIG)
    assert rig.take(CHAIN[:20]) == 20
    assert rig.take(impossible(CHAIN[20:24])) == 24
    assert rig.take(CHAIN[24:40]) == 40
    assert rig.take(CHAIN[50:]) == 40
    assert rig.state.whole
    return rig


def asked(message: Message, source: str = "writer") -> Callable[[StoreRig], None]:
    """It is asked for something, and does not answer with what is not there."""

    def ask(rig: StoreRig) -> None:
        rig.step(message, source)
        assert [*rig.settle(), *rig.answers()] == []

    return ask


def tick(rig: StoreRig) -> None:
    rig.core.tick(0.0)  # records have just come, and more may
    rig.core.tick(0.1)


def fold(rig: StoreRig) -> None:
    rig.config = attrs.evolve(CONFIG, fold_bytes=1 << 10)
    rig.core.background.fold_rule._config = rig.config
    rig.step(batch([], vdl=40))
    rig.settle()
    rig.work()
    assert rig.state.folded == 0
    rig.core.background.fold_rule._config = CONFIG


def write_anew(rig: StoreRig) -> None:
    rig.core.scrub.log_is_damaged = True
    names = rig.names
    assert rig.work(jobs=1) == 1
    assert rig.core.background.rewrites == 0
    assert len(rig.names) == len(names) + 1, "the file that the log goes on in"


FIRST_MET: dict[str, Callable[[StoreRig], None]] = {
    "tick": tick,
    "read": asked(ReadPage(FIRST, 1, 0, 40, 40)),
    "list": asked(ListPages(FIRST, 1, 0, 9, 40, 40, 9)),
    "log for a recovery": asked(FetchLog(FIRST, 1, 20, 200)),
    "records for a peer": asked(
        GossipStatus(FIRST, "B0", TABLE, 22, 0, 0, 0, 0, reply_wanted=True), "B0"
    ),
    "layer for a peer": asked(FetchLayer(FIRST, "B0", 0, 40, False, 0, 0), "B0"),
    "fold": fold,
    "rewrite": write_anew,
    "restart": StoreRig.restart,
}


@pytest.mark.parametrize("where", FIRST_MET)
def test_an_impossible_run_is_damage_that_peers_mend(where: str) -> None:
    rig = misled()
    FIRST_MET[where](rig)
    assert rig.state.scl == 20 or where == "restart", "which reads the log, and looks later"
    rig.core.tick(1.0)
    for _ in range(2):
        assert (rig.state.scl, rig.state.whole) == (20, False)
        assert rig.seal(SECOND) is None, "no witness: 21 to 40 were acknowledged"
        rig.restart()
        rig.core.tick(2.0)
    rig.install(TruncationTable(SECOND))
    assert rig.core.scrub.damages_found == 1
    good = encode_run(CHAIN[20:24])
    rig.step(GossipRecords(SECOND, "B0", TruncationTable(SECOND), 0, good), "B0")
    rig.settle()
    assert (rig.state.scl, rig.state.whole) == (40, True), "the others have waited"
    assert rig.seal(SECOND) is not None
    assert [rig.page(page, 40) for page in range(3)] == [
        naive_page(CHAIN, page, 40) for page in range(3)
    ]
    before = durable(rig)
    rig.work(now=99.0)
    assert rig.core.background.rewrites == 1
    rig.restart()
    rig.core.tick(3.0)
    assert durable(rig) == before
    assert rig.core.scrub.damages_found == 0, "it has left the log"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_table_that_cuts_an_impossible_run_is_adopted(restarts: bool) -> None:
    rig = misled()
    table = TABLE.extended(SECOND, 22, 200)
    rig.install(table)
    if restarts:
        rig.restart()
    assert (rig.state.table, rig.state.scl, rig.state.whole) == (table, 20, False)
    assert rig.take(CHAIN[20:24], SECOND) == 22
    assert rig.state.whole and rig.seal(THIRD) is not None


def test_a_layer_of_a_peer_stands_for_an_impossible_run() -> None:
    rig, peer = misled(), StoreRig("B0", attrs.evolve(CONFIG, fold_bytes=1 << 10))
    peer.take(CHAIN, vdl=60)
    peer.work()
    folded = peer.state.folded
    assert folded > 40
    rig.step(peer.core.gossip.status(reply_wanted=False), "B0")
    while rig.take_job() and rig.core.gossip.transfer is not None:
        rig.work_on()
        for to, message in [*rig.settle(), *peer.answers()]:
            (peer if to == "B0" else rig).step(message, "A0" if to == "B0" else "B0")
    assert (rig.state.folded, rig.state.whole) == (folded, True)
    assert rig.page(0, folded) == naive_page(CHAIN, 0, folded)
    assert rig.take(CHAIN[50:]) == 60


def test_all_that_was_acknowledged_is_waited_for_although_it_does_not_find_room() -> None:
    """A restart meets an impossible run again that peers have mended, and drops it earlier."""
    rig = StoreRig(config=attrs.evolve(CONFIG, unlinked_limit=64))
    rig.take(CHAIN[:20])
    rig.take(impossible(CHAIN[20:24]))
    rig.core.tick(0.0)
    rig.take(CHAIN[20:24])
    assert rig.state.whole
    rig.install(TABLE.extended(SECOND, 22, 200))
    after = records(range(201, 401), prev=22, after=CHAIN[:22], size=40)
    for at in range(0, 200, 20):
        rig.take(after[at : at + 20], SECOND)
    assert rig.state.scl == 400
    rig.restart()
    assert rig.take(CHAIN[20:22], SECOND) == 264
    assert not rig.state.whole
    assert rig.take(after, SECOND) == 400
    assert rig.state.whole


def test_a_fold_stops_before_a_run_that_is_given_up_while_it_looks_into_what_is_below() -> None:
    """Else its layer would say that it holds what is missing."""
    chain = records(range(1, 301), size=8_000)
    rig = StoreRig(config=attrs.evolve(CONFIG, fold_bytes=1 << 20))
    rig.take(chain[:200])
    rig.take(impossible(chain[200:204]))
    rig.take(chain[204:], vdl=300)
    rig.job = rig.core.background._fold(300)
    rig.step_job()
    rig.core.tick(0.0)
    assert rig.state.scl == 200
    while rig.job is not None:
        rig.step_job()
    assert rig.state.folded == 0 and "layer" not in " ".join(rig.names)
    rig.work()
    assert rig.state.folded == 200


def test_an_impossible_run_that_must_be_cut_to_fit_was_never_received() -> None:
    rig = StoreRig(config=CONFIG)
    rig.take(CHAIN[:22])
    assert rig.take(impossible(CHAIN[20:24])) == 22
    assert rig.state.whole and rig.state.spoilt_runs == 1
    rig.restart()
    assert (rig.state.scl, rig.state.whole) == (22, True)
    assert rig.take(CHAIN[20:24]) == 24


# ---- the index by itself -------------------------------------------------------------------------


def with_payload(run: list[RedoRecord], change: Callable[[bytes], bytes]) -> Run:
    """A sound run that has other payloads than its rows say."""
    rows, payloads = encode_rows(run)
    prev_lsn, last_lsn = run[0].prev_segment_lsn, run[-1].lsn
    return read_run(join_rows(prev_lsn, last_lsn, [Rows(rows, change(payloads))]))


@pytest.mark.parametrize("by", [1, -1])
def test_two_runs_do_not_make_up_for_each_other(by: int) -> None:
    """They are looked into together, and all of their payloads fit all of their rows."""
    index = ChainIndex()
    index.insert_run(read_run(encode_run(CHAIN[:4])))
    longer, shorter = (lambda data: data + b"x"), (lambda data: data[1:])
    index.insert_run(with_payload(CHAIN[4:8], longer if by > 0 else shorter))
    index.insert_run(with_payload(CHAIN[8:12], shorter if by > 0 else longer))
    with pytest.raises(SpoiltRun, match=r"the run of \(4, 8\]: ") as raised:
        index.look_into_more()
    assert index.drop_run(raised.value)
    assert not index.drop_run(raised.value), "it is not there any more"
    assert (index.scl, index.unlinked, index.spoilt_runs) == (4, 4, 1)
    assert index.look_into_more() == 4
    index.insert_run(read_run(encode_run(CHAIN[4:8])))
    with pytest.raises(SpoiltRun, match=r"the run of \(8, 12\]: "):
        index.look_into_more()


def test_a_truncation_that_meets_an_impossible_run_has_changed_nothing() -> None:
    index = ChainIndex()
    for run in (CHAIN[:20], impossible(CHAIN[20:24]), CHAIN[50:]):
        index.insert_run(read_run(encode_run(run)))
    table = TruncationTable(SECOND, (TruncationRange(23, 51, SECOND),))
    with pytest.raises(SpoiltRun) as raised:
        index.truncate(table)
    assert (index.scl, len(index), index.unlinked) == (24, 34, 10)
    index.drop_run(raised.value)
    index.truncate(table)
    assert index.held() == [*CHAIN[:20], *CHAIN[50:]]


def test_an_impossible_run_that_waits_is_dropped_where_it_is_looked_into() -> None:
    index = ChainIndex(max_unlinked=6)
    index.insert_run(read_run(encode_run(impossible(CHAIN[20:24]))))
    with pytest.raises(SpoiltRun) as raised:
        index.waiting_runs(100)
    assert not index.drop_run(raised.value), "it was never acknowledged"
    assert (index.unlinked, index.spoilt_runs) == (0, 1)
    index.insert_run(read_run(encode_run(CHAIN[10:14])))
    index.insert_run(read_run(encode_run(impossible(CHAIN[20:24]))))
    assert index.held() == CHAIN[10:14], "there is room for half of it, and it cannot be cut"
