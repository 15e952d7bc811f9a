"""The SQL shell and what is no text: errors of the statement, with its line, and no traceback."""

from __future__ import annotations

import json
from subprocess import CompletedProcess

import pytest

from tests import in_process
from tests.terminal.playing import ROOT, environment


def sql(*arguments: str, typed: bytes) -> CompletedProcess[bytes]:
    return in_process.run("aurora", "sql", *arguments, typed=typed, cwd=ROOT, env=environment())


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (b"select cast(x'ff' as text);", r"line 2: error: text that is no UTF-8: b'\xff'"),
        (b"create table t as select cast(x'ff' as text) a; select * from t;", "no UTF-8"),
        (b"select 'a\x00b';", "line 2: error: a statement with a NUL at character 10"),
        (b"select '\xff';", r"line 2: error: a statement with '\udcff' at character 9"),
        (b"select '\xff'", r"line 2: error: a statement with '\udcff' at character 9"),
        (b".tables \xff", r"line 2: error: '\udcff' with '\udcff' at character 1"),
        (b".schema a\x00\xff", "line 2: error: "),
        (b".import a\x00b t", "line 2: error: 'a\\x00b' has a NUL"),
        (b".nonsense\xff", r"line 2: error: '.nonsense\udcff' is no command"),
        (b"select ?1, :a;", "line 2: error: parameters: 2, and no bindings for them"),
    ],
)
def test_what_is_no_text_is_an_error_of_its_line(typed: bytes, says: str) -> None:
    typed = b"select 'first';\n" + typed + b"\n"
    done = sql(typed=typed)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr.decode()
    assert says in done.stderr.decode()
    assert b"first" in done.stdout
    done = sql("--json", typed=typed)
    assert done.returncode == 1
    error = json.loads(done.stdout.splitlines()[-1])["error"]
    assert error["line"] == 2 and error["kind"] in ("SqlInvalid", "Misuse")


def test_bytes_that_are_no_text_in_comments_are_passed_over() -> None:
    done = sql(typed=b"-- \xff \x00 ;\n.mode list\nselect 7; -- \xff\n")
    assert (done.returncode, done.stdout) == (0, b"7\n")
