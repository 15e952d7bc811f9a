"""Volumes of format 3 as the version before wrote them: what its logs are made of, and a fixture.

``data/format-3.zip.base64`` was written by that version: two groups, four openings, with collected
pages, annulled LSNs, two segments that were down in the last opening, and magics in payloads. In it
is also what could be read: ``expected.json``, the first 16 hexadecimal digits of the SHA-256 of
each page at each LSN that a commit had and that was above the floor.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Final
from zipfile import ZipFile

from aurora import ClusterConfig, EngineConfig, open_cluster
from segments.disks import VolumeDirectory
from segments.protocol import codec
from segments.protocol.ids import Lsn, SegmentId, VolumeEpoch
from segments.protocol.messages import PageImage
from segments.protocol.record import RedoRecord
from segments.protocol.truncation import TruncationTable
from segments.protocol.volume import VolumeGeometry
from segments.segment_directory import encode_identity
from segments.storage import Identity
from segments.wal import Promise, encode_promise

FIXTURE: Final = Path(__file__).parent / "data" / "format-3.zip.base64"
EPOCH: Final = VolumeEpoch(1, 5)
TABLE: Final = TruncationTable(EPOCH)
PROMISES: Final = encode_promise(Promise(EPOCH, EPOCH)) * 2
_STUFFED: Final = b"\xc1WA"

Plain = tuple[object, ...]
"""An entry as the array that is packed."""


def frame(entries: Iterable[Plain], epoch: VolumeEpoch = EPOCH) -> bytes:
    """One frame of an old log."""
    packed = codec.pack((*epoch, [*entries]))
    body = packed.replace(_STUFFED, _STUFFED + b"\0")
    length = pack("<I", len(body))
    return b"\xc1WAL" + length + pack("<Q", codec.checksum(length + body)) + body


def old_run(records: Sequence[RedoRecord]) -> bytes:
    """A run as it was: no clock behind any payload."""
    words: list[int] = []
    for each in records:
        meta = (
            (each.lsn - each.mtr_id) << 29
            | each.is_cpl << 27
            | each.offset << 14
            | len(each.payload)
        )
        words += (each.lsn, each.page_id, each.prev_page_lsn, each.prev_volume_lsn, meta)
    payloads = b"".join(each.payload for each in records)
    head = pack("<IIQQ", len(records), len(payloads), records[0].prev_segment_lsn, records[-1].lsn)
    body = head + pack(f"<{len(words)}Q", *words) + payloads
    return pack("<Q", codec.checksum(body)) + body


def ran(records: Sequence[RedoRecord], vdl: Lsn = 0, floor: Lsn = 0) -> Plain:
    return (1, vdl, floor, old_run(records))


def sealed(epoch: VolumeEpoch) -> Plain:
    return (2, epoch)


def adopted(table: TruncationTable, vdl: Lsn = 0) -> Plain:
    return (3, vdl, codec.plain_table(table))


def checkpoint(base_lsn: Lsn, parts: int, *, table: TruncationTable = TABLE, vdl: Lsn = 0) -> Plain:
    return (4, table.epoch, codec.plain_table(table), vdl, base_lsn, base_lsn, parts)


def images(base_lsn: Lsn, pages: Iterable[PageImage]) -> Plain:
    return (5, base_lsn, [each._replace(image=each.image.rstrip(b"\0")) for each in pages])


def held(highest_lsn: Lsn) -> Plain:
    return (7, highest_lsn)


def write_volume(path: Path, logs: dict[SegmentId, bytes], pg_count: int = 1) -> VolumeDirectory:
    """A volume of format 3 with these logs; of a segment that has none there is no directory."""
    geometry = VolumeGeometry(pg_count, 1000)
    values: dict[str, object] = {"format": 3, "volume_id": "old", "pg_count": pg_count, "lal": 1000}
    values["checksum"] = f"{codec.checksum(codec.pack(tuple(values.values()))):016x}"
    path.mkdir()
    (path / "volume.json").write_text(json.dumps(values, indent=2) + "\n")
    for segment, log in logs.items():
        directory = path / segment
        directory.mkdir()
        (directory / "identity").write_bytes(encode_identity(Identity("old", segment)))
        (directory / "promise").write_bytes(PROMISES)
        (directory / "log").write_bytes(log)
    return VolumeDirectory(path, "old", geometry)


# ---- the fixture ---------------------------------------------------------------------------------


def unpack_fixture(directory: Path) -> Path:
    """The volume that the version before has written, in ``directory``."""
    _archive().extractall(directory)
    return directory / "volume"


async def check_fixture(path: Path, *, read_only: bool = False, every: int = 1) -> None:
    """Open the converted fixture: all that could be read can be, at every so many-th LSN."""
    expected = json.loads(_archive().read("expected.json"))
    assert len(expected) == 87
    config = ClusterConfig(engine=EngineConfig(retention_lsns=None))
    async with open_cluster(path, read_only=read_only, config=config) as cluster:
        for lsn, pages in list(expected.items())[::every]:
            async with cluster.engine.read_view(int(lsn)) as view:
                found = {str(page): _digest(await view.get(page)) async for page in view.pages()}
            assert found == pages, f"as of LSN {lsn}"


def _archive() -> ZipFile:
    return ZipFile(BytesIO(b64decode(FIXTURE.read_bytes())))


def _digest(page: bytes) -> str:
    return sha256(page).hexdigest()[:16]
