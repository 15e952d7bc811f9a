"""What the server answers to each request: pure, without a socket.

Only who knows the token gets anything but an error, and only under a name of this machine: a page
from elsewhere that has its own name resolve to this address is turned away by its Host. There are
no files to be reached, only assets that were read by name.
"""

from __future__ import annotations

import gzip
import hmac
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import parse_qs, urlsplit

import attrs

from segments.protocol.errors import AuroraError, Invalid, NotFound, Unavailable
from sim.view.asked import ForkAsked, FuturesAsked, read_fork, read_futures
from sim.view.news import NewsRoom, Reader
from sim.view.page import INDEX, served, type_of

JSON: Final = "application/json"
MOST_TARGET: Final = 2_048
"""Bytes of what stands in a request's first line."""
_MOST_FIELDS: Final = 8
_ALWAYS: Final = (
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)
_NAMES: Final = ("127.0.0.1", "localhost")
_STATUS: Final = ((Invalid, 400), (NotFound, 404), (Unavailable, 503))


@attrs.frozen(kw_only=True)
class Request:
    """What was asked for; names of headers are lower case."""

    method: str
    target: str
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""


@attrs.frozen(kw_only=True)
class Answer:
    """A status and a body."""

    status: int = 200
    body: bytes = b""
    type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def all_headers(self) -> list[tuple[str, str]]:
        """With those that every answer has."""
        fixed = (("Content-Type", self.type), ("Content-Length", str(len(self.body))))
        return [*fixed, *self.headers, *_ALWAYS]


@attrs.frozen
class Feed:
    """An answer without an end: news, as they happen."""

    reader: Reader
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "text/event-stream"), *_ALWAYS)


class Runs(Protocol):
    """What the site shows: `sim.view.studio`, or a test's stand-in for it."""

    news: NewsRoom

    def film(self, run: str) -> bytes:
        """A run's compressed film; raises `NotFound` and `Unavailable`."""

    def fork(self, asked: ForkAsked) -> Mapping[str, Any]:
        """Begin a fork; raises `Invalid`, `NotFound` and `Unavailable`."""

    def inevitable(self, asked: FuturesAsked) -> Mapping[str, Any]:
        """Begin to look for the moment; raises `Invalid` and `Unavailable`."""


class _Refused(Exception):
    def __init__(self, status: int, why: str, *headers: tuple[str, str]) -> None:
        super().__init__(why)
        self.status = status
        self.headers = headers


_Handler: TypeAlias = Callable[[Request, Mapping[str, list[str]]], Answer | Feed]


class Site:
    """All addresses below ``/TOKEN/``."""

    def __init__(
        self, token: str, port: int, assets: Mapping[str, bytes], runs: Runs, once: str = ""
    ) -> None:
        """``/ONCE`` leads to the page, a single time: for whom others may look over the shoulder.

        A browser is told its address as an argument, which every user of a machine may read.
        """
        self._token = token
        self._once = once
        self._hosts = tuple(f"{name}:{port}" for name in _NAMES)
        self._assets = assets
        self._page, self._policy = served(assets)
        self._runs = runs
        self._routes: dict[tuple[str, str], _Handler] = {
            ("GET", ""): self._get_page,
            ("GET", "film"): self._get_film,
            ("GET", "events"): self._get_events,
            ("POST", "fork"): self._post_fork,
            ("POST", "inevitable"): self._post_inevitable,
        }

    def answer(self, request: Request) -> Answer | Feed:
        """What a request gets; never raises for whatever it may be."""
        try:
            return self._answer(request)
        except _Refused as refused:
            return problem(refused.status, str(refused), *refused.headers)
        except AuroraError as error:
            status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
            return problem(status, str(error))

    def _answer(self, request: Request) -> Answer | Feed:
        if len(request.target) > MOST_TARGET:
            raise _Refused(414, f"an address of over {MOST_TARGET:,} bytes")
        if request.headers.get("host", "") not in self._hosts:
            raise _Refused(403, f"Host: expected {self._hosts[0]}")
        try:
            url = urlsplit(request.target)
            query = parse_qs(url.query, max_num_fields=_MOST_FIELDS)
        except ValueError as error:
            raise _Refused(400, f"the address: {error}") from None
        if self._once and _same(url.path, f"/{self._once}") and request.method == "GET":
            self._once = ""
            return Answer(status=303, headers=(("Location", f"/{self._token}/"),))
        _, token, *rest = url.path.split("/", 2) if url.path.startswith("/") else ("", "")
        if not rest or not _same(token, self._token):
            raise _Refused(404, "no such page: open the address that `view` has printed")
        method = "GET" if request.method == "HEAD" else request.method
        (path,) = rest
        if path.startswith("assets/"):
            return self._get_asset(method, path.removeprefix("assets/"))
        handler = self._routes.get((method, path))
        if handler is None:
            known = [each for each, name in self._routes if name == path]
            if known:
                raise _Refused(405, f"{method[:20]}: expected {known[0]}", ("Allow", known[0]))
            raise _Refused(404, f"{path[:100]!r}: no such page")
        if method == "POST":
            self._check_sender(request)
        return handler(request, query)

    def _check_sender(self, request: Request) -> None:
        """Only this site's own page sends JSON; another's form cannot."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != JSON:
            raise _Refused(415, f"Content-Type: expected {JSON}")
        origin = request.headers.get("origin")
        if origin is not None and origin not in [f"http://{each}" for each in self._hosts]:
            raise _Refused(403, f"Origin: expected http://{self._hosts[0]}")

    def let_go(self, feed: Feed) -> None:
        """A feed's reader has left."""
        self._runs.news.close(feed.reader)

    # ---- pages -----------------------------------------------------------------------------------

    def _get_page(self, _: Request, __: Mapping[str, list[str]]) -> Answer:
        policy = ("Content-Security-Policy", self._policy)
        return Answer(body=self._page, type=type_of(INDEX), headers=(policy,))

    def _get_asset(self, method: str, name: str) -> Answer:
        if method != "GET":
            raise _Refused(405, f"{method[:20]}: expected GET", ("Allow", "GET"))
        if name not in self._assets:
            raise _Refused(404, f"{name[:100]!r}: no such asset")
        return Answer(body=self._assets[name], type=type_of(name))

    def _get_film(self, request: Request, query: Mapping[str, list[str]]) -> Answer:
        body = self._runs.film(query.get("run", ["main"])[0])
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Answer(body=body, headers=(("Content-Encoding", "gzip"),))
        return Answer(body=gzip.decompress(body))

    def _get_events(self, request: Request, _: Mapping[str, list[str]]) -> Answer | Feed:
        if request.method == "HEAD":
            return Answer(type="text/event-stream")
        return Feed(self._runs.news.open())

    def _post_fork(self, request: Request, _: Mapping[str, list[str]]) -> Answer:
        return _json(202, self._runs.fork(read_fork(request.body)))

    def _post_inevitable(self, request: Request, _: Mapping[str, list[str]]) -> Answer:
        return _json(202, self._runs.inevitable(read_futures(request.body)))


def _same(found: str, secret: str) -> bool:
    """Compares in a time that does not tell how much of it is right."""
    return hmac.compare_digest(found.encode(), secret.encode())


def _json(status: int, value: object) -> Answer:
    return Answer(status=status, body=json.dumps(value).encode() + b"\n")


def problem(status: int, why: str, *headers: tuple[str, str]) -> Answer:
    """An error, as JSON: its kind, and a sentence that says what was expected."""
    told = {"error": HTTPStatus(status).phrase.lower(), "message": why}
    return attrs.evolve(_json(status, told), headers=headers)
