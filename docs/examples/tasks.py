"""A task list over HTTP that survives ``kill -9``, and shows what it was at any moment kept.

    python docs/examples/tasks.py DIR [PORT]

    curl -d 'water the plants' localhost:8000/        a new task; answered once it is durable
    curl -X POST localhost:8000/1/done                a task is done
    curl localhost:8000/                              all tasks, as JSON
    curl 'localhost:8000/?at=5+minutes+ago'           as of then; an LSN or a time does, too

h11 speaks HTTP, and the server is trio's own. A connection that fails ends alone. Exit status: 1 if
the volume or the port cannot be had, 2 for a wrong call, 130 after Ctrl-C.
"""

from __future__ import annotations

import json
import logging
import sys
from contextlib import suppress
from functools import partial
from typing import Final
from urllib.parse import parse_qs, urlsplit

import h11
import trio

import aurora
from aurora.sqlite.database import Database

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS task(
    id INTEGER PRIMARY KEY, text TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0
) STRICT
"""
NAMED: Final = {"yesterday": "1 day ago", "now": "0 seconds ago"}
MOST_BYTES: Final = 64 << 10
STATUS: Final = {
    ValueError: 400, aurora.Invalid: 400, aurora.NotFound: 404, aurora.Unavailable: 503
}  # fmt: skip
"""What an error means to whoever asks, by what they can do about it. A target that is none, or a
body that is no UTF-8, is a ValueError."""
LAST_PORT: Final = 65_535

Answer = tuple[int, object]


async def answer(db: Database, method: str, target: str, body: bytes) -> Answer:
    """The status and the JSON for one request."""
    url = urlsplit(target)
    match method, url.path.strip("/").split("/"):
        case "GET" | "HEAD", [""]:
            return 200, await tasks(db, parse_qs(url.query).get("at", [""])[0])
        case "POST", [""]:
            if not (text := body.decode().strip()):
                raise ValueError("an empty task: expected some text")
            added = await db.execute("INSERT INTO task(text) VALUES(?)", (text,))
            return 201, {"id": added.last_insert_rowid, "lsn": added.lsn}
        case "POST", [number, "done"]:
            done = await db.execute("UPDATE task SET done = 1 WHERE id = ?", (number,))
            return (
                (200, {"lsn": done.lsn}) if done.changes else (404, {"error": f"no task {number}"})
            )
    return 404, {"error": f"{method} {target}: expected GET /, POST / or POST /ID/done"}


async def tasks(db: Database, at: str) -> object:
    """All tasks, now or as of a moment; before the first one there are none."""
    query = "SELECT id, text, done FROM task ORDER BY id"
    if not at:
        rows = await db.query(query).all()
    else:
        when = int(at) if at.isdecimal() else NAMED.get(at, at)
        try:
            async with db.at(when) as then:
                rows = await then.query(query).all()
        except aurora.NoSuchCommit:
            rows = []
        except aurora.ReadPointAboveVdl:
            raise ValueError(f"at {at}: expected a moment that has been, up to {db.lsn}") from None
    return [{"id": number, "text": text, "done": bool(done)} for number, text, done in rows]


async def serve(db: Database, stream: trio.SocketStream) -> None:
    """Answer the requests of one connection; whatever goes wrong ends no other one."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_BYTES)
    try:
        while await serve_one(db, connection, stream):
            connection.start_next_cycle()
    except h11.RemoteProtocolError as error:
        with suppress(h11.LocalProtocolError, trio.BrokenResourceError):  # no answer is possible
            await send(connection, stream, error.error_status_hint, {"error": str(error)})
    except trio.BrokenResourceError:
        pass  # whoever asked has left
    except Exception:
        logging.exception("a connection has ended")


async def serve_one(db: Database, connection: h11.Connection, stream: trio.SocketStream) -> bool:
    """Answer one request; returns whether there may be another."""
    request, body = await receive(connection, stream)
    if request is None:
        return False
    method = request.method.decode()
    try:
        status, value = await answer(db, method, request.target.decode(), body)
    except (aurora.AuroraError, ValueError) as error:
        kinds = (code for kind, code in STATUS.items() if isinstance(error, kind))
        status, value = next(kinds, 500), {"error": str(error)}
    await send(connection, stream, status, value, only_head=method == "HEAD")
    return bool(connection.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE})


async def receive(
    connection: h11.Connection, stream: trio.SocketStream
) -> tuple[h11.Request | None, bytes]:
    """The next request and its body; None at the end of the connection."""
    request, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MOST_BYTES:
                raise h11.RemoteProtocolError(f"over {MOST_BYTES} bytes", error_status_hint=413)
        else:  # the end of the message, or of the connection
            return request, body


async def send(
    connection: h11.Connection,
    stream: trio.SocketStream,
    status: int,
    value: object,
    *,
    only_head: bool = False,
) -> None:
    """Answer with a value as JSON, or with what would come before it."""
    body = json.dumps(value, ensure_ascii=False).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    response = h11.Response(status_code=status, headers=headers)
    for event in (response, h11.Data(data=b"" if only_head else body), h11.EndOfMessage()):
        await stream.send_all(connection.send(event) or b"")


async def main(directory: str, port: int) -> None:
    """Serve until the process is ended, in whatever way."""
    config = aurora.ClusterConfig(  # two days of every version, for `/?at=yesterday`
        engine=aurora.EngineConfig(retention_s=172_800.0)
    )
    async with (
        aurora.open_cluster(directory, config=config) as cluster,
        aurora.open_database(cluster) as db,
    ):
        await db.execute(SCHEMA)
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        address = listeners[0].socket.getsockname()
        print(f"http://{address[0]}:{address[1]}/", flush=True)
        await trio.serve_listeners(partial(serve, db), listeners)


def run(words: list[str]) -> int | str:
    """Do what the command line asks for; returns the exit status, or the reason for status 1."""
    directory, port = [*words, "8000"][:2] if len(words) in (1, 2) else ("", "")
    if not directory or not port.isdecimal() or int(port) > LAST_PORT:
        print("usage: python docs/examples/tasks.py DIR [PORT]", file=sys.stderr)
        return 2
    status: int | str = 0
    try:
        trio.run(main, directory, int(port))
    except* KeyboardInterrupt:
        status = 130
        print("interrupted", file=sys.stderr)
    except* aurora.AuroraError as group:
        status = str(group.exceptions[0])
    except* OSError as group:
        status = f"port {port}: {group.exceptions[0]}"
    return status


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
