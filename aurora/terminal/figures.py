"""The command that shows a volume in figures: as a text for people, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from aurora.engine import EngineStatistics
from aurora.terminal import language
from aurora.terminal.language import Misuse
from aurora.terminal.session import Session
from aurora.terminal.text import joined, show_size
from aurora.terminal.watch import plain, plain_fields
from aurora.volume_statistics import VolumeStatistics
from segments.protocol.ids import SegmentId
from segments.statistics import CacheStatistics, SegmentStatistics, TierStatistics

JSON: Final = "--json"


async def statistics(session: Session, words: Sequence[str]) -> None:
    """Counts since the writer opened the volume, and since each segment came up."""
    language.at_most(words, 1)
    if words and words[0] != JSON:
        raise Misuse(f"{words[0]!r}: expected {JSON}, or nothing")
    found = session.cluster.statistics()
    if words:
        text = json.dumps(as_json(found), indent=1)
        session.screen.console.print(Text(text), soft_wrap=True)
        return
    rows = [] if found.writer is None else _of_writer(found.writer)
    hold = found.floor_held_by
    rows.append(("held back by", session.in_words(hold.text)))
    rows.append(("messages lost", f"{session.stage.network.unreachable}"))
    name = session.cluster.engine.name
    epoch = "" if found.writer is None else f", epoch {found.writer.epoch.counter}"
    for title, value in [("writer", f"{name}{epoch}"), *rows]:
        session.screen.say(value, head=f"  {title:<22}")
    for table in (_stores(found.segments), _costs(found.segments)):
        session.screen.say()
        session.screen.console.print(table)
    session.screen.say("blocks, pages: hits/misses of the caches of blocks and of pages", "note")


def as_json(found: VolumeStatistics) -> dict[str, object]:
    """All of it, with what follows from the figures."""
    segments = {
        name: plain_fields(each)
        | {
            "layers": each.layers,
            "layer_bytes": each.layer_bytes,
            "write_amplification": each.write_amplification,
            "space_amplification": each.space_amplification,
        }
        for name, each in found.segments.items()
    }
    return {
        "writer": plain(found.writer),
        "floor_held_by": plain(found.floor_held_by),
        "segments": segments,
    }


def _of_writer(now: EngineStatistics) -> list[tuple[str, str]]:
    pgcl = joined([f"{pg_id}: {lsn}" for pg_id, lsn in now.pgcl.items()])
    scl = joined([f"{segment}: {lsn}" for segment, lsn in now.scl.items()])
    pool = now.pool
    return [
        ("VCL, VDL", f"{now.vcl}, {now.vdl}"),
        ("PGCL by group", pgcl),
        ("SCL as acknowledged", scl or "none in this epoch yet"),
        ("last LSN, limit", f"{now.last_allocated_lsn}, {now.lsn_limit}"),
        ("commits", f"{now.commits} acknowledged, {now.commits_waiting} waiting"),
        ("batches sent again", f"{now.resends}"),
        ("pool", f"{pool.pages} pages, {pool.hits} hits, {pool.misses} misses"),
        ("floor", f"{now.floor}"),
    ]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("segment")
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _stores(segments: Mapping[SegmentId, SegmentStatistics]) -> Table:
    """Where each segment's bytes are."""
    table = _table("log", "records", "F", "layers", "by tier", "collectable")
    for name, each in segments.items():
        tiers = joined([_tier(tier) for tier in each.tiers]) or "none"
        layers = f"{each.layers}, {show_size(each.layer_bytes)}"
        if each.damaged_layers:
            tiers += f" ({each.damaged_layers} damaged)"
        table.add_row(
            name, show_size(each.log_bytes), f"{each.open_records:,}", f"{each.folded}",
            layers, tiers, show_size(each.collectable_bytes),
        )  # fmt: skip
    return table


def _tier(each: TierStatistics) -> str:
    """``base``, or how many there are of a tier: ``3×t0``."""
    return "base" if each.tier is None else f"{each.layers}×t{each.tier}"


def _costs(segments: Mapping[SegmentId, SegmentStatistics]) -> Table:
    """What each segment has taken in, what it has written for that, and what its caches save."""
    table = _table("taken in", "to log", "to layers", "write ×", "space ×", "blocks", "pages")
    for name, each in segments.items():
        table.add_row(
            name, show_size(each.user_bytes_taken), show_size(each.log_bytes_written),
            show_size(each.layer_bytes_written), _times(each.write_amplification),
            _times(each.space_amplification), _cache(each.block_cache), _cache(each.page_cache),
        )  # fmt: skip
    return table


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1f}"


def _cache(each: CacheStatistics) -> str:
    return f"{each.hits}/{each.misses}"
