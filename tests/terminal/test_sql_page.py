"""docs/sql.md: every block in it runs, and prints what stands below it.

``python -m tests.terminal.test_sql_page`` writes the outputs anew. Times are those of the reader.
"""

from __future__ import annotations

import re
import sqlite3
import sys
from io import StringIO
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from aurora.terminal.opening import Options, run
from aurora.terminal.screen import Screen
from aurora.terminal.session import Session
from aurora.terminal.sql.results import Results
from aurora.terminal.sql.shell import Shell
from aurora.terminal.sql.talk import CONTINUED, Talk
from tests.repo.test_documented_commands import commands as shell_commands
from tests.repo.test_documented_commands import perform
from tests.repo.test_readme import blocks
from tests.terminal.playing import ROOT, environment

PAGE: Final = ROOT / "docs" / "sql.md"
_BLOCK: Final = re.compile(r"(?<=^```text\n)(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)
_PROMPT: Final = re.compile(r"^(?:sql(?:\*|@\d+)?> | *\.\.\.> )(.*)$", re.MULTILINE)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+Z")


class Typing:
    """Lines typed one after the other, and what came of each."""

    def __init__(self, lines: list[str], output: StringIO) -> None:
        self._lines = iter(lines)
        self._output = output
        self.text = ""

    async def next_line(self, prompt: str) -> str | None:
        self.text += self._output.getvalue()
        self._output.truncate(0)
        self._output.seek(0)
        line = next(self._lines, None)
        if line is not None:
            self.text += f"{prompt.lstrip() if CONTINUED in prompt else prompt}{line}\n"
        return line

    async def stop(self) -> None:
        """There is nothing to give back."""


class QuietShell(Shell):
    """The volume's log, which tells what takes long, goes elsewhere."""

    @property
    def aside(self) -> Screen:
        return self.session.screen


def typed(lines: list[str]) -> str:
    """What a terminal of 80 columns shows of lines typed one after the other."""
    output = StringIO()
    typing = Typing(lines, output)

    async def use(session: Session) -> int:
        console = Console(file=output, width=80, color_system=None)
        session.screen = Screen(console=console)
        session.log_screen = Screen(console=Console(file=StringIO()))
        shell = QuietShell(session, Results(console, json_lines=False), tells_changes=True)
        return await Talk(shell, typing, None, script=False).run()

    assert run(Options(small_lal=False), use, repeatable=False) == 0
    return typing.text


def written_anew(document: str) -> str:
    """The document with the outputs that its commands have now."""
    lines = [line for block in _BLOCK.findall(document) for line in _PROMPT.findall(block)]
    rest = typed(lines)

    def fill(block: re.Match[str]) -> str:
        nonlocal rest
        count = len(_PROMPT.findall(block[0]))
        starts = [each.start() for each in _PROMPT.finditer(rest)]
        end = starts[count] if count < len(starts) else len(rest)
        text, rest = rest[:end], rest[end:]
        return text

    return _BLOCK.sub(fill, document)


def test_the_page_can_be_typed_along() -> None:
    document = PAGE.read_text(encoding="utf-8")
    assert len(_PROMPT.findall(document)) > 15
    assert _TIME.sub("TIME", document) == _TIME.sub("TIME", written_anew(document))


def test_its_commands_end_as_it_says(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as plain:
        plain.execute("CREATE TABLE t(a)")
    plain.close()
    found = shell_commands(PAGE.read_text(encoding="utf-8"))
    assert len(found) == 7
    for command, code in found:
        path = f"{Path(sys.executable).parent}:{environment()['PATH']}"
        ended, printed = perform(command, tmp_path, environment(PATH=path))
        assert ended == code, f"{command}\n{printed}"
    copy = (tmp_path / "copy.db").read_bytes()
    assert copy[:16] == (tmp_path / "before.db").read_bytes()[:16] == b"SQLite format 3\0"


def test_its_program_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (program,) = blocks(PAGE.read_text(encoding="utf-8"), "python")
    exec(compile(program, "sql.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "1 first\n2 note 2\n"
    assert (tmp_path / "notes.db").is_file()


if __name__ == "__main__":
    PAGE.write_text(written_anew(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
