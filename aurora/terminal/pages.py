"""Commands that write and read pages, and look at what there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from aurora.health import INDENT, SegmentStatus
from aurora.terminal import language
from aurora.terminal.language import Misuse
from aurora.terminal.session import CallKind, Session
from aurora.terminal.text import counted, joined, show_page, show_size, styled
from segments.protocol.record import checked_write

Words = Sequence[str]


async def put(session: Session, words: Words) -> None:
    """Write to one page."""
    language.at_least(words, 3, "PAGE", "OFFSET", "DATA")
    language.at_most(words, 3, ": put text with spaces in quotes")
    page_id, offset, content = language.write(words)
    checked_write(page_id, offset, content)

    async def call() -> str:
        lsn = await session.cluster.engine.put(page_id, offset, content)
        return f"durable at LSN {lsn}"

    await session.perform(f"put {page_id}", CallKind.WRITE, call)


async def putm(session: Session, words: Words) -> None:
    """Write to several pages at once."""
    language.at_least(words, 3, "PAGE", "OFFSET", "DATA")
    if len(words) % 3:
        raise Misuse(f"{words[-1]!r} is left over: expected PAGE OFFSET DATA for each write")
    writes = [language.write(words[at : at + 3]) for at in range(0, len(words), 3)]
    for each in writes:
        checked_write(*each)

    async def call() -> str:
        lsn = await session.cluster.engine.put_many(writes)
        return f"{counted(len(writes), 'write')} durable, all or nothing, at LSN {lsn}"

    title = "putm " + joined([str(each[0]) for each in writes])
    await session.perform(title, CallKind.WRITE, call)


async def get(session: Session, words: Words) -> None:
    """Read a page."""
    language.at_least(words, 1, "PAGE")
    page_id = language.page(words[0])
    strict = "strict" in words[1:]
    rest = [word for word in words[1:] if word != "strict"]
    language.at_most(rest, 1)
    if strict and rest:
        raise Misuse(f"{rest[0]!r} and strict: a strict read is always of the present")
    point = language.lsn(rest[0]) if rest else None

    async def call() -> str:
        engine = session.cluster.engine
        at = engine.vdl if point is None else point
        if point is None:
            image = await engine.get(page_id, strict=strict)
        else:
            image = await engine.get_at(page_id, point)
        return "\n".join([f"page {page_id} at {at}", *show_page(image)])

    await session.perform(f"get {page_id}", CallKind.READ, call)


# ---- looking -------------------------------------------------------------------------------------


async def state(session: Session, words: Words) -> None:
    """Draw the system."""
    language.at_most(words, 0)
    session.picture()


_KINDS: Final = {
    SegmentStatus.UP: "good",
    SegmentStatus.BEHIND: "warn",
    SegmentStatus.SILENT: "warn",
    SegmentStatus.PAUSED: "warn",
}
"""The colours of a segment's status; all others are bad news."""


async def status(session: Session, words: Words) -> None:
    """How the volume is, and what is waited for."""
    language.at_most(words, 0)
    report = session.cluster.health()
    for name, text in report.summary():
        kind = "good" if text == "go on" else "plain" if name == "writer" else "warn"
        session.screen.say(session.in_words(text), kind, head=f"{name:<{INDENT}}")
    for each in report.segments.values():
        column = styled(f"{each.status:<9}", _KINDS.get(each.status, "bad"))
        head = Text.assemble(f"{each.segment:<{INDENT}}", column, each.since)
        if not each.why:
            head.rstrip()
        session.screen.say(each.why, head=head)


async def segments(session: Session, words: Words) -> None:
    """A table of the segments."""
    language.at_most(words, 0)
    table = Table(box=None, pad_edge=False, header_style="bold")
    titles = "segment AZ status SCL epoch records WAL F layers missing"
    for name in titles.split():
        table.add_column(name, justify="left" if name in ("segment", "status") else "right")
    for each in session.view().segments:
        gaps = ", ".join(f"{start}–{end - 1}" for start, end in each.gaps[:3]) or "nothing"
        lost = each.status == "lost"
        figures = [
            f"{each.scl}", each.epoch, f"{len(each.records)}", show_size(each.log_bytes),
            f"{each.folded}", f"{each.layers}", gaps,
        ]  # fmt: skip
        row = [each.segment, f"{each.az}", each.status, *(["-"] * 7 if lost else figures)]
        table.add_row(*row)
    session.screen.console.print(table)


async def history(session: Session, words: Words) -> None:
    """What was typed in this session."""
    language.at_most(words, 0)
    for number, line in enumerate(session.history, 1):
        session.screen.say(f"{number:>5}  {line}")
