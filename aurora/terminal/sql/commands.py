"""The shell's own commands, which begin with a dot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import attrs

from aurora.terminal import language
from aurora.terminal.commands import COMMANDS as OF_THE_VOLUME
from aurora.terminal.language import Misuse
from aurora.terminal.sql.csv_file import import_csv
from aurora.terminal.sql.dumping import dump
from aurora.terminal.sql.files import FORCE, export
from aurora.terminal.sql.formats import MODES
from aurora.terminal.sql.shell import Shell
from aurora.terminal.sql.statements import Input, take_apart
from aurora.terminal.sql.words import PRESENT, Words, file_of, moment, with_text
from segments.protocol.errors import SqlError

_MOST_COMMITS: Final = 100_000
_NOT_OURS: Final = "name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"


@attrs.frozen
class Command:
    """One word of the shell, without its dot."""

    name: str
    arguments: str
    purpose: str
    run: Callable[[Shell, Words], Awaitable[None]]
    takes: tuple[str, ...] = ()
    """What completion offers: ``tables``, ``segments``, ``writer``, or words as they are."""

    @property
    def usage(self) -> str:
        """How to type it."""
        return f".{self.name} {self.arguments}".rstrip()


# ---- what there is -------------------------------------------------------------------------------


async def _tables(shell: Shell, words: Words) -> None:
    language.at_most(words, 1)
    source = await shell.source()
    pattern = words[0] if words else "%"
    await shell.results.print_query(
        source.query(
            f"SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') AND {_NOT_OURS}"
            " AND name LIKE ? ORDER BY name",
            (pattern,),
        )
    )


async def _schema(shell: Shell, words: Words) -> None:
    language.at_most(words, 1)
    source = await shell.source()
    query = (
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND (?1 IS NULL OR tbl_name LIKE ?1)"
    )
    found = await source.query(f"{query} ORDER BY tbl_name, rowid", (*words, None)[:1]).all()
    if words and not found:
        raise Misuse(f"{words[0]!r} is no table or view: `.tables` lists all")
    for (text,) in found:
        shell.results.print_text(f"{text};")


async def _indexes(shell: Shell, words: Words) -> None:
    language.at_most(words, 1)
    source = await shell.source()
    await shell.results.print_query(
        source.query(
            "SELECT name, tbl_name AS 'table' FROM sqlite_schema WHERE type = 'index'"
            " AND (?1 IS NULL OR tbl_name LIKE ?1) ORDER BY tbl_name, name",
            (*words, None)[:1],
        )
    )


async def _mode(shell: Shell, words: Words) -> None:
    language.at_most(words, 1)
    if not words:
        shell.note(shell.results.mode)
        return
    if words[0] not in MODES:
        raise Misuse(f"{words[0]!r} is no mode: expected {', '.join(MODES[:-1])} or {MODES[-1]}")
    shell.results.mode = words[0]


# ---- files ---------------------------------------------------------------------------------------


async def _read(shell: Shell, words: Words) -> None:
    """Run what is in a file, up to its first mistake."""
    language.at_least(words, 1, "FILE")
    language.at_most(words, 1)
    path = file_of(words[0])
    if path.resolve() in shell.files:
        raise Misuse(f"{path} is being read already: expected a file that does not read itself")
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    typed = take_apart(text + "\n")
    inputs = typed.inputs
    if typed.rest:
        last = take_apart(f"{typed.rest.rstrip()}\n;")
        if last.rest or not last.inputs:
            line = typed.rest_line + 1
            raise Misuse(f"{path}, line {line}: a statement that is not ended")
        inputs = [*inputs, *(Input(each.text, typed.rest_line + each.line) for each in last.inputs)]
    shell.files.append(path.resolve())
    try:
        for each in inputs:
            if shell.session.ended:
                return
            try:
                await (run_command if each.is_command else _run_statement)(shell, each.text)
            except (Misuse, SqlError) as error:
                raise with_text(error, f"{path}, line {each.line + 1}: {error}") from error
    finally:
        shell.files.pop()


async def _run_statement(shell: Shell, text: str) -> None:
    await shell.run(text)


# ---- time ----------------------------------------------------------------------------------------


async def _at(shell: Shell, words: Words) -> None:
    language.at_least(words, 1, "an LSN, a time, or now")
    await shell.travel(moment(words))
    commit = shell.snapshot.commit if shell.snapshot is not None else None
    if commit is None:
        shell.note("the present: what is durable")
    else:
        shell.note(f"as of LSN {commit.lsn}, committed {_time(commit.time.isoformat(' '))}")


async def _history(shell: Shell, words: Words) -> None:
    language.at_most(words, 1)
    limit = language.integer(words[0], "a number of commits", 1, _MOST_COMMITS) if words else 20
    db = await shell.open()
    rows = [
        (each.lsn, _time(each.time.isoformat(" ")), each.pages, each.bytes)
        for each in await db.history(limit)
    ]
    shell.results.print_rows(("lsn", "committed", "pages", "bytes"), rows)


async def _backtrack(shell: Shell, words: Words) -> None:
    language.at_least(words, 1, "an LSN or a time")
    if shell.transaction is not None:
        raise Misuse("`.backtrack` within a transaction: expected COMMIT or ROLLBACK before it")
    when = moment(words)
    if when is None:
        raise Misuse("'now' is no moment to go back to: expected an LSN or a time")
    db = await shell.open()
    before = await db.history(1)
    commit = await db.backtrack(when)
    if [commit] == before:
        shell.note(f"nothing to change: it is as of LSN {commit.lsn} already")
        return
    shell.note(f"the database is what it was, as a new commit: LSN {commit.lsn}", "good")


def _time(text: str) -> str:
    return text.replace("+00:00", "Z")


# ---- the volume ----------------------------------------------------------------------------------


def _of_the_volume(name: str) -> Command:
    """A command of the other prompt, as it is."""
    known = OF_THE_VOLUME[name]

    async def run(shell: Shell, words: Words) -> None:
        session, before = shell.session, shell.session.screen
        session.screen = shell.screen if name in _TELLING else before
        try:
            await known.run(session, words)
        finally:
            session.screen = before

    return Command(name, known.arguments, known.purpose, run, known.takes)


_TELLING: Final = ("status", "state")
"""Those whose answer is a result: in a pipe, it goes where results go."""


async def _recover(shell: Shell, words: Words) -> None:
    await OF_THE_VOLUME["recover"].run(shell.session, words)
    if shell.session.cluster.engine.error is None and not shell.session.pending:
        await shell.open()


async def _help(shell: Shell, words: Words) -> None:
    language.at_most(words, 1)
    if words:
        command = find(words[0])
        shell.screen.say(f"  {command.usage}", "title")
        shell.screen.say(f"  {command.purpose}")
        return
    for title, commands in GROUPS.items():
        shell.screen.say(title, "title")
        for command in commands:
            shell.screen.say(command.purpose, head=f"  {command.usage:<34}")
    shell.note(
        "All else is SQL, ended by a semicolon. BEGIN; … COMMIT; make one transaction of several "
        "statements. Tab completes; Ctrl-C stops a statement."
    )


async def _quit(shell: Shell, words: Words) -> None:
    language.at_most(words, 0)
    shell.session.ended = True


GROUPS: Final[dict[str, tuple[Command, ...]]] = {
    "What there is": (
        Command("tables", "[PATTERN]", "tables and views", _tables),
        Command("indexes", "[TABLE]", "indexes, and whose they are", _indexes, ("tables",)),
        Command("schema", "[TABLE]", "the statements that made them", _schema, ("tables",)),
        Command("mode", "|".join(MODES), "how results are shown", _mode, MODES),
    ),
    "Files": (
        Command("dump", "[TABLE]", "the database as SQL", dump, ("tables",)),
        Command("export", f"[{FORCE}] FILE.db", "a SQLite file, as of the moment that is read",
                export, (FORCE,)),
        Command("import", "FILE.csv TABLE", "rows of comma-separated values into a table; a first "
                "row with the names of its columns is left out, and makes a table that is not "
                "there", import_csv, ("tables",)),
        Command("read", "FILE.sql", "run what is in a file", _read),
    ),
    "Time": (
        Command("at", "LSN|TIME|now", "read as of then, such as '5 minutes ago'", _at, (PRESENT,)),
        Command("history", "[COUNT]", "the newest commits", _history),
        Command("backtrack", "LSN|TIME", "make the database what it was, as one more commit",
                _backtrack),
    ),
    "The volume": (
        *map(_of_the_volume, ("status", "state", "crash", "restart", "pause", "resume", "slow",
                              "wipe", "partition", "heal")),
        Command("recover", "", "open the volume with a new writer", _recover),
    ),
    "Else": (
        Command("help", "[COMMAND]", "this", _help, ("commands",)),
        Command("quit", "", "leave; also .exit, or Ctrl-D", _quit),
    ),
}  # fmt: skip
"""In the order of the help."""

COMMANDS: Final = {each.name: each for group in GROUPS.values() for each in group}
_ALIASES: Final = {"exit": "quit", "?": "help", "indices": "indexes"}
_HINTS: Final = {
    "health": "`.status` says what goes on, what waits, and for what",
    "headers": "`.mode` table, csv, json and line name the columns, list does not",
    "header": "`.mode` table, csv, json and line name the columns, list does not",
    "save": "`.export FILE.db` writes a SQLite file",
    "backup": "`.export FILE.db` writes a SQLite file",
    "clone": "`.export FILE.db` writes a SQLite file",
    "restore": "`python -m aurora sql DIR --import FILE` takes a SQLite file",
    "open": "`python -m aurora sql DIR` opens the volume in DIR",
    "databases": "there is one, the volume; `.tables` lists what is in it",
    "output": "a pipe leads results to a file: python -m aurora sql DIR < FILE.sql > FILE",
    "once": "a pipe leads results to a file: python -m aurora sql DIR < FILE.sql > FILE",
}
"""What other shells have, and what does it here."""


async def run_command(shell: Shell, text: str) -> None:
    """Run one command as it is typed; raises `Misuse`, and what the command raises."""
    words = language.split(text)
    command = find(words[0])
    try:
        await command.run(shell, words[1:])
    except Misuse as error:
        if command.run is _read:
            raise
        raise Misuse(f"{error}; usage: {command.usage}") from None


def find(word: str) -> Command:
    """The command called ``word``, with its dot or without; raises `Misuse`."""
    name = word.removeprefix(".").lower()
    command = COMMANDS.get(_ALIASES.get(name, name))
    if command is None and name in _HINTS:
        raise Misuse(f"{word!r} is no command: {_HINTS[name]}")
    if command is None:
        near = [f".{each}" for each in COMMANDS if name and each.startswith(name[:2])]
        hint = f": did you mean {' or '.join(near)}?" if near else ": `.help` lists all"
        raise Misuse(f"{word!r} is no command{hint}")
    return command
