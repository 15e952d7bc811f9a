"""The command that shows a page's records, as one segment has them: in its log, and below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aurora.terminal import language
from aurora.terminal.session import Session
from aurora.terminal.text import show_record
from segments.host import SegmentHost
from segments.protocol.errors import PageNotFound, Unavailable
from segments.protocol.ids import Lsn, PageId, PgId

_MOST_LINES: Final = 100


async def chain(session: Session, words: Sequence[str]) -> None:
    """Show the records of a page, newest first."""
    language.at_least(words, 1, "PAGE")
    language.at_most(words, 2)
    page_id = language.page(words[0])
    point = language.lsn(words[1]) if len(words) > 1 else None
    host = _fullest(session, session.cluster.geometry.pg_of(page_id))
    writer = session.cluster.engine.core
    vdl = writer.vdl if writer is not None and writer.opened else 0
    for line in chain_lines(host, page_id, point, vdl):
        session.screen.say(line)


def _fullest(session: Session, pg_id: PgId) -> SegmentHost:
    """The segment of a group that has most of its log."""
    group = session.cluster.groups[pg_id]
    scls = {}
    for host in (session.cluster.hosts[each] for each in group.members):
        if host.up and host.core is not None:
            scls[host.segment] = host.core.state.scl
    if not scls:
        raise Unavailable(f"no segment of group {group.pg_id} is up: expected one, to look into")
    return session.cluster.hosts[max(scls, key=scls.__getitem__)]


def chain_lines(host: SegmentHost, page_id: PageId, point: Lsn | None, vdl: Lsn) -> list[str]:
    """The page's chain from the newest record at or below ``point`` down to where layers begin.

    What is in layers is not read: a record names the one before it, and that LSN its layer. What is
    above ``vdl``, and the segment's own, is not known to be durable. Raises `PageNotFound` for a
    page that was not yet written, `ReadPointBelowFloor` if that may have been collected.
    """
    assert host.core is not None, f"{host.segment} is not up"
    state = host.core.state
    index, at = state.index, state.scl if point is None else point
    vdl = max(vdl, state.vdl)
    if not state.materializer.existing_pages(page_id, page_id, at, 1)[0]:
        raise PageNotFound(f"page {page_id}: expected a page that was written")
    lines = [f"page {page_id}, as {host.segment} has it; each record names the one before"]
    lsn = index.page_head(page_id, at)
    if not lsn:
        return [*lines, f"  none in the log; the newest: {_newest_layer(host, page_id, at)}"]
    while lsn and len(lines) < _MOST_LINES:
        if (layer := state.layers.at(lsn)) is not None:
            where = _where(layer.name, layer.start, layer.end, base=layer.base)
            return [*lines, f"  LSN {lsn:<8} and what was before it: {where}"]
        record = index.get(lsn)
        assert record is not None, f"page {page_id}: LSN {lsn} is neither in the log nor in a layer"
        durable = "" if lsn <= vdl else "   (not known to be durable)"
        lines.append(f"  LSN {lsn:<8} {show_record(record)}{durable}")
        lsn = record.prev_page_lsn
    return [*lines, "  0            an empty page" if not lsn else "  …"]


def _newest_layer(host: SegmentHost, page_id: PageId, point: Lsn) -> str:
    """The newest layer that may have the page, as far as that is known without reading any."""
    assert host.core is not None
    for layer in reversed(host.core.state.layers.between(0, point)):
        if layer.bloom.may_hold(page_id):
            where = _where(layer.name, layer.start, layer.end, base=layer.base)
            return where if layer.base else f"{where}, or further down"
    return "in a layer that is damaged"


def _where(name: str, start: Lsn, end: Lsn, *, base: bool) -> str:
    """``in layer-7 (LSNs 1 to 90)``; of a base layer, that it has an image."""
    lsns = f"LSNs {start + 1} to {end}"
    return f"an image in {name} ({lsns}, collected)" if base else f"in {name} ({lsns})"
