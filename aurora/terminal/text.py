"""Words, bytes and colours: how single things look, everywhere the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from segments.protocol.ids import Lsn, PageId
from segments.protocol.record import RedoRecord

STYLES: Final = {
    "title": "bold",
    "note": "dim",
    "compute": "cyan",
    "segment": "green",
    "mark": "bold magenta",
    "good": "bold green",
    "bad": "bold red",
    "warn": "yellow",
    "changed": "bold yellow",
    "plain": "",
}
"""What a line is about, and how that is shown; no meaning is in the colour alone."""

_SHOWN_BYTES: Final = 48


def styled(text: str, kind: str = "plain") -> Text:
    """``text`` in the style of its kind."""
    return Text(text, style=STYLES[kind], no_wrap=True)


def show_bytes(data: bytes, limit: int = _SHOWN_BYTES) -> str:
    """Text in quotes if it is printable UTF-8, hexadecimal otherwise; cut after ``limit`` bytes."""
    shown = data[:limit]
    more = f"… ({len(data):,} bytes)" if len(data) > limit else ""
    try:
        text = shown.decode("utf-8", errors="ignore" if more else "strict")
    except UnicodeDecodeError:
        return f"0x{shown.hex()}{more}"
    return f'"{text}"{more}' if text.isprintable() else f"0x{shown.hex()}{more}"


def show_page(image: bytes) -> list[str]:
    """The page's runs of bytes that are not zero, each with its offset; at most 8 of them."""
    runs: list[str] = []
    at, end = 0, len(image.rstrip(b"\0"))
    while at < end:
        if image[at] == 0:
            at += 1
            continue
        stop = image.find(b"\0", at)
        stop = end if stop < 0 else stop
        if len(runs) == 8:
            return [*runs, "      …"]
        runs.append(f"{at:>6}  {show_bytes(image[at:stop])}")
        at = stop
    return runs or ["     0  only zeros"]


def show_lsns(first: Lsn, last: Lsn) -> str:
    """``LSN 5`` or ``LSN 5–7``."""
    return f"LSN {first}" if first == last else f"LSN {first}–{last}"


def show_record(record: RedoRecord) -> str:
    """What a record does: page, place and bytes."""
    return show_change(record.page_id, record.offset, record.payload)


def show_change(page_id: PageId, offset: int, payload: bytes) -> str:
    """``page 1 [0, 5) = "hello"``: page, place and bytes."""
    return f"page {page_id} [{offset}, {offset + len(payload)}) = {show_bytes(payload, 24)}"


def show_size(count: int) -> str:
    """Bytes for people: ``931 B``, ``4.2 KiB``."""
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:,.1f} KiB" if count < 1 << 20 else f"{count / (1 << 20):,.1f} MiB"


def counted(count: int, noun: str) -> str:
    """``1 record``, ``2 records``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def joined(names: Sequence[str]) -> str:
    """``A0 B0 C0``."""
    return " ".join(names)
