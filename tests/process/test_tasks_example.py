"""docs/examples/tasks.py: whatever it has answered survives SIGKILL, and the past can be read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from signal import SIGINT
from socket import SHUT_WR, create_connection
from typing import Any
from urllib.parse import quote_plus, urlsplit

from tests import in_process
from tests.patience import PATIENCE_S
from tests.repo.sources import ROOT

TASKS = ROOT / "docs" / "examples" / "tasks.py"
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}


class Server:
    """One run of the application."""

    def __init__(self, volume: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, TASKS, volume, "0"], cwd=ROOT, env=ENVIRONMENT,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        url = urlsplit(self._process.stdout.readline().strip())
        assert url.hostname is not None and url.port is not None, "it did not start"
        self.address = url.hostname, url.port
        self._connection = HTTPConnection(url.hostname, url.port, timeout=PATIENCE_S)

    def ask(self, method: str, target: str, body: str = "") -> tuple[int, Any]:
        self._connection.request(method, target, body.encode())
        with closing(self._connection.getresponse()) as answer:
            return answer.status, json.load(answer)

    def post(self, text: str) -> dict[str, int]:
        status, value = self.ask("POST", "/", text)
        assert status == 201
        assert isinstance(value, dict)
        return value

    def texts(self, at: object = "") -> list[str]:
        status, value = self.ask("GET", f"/?at={quote_plus(str(at))}" if at else "/")
        assert status == 200, value
        return [each["text"] for each in value]

    def raw(self, sent: bytes) -> bytes:
        """What comes back, on a connection of its own."""
        with create_connection(self.address, PATIENCE_S) as connection:
            connection.sendall(sent)
            connection.shutdown(SHUT_WR)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl-C; the exit status, and what it has said."""
        self._process.send_signal(SIGINT)
        _, said = self._process.communicate(timeout=PATIENCE_S)
        return self._process.returncode, said

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=PATIENCE_S)
        self._connection.close()


@contextmanager
def running(volume: Path) -> Iterator[Server]:
    server = Server(volume)
    try:
        yield server
    finally:
        server.kill()


def test_what_was_answered_survives_and_the_past_can_be_read(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    with running(volume) as server:
        first = server.post("water the plants")
        server.post("feed the cat")
        then = datetime.now(UTC)
        server.post("write home")
        assert server.ask("POST", f"/{first['id']}/done")[0] == 200
        assert server.ask("POST", "/99/done") == (404, {"error": "no task 99"})
        assert server.ask("DELETE", "/")[0] == 404
        assert server.ask("GET", "/?at=whenever")[0] == 400

    with running(volume) as server:
        assert server.texts() == ["water the plants", "feed the cat", "write home"]
        assert server.ask("GET", "/")[1][0]["done"]
        assert server.texts(first["lsn"]) == ["water the plants"]
        assert server.texts(then.isoformat()) == ["water the plants", "feed the cat"]
        assert not server.ask("GET", f"/?at={first['lsn']}")[1][0]["done"]
        assert server.texts("yesterday") == []
        server.post("sleep")

    with running(volume) as server:
        assert server.texts()[-1] == "sleep"
        assert server.texts("0 seconds ago")[-1] == "sleep"


def test_kills_amid_requests_lose_nothing_that_was_answered(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    answered: list[str] = []
    for _ in range(3):
        with running(volume) as server:
            known = server.texts()
            assert known[: len(answered)] == answered
            for number in range(5):
                text = f"task {len(known) + number}"
                server.post(text)
                answered = server.texts() if number == 0 else [*answered, text]
            server._connection.request("POST", "/", b"perhaps")  # killed before it is answered
    with running(volume) as server:
        kept = server.texts()
        assert kept[: len(answered)] == answered
        assert set(kept[len(answered) :]) <= {"perhaps"}


def test_no_connection_ends_the_server(tmp_path: Path) -> None:
    with running(tmp_path / "volume") as server:
        server.post("water the plants")
        head, body = server.raw(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").split(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and body == b""
        for target in (b"//[", b"/?at=99999999999999999999999", b"/?at=" + b"9" * 5_000):
            said = server.raw(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 400") and b'{"error": "' in said
        start = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
        assert server.raw(start + b"\xff").startswith(b"HTTP/1.1 400")
        assert server.raw(start + b" ").startswith(b"HTTP/1.1 400")
        assert server.raw(b"rubbish\r\n\r\n").startswith(b"HTTP/1.1 400")
        server.raw(start)  # and no body
        long = b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000
        server.raw(long)
        assert server.ask("GET", "/?at=99999999999999999999999")[1]["error"].endswith(
            "expected an integer from 0 to 9223372036854775807"
        )
        assert server.texts() == ["water the plants"]


def test_it_ends_with_a_line_and_a_status(tmp_path: Path) -> None:
    def ended(*words: object) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, TASKS, *map(str, words)], cwd=ROOT, env=ENVIRONMENT,
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.stderr.count("\n") == 1, done.stderr
        return done.returncode, done.stderr

    volume = tmp_path / "volume"
    with running(volume) as server:
        usage = "usage: python docs/examples/tasks.py DIR [PORT]\n"
        for words in ([], ["a", "b"], ["a", "65536"], ["a", "1", "2"]):
            done = in_process.run(str(TASKS), *words, cwd=ROOT, env=ENVIRONMENT)
            assert (done.returncode, done.stderr.decode()) == (2, usage)
        status, said = ended(volume, 0)
        assert status == 1 and "is open already" in said
        status, said = ended(tmp_path / "other", server.address[1])
        assert status == 1 and said.startswith(f"port {server.address[1]}: ")
        assert server.interrupt() == (130, "interrupted\n")
