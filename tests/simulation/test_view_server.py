"""The viewer's server: what it answers, and what it keeps out, in memory and in virtual time."""

from __future__ import annotations

import gzip
import json
import logging
import random
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import attrs
import pytest
import trio
import trio.testing

from segments.protocol.errors import Invalid, NotFound
from sim.view.asked import ForkAsked, FuturesAsked, read_fork, read_futures
from sim.view.news import MOST_READERS, MOST_WAITING, NewsRoom
from sim.view.page import INDEX, in_one_file, read_assets, served
from sim.view.server import HOST, Limits, Server, listening
from sim.view.site import Request, Site

TOKEN: Final = "a-token"
PORT: Final = 1234
HERE: Final = f"127.0.0.1:{PORT}"
FILM: Final = b'{"format":"aurora-sim film"}' + b" " * 300_000
JSON: Final = {"content-type": "application/json"}


@attrs.define
class Runs:
    """One run, and what was asked for."""

    news: NewsRoom = attrs.field(factory=NewsRoom)
    asked: list[object] = attrs.field(factory=list)

    def film(self, run: str) -> bytes:
        if run != "main":
            raise NotFound(f"run {run!r}: expected main")
        return gzip.compress(FILM)

    def fork(self, asked: ForkAsked) -> Mapping[str, Any]:
        self.asked.append(asked)
        return {"run": "fork-1"}

    def inevitable(self, asked: FuturesAsked) -> Mapping[str, Any]:
        self.asked.append(asked)
        return {"run": "main"}


@pytest.fixture(scope="module")
def assets() -> dict[str, bytes]:
    return read_assets()


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def site(assets: dict[str, bytes], runs: Runs) -> Site:
    return Site(TOKEN, PORT, assets, runs)


def ask(
    site: Site,
    method: str,
    target: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Any:
    named = {"host": HERE} | dict(headers or {})
    return site.answer(Request(method=method, target=target, headers=named, body=body))


# ---- what is answered ----------------------------------------------------------------------------


def test_the_page_its_assets_and_the_film_are_served(site: Site) -> None:
    page = ask(site, "GET", f"/{TOKEN}/")
    assert (page.status, page.type) == (200, "text/html; charset=utf-8")
    headers = dict(page.all_headers)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert headers["Referrer-Policy"] == "no-referrer"
    style = ask(site, "GET", f"/{TOKEN}/assets/theme.css")
    assert (style.status, style.type) == (200, "text/css; charset=utf-8")
    assert ask(site, "GET", f"/{TOKEN}/assets/vendor/htm.mjs").type.startswith("text/javascript")
    film = ask(site, "GET", f"/{TOKEN}/film?run=main", {"accept-encoding": "br, gzip"})
    assert ("Content-Encoding", "gzip") in film.headers
    assert gzip.decompress(film.body) == FILM
    assert ask(site, "GET", f"/{TOKEN}/film").body == FILM


@pytest.mark.parametrize(
    ("method", "target", "headers", "status"),
    [
        ("GET", "/", {}, 404),
        ("GET", f"/{TOKEN}", {}, 404),
        ("GET", "/another-token/", {}, 404),
        ("GET", "/another-token/assets/theme.css", {}, 404),
        ("GET", "/\xe4\xff/", {}, 404),
        ("GET", "*", {}, 404),
        ("GET", "//[", {}, 400),
        ("GET", f"/{TOKEN}/", {"host": "evil.example"}, 403),
        ("GET", f"/{TOKEN}/", {"host": "127.0.0.1"}, 403),
        ("GET", f"/{TOKEN}/", {"host": f"evil.example:{PORT}"}, 403),
        ("GET", f"/{TOKEN}/", {"host": ""}, 403),
        ("GET", f"/{TOKEN}/", {"host": f"localhost:{PORT}"}, 200),
        ("HEAD", f"/{TOKEN}/", {}, 200),
        ("GET", f"/{TOKEN}/nothing", {}, 404),
        ("GET", f"/{TOKEN}/assets/", {}, 404),
        ("GET", f"/{TOKEN}/assets/../film.py", {}, 404),
        ("GET", f"/{TOKEN}/assets/%2e%2e/film.py", {}, 404),
        ("GET", f"/{TOKEN}/assets//etc/passwd", {}, 404),
        ("POST", f"/{TOKEN}/assets/theme.css", JSON, 405),
        ("POST", f"/{TOKEN}/", JSON, 405),
        ("DELETE", f"/{TOKEN}/film", {}, 405),
        ("GET", f"/{TOKEN}/fork", {}, 405),
        ("GET", f"/{TOKEN}/film?run=fork-9", {}, 404),
        ("GET", f"/{TOKEN}/film?{'a=1&' * 20}", {}, 400),
        ("GET", f"/{TOKEN}/{'x' * 3_000}", {}, 414),
        ("POST", f"/{TOKEN}/fork", {}, 415),
        ("POST", f"/{TOKEN}/fork", {"content-type": "text/plain"}, 415),
        ("POST", f"/{TOKEN}/fork", JSON | {"origin": "http://evil.example"}, 403),
        ("POST", f"/{TOKEN}/fork", JSON | {"origin": "null"}, 403),
        ("POST", f"/{TOKEN}/fork", JSON, 400),
    ],
)  # fmt: skip
def test_what_is_not_for_everybody_is_refused_in_words(
    site: Site, runs: Runs, method: str, target: str, headers: dict[str, str], status: int
) -> None:
    answer = ask(site, method, target, headers)
    assert answer.status == status
    if status != 200:
        told = json.loads(answer.body)
        assert told["error"]
        assert told["message"]
        assert TOKEN not in answer.body.decode()
    assert runs.asked == []


def test_an_address_that_others_may_have_seen_leads_to_the_page_once(
    assets: dict[str, bytes], runs: Runs
) -> None:
    site = Site(TOKEN, PORT, assets, runs, once="once")
    assert ask(site, "GET", "/once", {"host": "evil.example"}).status == 403
    assert ask(site, "HEAD", "/once").status == 404
    first = ask(site, "GET", "/once")
    assert (first.status, first.headers) == (303, (("Location", f"/{TOKEN}/"),))
    assert ask(site, "GET", "/once").status == 404
    assert ask(Site(TOKEN, PORT, assets, runs), "GET", "/").status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xff", b"[]", b"1", b"[" * 60_000, b'{"at_ns":-1}', b'{"at_ns":1.5}',
        b'{"at_ns":true}', b'{"at_ns":1,"more":1}', b'{"at_ns":1,"add":5}',
        b'{"at_ns":1,"add":[1]}', b'{"at_ns":' + b"9" * 5_000 + b"}",
        b'{"at_ns":1,"add":[{"at_ns":1,"kind":7}]}',
        b'{"at_ns":1,"add":[{"at_ns":1,"kind":"crash","params":{"a":[]}}]}',
        b'{"at_ns":1,"remove":["x"]}', b'{"at_ns":1,"redraw":-1}',
        b'{"at_ns":1,"add":[' + b",".join([b'{"at_ns":1}'] * 33) + b"]}",
    ],
)  # fmt: skip
def test_a_wrong_fork_is_refused_before_anything_happens(body: bytes) -> None:
    with pytest.raises(Invalid, match="expected"):
        read_fork(body)


def test_a_fork_is_read(site: Site, runs: Runs) -> None:
    action = {"kind": "crash", "target": "B0", "params": {}, "at_ns": 7}
    body = json.dumps({"from": "main", "at_ns": 5, "add": [action], "remove": [3], "redraw": None})
    headers = JSON | {"origin": f"http://{HERE}"}
    answer = ask(site, "POST", f"/{TOKEN}/fork", headers, body.encode())
    assert (answer.status, json.loads(answer.body)) == (202, {"run": "fork-1"})
    (asked,) = runs.asked
    assert isinstance(asked, ForkAsked)
    assert (asked.at_ns, asked.remove, asked.redraw) == (5, (3,), None)
    assert [(each.kind, each.target, each.at_ns) for each in asked.add] == [("crash", "B0", 7)]


@pytest.mark.parametrize("body", [b'{"futures":0}', b'{"futures":101}', b'{"run":"x","futures":1}'])
def test_futures_have_a_bound(body: bytes) -> None:
    with pytest.raises(Invalid, match="expected"):
        read_futures(body)


# ---- the page ------------------------------------------------------------------------------------


def test_a_page_that_is_not_as_expected_is_no_page(assets: dict[str, bytes]) -> None:
    for gone in (b'type="importmap"', b"<!-- film -->", b'rel="stylesheet"', b'type="module"'):
        spoilt = assets | {INDEX: assets[INDEX].replace(gone, b"")}
        with pytest.raises(Invalid, match=INDEX):
            in_one_file(spoilt, b"film")
    with pytest.raises(Invalid, match="import map"):
        served(assets | {INDEX: b"<!doctype html>"})


# ---- connections ---------------------------------------------------------------------------------


async def said(server: Server, sent: bytes, *, close: bool = False) -> bytes:
    """All that comes back of a connection on which ``sent`` is said."""
    client, there = trio.testing.memory_stream_pair()
    got = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.connection, there)
        await client.send_all(sent)
        if close:
            await client.send_eof()
        async for part in client:
            got += part
    return got


def get(path: str, *more: str, host: str = HERE) -> bytes:
    lines = [f"GET /{TOKEN}/{path} HTTP/1.1", f"Host: {host}", *more, "", ""]
    return "\r\n".join(lines).encode()


CLOSE: Final = "Connection: close"


async def test_requests_follow_each_other_on_a_connection(
    site: Site, autojump_clock: trio.testing.MockClock
) -> None:
    got = await said(Server(site), get("film") + get("assets/theme.css", CLOSE))
    assert got.count(b"HTTP/1.1 200") == 2
    assert FILM in got


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (get("", "Host: evil.example"), b"400"),
        (get("", "X: " + "y" * 40_000), b"431"),
        (b"GET /" + b"x" * 17_000, b"431"),
        (get("fork", "Content-Length: 99999999").replace(b"GET", b"POST") + b"x" * 70_000, b"413"),
        (get("", "Content-Length: nonsense"), b"400"),
        (get("", "Transfer-Encoding: chunked", "Content-Length: 3"), b"403"),
    ],
)
async def test_what_is_no_decent_request_is_answered_and_ends(
    site: Site, autojump_clock: trio.testing.MockClock, sent: bytes, status: bytes
) -> None:
    if status == b"403":
        sent = sent.replace(HERE.encode(), b"evil.example") + b"0\r\n\r\n"
    got = await said(Server(site), sent, close=True)
    assert got.startswith(b"HTTP/1.1 " + status), got[:200]


async def test_whoever_says_too_little_for_too_long_is_let_go(
    site: Site, autojump_clock: trio.testing.MockClock
) -> None:
    limits = Limits()
    for sent in (b"", b"GET ", get("")[:-2]):
        started = trio.current_time()
        assert await said(Server(site, limits), sent) == b""
        assert trio.current_time() - started == limits.request_s


async def test_whoever_takes_nothing_is_let_go(
    site: Site, autojump_clock: trio.testing.MockClock
) -> None:
    limits, started = Limits(), trio.current_time()
    client, there = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(site, limits).connection, there)
        await client.send_all(get("film"))
    assert trio.current_time() - started == limits.send_s


async def test_there_are_only_so_many_connections(
    site: Site, autojump_clock: trio.testing.MockClock
) -> None:
    server = Server(site, Limits(connections=3))
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            _, there = trio.testing.memory_stream_pair()
            nursery.start_soon(server.connection, there)
        await trio.testing.wait_all_tasks_blocked()
        assert await said(server, get("", CLOSE)) == b""
        nursery.cancel_scope.cancel()
    assert (await said(server, get("", CLOSE))).startswith(b"HTTP/1.1 200")


async def test_noise_ends_nothing_but_its_own_connection(
    site: Site,
    runs: Runs,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server, drawn = Server(site), random.Random(7)
    whole = get("film?run=main", "Content-Length: 4", CLOSE).replace(b"GET", b"POST") + b"body"
    for _ in range(150):
        noisy = bytearray(whole)
        for _ in range(drawn.randrange(1, 6)):
            noisy[drawn.randrange(len(noisy))] = drawn.randrange(256)
        await said(server, bytes(noisy[: drawn.randrange(1, len(noisy) + 1)]), close=True)
    assert runs.asked == []
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []
    assert (await said(server, get("", CLOSE))).startswith(b"HTTP/1.1 200")


# ---- news ----------------------------------------------------------------------------------------


class Heard:
    """What a page hears."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._got = b""

    async def next(self) -> Any:
        while True:
            while b"\n\n" not in self._got:
                self._got += await self._stream.receive_some()
            event, _, self._got = self._got.partition(b"\n\n")
            data = event.rpartition(b"data: ")[2]
            if data.startswith(b"{"):
                return json.loads(data)


async def test_news_are_told_to_whoever_listens(
    site: Site, runs: Runs, autojump_clock: trio.testing.MockClock
) -> None:
    runs.news.tell("fork-1", {"n": 1})
    runs.news.tell("fork-1", {"n": 2})
    client, there = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(site).connection, there)
        await client.send_all(get("events"))
        heard = Heard(client)
        assert await heard.next() == {"n": 2}  # what counts by now
        runs.news.tell("inevitable", {"n": 3})
        assert await heard.next() == {"n": 3}
        await trio.sleep(100)  # nothing but signs of life
        runs.news.tell("inevitable", {"n": 4})
        assert await heard.next() == {"n": 4}
        await client.aclose()
    assert runs.news._readers == {}


async def test_a_reader_that_falls_behind_is_let_go(
    site: Site, runs: Runs, autojump_clock: trio.testing.MockClock
) -> None:
    client, there = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(site).connection, there)
        await client.send_all(get("events"))
        await trio.testing.wait_all_tasks_blocked()
        for number in range(MOST_WAITING + 1):
            runs.news.tell("inevitable", {"n": number})
        async for _ in client:
            pass
    assert runs.news._readers == {}


async def test_only_so_many_listen(
    site: Site, runs: Runs, autojump_clock: trio.testing.MockClock
) -> None:
    for _ in range(MOST_READERS):
        runs.news.open()
    got = await said(Server(site), get("events", CLOSE))
    assert got.startswith(b"HTTP/1.1 503")


# ---- a socket ------------------------------------------------------------------------------------


async def test_it_listens_on_the_loopback_alone(assets: dict[str, bytes], runs: Runs) -> None:
    def make(port: int) -> Server:
        return Server(Site(TOKEN, port, assets, runs))

    async with listening(0, make) as port:
        async with await trio.open_tcp_stream(HOST, port) as stream:
            await stream.send_all(get("", CLOSE, host=f"localhost:{port}"))
            got = b"".join([part async for part in stream])
        assert got.startswith(b"HTTP/1.1 200")
        with pytest.raises(OSError, match="in use"):
            async with listening(port, partial(make)):
                raise AssertionError


async def test_who_listens_can_be_reached_by_no_other_address(
    assets: dict[str, bytes], runs: Runs
) -> None:
    """All of 127.0.0.0/8 is this machine, yet only the one address is listened on."""
    async with listening(0, lambda port: Server(Site(TOKEN, port, assets, runs))) as port:
        with pytest.raises(OSError, match=r"127\.0\.0\.2"):
            await trio.open_tcp_stream("127.0.0.2", port)
