"""How epochs are shown: short, as people read them, and never two alike."""

from __future__ import annotations

import re
from random import Random

import pytest
import trio

from aurora import open_cluster
from segments.protocol.errors import Fenced
from segments.protocol.ids import NO_EPOCH, VolumeEpoch, name_writers
from sim.bugs import planted
from sim.run import run
from tests.busy import BUSY
from tests.terminal.playing import play

LONG = VolumeEpoch(3, 2557193858705223607)


def test_an_epoch_is_its_counter_and_whose_it_is() -> None:
    assert LONG.of("writer-2") == "3 (writer-2)"
    assert f"{NO_EPOCH}" == NO_EPOCH.of("nobody") == "0"


def test_without_a_name_the_end_of_the_id_tells_writers_apart() -> None:
    assert f"{LONG}" == f"3 (id {LONG.writer_id % 16**6:06x})"
    assert len({str(VolumeEpoch(3, each)) for each in (1, 2, LONG.writer_id, 0)}) == 4


def test_a_text_gets_the_names_that_are_known() -> None:
    other = VolumeEpoch(4, 99)
    text = f"epoch {LONG}: segment B0 has sealed epoch {other}"
    named = name_writers(text, {LONG.writer_id: "writer-2"})
    assert named == f"epoch 3 (writer-2): segment B0 has sealed epoch {other}"


async def test_a_fenced_writer_says_by_whom_and_names_both() -> None:
    async with open_cluster(random=Random(1)) as cluster:
        old = cluster.engine
        await cluster.open_writer()
        with pytest.raises(Fenced) as refused:
            await old.put(1, 0, b"late")
        assert str(refused.value) == "epoch 1 (writer-1): epoch 2 (writer-2) has been sealed"


def test_the_prompt_names_whose_epoch_a_segment_has_sealed() -> None:
    played = play("takeover", "viz on", "segments", "crash A", "restart A")
    assert played.outputs[2].count(" 2 (writer-2) ") == 6
    assert "reads its log: epoch 2 (writer-2), SCL 0" in played.text


def test_a_finding_names_the_writer() -> None:
    with planted("third-highest-scl"):
        finding = run(BUSY).finding
    assert re.match(r"PGCL \d+ of epoch (\d+) \(writer-\1\) is backed by", finding)
    assert not re.search(r"\d{8}", finding)


async def test_a_writer_goes_above_one_that_never_opened_the_volume() -> None:
    """Whatever their ids are: what the other has sent may arrive later."""
    async with open_cluster(random=Random(1)) as cluster:
        for _ in range(3):
            with trio.move_on_after(0.0):
                await cluster.recover()
        counters = [each.epoch and each.epoch.counter for each in cluster.engines]
        assert counters == [1, 2, 3, 4]
        assert (await cluster.recover()).epoch == VolumeEpoch(5, cluster.engine.writer_id)
