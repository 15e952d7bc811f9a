"""What is different between two looks at the system: in words, and marked in its picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from aurora.terminal.snapshot import SegmentView, VolumeView
from aurora.terminal.text import STYLES, counted, joined
from segments.protocol.record import RedoRecord
from segments.protocol.volume import pg_of_page


def changes(before: VolumeView, after: VolumeView) -> list[str]:
    """A line for each change, compute first; those of several segments together."""
    return [*_compute(before, after), *_segments(before, after), *_log(before, after)]


def pool_changes(before: VolumeView, after: VolumeView) -> list[str]:
    """What has changed in the buffer pool, which is all that a read changes."""
    was, now = before.writer.statistics, after.writer.statistics
    if was is None or now is None:
        return []
    names = ("pages", "hits", "misses", "evictions")
    if before.writer.name != after.writer.name:
        return [f"{after.writer.name} begins with an empty buffer pool"]
    figures = [(name, getattr(was.pool, name), getattr(now.pool, name)) for name in names]
    moved = [f"{name} {one} → {other}" for name, one, other in figures if one != other]
    return [f"buffer pool: {', '.join(moved)}"] if moved else []


def _compute(before: VolumeView, after: VolumeView) -> Iterator[str]:
    old, new = before.writer, after.writer
    if old.name != new.name:
        yield f"the writer: {old.name} → {new.name}"
    elif old.status != new.status:
        yield f"{new.name}: {old.status} → {new.status}"
    was, now = old.statistics, new.statistics
    if was is None or now is None:
        return
    figures = [("VCL", was.vcl, now.vcl), ("VDL", was.vdl, now.vdl)]
    for pg_id, pgcl in now.pgcl.items():
        name = "PGCL" if after.pg_count == 1 else f"PGCL of group {pg_id}"
        figures.insert(0, (name, was.pgcl.get(pg_id, 0), pgcl))
    figures.append(("next LSN", was.last_allocated_lsn + 1, now.last_allocated_lsn + 1))
    figures.append(("floor", was.floor, now.floor))
    if old.name == new.name:
        figures.append(("commits", was.commits, now.commits))
        figures.append(("waiting", was.commits_waiting, now.commits_waiting))
    moved = [f"{name} {one} → {other}" for name, one, other in figures if one != other]
    if moved:
        yield ", ".join(moved)


def _segments(before: VolumeView, after: VolumeView) -> Iterator[str]:
    together: dict[str, list[str]] = {}
    for old, new in zip(before.segments, after.segments, strict=True):
        for change in _of_segment(old, new):
            together.setdefault(change, []).append(new.segment)
    for change, names in together.items():
        yield f"{joined(names)}: {change}"


def _of_segment(old: SegmentView, new: SegmentView) -> Iterator[str]:
    if old.status != new.status:
        yield f"{old.status} → {new.status}"
    if new.status == "lost":
        return
    if old.epoch != new.epoch and new.epoch:
        yield f"sealed epoch {old.epoch or '-'} → {new.epoch}"
    if old.scl != new.scl:
        yield f"SCL {old.scl} → {new.scl}"
    if old.folded != new.folded:
        yield f"F {old.folded} → {new.folded}: what is up to there is in layers now"
    if old.layers != new.layers:
        yield f"layers {old.layers} → {new.layers}"
    if len(old.gaps) != len(new.gaps):
        yield f"{counted(len(new.gaps), 'gap')}" if new.gaps else "no gap any more"


def _log(before: VolumeView, after: VolumeView) -> Iterator[str]:
    known = {record.lsn for record in before.log}
    added = [str(record.lsn) for record in after.log if record.lsn not in known]
    if added:
        yield f"new in the log: {joined(added)}"
    kept = {record.lsn for record in after.log}
    gone = [
        str(record.lsn)
        for record in before.log
        if record.lsn not in kept and not _in_layers(record, after)
    ]
    if gone:
        yield f"gone from the log: {joined(gone)}"
    for start, end in after.annulled:
        if (start, end) not in before.annulled:
            yield f"annulled: {start}–{end - 1}"


def _in_layers(record: RedoRecord, view: VolumeView) -> bool:
    """Whether some segment has it in layers."""
    pg_id = pg_of_page(record.page_id, view.pg_count)
    return any(each.folded >= record.lsn for each in view.segments if each.pg_id == pg_id)


def marked(before: Sequence[Text], after: Sequence[Text]) -> list[Text]:
    """The lines of a picture, with every character that another picture has not marked.

    A colour only: what has changed stands below the picture in words, see `changes`.
    """
    lines: list[Text] = []
    for number, line in enumerate(after):
        old = before[number].plain if number < len(before) else ""
        copy = line.copy()
        for at, character in enumerate(line.plain):
            if old[at : at + 1] != character and not character.isspace():
                copy.stylize(STYLES["changed"], at, at + 1)
        lines.append(copy)
    return lines
