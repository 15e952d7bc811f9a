"""The health of a volume: its segments' states, whether writes and reads go on, and every wait.

These are values and the text they make; `aurora.diagnosis` decides what they say. All times are
durations in seconds, as of the moment of the report.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import attrs

from segments.protocol.ids import PgId, SegmentId

PATIENCE_S: Final = 1.0
"""What takes less than this is normal: an answer under way, a batch behind."""


class SegmentStatus(StrEnum):
    """How a segment is, the worst that is known of it."""

    UP = "up"
    BEHIND = "behind"
    """Takes writes, but lacks records that a write quorum has; it is being brought up to date."""
    SILENT = "silent"
    """Runs, but the writer hears nothing from it: it is cut off, or slow."""
    PAUSED = "paused"
    DAMAGED = "damaged"
    """Has lost part of what it promised: no witness until its peers have repaired it."""
    SHORT = "short"
    """Its files need all the space that they may take (`disk_bytes`). It takes what is part of the
    log, and nothing new is to be written to it; it goes on by itself when there is space."""
    FULL = "full"
    """No space is left on its disk; it goes on by itself when there is some."""
    REFUSED = "refused"
    """Its disk may not be written or read: permissions, or a read-only file system."""
    FAILING = "failing"
    """Its disk fails in another way and is tried again, or does not finish a write; or there is no
    memory, thread or descriptor left for it."""
    DOWN = "down"
    """Crashed, or not started; `Cluster.restart` starts it."""
    FAILED = "failed"
    """Taken down by a mistake of its own; `Cluster.restart` starts it."""
    LOST = "lost"
    """Its disk, and the promises made there, are gone: it never comes back."""


class WaitKind(StrEnum):
    """What sort of thing is waited for."""

    OPENING = "opening"
    """A writer waits for segments to take part in opening the volume."""
    COMMITS = "commits"
    """Commits wait for a write quorum."""
    ROOM = "room"
    """Commits wait until the log may run further ahead: the LSN allocation limit, or memory."""
    POOL = "pool"
    """Commits wait for a place in the buffer pool."""
    PAGES = "pages"
    """Commits wait for the pages that they change to be read, and to find a place."""
    READS = "reads"
    """Reads wait for a segment that can answer."""
    STRICT_READS = "strict reads"
    """Strict reads wait for a read quorum to confirm the writer's epoch."""
    TURN = "turn"
    """Transactions in SQL wait for their turn: one runs at a time."""
    DISK = "disk"
    """Segments wait for their disks, or for somebody to help them."""
    LOST = "lost"
    """Segments are lost; nothing will change that."""


@attrs.frozen
class SegmentHealth:
    """One segment."""

    segment: SegmentId
    pg_id: PgId
    az: int
    """Availability zone: 1, 2 or 3."""
    status: SegmentStatus
    why: str
    """The reason, where the status alone does not say it."""
    for_s: float
    """For how long it has been so."""
    takes_writes: bool
    """Whether it counts for commits now."""
    answers_reads: bool
    """Whether it can answer a read of the newest version now."""
    confirms_epoch: bool
    """Whether it can tell now if the writer's epoch is still the latest, as strict reads ask."""

    @property
    def since(self) -> str:
        """``for 12 s``, as a column of a table."""
        return f"{f'for {duration(self.for_s)}':<16}"


@attrs.frozen
class Going:
    """Whether something goes on."""

    goes_on: bool
    missing: str = ""
    """If not: what there is, how much it takes, and what is wrong with the rest."""
    segments: tuple[SegmentId, ...] = ()
    """The segments that stand in its way."""
    for_good: bool = False
    """Whether it can never go on again: too many segments are lost."""
    refused: bool = False
    """Whether nobody waits for it, as it is an error."""


@attrs.frozen
class GroupHealth:
    """One protection group."""

    pg_id: PgId
    segments: tuple[SegmentHealth, ...]
    writes: Going
    reads: Going
    """Reads that the writer's buffer pool cannot answer."""
    strict_reads: Going
    """Whether a read quorum can confirm the writer's epoch, which strict reads need besides."""


@attrs.frozen
class Waiting:
    """Something that is waited for."""

    kind: WaitKind
    subject: str
    """Which of its kind; the same for as long as it is the same wait."""
    what: str
    """What waits, as a sentence."""
    missing: str
    """What is missing for it; may be empty."""
    for_s: float
    segments: tuple[SegmentId, ...] = ()
    """Those that stand in its way."""
    explained: bool = True
    """Whether it is known what is missing: if not, it may be nothing but a busy disk."""

    @property
    def text(self) -> str:
        """All of it in one line."""
        return f"{self.what}: {self.missing}" if self.missing else self.what


@attrs.frozen
class HealthReport:
    """A volume at one moment. As a string it is a text for people, about 80 columns wide."""

    writer: str
    """The latest writer, and whether it has the volume open."""
    groups: tuple[GroupHealth, ...]
    writes: Going
    """Whether writes go on to all protection groups."""
    reads: Going
    waits: tuple[Waiting, ...]
    """What is waited for at the moment, however short a time so far."""

    @property
    def segments(self) -> dict[SegmentId, SegmentHealth]:
        """Every segment by its name."""
        return {each.segment: each for group in self.groups for each in group.segments}

    def summary(self) -> list[tuple[str, str]]:
        """Pairs of what a line is about and what it says: writer, writes, reads, and waits."""
        rows = [("writer", self.writer)]
        missing = self.writes.missing.removesuffix(f"; {self.writer}")
        held_up = f"are refused: {missing}" if self.writes.refused else f"wait: {missing}"
        rows.append(("writes", "go on" if self.writes.goes_on else held_up))
        same = "wait for the same" if self.reads == self.writes else f"wait: {self.reads.missing}"
        rows.append(("reads", "go on" if self.reads.goes_on else same))
        said = (self.writes.missing, self.reads.missing)
        for each in self.waits:
            if each.kind is WaitKind.LOST:
                rows.append(("lost", each.text))
            elif each.kind is not WaitKind.DISK and each.for_s >= PATIENCE_S:
                text = each.what if each.missing in said else each.text
                rows.append(("waiting", f"{text} (for {duration(each.for_s)})"))
        return rows

    def __str__(self) -> str:
        lines: list[str] = []
        for name, text in self.summary():
            lines.extend(_folded(f"{name:<{INDENT}}{text}"))
        for each in self.segments.values():
            lines.extend(_folded(f"{each.segment:<{INDENT}}{each.status:<9}{each.since}{each.why}"))
        return "\n".join(lines)


_WIDTH: Final = 80
INDENT: Final = 9
"""Columns for what a line is about."""


def _folded(line: str) -> list[str]:
    """A line as lines of 80 columns, all but the first indented."""
    return textwrap.wrap(
        line.rstrip(), _WIDTH, subsequent_indent=" " * INDENT, break_on_hyphens=False
    )


def in_trouble(segments: Iterable[SegmentHealth]) -> str:
    """``A0 D0 full (No space left on device), E0 down``: whom something is wrong with, and what."""

    def what(each: SegmentHealth) -> str:
        return f"{each.status} ({each.why})" if each.status in _REASONS_MATTER else each.status

    found: dict[str, list[SegmentId]] = {}
    for each in segments:
        found.setdefault(what(each), []).append(each.segment)
    return ", ".join(f"{' '.join(names)} {reason}" for reason, names in found.items())


_REASONS_MATTER: Final = (
    SegmentStatus.SHORT,
    SegmentStatus.FULL,
    SegmentStatus.REFUSED,
    SegmentStatus.FAILING,
    SegmentStatus.FAILED,
)


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``, ``3 d 4 h``."""
    if seconds < 10.0:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min {rest} s"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min"
