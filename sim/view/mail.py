"""The messages of a film: who sent what to whom, when it arrived, and which steps it led to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs

from segments.protocol import codec
from segments.protocol.errors import AuroraError
from segments.protocol.ids import Address, Lsn, PageId
from segments.protocol.messages import (
    ConfirmEpoch,
    EpochConfirmed,
    EpochRefused,
    FetchLayer,
    FetchLog,
    GossipLayer,
    GossipRecords,
    GossipStatus,
    InstallTable,
    ListPages,
    LogReply,
    Message,
    NeedTable,
    PageReply,
    PagesListed,
    ReadPage,
    ReadRefused,
    Seal,
    SealReply,
    TableInstalled,
    WriteAck,
    WriteBatch,
)
from segments.protocol.run import read_records
from sim.world.network import NetworkEvent

Key: TypeAlias = tuple[str, Address, Address, object]
"""By which a step names a message: its type, from whom, to whom, and what tells it from others."""

HEARTBEAT: Final = "Heartbeat"
"""What a batch without records is called."""


@attrs.define
class Letter:
    """One message and its copies."""

    source: int
    destination: int
    type: str
    text: str
    sent: int
    """Number of the last event before it was sent; -1 if there was none."""
    sent_ns: int
    size: int
    pages: list[PageId]
    lsns: tuple[Lsn, Lsn] | None
    arrived: list[int] = attrs.field(factory=list)
    """When each copy arrived."""
    after: list[int] = attrs.field(factory=list)
    """The numbers of the last events before that."""
    lost: str | None = None
    call: int = -1

    def as_json(self) -> dict[str, object]:
        return {
            "from": self.source,
            "to": self.destination,
            "type": self.type,
            "text": self.text,
            "sent": self.sent,
            "sent_ns": self.sent_ns,
            "arrived": self.arrived,
            "arrived_after": self.after,
            "lost": self.lost,
            "pages": self.pages or 0,
            "lsns": list(self.lsns) if self.lsns is not None else 0,
            "call": self.call,
            "bytes": self.size,
        }


class Mail:
    """All messages of a run, and which of them a step speaks of."""

    def __init__(self, node_of: Callable[[Address], int], most: int) -> None:
        self.letters: list[Letter] = []
        self.cut = False
        """Whether there were more than ``most``."""
        self._node_of = node_of
        self._most = most
        self._index: dict[int, int] = {}
        self._keys: dict[int, Key] = {}
        self._sent: dict[Key, int] = {}
        self._arrived: dict[Key, int] = {}
        self._wanted: dict[Key, Callable[[int], object]] = {}

    def on_message(self, event: NetworkEvent, last_event: int) -> None:
        """Something has become of a message."""
        if event.kind == "sent":
            self._send(event, last_event)
            return
        index = self._index.get(event.message)
        if index is None:
            return
        letter = self.letters[index]
        if event.kind == "delivered":
            letter.arrived.append(event.time_ns)
            letter.after.append(last_event)
            self._arrived[self._keys[index]] = index
        elif event.kind == "dropped":
            letter.lost = str(event.reason)

    def index_of(self, message: int) -> int:
        """Where a message is, by its number in the network; -1 if it is not kept."""
        return self._index.get(message, -1)

    def arrived(self, key: Key) -> int:
        """The last such message that has arrived; -1 for none."""
        return self._arrived.get(key, -1)

    def when_sent(self, key: Key, tell: Callable[[int], object]) -> None:
        """Call ``tell`` with the next such message's index, once it is sent."""
        self._wanted[key] = tell

    def _send(self, event: NetworkEvent, last_event: int) -> None:
        if len(self.letters) >= self._most:
            self.cut = True
            return
        index = self._index[event.message] = len(self.letters)
        try:
            message: Message | None = codec.decode(event.payload)
        except AuroraError:
            message = None
        kind = "malformed" if message is None else type(message).__name__
        text, pages, lsns = told(message)
        if isinstance(message, WriteBatch) and lsns is None:
            kind = HEARTBEAT
        letter = Letter(
            self._node_of(event.source), self._node_of(event.destination), kind, text, last_event,
            event.time_ns, len(event.payload), pages, lsns,
        )  # fmt: skip
        self.letters.append(letter)
        ends = (event.source, event.destination)
        name = "malformed" if message is None else type(message).__name__
        self._keys[index] = (name, *ends, _arrives_as(message))
        tell = self._wanted.pop((name, *ends, _leaves_as(message)), None)
        if tell is not None:
            tell(index)


def _leaves_as(message: Message | None) -> object:
    """What the step that sends it says of it."""
    match message:
        case WriteBatch(seq=seq) | WriteAck(seq=seq):
            return seq
        case ReadPage(request_id=number) | ListPages(request_id=number):
            return number
        case InstallTable(epoch=epoch):
            return epoch
    return None


def _arrives_as(message: Message | None) -> object:
    """What the step that it leads to says of it."""
    match message:
        case WriteBatch(seq=seq):
            return seq
        case WriteAck(scl=scl) | TableInstalled(scl=scl):
            return scl
        case ReadPage(page_id=page_id, read_point=point):
            return page_id, point
        case PageReply(request_id=number) | PagesListed(request_id=number):
            return number
        case ReadRefused(request_id=number):
            return number
        case SealReply(epoch=epoch) | Seal(epoch=epoch) | InstallTable(epoch=epoch):
            return epoch
    return None


# ---- in words ------------------------------------------------------------------------------------

Told: TypeAlias = tuple[str, list[PageId], tuple[Lsn, Lsn] | None]
"""A message in words, the pages and the first and last LSN that it speaks of."""


def told(message: Message | None) -> Told:
    """What a message says."""
    teller = _TELLERS.get(type(message))
    if message is None:
        return "no message at all", [], None
    return teller(message) if teller is not None else (type(message).__name__, [], None)


def _records(records: bytes, nothing: str, more: str = "") -> Told:
    if not records:
        return nothing + more, [], None
    read = read_records(records)
    if not read:
        return nothing + more, [], None
    lsns = (read[0].lsn, read[-1].lsn)
    pages = list(dict.fromkeys(record.page_id for record in read))
    shown = ", ".join(map(str, pages[:4])) + (" and more" if pages[4:] else "")
    noun = "page" if len(pages) == 1 else "pages"
    return f"redo: {_lsns(lsns)} of {noun} {shown}{more}", pages, lsns


def _lsns(lsns: tuple[Lsn, Lsn]) -> str:
    first, last = lsns
    return f"LSN {first}" if first == last else f"LSN {first}–{last}"


def _at(lsn: Lsn) -> tuple[Lsn, Lsn] | None:
    return (lsn, lsn) if lsn else None


def _layer(message: FetchLayer | GossipLayer) -> Told:
    span = (message.start_lsn + 1, message.end_lsn)
    what = "a part of the layer of" if isinstance(message, GossipLayer) else "asks for a layer of"
    return f"{what} {_lsns(span)}", [], span


_TELLERS: Final[Mapping[type[Any], Callable[[Any], Told]]] = {
    WriteBatch: lambda m: _records(m.records, "a heartbeat: no redo", f"; the VDL is {m.vdl}"),
    WriteAck: lambda m: (f"has everything up to SCL {m.scl}", [], _at(m.scl)),
    ReadPage: lambda m: (
        f"page {m.page_id} as of {m.read_point}?", [m.page_id], _at(m.read_point)),
    ListPages: lambda m: (
        f"which pages from {m.from_page} on, as of {m.read_point}?", [], _at(m.read_point)),
    PageReply: lambda m: (
        f"page {m.page.page_id} as of {m.page.page_lsn}", [m.page.page_id], _at(m.page.page_lsn)),
    PagesListed: lambda m: (
        f"{len(m.page_ids)} pages as of {m.read_point}", list(m.page_ids), _at(m.read_point)),
    ReadRefused: lambda m: (f"cannot answer: SCL {m.scl}, floor {m.floor}", [], None),
    Seal: lambda m: (f"seal epoch {m.epoch.counter}: take nothing lower any more", [], None),
    SealReply: lambda m: (
        f"epoch {m.epoch.counter} is sealed: SCL {m.scl}, VDL {m.vdl}", [], _at(m.scl)),
    FetchLog: lambda m: (f"the records after LSN {m.after_lsn}?", [], None),
    LogReply: lambda m: _records(m.records, "no records"),
    InstallTable: lambda m: (
        f"the truncation table of epoch {m.table.epoch.counter}", [], None),
    TableInstalled: lambda m: (f"has the table; SCL {m.scl}", [], _at(m.scl)),
    ConfirmEpoch: lambda m: (f"is epoch {m.epoch.counter} still the highest?", [], None),
    EpochConfirmed: lambda m: (f"epoch {m.epoch.counter} is the highest here", [], None),
    EpochRefused: lambda m: (
        f"refused: epoch {m.sealed.counter} is sealed here", [], None),
    NeedTable: lambda _: ("needs the truncation table first", [], None),
    GossipStatus: lambda m: (f"gossip: SCL {m.scl}, VDL {m.vdl}", [], _at(m.scl)),
    GossipRecords: lambda m: _records(m.records, "gossip: no records"),
    FetchLayer: _layer,
    GossipLayer: _layer,
}  # fmt: skip
