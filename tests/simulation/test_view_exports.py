"""Films as files: each is read back as the tool that it is for would read it."""

from __future__ import annotations

import gzip
import json
import re
import socket
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from segments.protocol.errors import Invalid, Unavailable
from sim.commands.case import open_case
from sim.commands.cli import cli
from sim.view.film import Film, make_film, packed
from sim.view.mail import HEARTBEAT
from sim.view.mermaid import MOST_ARROWS, as_mermaid, fitting
from sim.view.page import in_one_file, read_assets
from sim.view.perfetto import as_perfetto
from sim.view.shiviz import HEADER, as_shiviz
from sim.view.window import Window, parse_window

MOST_BYTES: Final = 3_000_000
"""For 10,000 events."""


@pytest.fixture(scope="module")
def film() -> Film:
    """The default scenario."""
    return make_film(open_case(None, "default", None))


@pytest.fixture(scope="module")
def failing() -> Film:
    """A small run with a finding."""
    return make_film(open_case(1, None, "third-highest-scl"))


def test_ten_thousand_events_are_small(film: Film) -> None:
    share = len(film["events"]["t"]) / 10_000
    assert len(in_one_file(read_assets(), packed(film))) < share * MOST_BYTES
    assert len(as_perfetto(film, Window())) < share * MOST_BYTES
    assert len(as_shiviz(film, Window())) < share * MOST_BYTES


# ---- the page in one file ------------------------------------------------------------------------


class Elements(HTMLParser):
    """The elements of a page, with what is in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(("", {}, ""))

    def handle_data(self, data: str) -> None:
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)


def test_an_exported_page_has_all_that_it_needs(failing: Film) -> None:
    text = in_one_file(read_assets(), packed(failing)).decode()
    found = Elements(text).found
    (told,) = [text for _, each, text in found if each.get("id") == "film"]
    assert json.loads(gzip.decompress(b64decode(told))) == failing
    named = [str(each.get(key)) for _, each, _ in found for key in ("src", "href") if key in each]
    assert named
    assert all(each.startswith("data:") for each in named)
    (mapped,) = [text for _, each, text in found if each.get("type") == "importmap"]
    modules = json.loads(mapped)["imports"]
    assert "preact" in modules
    sources = [b64decode(each.partition("base64,")[2]).decode() for each in modules.values()]
    (main,) = [str(each["src"]) for _, each, _ in found if each.get("type") == "module"]
    sources.append(b64decode(main.partition("base64,")[2]).decode())
    for source in sources:
        for name in re.findall(
            r"""^(?:import|export)\b.*?from\s*["']([^"']+)["']""", source, re.MULTILINE
        ):
            assert name in modules, name
    assert "./assets/" not in text


def test_its_policy_lets_it_ask_nobody(failing: Film) -> None:
    text = in_one_file(read_assets(), packed(failing)).decode()
    found = Elements(text).found
    (policy,) = [
        str(each["content"])
        for _, each, _ in found
        if each.get("http-equiv") == "Content-Security-Policy"
    ]
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    for inline in [
        text for tag, each, text in found if tag == "style" or "importmap" in each.values()
    ]:
        digest = b64encode(sha256(inline.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_the_import_map_has_every_module_of_the_page() -> None:
    assets = read_assets()
    (mapped,) = re.findall(r'"imports": \{(.*?)\}', assets["index.html"].decode(), re.DOTALL)
    named = set(re.findall(r'": "\./assets/([^"]+)"', mapped)) | {"main.js"}
    assert named == {name for name in assets if name.endswith(("js", "mjs"))}


# ---- Perfetto ------------------------------------------------------------------------------------


def test_trace_events_are_whole(film: Film) -> None:
    trace = json.loads(as_perfetto(film, Window()))
    events = trace["traceEvents"]
    kinds = {each["ph"] for each in events}
    assert kinds == {"M", "X", "i", "s", "f", "C"}
    names = {
        (each["pid"], each["tid"]): each["args"]["name"]
        for each in events
        if each["name"] == "thread_name"
    }
    titles = {each["title"] for each in film["episodes"]}
    assert set(names.values()) == {each["id"] for each in film["nodes"]} | titles
    threads: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for each in events:
        if each["ph"] == "X":
            span = (round(each["ts"] * 1000), round((each["ts"] + each["dur"]) * 1000))
            threads.setdefault((each["pid"], each["tid"]), []).append(span)
    assert threads.keys() <= names.keys()
    for spans in threads.values():
        around: list[int] = []
        for start, end in sorted(spans, key=lambda each: (each[0], -each[1])):
            around = [each for each in around if each > start]
            assert start <= end <= min(around, default=end), "slices nest"
            around.append(end)
    slices = {(each["pid"], each["tid"], each["ts"]) for each in events if each["ph"] == "X"}
    starts = {each["id"]: each for each in events if each["ph"] == "s"}
    ends = {each["id"]: each for each in events if each["ph"] == "f"}
    assert starts.keys() == ends.keys()
    for number, start in starts.items():
        end = ends[number]
        assert start["ts"] <= end["ts"]
        assert (start["pid"], start["tid"], start["ts"]) in slices  # an arrow needs one
        assert (end["pid"], end["tid"], end["ts"]) in slices
    writes = [each for each in events if each["ph"] == "X" and each["name"] == "write"]
    assert len(writes) > 800
    last = [each for each in events if each["ph"] == "C" and each["name"] == "VDL of writer-2"][-1]
    assert last["args"]["vdl"] == max(each["lsn"] for each in film["commits"])


# ---- Mermaid -------------------------------------------------------------------------------------

_PARTICIPANT: Final = re.compile(r"    participant (\w+) as [\w -]+")
_ARROW: Final = re.compile(r"    (\w+)(->>|-x)(\w+): [^;#]+")
_NOTE: Final = re.compile(r"    Note over (\w+): [^;#]+")


def test_a_diagram_has_participants_arrows_and_notes(failing: Film) -> None:
    head, kind, title, *lines = as_mermaid(failing, Window()).splitlines()
    assert head == "%% --seed 1 --bug third-highest-scl, the whole run"
    assert (kind, title) == ("sequenceDiagram", head.replace("%%", "    title"))
    known = [found[1] for each in lines if (found := _PARTICIPANT.fullmatch(each))]
    arrows = [found for each in lines if (found := _ARROW.fullmatch(each))]
    notes = [found for each in lines if (found := _NOTE.fullmatch(each))]
    assert len(known) + len(arrows) + len(notes) == len(lines)
    used = {each for found in arrows for each in (found[1], found[3])}
    assert used | {found[1] for found in notes} == set(known)
    sent = [each for each in failing["messages"] if each["type"] != HEARTBEAT]
    assert sum(each[2] == "->>" for each in arrows) == sum(len(each["arrived"]) for each in sent)
    assert sum(each[2] == "-x" for each in arrows) == sum(not each["arrived"] for each in sent)
    assert "pgcl-is-backed: PGCL 17 of epoch 2" in lines[-1]
    assert lines[-1].endswith("without its<br/>table: A0")
    assert any("VDL 15 → 17" in each for each in lines)


def test_what_nobody_would_read_is_refused_with_a_window_that_fits(film: Film) -> None:
    with pytest.raises(Invalid, match=f"at most {MOST_ARROWS}: .* --window 200ms") as refused:
        as_mermaid(film, Window())
    window = parse_window(str(refused.value).rpartition(" ")[2])
    assert as_mermaid(film, window).count("->>") <= MOST_ARROWS
    narrow = fitting(film, Window(10**9, 2 * 10**9))
    assert 10**9 <= narrow.from_ns <= narrow.to_ns <= 2 * 10**9


# ---- ShiViz --------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [Window(), Window(300_000_000, 500_000_000)])
def test_a_log_has_clocks_that_count(film: Film, window: Window) -> None:
    regex, executions, log = as_shiviz(film, window).split("\n", 2)
    assert (regex, executions) == (HEADER, "")
    pattern = re.compile(regex.replace("(?<", "(?P<"))
    found = [each.groupdict() for each in pattern.finditer(log)]
    assert 2 * len(found) == len(log.splitlines())
    own: dict[str, int] = {}
    known: dict[str, dict[str, int]] = {}
    taken = 0
    for each in found:
        host, clock = each["host"], json.loads(each["clock"])
        assert clock[host] == own.get(host, 0) + 1
        own[host] = clock[host]
        for other, count in clock.items():
            assert count <= own[other]  # nobody knows of what has not happened
            assert count >= known.get(host, {}).get(other, 0)
        taken += clock.keys() != known.get(host, clock).keys()
        known[host] = clock
    assert taken > 5


# ---- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("300ms..500ms", Window(300_000_000, 500_000_000)),
        ("1.5us..2s", Window(1_500, 2_000_000_000)),
        ("..7ns", Window(0, 7)),
        ("1s..", Window(1_000_000_000)),
        ("..", Window()),
    ],
)
def test_a_window_is_read(text: str, window: Window) -> None:
    assert parse_window(text) == window


@pytest.mark.parametrize("text", ["", "1s", "2s..1s", "a..b", "1..2", "-1s..2s", "1 h..2 h"])
def test_a_wrong_window_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="expected"):
        parse_window(text)


def test_a_window_in_which_nothing_happens_is_refused(failing: Film) -> None:
    makers: tuple[Callable[[Film, Window], Any], ...] = (as_mermaid, as_perfetto, as_shiviz)
    for make in makers:
        with pytest.raises(Invalid, match="choose another --window"):
            make(failing, Window(from_ns=10**12))


# ---- the command ---------------------------------------------------------------------------------


def view(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["view", *arguments])


def test_an_export_is_written_and_may_be_written_again(tmp_path: Path) -> None:
    case = ("--seed", "1", "--bug", "third-highest-scl")
    for name in ("f.html", "f.json", "f.mmd", "f.shiviz", "f.html", "f.mmd"):
        path = tmp_path / name
        done = view(*case, "--export", str(path))
        assert done.exit_code == 0, done.output
        assert re.search(r"violation after 0\.01\d\d s, 4\d\d events", done.output)
        assert path.stat().st_size > 1_000
        again = view(str(path))
        assert again.exit_code == 2 and "cannot be opened again" in again.output


def test_what_is_of_value_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "precious.json"
    path.write_text("{}")
    assert view("--seed", "1", "--export", str(path)).exit_code == 2
    assert path.read_text() == "{}"
    scenario = tmp_path / "own.html"
    scenario.write_text("[knobs]")
    assert view(str(scenario), "--export", str(scenario), "--force").exit_code == 2
    assert scenario.read_text() == "[knobs]"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--export", "film.gif"),
        ("--export", "film"),
        ("--export", "nowhere/film.html"),
        ("--window", "1ms..2ms"),
        ("--export", "film.mmd", "--window", "2ms"),
        ("--export", "film.html", "--window", "1ms..2ms"),
        ("--port", "65536"),
        ("no-such-scenario",),
    ],
)
def test_a_wrong_call_is_refused_in_words(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = view(*arguments)
    assert done.exit_code == 2
    assert "xpected" in done.output or "no directory" in done.output or "range" in done.output
    assert list(tmp_path.iterdir()) == []


def test_what_a_port_cannot_be_is_told() -> None:
    assert "'80x' is not a valid integer.\n" in view("--port", "80x").output
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = view("--port", str(taken.getsockname()[1]), "--seed", "1")
    assert isinstance(refused.exception, Unavailable)  # of which no usage is printed
    assert "in use" in str(refused.exception)
