"""The prompt in a real terminal: completion, history, resizing, Ctrl-C, colours."""

from __future__ import annotations

import io
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.patience import PATIENCE_S
from tests.terminal.playing import ROOT, environment

COLOURS = re.compile(r"\x1b\[(?:[0-9;]*[1-9][0-9]*)m")
"""A sequence that sets a colour or a style; one that only resets is no colour."""
PROMPT = "aurora>"

Spawn = Callable[..., Any]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    children = []

    def start(*arguments: str, width: int = 100, module: str = "aurora", **variables: str) -> Any:
        child = pexpect.spawn(
            sys.executable,
            ["-m", module, *arguments],
            cwd=str(ROOT),
            env=environment(
                TERM=variables.pop("TERM", "xterm-256color"), PROMPT_TOOLKIT_NO_CPR="1",
                XDG_STATE_HOME=str(tmp_path / "state"), **variables,
            ),
            encoding="utf-8",
            dimensions=(40, width),
            timeout=PATIENCE_S,
        )  # fmt: skip
        child.ptyproc.delayafterclose = 0.0  # who is closed has ended, or is ended by force
        child.logfile_read = io.StringIO()
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


def ended(child: Any) -> int:
    child.expect(pexpect.EOF)
    child.wait()
    child.close()
    return int(child.exitstatus)


def test_completion_history_and_ctrl_c_at_the_prompt(spawn: Spawn, tmp_path: Path) -> None:
    child = spawn("repl")
    child.expect_exact(PROMPT)
    child.send("stati\t")  # one word begins so
    child.expect_exact("stics")
    child.send("\r")
    child.expect("SCL as acknowledged")
    child.send("put 1 0 hello\r")
    child.expect("durable at LSN 1")
    child.send("half a line\x03")  # Ctrl-C gives it up, and nothing else
    child.expect_exact(PROMPT)
    child.send("\x1b[A\r")  # the arrow up: the line before, written again
    child.expect("durable at LSN 2")
    child.send("nonsense\r")
    child.expect("'nonsense' is no command")
    child.send("\x04")
    assert ended(child) == 0
    history = (tmp_path / "state" / "aurora" / "history").read_text(encoding="utf-8")
    assert "+statistics" in history
    assert "half" not in history

    again = spawn("repl")
    again.expect_exact(PROMPT)
    again.send("\x1b[A\x1b[A\r")  # from the session before
    again.expect("durable at LSN 1")
    again.send("crash wri\t")
    again.expect_exact("ter")
    again.send("\r")
    again.expect("writer-1 is gone")
    again.send("quit\r")
    assert ended(again) == 0


def test_what_is_told_while_somebody_types_does_not_disturb_the_line(spawn: Spawn) -> None:
    child = spawn("repl", "--no-color")
    child.expect_exact(PROMPT)
    child.send("wipe A0\r")
    child.expect("lost for good")
    child.send("put 1 0 ha")
    child.expect("log       A0 is lost .*it can never be opened again")
    child.send("lf\rget 1\r")
    child.expect("durable at LSN 1")
    child.expect('"half"')
    child.send("quit\r")
    assert ended(child) == 0


def test_the_picture_follows_the_window(spawn: Spawn) -> None:
    child = spawn("repl", "--no-color", width=100)
    for width in (100, 80):
        child.expect_exact(PROMPT)
        child.setwinsize(40, width)
        child.send("state\r")
        child.expect(r"(╭─ COMPUTE[^\r]*)\r\n")
        assert len(child.match[1]) == width
    child.send("quit\r")
    assert ended(child) == 0
    assert COLOURS.search(child.logfile_read.getvalue()) is None


def test_ctrl_c_ends_a_command_that_waits_and_not_the_session(spawn: Spawn) -> None:
    child = spawn("repl")
    child.expect_exact(PROMPT)
    child.send("wait 60000\r")
    child.expect_exact("\n")
    for _ in range(20):  # the first may come before the command runs: then it is nothing
        child.kill(signal.SIGINT)
        if child.expect(["interrupted", pexpect.TIMEOUT], timeout=0.5) == 0:
            break
    child.expect_exact(PROMPT)
    child.send("put 1 0 x\r")
    child.expect("durable at LSN 1")
    child.kill(signal.SIGTERM)  # at the prompt: the session ends, and the terminal is as before
    assert ended(child) == 128 + signal.SIGTERM
    assert child.logfile_read.getvalue().count("\x1b[?2004h") == (
        child.logfile_read.getvalue().count("\x1b[?2004l")
    )


def test_the_sql_shell_completes_and_takes_statements_of_several_lines(
    spawn: Spawn, tmp_path: Path
) -> None:
    child = spawn("sql", width=80)
    child.expect_exact("sql>")
    child.send("create table notes(id integer primary key, body);\r")
    child.expect("durable at LSN")
    child.expect_exact("sql>")
    child.send("insert into no\t")  # a table
    child.expect_exact("tes")
    child.send(" values(1,\r")  # Enter goes on
    child.expect_exact("...>")
    child.send("'two\r")
    child.expect_exact("...>")
    child.send("lines');\r")
    child.expect("1 row changed, durable at LSN")
    child.expect_exact("sql>")
    child.send("sel\t")  # a keyword, in the case that was begun
    child.expect_exact("ect")
    child.send(" bo\t")  # a column
    child.expect_exact("dy")
    child.send(" from notes;\r")
    child.expect_exact("two\\nlines")
    child.expect_exact("sql>")
    child.send("update notes set\x03")  # Ctrl-C gives it up
    child.expect_exact("sql>")
    child.send(".cra\t")
    child.expect_exact("sh")
    child.send("\x03")
    child.expect_exact("sql>")
    child.send("\x1b[A\x1b[A\r")  # the whole statement before the last one
    child.expect("UNIQUE constraint failed")
    child.send("\x04")
    assert ended(child) == 0
    history = (tmp_path / "state" / "aurora" / "sql-history").read_text(encoding="utf-8")
    assert "+'two\n+lines');" in history


def test_the_sql_prompt_says_where_it_is(spawn: Spawn) -> None:
    child = spawn("sql", NO_COLOR="1")
    child.expect_exact("sql> ")
    child.send("CREATE TABLE t(a);\r")
    child.expect(r"durable at LSN (\d+)")
    lsn = child.match[1]
    child.send("BEGIN;\r")
    child.expect_exact("sql*> ")
    child.send("INSERT INTO t\r")
    child.expect_exact(" ...> ")
    child.send("VALUES(1);\rCOMMIT;\r")
    child.expect("committed at LSN")
    child.expect_exact("sql> ")
    child.send(f".at {lsn}\r")
    child.expect_exact(f"sql@{lsn}> ")
    child.send("DELETE FROM t;\r")
    child.expect("error: a statement that writes")
    child.send(".at now\r.quit\r")
    assert ended(child) == 0
    assert "\x1b" not in child.logfile_read.getvalue()


def test_ctrl_c_ends_a_statement_and_not_the_sql_shell(spawn: Spawn) -> None:
    child = spawn("sql", NO_COLOR="1")
    child.expect_exact("sql> ")
    child.send("CREATE TABLE t(a);\r")
    child.expect_exact("sql> ")
    child.send(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n;\r"
    )
    interrupt(child, "interrupted")
    child.expect_exact("sql> ")
    child.send(".crash az1 C0\r")
    child.expect_exact("sql> ")
    child.send("INSERT INTO t VALUES(1);\r")
    child.expect("commits wait for a write quorum: 3 of 6")  # it says what for, by itself
    interrupt(child, "interrupted: the commit is part of the log")
    child.expect_exact("sql> ")
    child.send(".restart C0\r")
    child.expect("up: C0")
    child.send("BEGIN; SELECT count(*) FROM t; COMMIT;\r")
    child.expect(r"\n *1\r")
    child.send("\x04")
    assert ended(child) == 0


def interrupt(child: Any, expected: str) -> None:
    """Send Ctrl-C until it is heard: the first may come before the statement runs."""
    child.expect_exact("\n")
    for _ in range(20):
        child.kill(signal.SIGINT)
        if child.expect([expected, pexpect.TIMEOUT], timeout=0.5) == 0:
            return
    pytest.fail(f"no {expected!r}")


def test_ctrl_c_in_a_demo(spawn: Spawn, tmp_path: Path) -> None:
    child = spawn("viz-demo", "--delay", "50")
    child.expect("mini-transaction")
    child.sendintr()
    child.expect("interrupted")
    assert ended(child) == 130


def test_colours_on_a_terminal(spawn: Spawn) -> None:
    child = spawn("demo")
    assert ended(child) == 0
    assert COLOURS.search(child.logfile_read.getvalue())


def test_no_colour_at_the_prompt(spawn: Spawn) -> None:
    child = spawn("repl", "--no-color")
    child.expect_exact(PROMPT)
    child.send("nonsense\r")
    child.expect("is no command")
    child.send("quit\r")
    assert ended(child) == 0
    assert COLOURS.search(child.logfile_read.getvalue()) is None


PLAIN: dict[str, dict[str, str]] = {
    "NO_COLOR": {"NO_COLOR": "1", "FORCE_COLOR": "1"},
    "dumb": {"TERM": "dumb", "FORCE_COLOR": "1"},
}


@pytest.mark.parametrize("variables", PLAIN.values(), ids=PLAIN)
def test_a_plain_terminal_gets_no_escape_code_at_the_prompt(
    spawn: Spawn, variables: dict[str, str]
) -> None:
    child = spawn("viz-repl", "--delay", "0", **variables)
    child.expect_exact(PROMPT)
    child.send("put 1 0 hello\r")
    child.expect("durable at LSN 1")
    child.expect_exact(PROMPT)
    child.send("nonsense\r")
    child.expect("is no command")
    child.send("\x04")
    assert ended(child) == 0
    assert "\x1b" not in child.logfile_read.getvalue()


@pytest.mark.parametrize("variables", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("aurora", ("demo",)),
        ("aurora.sim", ("run", "az-outage")),
        ("aurora.sim", ("list", "faults")),
        ("aurora.sim", ("fleet", "--seeds", "1", "--jobs", "1")),
    ],
    ids=["demo", "run", "list", "fleet"],
)
def test_a_plain_terminal_gets_no_escape_code(
    spawn: Spawn, module: str, arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    child = spawn(*arguments, module=module, width=80, **variables)
    assert ended(child) == 0
    assert "\x1b" not in child.logfile_read.getvalue()
