"""The shell of the server: connections on the loopback, h11 for HTTP, and nothing else.

Everything that comes in has a bound: heads, bodies, connections, and how long any of it may take.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

import attrs
import h11
import trio

from sim.view.news import as_event
from sim.view.site import Answer, Feed, Request, Site, problem

HOST: Final = "127.0.0.1"
_CHUNK: Final = 64 << 10


@attrs.frozen(kw_only=True)
class Limits:
    """Of what comes in, and of what takes time."""

    head_bytes: int = 16 << 10
    """First line and headers."""
    body_bytes: int = 64 << 10
    connections: int = 32
    request_s: float = 30.0
    """For a whole request, and for how long a connection may be idle before one."""
    send_s: float = 30.0
    """For a reader to take the next 64 KiB."""
    beat_s: float = 15.0
    """Between two signs of life where there is no news: a reader that has gone is noticed then."""


_READ: Final = 16 << 10
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class Server:
    """Answers whoever connects."""

    def __init__(self, site: Site, limits: Limits | None = None) -> None:
        self._site = site
        self._limits = limits or Limits()
        self._open = 0

    async def connection(self, stream: trio.abc.Stream) -> None:
        """Answer the requests of one connection; whatever goes wrong ends no other one."""
        if self._open >= self._limits.connections:
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            async with stream:
                await self._serve(stream)
        except _GONE:
            pass  # whoever asked has left
        except Exception:
            logging.getLogger("aurora").exception("a connection of the viewer has ended")
        finally:
            self._open -= 1

    async def _serve(self, stream: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes)
        while True:
            with trio.move_on_after(self._limits.request_s) as patience:
                try:
                    request = await self._receive(connection, stream)
                except h11.RemoteProtocolError as error:
                    status = error.error_status_hint
                    await self._send(connection, stream, problem(status, str(error)[:200]), False)
                    return
            if patience.cancelled_caught or request is None:
                return
            answer = self._site.answer(request)
            if isinstance(answer, Feed):
                await self._feed(connection, stream, answer)
                return
            await self._send(connection, stream, answer, request.method == "HEAD")
            if connection.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                return
            connection.start_next_cycle()

    async def _receive(self, connection: h11.Connection, stream: trio.abc.Stream) -> Request | None:
        """The next request with its body; None at the end of the connection."""
        request, body = None, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(_READ)))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._limits.body_bytes:
                    raise h11.RemoteProtocolError(
                        f"a body of over {self._limits.body_bytes:,} bytes", error_status_hint=413
                    )
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                return Request(
                    method=request.method.decode("ascii"),
                    target=request.target.decode("latin-1"),
                    headers={
                        name.decode("latin-1"): value.decode("latin-1")
                        for name, value in request.headers
                    },
                    body=bytes(body),
                )
            else:
                return None

    async def _send(
        self, connection: h11.Connection, stream: trio.abc.Stream, answer: Answer, only_head: bool
    ) -> None:
        try:
            head = connection.send(
                h11.Response(status_code=answer.status, headers=answer.all_headers)
            )
        except h11.LocalProtocolError:
            return  # it was no HTTP at all
        body = b"" if only_head else answer.body
        await self._write(stream, head or b"")
        for start in range(0, len(body), _CHUNK):
            part = connection.send(h11.Data(data=body[start : start + _CHUNK]))
            await self._write(stream, part or b"")
        await self._write(stream, connection.send(h11.EndOfMessage()) or b"")

    async def _write(self, stream: trio.abc.Stream, data: bytes) -> None:
        with trio.move_on_after(self._limits.send_s) as patience:
            await stream.send_all(data)
        if patience.cancelled_caught:
            raise trio.BrokenResourceError("the reader takes nothing")

    # ---- news ------------------------------------------------------------------------------------

    async def _feed(self, connection: h11.Connection, stream: trio.abc.Stream, feed: Feed) -> None:
        """Tell news until the reader has left, or fallen behind."""
        try:
            head = h11.Response(status_code=200, headers=list(feed.headers))
            await self._write(stream, connection.send(head) or b"")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_it_ends, stream, nursery.cancel_scope)
                await self._tell(connection, stream, feed)
                nursery.cancel_scope.cancel()
        finally:
            self._site.let_go(feed)

    async def _tell(self, connection: h11.Connection, stream: trio.abc.Stream, feed: Feed) -> None:
        while True:
            data = b": here\n\n"
            with trio.move_on_after(self._limits.beat_s):
                news = await feed.reader.next()
                if news is None:
                    return
                data = as_event(news)
            await self._write(stream, connection.send(h11.Data(data=data)) or b"")


async def _until_it_ends(stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
    """A reader of news has nothing more to say; whatever comes is the end."""
    with suppress(*_GONE):
        await stream.receive_some(1)
    scope.cancel()


@asynccontextmanager
async def listening(port: int, make_server: Callable[[int], Server]) -> AsyncIterator[int]:
    """Listen on the loopback, and serve, within a block that is given the port.

    Port 0 is any that is free. Raises `OSError` if the port cannot be had.
    """
    (listener,) = await trio.open_tcp_listeners(port, host=HOST)
    bound: int = listener.socket.getsockname()[1]
    server = make_server(bound)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, server.connection, [listener]))
        yield bound
        nursery.cancel_scope.cancel()
