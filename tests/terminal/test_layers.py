"""What the prompt shows of layers: the picture, what has changed, a page's chain, and figures."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest

from aurora.config import ClusterConfig, EngineConfig
from aurora.terminal import opening
from aurora.terminal.chains import chain_lines
from aurora.terminal.changes import changes
from aurora.terminal.figures import as_json
from aurora.terminal.session import Session
from aurora.terminal.snapshot import VolumeView
from segments.config import SegmentConfig
from segments.protocol.errors import PageNotFound, ReadPointBelowFloor
from tests.terminal.playing import Played, play

FILLED = [f"put {page} {turn} {'x' * 30}" for turn in range(2) for page in range(16)]
SMALL = SegmentConfig(fold_bytes=1024, block_bytes=256, fan_out=2)


@pytest.fixture(autouse=True)
def _small_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = EngineConfig(retention_lsns=None)
    monkeypatch.setattr(
        opening, "ClusterConfig", partial(ClusterConfig, segment=SMALL, engine=engine)
    )


def shown(played: Played, line: int = -1) -> list[str]:
    return played.outputs[line].splitlines()


def test_the_picture_shows_layers_and_how_far_they_reach() -> None:
    views: list[VolumeView] = []
    played = play(
        *FILLED, "wait 3000", "wipe F", "state", "segments",
        look=lambda session: views.append(session.view()),
    )  # fmt: skip
    assert all(played.succeeded)
    a = views[-1].segments[0]
    assert 0 < a.folded < 32 == a.scl
    assert a.records == tuple(range(a.folded + 1, 33))
    picture = shown(played, -2)
    assert all(len(line) == 80 for line in picture[:4])
    text = "\n".join(picture)
    assert text.count(f" up to F, {a.folded} ") == 5  # and F0 has none
    assert text.count(f"{a.layers} layer") == 5
    rows = [line.split() for line in shown(played)[1:]]
    assert [row[-3:-1] for row in rows] == [[f"{a.folded}", f"{a.layers}"]] * 5 + [["-", "-"]]


def test_what_goes_to_layers_is_not_gone() -> None:
    views: list[VolumeView] = []
    play(*FILLED, "wait 3000", look=lambda session: views.append(session.view()))
    before, after = views[0], views[-1]
    told = changes(before, after)
    folded, layers = after.segments[0].folded, after.segments[0].layers
    names = "A0 B0 C0 D0 E0 F0"
    assert f"{names}: F 0 → {folded}: what is up to there is in layers now" in told
    assert f"{names}: layers 0 → {layers}" in told
    assert not [line for line in told if line.startswith("gone from the log")]


def test_a_chain_goes_on_in_layers() -> None:
    played = play(*FILLED, "wait 3000", "put 3 0 new", "put 99 0 new", "chain 3", "chain 1",
                  "chain 99", "chain 98", "chain 3 @20")  # fmt: skip
    new, old, young, none, then = (shown(played, at) for at in range(-5, 0))
    assert new[1] == '  LSN 33       page 3 [0, 3) = "new"'
    assert re.fullmatch(
        r"  LSN 20       and what was before it: in layer-\d+ \(LSNs \d+ to \d+\)", new[2]
    )
    low, high = map(int, re.findall(r"\d+", new[2])[-2:])
    assert low <= 20 <= high
    assert len(new) == 3
    assert re.fullmatch(
        r"  none in the log; the newest: in layer-\d+ \(.*\), or further down", old[1]
    )
    assert young[1:] == ['  LSN 34       page 99 [0, 3) = "new"', "  0            an empty page"]
    assert none == ["error: PageNotFound: page 98: expected a page that was written"]
    assert then[1].startswith("  none in the log; the newest: in layer-")


def test_a_chain_in_a_base_layer_and_below_it() -> None:
    def look(session: Session) -> None:
        if session.history[-1] != "wait 8000":
            return
        host = session.cluster.hosts["A0"]
        assert host.core is not None
        state = host.core.state
        assert state.floor > 1
        lines = chain_lines(host, 1, None, 0)
        assert f"an image in {state.layers.layers[0].name}" in lines[-1]
        with pytest.raises(ReadPointBelowFloor):
            chain_lines(host, 1, state.floor - 1, 0)
        with pytest.raises(PageNotFound):
            chain_lines(host, 77, None, 0)

    engine = EngineConfig(retention_lsns=0)
    with pytest.MonkeyPatch.context() as patch:
        config = partial(ClusterConfig, segment=SMALL, engine=engine)
        patch.setattr(opening, "ClusterConfig", config)
        many = [f"put 1 {at} {'x' * 30}" for at in range(300)]
        play(*many, "wait 8000", "put 2 0 x", look=look)


def test_the_walk_tells_of_layers() -> None:
    played = play(*FILLED * 4, "wait 3000", *FILLED[:22], "viz on", *FILLED * 2, "wait 3000",
                  "recover", "get 9 @30")  # fmt: skip
    text = " ".join(played.text.split())
    published = r"layer-\d+ is live: LSN \d+–\d+, which leave the log; \d+ rows, [\d.]+ KiB"
    assert re.search(published, text)
    assert re.search(r"layer-\d+ is live: LSN \d+–\d+, in place of( layer-\d+)+; ", text)
    read = " ".join(played.outputs[-1].split())
    assert "LSN 26 follows 10 " in read
    assert "LSN 10 follows nothing " in read
    assert "+ LSN 26: page 9 [1, 31) = " in read


def test_figures_as_text_and_as_json() -> None:
    found: list[dict[str, object]] = []

    def look(session: Session) -> None:
        found.append(as_json(session.cluster.statistics()))

    played = play(*FILLED, "wait 3000", "statistics", "statistics --json", "statistics -j",
                  "crash writer", "statistics", look=look)  # fmt: skip
    assert played.succeeded[-5:] == [True, True, False, True, True]
    assert json.loads(played.outputs[-4]) == json.loads(json.dumps(found[-5]))
    segments: dict[str, dict[str, object]] = json.loads(played.outputs[-4])["segments"]
    a = segments["A0"]
    assert a["user_bytes_taken"] == a["user_bytes_held"] == 32 * (30 + 8)  # with each one's clock
    assert a["layers"] and a["write_amplification"]
    text = played.outputs[-5]
    assert "held back by          every version is kept: no retention is set" in text
    (stored, cost) = [line.split() for line in text.splitlines() if line.startswith("A0 ")]
    assert stored[3:6] == [f"{a['open_records']}", f"{a['folded']}", f"{a['layers']},"]
    assert cost[1:3] == ["1.2", "KiB"]
    assert max(map(len, text.splitlines())) <= 80
    assert "expected --json, or nothing" in played.outputs[-3]
    assert "writer-1 has crashed" not in played.outputs[-1]
    assert "held back by          writer-1 has ended: nobody may raise it" in played.outputs[-1]
