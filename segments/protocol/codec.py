"""Messages as bytes. The only user of msgpack and xxhash.

A message is a msgpack array ``[tag, field, ...]`` with the fields in the order of its class.
Records in it are one field of bytes, a run (`segments.protocol.run`).

Decoding never trusts its input: whatever is not exactly a message of the right shape raises
`MalformedMessage`, and sizes are bounded by the input's own length.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final, cast, get_type_hints

import msgpack
import xxhash

from segments.protocol import messages
from segments.protocol.errors import Invalid, MalformedMessage
from segments.protocol.heard import Heard, Mark, Scls
from segments.protocol.ids import MAX_INTEGER, Lsn, PageId, SegmentId, VolumeEpoch
from segments.protocol.messages import Message, PageImage
from segments.protocol.record import PAGE_SIZE
from segments.protocol.showing import shown
from segments.protocol.truncation import Gap, TruncationRange, TruncationTable

_pack = msgpack.Packer(autoreset=True).pack

_TAGS: Final[dict[int, type[Message]]] = {
    1: messages.WriteBatch,
    2: messages.WriteAck,
    3: messages.ReadPage,
    4: messages.PageReply,
    5: messages.ReadRefused,
    6: messages.Seal,
    7: messages.SealReply,
    8: messages.FetchLog,
    9: messages.LogReply,
    10: messages.InstallTable,
    11: messages.TableInstalled,
    12: messages.ConfirmEpoch,
    13: messages.EpochConfirmed,
    14: messages.EpochRefused,
    15: messages.NeedTable,
    16: messages.GossipStatus,
    17: messages.GossipRecords,
    18: messages.FetchLayer,
    19: messages.GossipLayer,
    20: messages.ListPages,
    21: messages.PagesListed,
}


def checksum(data: bytes | memoryview, seed: int = 0) -> int:
    """xxh3-64 of ``data``; what is true at one place only takes that place as ``seed``."""
    return xxhash.xxh3_64_intdigest(data, seed)


def pack(value: object) -> bytes:
    """``value`` (None, bools, integers, strings, bytes, tuples) as msgpack."""
    return cast("bytes", _pack(value))


def unpack(data: bytes) -> Any:
    """The one msgpack value in ``data``, arrays as tuples; raises `MalformedMessage`."""
    try:
        return msgpack.unpackb(data, use_list=False)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise MalformedMessage(f"{len(data)} bytes that are not msgpack: {error}") from None


# ---- messages ------------------------------------------------------------------------------------


def _integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise MalformedMessage(f"{shown(value)}: expected an integer from 0 to {MAX_INTEGER}")
    return value


def _exactly(kind: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise MalformedMessage(f"{shown(value)}: expected {kind.__name__}")
        return value

    return check


def _parts(value: Any, count: int) -> Any:
    if type(value) is not tuple or len(value) != count:
        raise MalformedMessage(f"{shown(value)}: expected {count} values")
    return value


def _epoch(value: Any) -> VolumeEpoch:
    counter, writer_id = _parts(value, 2)
    if type(counter) is type(writer_id) is int and 0 <= counter <= MAX_INTEGER >= writer_id >= 0:
        return VolumeEpoch(counter, writer_id)  # as nearly always
    return VolumeEpoch(_integer(counter), _integer(writer_id))


def plain_table(table: TruncationTable) -> tuple[object, ...]:
    """``table`` as the array that is packed, in messages and in logs."""
    return (table.epoch, table.ranges, table.settled, table.gaps)


def _table(value: Any) -> TruncationTable:
    epoch, ranges, settled, gaps = _parts(value, 4)
    triples = (_parts(each, 3) for each in _exactly(tuple)(ranges))
    others = (_parts(each, 3) for each in _exactly(tuple)(gaps))
    try:
        return TruncationTable(
            _epoch(epoch),
            tuple(
                TruncationRange(_integer(start), _integer(end), _epoch(of))
                for start, end, of in triples
            ),
            _epoch(settled),
            tuple(
                Gap(_integer(start), _integer(end), _integer(live)) for start, end, live in others
            ),
        )
    except Invalid as error:
        raise MalformedMessage(str(error)) from None


def _page(value: Any) -> PageImage:
    page_id, page_lsn, image = _parts(value, 3)
    if type(image) is not bytes or len(image) not in (0, PAGE_SIZE):
        raise MalformedMessage(f"a page image {shown(image)}: expected {PAGE_SIZE} bytes, or none")
    return PageImage(_integer(page_id), _integer(page_lsn), image)


def _pages(value: Any) -> tuple[PageImage, ...]:
    return tuple(_page(each) for each in _exactly(tuple)(value))


def _page_ids(value: Any) -> tuple[PageId, ...]:
    page_ids = tuple(_integer(each) for each in _exactly(tuple)(value))
    if any(a >= b for a, b in pairwise(page_ids)):
        raise MalformedMessage(f"page ids {shown(page_ids)}: expected ascending")
    return page_ids


def _mark(value: Any) -> Mark:
    epoch, scl = _parts(value, 2)
    return Mark(_epoch(epoch), _integer(scl))


def _scls(value: Any) -> dict[SegmentId, Lsn]:
    for segment, scl in value.items():
        if type(segment) is not str or type(scl) is not int or not 0 <= scl <= MAX_INTEGER:
            _exactly(str)(segment)
            _integer(scl)
    return cast("dict[SegmentId, Lsn]", value)


def _heard(value: Any) -> tuple[Heard, ...]:
    found = []
    for each in value:
        epoch, scls = _parts(each, 2)
        found.append(Heard(_epoch(epoch), _scls(_exactly(dict)(scls))))
    return tuple(found)


_PLAIN: Final = (int, str, bool, bytes)
_NESTED: Final[dict[object, Callable[[Any], Any]]] = {
    VolumeEpoch: _epoch,
    TruncationTable: _table,
    PageImage: _page,
    tuple[PageImage, ...]: _pages,
    tuple[PageId, ...]: _page_ids,
    Mark: _mark,
    Scls: _scls,
    tuple[Heard, ...]: _heard,
}


def _encoder(tag: int, kind: type[Message]) -> Callable[[Message], bytes]:
    if "table" not in kind._fields:
        return lambda message: cast("bytes", _pack((tag, *message)))
    table_at = kind._fields.index("table") + 1

    def encode_with_table(message: Message) -> bytes:
        values: list[object] = [tag, *message]
        table = cast("TruncationTable", values[table_at])
        values[table_at] = plain_table(table)
        return cast("bytes", _pack(values))

    return encode_with_table


def fields_decoder(kind: Any) -> Callable[[tuple[Any, ...]], Any]:
    """What makes a ``kind``, a named tuple, of ``(tag, field, ...)``; raises `MalformedMessage`.

    Checks all plain types of a message at once: this runs for every message received.
    """
    types = list(get_type_hints(kind).values())
    expected = (int, *(_packed_as(each) for each in types))
    integers = [at for at, each in enumerate(types, 1) if each is int]
    pick = itemgetter(0, 0, *integers)  # a tuple in any case: the tag is in range
    make = partial(tuple.__new__, kind)  # as its `_make`, of as many fields as it has
    nested = [(at, _NESTED[each]) for at, each in enumerate(types, 1) if each not in _PLAIN]

    def decode_fields(values: tuple[Any, ...]) -> Any:
        found = tuple(map(type, values))
        if found != expected:
            names = [each.__name__ for each in found]
            raise MalformedMessage(f"{kind.__name__} with fields of types {names}")
        picked = pick(values)
        if min(picked) < 0 or max(picked) > MAX_INTEGER:
            for each in picked:
                _integer(each)
        fields = list(values)
        for at, decoder in nested:
            fields[at] = decoder(values[at])
        return make(fields[1:])

    return decode_fields


def _packed_as(kind: Any) -> type:
    """What msgpack makes of a field of this type."""
    if kind in _PLAIN:
        return cast("type", kind)
    return dict if kind == Scls else tuple


_ENCODERS: Final = {kind: _encoder(tag, kind) for tag, kind in _TAGS.items()}
_DECODERS: Final = {tag: fields_decoder(kind) for tag, kind in _TAGS.items()}


def encode(message: Message) -> bytes:
    """``message`` as bytes."""
    return _ENCODERS[type(message)](message)


def decode(data: bytes) -> Message:
    """The message in ``data``; raises `MalformedMessage`. Runs of records inside stay encoded."""
    values = unpack(data)
    if type(values) is not tuple or not values:
        raise MalformedMessage(f"{shown(values)}: expected a message")
    decoder = _DECODERS.get(values[0]) if type(values[0]) is int else None
    if decoder is None:
        raise MalformedMessage(f"message tag {shown(values[0])}: expected one of 1 to {len(_TAGS)}")
    message: Message = decoder(values)
    return message
