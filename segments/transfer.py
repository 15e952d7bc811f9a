"""A layer on its way from a peer, part by part (2017 §3.3; protocol §8).

Who is so far behind that the records it lacks are in layers at its peers, or has a damaged layer,
asks one of them for the rows. It asks for a part when the one before is about to be written to its
disk, so that a layer of any size takes the memory of two parts; and again for one that does not
come. What has come counts when all of it has, is durable, and the manifest names it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import attrs

from segments.layers.block import read_block
from segments.layers.job import PAUSE, Create, Delete, Extend, Job, SyncFile, Wait
from segments.layers.layer import Layer, NewPages, layer_name
from segments.layers.layer_map import LayerMap
from segments.layers.layer_writer import LayerWriter
from segments.protocol.errors import DamagedLayer
from segments.protocol.ids import Address, Lsn, PageId
from segments.protocol.messages import FetchLayer, GossipLayer, GossipStatus
from segments.protocol.run import Rows

_ATTEMPTS: Final = 16
"""How often a part is asked for until the transfer is given up."""


class Wanted(NamedTuple):
    """What a layer that is wanted of a peer is to hold: records in ``(start, end]``.

    A base: the newest version of each page at ``end``; then ``start`` is 0.
    """

    start: Lsn
    end: Lsn
    base: bool


def wanted(
    layers: LayerMap, scl: Lsn, peer: GossipStatus, *, damaged_only: bool = False
) -> Wanted | None:
    """What a segment with these layers and this SCL is to ask of ``peer``; None: nothing.

    What is missing comes before what is damaged, if it is asked for at all. Of both the peer may
    have collected a part: then its base comes first, and the rest is above that.
    """
    if scl < peer.folded and not damaged_only:
        if layers.folded < peer.base_lsn:
            return Wanted(0, peer.base_lsn, base=True)
        return Wanted(layers.folded, peer.folded, base=False)
    for layer in layers.damaged_layers():
        if layer.end > peer.scl:
            continue
        if layer.base:
            return Wanted(0, max(layer.end, peer.base_lsn), base=True)
        if layer.start < peer.base_lsn:
            return Wanted(0, peer.base_lsn, base=True)
        return Wanted(layer.start, layer.end, base=False)
    return None


def is_lacking(what: Wanted, layers: LayerMap, scl: Lsn) -> bool:
    """Whether a segment with these layers and this SCL still lacks a part, or has it damaged.

    Who is only a little behind may get all of it as records, while a layer is on its way. For a
    base records are not enough: what is to come above it has no place until the layers reach it.
    """
    reached = layers.folded if what.base else scl
    return reached < what.end or _is_damaged(what, layers)


def collects_more(what: Wanted, layers: LayerMap) -> bool:
    """Whether ``what`` is a base that lacks versions which these layers have, or had."""
    return what.base and what.end > layers.base_lsn


def fits(what: Wanted, layers: LayerMap) -> bool:
    """Whether a layer can take its place among these: some may have been merged, or collected."""
    if what.base:
        return what.end >= layers.base_lsn
    return what.start >= layers.base_lsn and what.start in {0, *(each.end for each in layers)}


def can_give(layers: LayerMap, scl: Lsn, request: FetchLayer) -> bool:
    """Whether a segment with these layers and this SCL has all that ``request`` asks for.

    And none of it in a layer that it knows to be damaged.
    """
    what = Wanted(request.start_lsn, request.end_lsn, request.base)
    return not _is_damaged(what, layers) and _is_held(what, layers.base_lsn, scl)


def _is_damaged(what: Wanted, layers: LayerMap) -> bool:
    """Whether a part of ``what`` is in a layer that is known to be damaged."""
    return any(each.number in layers.damaged for each in layers.between(what.start, what.end))


def _is_held(what: Wanted, base_lsn: Lsn, scl: Lsn) -> bool:
    """Whether a segment has ``what``, of which base and SCL stand at these LSNs."""
    if not what.start < what.end <= scl or (what.base and what.start):
        return False
    return base_lsn <= (what.end if what.base else what.start)


@attrs.define(eq=False)
class Transfer:
    """One layer that comes from one peer."""

    peer: Address
    what: Wanted
    timeout_s: float
    deadline: float
    """When it is given up, unless something comes."""
    ask_at: float
    """When to ask for the next part once more."""
    next_page: PageId = 0
    next_lsn: Lsn = 0
    pages: int = 0
    """At most so many are in the whole layer, as its peer says."""
    part: Rows | None = None
    """What has come, and is still to be written."""
    complete: bool = False
    """Whether ``part`` is the last one."""
    asked: bool = False
    """Whether its job has begun: it may wait for another one."""
    given_up: bool = False

    @classmethod
    def begin(cls, peer: Address, what: Wanted, timeout_s: float, now: float) -> Transfer:
        """A transfer of which nothing has been asked for yet."""
        return cls(peer, what, timeout_s, now + timeout_s, now + timeout_s / _ATTEMPTS)

    def is_next(self, source: Address, message: GossipLayer) -> bool:
        """Whether ``message`` is the part that is awaited."""
        what = Wanted(message.start_lsn, message.end_lsn, message.base)
        awaited = (self.peer, self.what, self.next_page, self.next_lsn)
        return self.part is None and not self.complete and not self.given_up and (
            awaited == (source, what, message.from_page, message.from_lsn)
        )  # fmt: skip

    def take(self, message: GossipLayer, now: float) -> bool:
        """Take the next part; returns False if it is not one, and nothing has changed.

        Its rows must follow those before, and lie within what was asked for.
        """
        rows, last = NO_ROWS, (self.next_page, self.next_lsn)
        try:
            if message.rows:
                block = read_block(message.rows, 0, 0)
                rows = Rows(block.rows, block.payloads)
                first = (block.pages[0], block.lsns[0])
                within = self.what.start < min(block.lsns) and max(block.lsns) <= self.what.end
                if first < last or not within:
                    return False
        except DamagedLayer:
            return False
        self.part, self.pages = rows, message.pages
        self.next_page, self.next_lsn = message.next_page, message.next_lsn
        self.complete = not message.next_lsn
        self._wait_from(now)
        return True

    def pass_time(self, now: float) -> None:
        """Give it up if its peer has been silent for too long."""
        if not self.asked or self.part is not None:
            self._wait_from(now)
        elif now > self.deadline:
            self.given_up = True

    def _wait_from(self, now: float) -> None:
        self.deadline, self.ask_at = now + self.timeout_s, now + self.timeout_s / _ATTEMPTS

    def hear(self, peer: GossipStatus) -> None:
        """Give it up if the peer, as it says, has collected a part of it meanwhile.

        Or if it is not whole, and has given nothing yet: it may have that spoilt itself, and then
        answers with no more than this. Else two could wait for each other.
        """
        began = bool(self.next_lsn) or self.part is not None
        in_vain = self.asked and not began and not peer.whole
        if not self.complete and (in_vain or not _is_held(self.what, peer.base_lsn, peer.scl)):
            self.given_up = True

    def take_out(self) -> Rows:
        """The part that has come, to be written: the next one may come."""
        assert self.part is not None
        part, self.part = self.part, None
        return part

    def asks(self, now: float) -> bool:
        """Whether it is time to ask for the next part once more; then it counts as asked."""
        waits = self.asked and self.part is None and not self.complete and not self.given_up
        if not waits or now < self.ask_at:
            return False
        self.ask_at = now + self.timeout_s / _ATTEMPTS
        return True


NO_ROWS: Final = Rows(b"", b"")


def layer_job(
    transfer: Transfer, number: int, *, block_bytes: int, ask: Callable[[Transfer], None]
) -> Job[tuple[Layer, NewPages] | None]:
    """Write the parts of a layer to a file as they come; durable at the end, and not live yet.

    ``ask`` sends the peer the question for the next part. Returns the layer and the pages whose
    first record is in it; None if the transfer was given up, and then there is no such file.
    """
    if transfer.given_up:
        return None
    name, (start, end, base) = layer_name(number), transfer.what
    writer: LayerWriter | None = None
    transfer.asked = True
    ask(transfer)
    while True:
        while transfer.part is None:
            if transfer.given_up:
                yield Delete((name,))
                return None
            yield Wait()
        if writer is None:
            writer = LayerWriter(
                number, start, end, base=base,
                block_bytes=block_bytes, most_pages=transfer.pages,
            )  # fmt: skip
            yield Create(name)
            yield Extend(name, writer.begin())
        part, complete = transfer.take_out(), transfer.complete
        if not complete:
            ask(transfer)  # so that it is on its way while this one is written
        if part.rows:
            for chunk in writer.add(part):
                yield Extend(name, chunk)
        if complete:
            break
        yield PAUSE
    last, layer = writer.finish()
    yield Extend(name, last)
    yield SyncFile(name)
    return layer, writer.new_pages
