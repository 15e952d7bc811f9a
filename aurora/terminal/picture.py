"""The whole system on one screen: compute, the segments in their zones, and the log between them.

Drawn for any width from 80 columns on. Positions on the log are drawn to the order of the records,
not to scale: LSNs have holes, and after a recovery a very wide one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from aurora.terminal.snapshot import SegmentView, VolumeView, WriterView
from aurora.terminal.text import STYLES, counted, show_size, styled
from segments.protocol.ids import Lsn

MIN_WIDTH: Final = 80
MAX_WIDTH: Final = 100
_GAP: Final = 2
"""Columns between two texts under the log."""

_MARKS: Final = {
    "up": ("●", "good"),
    "slow": ("◐", "warn"),
    "paused": ("‖", "warn"),
    "cut off": ("⊘", "warn"),
    "silent": ("◌", "warn"),
    "behind": ("◔", "warn"),
    "damaged": ("!", "bad"),
    "short": ("!", "warn"),
    "full": ("!", "bad"),
    "refused": ("!", "bad"),
    "failing": ("!", "bad"),
    "down": ("○", "bad"),
    "failed": ("○", "bad"),
    "lost": ("✗", "bad"),
}


def draw(view: VolumeView, width: int) -> list[Text]:
    """The picture, each line at most ``width`` columns wide, or 80 if that is more."""
    width = max(MIN_WIDTH, min(MAX_WIDTH, width))
    lines = _box(_title(view.writer), _compute(view), width)
    lines.append(_arrows(width))
    lines.extend(_zones(view, width))
    lines.extend(_log(view, width))
    return lines


def _box(title: Text, content: Sequence[Text], width: int) -> list[Text]:
    title.truncate(width - 6, overflow="ellipsis")
    head = Text.assemble("╭─ ", title, " ")
    head.append("─" * (width - head.cell_len - 1) + "╮")
    body = []
    for line in content:
        row = Text.assemble("│ ", line)
        row.truncate(width - 2, pad=True)
        body.append(Text.assemble(row, " │"))
    return [head, *body, Text("╰" + "─" * (width - 2) + "╯")]


# ---- compute -------------------------------------------------------------------------------------


def _title(writer: WriterView) -> Text:
    status = {
        "open": "",
        "recovering": " · opening the volume",
        "fenced": " · FENCED: another writer has taken over",
        "gone": " · CRASHED: `recover` opens the volume again",
    }[writer.status]
    kind = "compute" if writer.status == "open" else "bad"
    return Text.assemble(
        styled("COMPUTE", "title"), styled(f" {writer.name} · epoch {writer.epoch}{status}", kind)
    )


def _compute(view: VolumeView) -> list[Text]:
    now = view.writer.statistics
    if now is None:
        return [styled("no watermarks, no pages: all that was only here is gone", "note")]
    pool = now.pool
    return [
        Text(
            f"next LSN {now.last_allocated_lsn + 1}, limit {now.lsn_limit}   "
            f"{counted(now.commits, 'commit')} acknowledged, {now.commits_waiting} waiting"
        ),
        Text(
            f"buffer pool {counted(pool.pages, 'page')}, {counted(pool.hits, 'hit')}, "
            f"{pool.misses} missed, {pool.evictions} evicted   floor {now.floor}"
        ),
    ]


def _arrows(width: int) -> Text:
    texts = ("▼ redo to all six", "▲ SCLs: 4 of 6 commit", "▲ a page from one")
    third = width // 3
    return styled("".join(f"{'':4}{text}".ljust(third) for text in texts).rstrip(), "note")


# ---- storage -------------------------------------------------------------------------------------


def _zones(view: VolumeView, width: int) -> list[Text]:
    azs = sorted({each.az for each in view.segments})
    folded = any(each.layers for each in view.segments)
    room, count = width - (len(azs) - 1), len(azs)
    sizes = [room // count + (at < room % count) for at in range(count)]
    boxes = []
    for az, size in zip(azs, sizes, strict=True):
        members = [each for each in view.segments if each.az == az]
        content = [line for each in members for line in _segment(each, size - 4, folded=folded)]
        boxes.append(_box(styled(f"AZ{az}", "title"), content, size))
    return [Text(" ").join(row) for row in zip(*boxes, strict=True)]


def _segment(view: SegmentView, width: int, *, folded: bool) -> list[Text]:
    """Three lines; two more if anybody has layers, so that all boxes are as high."""
    mark, kind = _MARKS[view.status]
    name = Text.assemble(
        styled(view.segment, "segment"), " ", styled(f"{mark} {view.status}", kind)
    )
    if view.status == "lost":
        gone = ["   its disk is gone,", "   its promises too", *([""] * 2 * folded)]
        return [name, *(styled(line, "note") for line in gone)]
    scl = f"SCL {view.scl}"
    name.append(" " * max(1, width - name.cell_len - len(scl)) + scl)
    gap = Text(f"   wal {show_size(view.log_bytes)}, ")
    gap.append_text(styled(_gaps(view), "bad") if view.gaps else Text("no gap"))
    lines = [name, gap, styled(f"   {_tail(view, width - 3)}", "note")]
    if folded:
        layers = counted(view.layers, "layer")
        lines.append(Text(f"   {layers}, {show_size(view.layer_bytes)}"))
        lines.append(styled(f"   up to F, {view.folded}", "note"))
    return lines


def _gaps(view: SegmentView) -> str:
    start, end = view.gaps[0]
    more = f" +{len(view.gaps) - 1}" if len(view.gaps) > 1 else ""
    return (f"gap {start}" if end == start + 1 else f"gap {start}–{end - 1}") + more


def _tail(view: SegmentView, width: int) -> str:
    """The last LSNs of its log that fit; ``_`` where something is missing."""
    if not view.records:
        return "log empty"
    words: list[str] = []
    starts = {end for _, end in view.gaps}
    room = width - len("log …")
    for lsn in reversed(view.records):
        word = f"_ {lsn}" if lsn in starts else f"{lsn}"
        room -= len(word) + 1
        if room < 0:
            return "log … " + " ".join(reversed(words))
        words.append(word)
    return "log " + " ".join(reversed(words))


# ---- the log -------------------------------------------------------------------------------------


class _Axis:
    """The newest part of the log as one line of text, and where on it each LSN is."""

    def __init__(self, view: VolumeView, width: int) -> None:
        cells: list[tuple[Lsn, str]] = [
            (record.lsn, f"{record.lsn}{'│' if record.is_cpl else ' '}") for record in view.log
        ]
        cells.extend((start, f"╳{start}–{end - 1}╳ ") for start, end in view.annulled)
        cells.sort()
        records = {record.lsn for record in view.log}
        self._places: list[tuple[Lsn, int]] = []
        shown: list[tuple[Lsn, str]] = []
        room = width - 2
        for cell in reversed(cells):
            room -= len(cell[1])
            if room < 0:
                break
            shown.append(cell)
        self.text = "… " if len(shown) < len(cells) else "· "
        for lsn, text in reversed(shown):
            if lsn in records:
                self._places.append((lsn, len(self.text) + len(text) - 2))
            self.text += text

    def column(self, lsn: Lsn) -> int:
        """Where the newest record at or below ``lsn`` ends; 0 if that is not on the line."""
        return max((column for each, column in self._places if each <= lsn), default=0)


def _log(view: VolumeView, width: int) -> list[Text]:
    margin = "log  "
    axis = _Axis(view, width - len(margin))
    marks: dict[int, list[str]] = {}
    now = view.writer.statistics
    if now is not None:
        for pg_id, pgcl in now.pgcl.items():
            name = "PGCL" if view.pg_count == 1 else f"PGCL{pg_id}"
            marks.setdefault(axis.column(pgcl), []).append(f"{name} {pgcl}")
        marks.setdefault(axis.column(now.vcl), []).append(f"VCL {now.vcl}")
        marks.setdefault(axis.column(now.vdl), []).append(f"VDL {now.vdl}")
    scls: dict[int, list[str]] = {}
    for each in view.segments:
        if each.status != "lost":
            scls.setdefault(axis.column(each.scl), []).append(each.segment)
    room = width - len(margin)
    above = place([(column, " ".join(names)) for column, names in marks.items()], "▼", room)
    above = above if marks else []
    below = place([(column, " ".join(names)) for column, names in scls.items()], "▲", room)
    pad = " " * len(margin)
    lines = [Text(pad + row, style=STYLES["mark"]) for row in reversed(above)]
    lines.append(Text.assemble(styled(margin, "title"), axis.text.rstrip()))
    lines.extend(
        Text((("SCL  " if row == 1 else pad) + text).rstrip(), style=STYLES["segment"])
        for row, text in enumerate(below)
    )
    return lines


def place(labels: Sequence[tuple[int, str]], mark: str, width: int) -> list[str]:
    """Rows that show each label at its column: first the marks, then the texts, none overlapping.

    A text begins at its column; or further left if it would not fit, and then no other text is on
    its row, so that it is clear whose it is. One without room goes a row further, behind a line.
    """
    waiting = sorted(labels, reverse=True)
    first = [" "] * width
    for column, _ in waiting:
        first[column] = mark
    rows = ["".join(first).rstrip()]
    while waiting:
        row, later = _place_row(waiting, width)
        rows.append(row)
        waiting = later
    return rows


def _place_row(waiting: list[tuple[int, str]], width: int) -> tuple[str, list[tuple[int, str]]]:
    """One row of texts, from the right; and the labels for which it has no room."""
    row, free_to = [" "] * width, width
    later: list[tuple[int, str]] = []
    placed = shifted = False
    for at, (column, text) in enumerate(waiting):
        start = min(column, free_to - len(text))
        last = at == len(waiting) - 1
        clear = start == column or not placed
        if clear and not shifted and start > (-1 if last else waiting[at + 1][0]):
            row[start : start + len(text)] = text
            placed, shifted, free_to = True, start < column, start - _GAP
        elif last and not placed:  # so that every row places something
            start = max(0, width - len(text))
            row[start : start + len(text)] = text
        else:
            row[column], free_to = "│", column - 1
            later.append((column, text))
    return "".join(row)[:width].rstrip(), later
