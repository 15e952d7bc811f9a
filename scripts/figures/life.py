"""The life of one segment: a real server on a real disk, and a writer that only sends batches.

It makes histories of millions of records without the five other copies, and tells how long its
tasks have kept trio's loop.
"""

from __future__ import annotations

import gc
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final

import attrs
import trio

from aurora.transport import InProcessNetwork
from scripts.figures.figure import PAYLOAD, Sizes
from segments.config import SegmentConfig
from segments.core import SegmentCore
from segments.disks import format_storage
from segments.file_storage import FileStorage
from segments.protocol import codec
from segments.protocol.ids import MAX_LSN, Lsn, VolumeEpoch
from segments.protocol.messages import WriteAck, WriteBatch
from segments.protocol.record import PAGE_SIZE, RedoRecord
from segments.protocol.run import encode_run
from segments.server import SegmentServer
from segments.storage import Identity

EPOCH: Final = VolumeEpoch(1, 1)
SEGMENT: Final = "A0"
IDENTITY: Final = Identity("bench", SEGMENT)
RETAINED: Final = 1_000
"""LSNs of history that stay readable where history is collected."""
_BATCH: Final = 500
"""Records in one batch, which is one mini-transaction."""


class Changes:
    """A chain of records: random changes of 100 bytes to random pages."""

    def __init__(self, pages: int, *, announces: bool = True, collects: bool = False) -> None:
        """``announces``: the VDL follows; ``collects``: the floor follows it at `RETAINED`."""
        self.last_lsn: Lsn = 0
        self._heads = [0] * pages
        self._random = Random(1)
        self._announces = announces
        self._collects = collects
        self._seq = 0

    def batch(self, count: int) -> WriteBatch:
        """The next ``count`` records."""
        draw, heads, before = self._random.randrange, self._heads, self.last_lsn
        self.last_lsn = last = before + count
        self._seq += 1
        records = []
        for lsn in range(before + 1, last + 1):
            page = draw(len(heads))
            records.append(
                RedoRecord(
                    lsn, page, draw(PAGE_SIZE - len(PAYLOAD)), PAYLOAD, before + 1, lsn == last,
                    lsn - 1, lsn - 1, heads[page],
                )
            )  # fmt: skip
            heads[page] = lsn
        vdl = before if self._announces else 0
        floor = max(0, vdl - RETAINED) if self._collects else 0
        return WriteBatch(EPOCH, self._seq, vdl, floor, MAX_LSN, False, encode_run(records))


@attrs.frozen
class Lived:
    """What a history has come to, and where it lies."""

    directory: Path
    config: SegmentConfig
    pages: int
    records: int
    log_bytes: int
    layer_bytes: int
    layer_bytes_written: int

    @property
    def user_bytes(self) -> int:
        """What was written to pages."""
        return self.records * len(PAYLOAD)


class Steps(trio.abc.Instrument):
    """How long each turn of the tasks lasts whose names end in one of some words."""

    def __init__(self, *words: str) -> None:
        self.wall_s, self.cpu_s = array("d"), array("d")
        self._words = words
        self._began = (0.0, 0.0)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name.endswith(self._words):
            self._began = time.perf_counter(), time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name.endswith(self._words):
            self.cpu_s.append(time.thread_time() - self._began[1])
            self.wall_s.append(time.perf_counter() - self._began[0])


async def _live(
    directory: Path, records: int, changes: Changes, config: SegmentConfig
) -> SegmentCore:
    """Write ``records``, wait until no work in the background is due, and end."""
    storage = FileStorage.format(directory, IDENTITY)
    await format_storage(storage, EPOCH, Random(1))
    network = InProcessNetwork(1_024)
    writer = network.attach("writer")
    server = SegmentServer(SEGMENT, 0, (), storage, network.attach(SEGMENT), config, Random(2))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        core = server.core
        assert core is not None
        left = records
        while left:
            batch = changes.batch(min(_BATCH, left))
            left -= min(_BATCH, left)
            writer.send(SEGMENT, codec.encode(batch))
            while not any(
                _acknowledges(each.payload, batch.seq) for each in await writer.receive(64)
            ):
                pass
        while core.background.fold_rule.through() > core.state.folded or core.background.planned():  # noqa: ASYNC110
            await trio.sleep(config.tick_interval_s)  # jobs tell nobody that they have ended
        nursery.cancel_scope.cancel()
    storage.close()
    return core


def _acknowledges(payload: bytes, seq: int) -> bool:
    message = codec.decode(payload)
    return isinstance(message, WriteAck) and message.seq >= seq


def live(
    directory: Path, records: int, pages: int, *, announces: bool = True, collects: bool = False,
    config: SegmentConfig | None = None, steps: Steps | None = None,
) -> Lived:  # fmt: skip
    """A segment's life in a directory that this makes."""
    config = config or SegmentConfig()
    changes = Changes(pages, announces=announces, collects=collects)
    instruments = [] if steps is None else [steps]
    core = trio.run(_live, directory, records, changes, config, instruments=instruments)
    files = core.files
    gc.collect()
    return Lived(
        directory, config, pages, records,
        files.log_bytes, files.layer_bytes, files.layer_bytes_written,
    )  # fmt: skip


class Lives:
    """Histories that several figures look at: each is made once, when it is first asked for."""

    def __init__(self) -> None:
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._made: dict[tuple[int, int, bool], Lived] = {}
        self.steps = Steps(f"{SEGMENT} background", f"{SEGMENT} housekeep")
        """Turns of the tasks that work in the background, in all of them."""

    def get(self, records: int, sizes: Sizes, *, collects: bool = False) -> Lived:
        """So many records on `Sizes.live_pages`."""
        pages, config = sizes.live_pages, SegmentConfig(fold_bytes=sizes.fold_bytes)
        key = records, pages, collects
        if key not in self._made:
            if self._scratch is None:
                self._scratch = tempfile.TemporaryDirectory()
            directory = Path(self._scratch.name, f"{records}-{pages}-{collects:d}")
            self._made[key] = live(
                directory, records, pages, collects=collects, config=config, steps=self.steps
            )
        return self._made[key]

    def close(self) -> None:
        """Delete them."""
        self._made.clear()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None


LIVES: Final = Lives()


@contextmanager
def scratch() -> Iterator[Callable[[], Path]]:
    """A directory that goes away, as a source of names in it that are not taken."""
    with tempfile.TemporaryDirectory() as directory:
        numbers = iter(range(1 << 30))
        yield lambda: Path(directory, f"{next(numbers)}")
