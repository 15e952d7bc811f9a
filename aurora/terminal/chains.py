"""The command that shows a page's records, as one segment has them: in its log, and below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aurora.terminal import language
from aurora.terminal.session import Session
from aurora.terminal.text import show_record
from segments.core import SegmentCore
from segments.layers.layer import Layer
from segments.protocol.errors import PageNotFound, Unavailable
from segments.protocol.ids import Lsn, PageId, PgId

_MOST_LINES: Final = 100


async def chain(session: Session, words: Sequence[str]) -> None:
    """Show the records of a page, newest first."""
    language.at_least(words, 1, "PAGE")
    language.at_most(words, 2)
    page_id = language.page(words[0])
    point = language.lsn(words[1]) if len(words) > 1 else None
    core = _fullest(session, session.cluster.geometry.pg_of(page_id))
    writer = session.cluster.engine.core
    vdl = max(core.state.vdl, writer.vdl if writer is not None and writer.opened else 0)
    for line in chain_lines(core, page_id, core.state.scl if point is None else point, vdl):
        session.screen.say(line)


def _fullest(session: Session, pg_id: PgId) -> SegmentCore:
    """The segment of a group that has most of its log."""
    group = session.cluster.groups[pg_id]
    hosts = [session.cluster.hosts[each] for each in group.members]
    cores = [host.core for host in hosts if host.up and host.core is not None]
    if not cores:
        raise Unavailable(f"no segment of group {group.pg_id} is up: expected one, to look into")
    return max(cores, key=lambda each: each.state.scl)


def chain_lines(core: SegmentCore, page_id: PageId, point: Lsn, vdl: Lsn) -> list[str]:
    """The page's chain from the newest record at or below ``point`` down to where layers begin.

    What is in layers is not read: a record names the one before it, and that LSN its layer. Raises
    `PageNotFound` for a page that was not yet written, `ReadPointBelowFloor` if that may have been
    collected.
    """
    state = core.state
    index, layers = state.index, state.layers
    if not state.materializer.existing_pages(page_id, page_id, point, 1)[0]:
        raise PageNotFound(f"page {page_id}: expected a page that was written")
    lines = [f"page {page_id}, as {core.segment} has it; each record names the one before"]
    lsn = index.page_head(page_id, point)
    if not lsn:
        return [*lines, f"  none in the log; the newest: {_newest_layer(core, page_id, point)}"]
    while lsn and len(lines) < _MOST_LINES:
        if (layer := layers.at(lsn)) is not None:
            return [*lines, f"  LSN {lsn:<8} and what was before it: {_where(layer)}"]
        record = index.get(lsn)
        assert record is not None, f"page {page_id}: LSN {lsn} is neither in the log nor in a layer"
        durable = "" if lsn <= vdl else "   (not known to be durable)"
        lines.append(f"  LSN {lsn:<8} {show_record(record)}{durable}")
        lsn = record.prev_page_lsn
    return [*lines, "  0            an empty page" if not lsn else "  …"]


def _newest_layer(core: SegmentCore, page_id: PageId, point: Lsn) -> str:
    """The newest layer that may have the page, as far as that is known without reading any."""
    layers = reversed(core.state.layers.between(0, point))
    found = next((each for each in layers if each.bloom.may_hold(page_id)), None)
    return "its layers are damaged" if found is None else f"{_where(found)}, or further down"


def _where(layer: Layer) -> str:
    """``in layer-7 (LSNs 1 to 90)``; of a base layer, that it has an image."""
    lsns = f"LSNs {layer.start + 1} to {layer.end}"
    if layer.base:
        return f"an image in {layer.name} ({lsns}, collected)"
    return f"in {layer.name} ({lsns})"
