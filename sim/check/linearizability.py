"""History checking: whether what the clients were told fits one order of all their calls. Pure.

Theory of operation
-------------------
Deciding whether a history is linearizable is hard when the order has to be found. Here each call
brings a witness along: a write its LSNs, a read the LSN as of which it was made. They propose one
order, writes by LSN and each read right behind the last write that it may see, and to check one
order is easy:

* *Time.* What returned before another call began comes before it. One sweep over all beginnings and
  ends, with the latest place in the order that had returned by then, finds any pair that disagrees.
* *Values.* Page by page, with writes and reads in the proposed order, each read must have returned
  what the writes before it made.

A history that passes is linearizable, since the order is at hand. A wrong witness can only raise an
alarm, never hide a violation. Both parts sort and sweep: O(n log n) for n calls, and one comparison
of a page for each read.

Writes of unknown outcome, those of callers that gave up among them, have effect or not, whole, as
the witness says; in time they never returned. Reads at an LSN of the caller's choice, and those
through a writer that had been deposed, are old by design: their values are checked, their time is
not. Reads of one client through one writer must not go back in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import attrs

from segments.protocol.ids import Lsn, PageId
from segments.protocol.record import EMPTY_PAGE
from sim.world.history import Call, Outcome

_WRITE, _READ = 0, 1
_NEVER: Final = 1 << 62


class Change(NamedTuple):
    """One page's part of a write."""

    page_id: PageId
    lsn: Lsn
    offset: int
    data: bytes


@attrs.frozen(kw_only=True)
class WriteCall:
    """A write that has taken effect."""

    number: int
    """Names it in a finding."""
    changes: tuple[Change, ...]
    invoked_ns: int
    returned_ns: int | None
    """None when nobody was told."""

    @property
    def commit_lsn(self) -> Lsn:
        """The LSN at which all of it is there."""
        return self.changes[-1].lsn


@attrs.frozen(kw_only=True)
class ReadCall:
    """A read that was answered."""

    number: int
    page_id: PageId
    read_point: Lsn
    page: bytes | None
    """None for "not written"."""
    invoked_ns: int
    returned_ns: int
    fresh: bool
    """Whether it must see every write that had returned when it began."""
    session: tuple[int, str] | None = None
    """Reads of one session never go back."""


@attrs.frozen
class Anomaly:
    """Why a history fits no order that its witnesses allow."""

    text: str


def check(writes: Sequence[WriteCall], reads: Sequence[ReadCall]) -> Anomaly | None:
    """The first anomaly found, or None for a linearizable history."""
    return _same_lsn(writes) or _time(writes, reads) or _sessions(reads) or _values(writes, reads)


# ---- the parts -----------------------------------------------------------------------------------


def _same_lsn(writes: Sequence[WriteCall]) -> Anomaly | None:
    owner: dict[Lsn, int] = {}
    for write in writes:
        for change in write.changes:
            other = owner.setdefault(change.lsn, write.number)
            if other != write.number:
                return Anomaly(f"calls {other} and {write.number} both wrote LSN {change.lsn}")
    return None


class _Span(NamedTuple):
    """A call in time, and its place in the proposed order."""

    place: tuple[Lsn, int]
    number: int
    invoked_ns: int
    returned_ns: int


def _time(writes: Sequence[WriteCall], reads: Sequence[ReadCall]) -> Anomaly | None:
    spans = [
        _Span((each.commit_lsn, _WRITE), each.number, each.invoked_ns, _end(each))
        for each in writes
    ]
    spans += [
        _Span((each.read_point, _READ), each.number, each.invoked_ns, each.returned_ns)
        for each in reads
        if each.fresh
    ]
    ended = sorted(spans, key=lambda span: span.returned_ns)
    latest: _Span | None = None
    at = 0
    for span in sorted(spans, key=lambda span: span.invoked_ns):
        while ended[at].returned_ns < span.invoked_ns:
            if latest is None or ended[at].place > latest.place:
                latest = ended[at]
            at += 1
        if latest is not None and latest.place > span.place:
            return Anomaly(
                f"{_described(latest)} had returned at {latest.returned_ns} ns; "
                f"{_described(span)} began after it, at {span.invoked_ns} ns, and comes before it"
            )
    return None


def _end(write: WriteCall) -> int:
    return _NEVER if write.returned_ns is None else write.returned_ns


def _described(span: _Span) -> str:
    lsn, kind = span.place
    return f"call {span.number}, a {'read as of' if kind == _READ else 'write with'} LSN {lsn},"


def _sessions(reads: Iterable[ReadCall]) -> Anomaly | None:
    last: dict[tuple[int, str], ReadCall] = {}
    for read in sorted(reads, key=lambda read: read.invoked_ns):
        if read.session is None:
            continue
        before = last.get(read.session)
        if before is not None and before.read_point > read.read_point:
            client, writer = read.session
            return Anomaly(
                f"client {client} read as of LSN {before.read_point} from {writer} (call "
                f"{before.number}), and then as of {read.read_point} (call {read.number})"
            )
        last[read.session] = read
    return None


def _values(writes: Iterable[WriteCall], reads: Iterable[ReadCall]) -> Anomaly | None:
    changes: dict[PageId, list[tuple[Change, WriteCall]]] = {}
    for write in writes:
        for change in write.changes:
            changes.setdefault(change.page_id, []).append((change, write))
    by_page: dict[PageId, list[ReadCall]] = {}
    for read in reads:
        by_page.setdefault(read.page_id, []).append(read)
    for page_id, of_page in by_page.items():
        found = _values_of(changes.get(page_id, []), of_page)
        if found is not None:
            return found
    return None


def _values_of(changes: list[tuple[Change, WriteCall]], reads: list[ReadCall]) -> Anomaly | None:
    changes.sort(key=lambda item: item[0].lsn)
    image = bytearray(EMPTY_PAGE)
    at = 0
    for read in sorted(reads, key=lambda read: read.read_point):
        while at < len(changes) and changes[at][0].lsn <= read.read_point:
            change = changes[at][0]
            image[change.offset : change.offset + len(change.data)] = change.data
            at += 1
        if read.fresh and at and changes[at - 1][1].commit_lsn > read.read_point:
            return Anomaly(
                f"call {read.number} read page {read.page_id} as of LSN {read.read_point}, which "
                f"is in the middle of call {changes[at - 1][1].number}"
            )
        if (read.page is None) != (at == 0) or (read.page is not None and read.page != image):
            return _wrong_value(read, image, changes[:at])
    return None


def _wrong_value(
    read: ReadCall, expected: bytearray, before: Sequence[tuple[Change, WriteCall]]
) -> Anomaly:
    what = f"call {read.number} read page {read.page_id} as of LSN {read.read_point}"
    if read.page is None:
        change, write = before[-1]
        return Anomaly(
            f"{what}: not found, but call {write.number} had written it at LSN {change.lsn}"
        )
    if not before:
        return Anomaly(f"{what}: found, but nothing had been written by then")
    place = next(
        (i for i in range(len(expected)) if read.page[i : i + 1] != expected[i : i + 1]), 0
    )
    writers = [
        f"call {write.number} at LSN {change.lsn}"
        for change, write in before
        if change.offset <= place < change.offset + len(change.data)
    ]
    last = writers[-1] if writers else "nobody"
    return Anomaly(f"{what}: byte {place} is not what {last} had written")


# ---- from calls ----------------------------------------------------------------------------------


def check_calls(
    calls: Iterable[Call],
    survivors: Mapping[int, Sequence[Lsn]],
    deposed_ns: Mapping[str, int],
) -> Anomaly | None:
    """Check what the clients of a run called.

    ``survivors`` has, for writes of unknown outcome that took effect, the LSNs of their changes.
    ``deposed_ns`` tells when a successor of a writer had opened; a default read that began through
    it by then, or later, may be old.
    """
    writes: list[WriteCall] = []
    reads: list[ReadCall] = []
    for call in calls:
        if call.may_write and call.writes:
            lsns = _lsns_of(call, survivors)
            if lsns:
                writes.append(_write_call(call, lsns))
        # Lists are of no page's content; the checker holds them against the reference model.
        if call.read_point:
            reads += _read_calls(call, deposed_ns.get(call.writer, _NEVER))
    return check(writes, reads)


def _lsns_of(call: Call, survivors: Mapping[int, Sequence[Lsn]]) -> Sequence[Lsn]:
    if call.outcome is Outcome.OK:
        return range(call.lsn - len(call.writes) + 1, call.lsn + 1)
    return survivors.get(call.number, ())


def _write_call(call: Call, lsns: Sequence[Lsn]) -> WriteCall:
    changes = tuple(
        Change(page, lsn, offset, data)
        for (page, offset, data), lsn in zip(call.logged, lsns, strict=True)
    )
    told = call.returned_ns if call.outcome is Outcome.OK else None
    return WriteCall(
        number=call.number, changes=changes, invoked_ns=call.invoked_ns, returned_ns=told
    )


def _read_calls(call: Call, deposed_ns: int) -> list[ReadCall]:
    operation = call.operation
    # Views and many pages at the VDL, and a mini-transaction's first read, take it at the call.
    newest = operation.kind in ("get", "put") or (
        operation.kind in ("view", "many") and not operation.age
    )
    strict = operation.kind == "strict_get"
    assert call.returned_ns is not None
    return [
        ReadCall(
            number=call.number,
            page_id=page_id,
            read_point=call.read_point,
            page=page,
            invoked_ns=call.invoked_ns,
            returned_ns=call.returned_ns,
            fresh=strict or (newest and call.invoked_ns < deposed_ns),
            session=(operation.client, call.writer) if operation.kind == "get" else None,
        )
        for page_id, page in call.answers()
    ]
