"""A process that forks while it has a volume open, and a child that lives on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import trio

from aurora import open_cluster
from segments.disks import VolumeDirectory
from segments.file_storage import FileStorage
from segments.io_ring import ring_of_this_run
from segments.protocol.errors import Closed
from segments.protocol.ids import VolumeEpoch
from segments.protocol.volume import VolumeGeometry
from segments.storage import Identity
from tests.files_on_disks import make_file


@contextmanager
def child(look: Callable[[], object]) -> Iterator[str]:
    """A forked child that says what it sees, and lives on while the block runs."""
    said, saying = os.pipe()
    ending, end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the threads that are not there
        pid = os.fork()
    if not pid:
        try:
            os.close(end)
            os.write(saying, str(look()).encode())
            os.close(saying)
            os.read(ending, 1)
        finally:
            os._exit(0)
    os.close(saying)
    os.close(ending)
    try:
        with os.fdopen(said, encoding="utf-8") as file:
            yield file.read()
    finally:
        os.close(end)
        os.waitpid(pid, 0)


def open_under(top: Path) -> list[str]:
    """Files and directories under ``top`` of which this process has a descriptor."""
    of_volume = {
        (at.st_dev, at.st_ino): path.name for path in [top, *top.rglob("*")] for at in [path.stat()]
    }
    found = []
    for descriptor in range(1_024):
        try:
            at = os.fstat(descriptor)
        except OSError:
            continue
        if (at.st_dev, at.st_ino) in of_volume:
            found.append(of_volume[at.st_dev, at.st_ino])
    return found


def rings() -> int:
    """How many descriptors of this process are of an io_uring."""
    found = 0
    for descriptor in range(1_024):
        try:
            found += "io_uring" in str(Path(f"/proc/self/fd/{descriptor}").readlink())
        except OSError:
            continue
    return found


async def test_a_child_keeps_no_ring_of_writes(tmp_path: Path) -> None:
    async with open_cluster(tmp_path / "v") as cluster:
        await cluster.engine.put(1, 0, b"x")
        assert (rings() > 0) is (ring_of_this_run() is not None)
        with child(rings) as said:
            assert said == "0"
            await cluster.engine.put(2, 0, b"y")  # and the parent's goes on
        assert (await cluster.engine.get(2)).startswith(b"y\0")


async def test_a_child_keeps_neither_lock_nor_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "v"
    async with open_cluster(path) as cluster:
        await cluster.engine.put(1, 0, b"x")
        assert len(open_under(path)) >= 18
        with child(lambda: open_under(path)) as said:
            assert said == "[]"
            await cluster.engine.put(2, 0, b"y")  # nothing was taken from the parent
            cluster.crash("A0")
            await cluster.restart("A0")
    with child(lambda: None):
        pass
    async with open_cluster(path) as cluster:
        with child(lambda: "lives on"):
            await cluster.engine.put(3, 0, b"z")
            cluster.crash("az1 az2 az3")
            await cluster.restart("az1 az2 az3")  # all locks were given back
            await cluster.recover()
            assert (await cluster.engine.get(3))[:1] == b"z"
    async with open_cluster(path) as cluster:
        assert (await cluster.engine.get(2))[:1] == b"y"


async def test_a_child_closes_nothing_that_is_not_its_parents(tmp_path: Path) -> None:
    storage = FileStorage.format(tmp_path / "A0", Identity("v", "A0"))
    await make_file(storage, "wal-1", [])
    own: list[int] = []

    def look() -> object:
        own.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(8))  # the same numbers again
        storage.close()
        storage.close()
        try:
            storage.append("wal-1", b"x").send(None)
        except Closed:
            return [os.fstat(each).st_mode > 0 for each in own] == [True] * 8
        return "appended"

    with child(look) as said:
        assert said == "True"
        await storage.append("wal-1", b"x")
        assert await storage.read("wal-1", 0, 9) == b"x"
    storage.close()


async def test_a_child_of_who_makes_a_volume_does_not_keep_it_locked(tmp_path: Path) -> None:
    path = tmp_path / "v"

    async def create() -> None:
        await VolumeDirectory.create(path, "v", VolumeGeometry(1), VolumeEpoch(1, 5), Random(1))

    with ExitStack() as living:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(create)
            while not (path / "A0" / "identity").exists():
                await trio.lowlevel.checkpoint()
            said = living.enter_context(child(lambda: "v" in open_under(path)))
            nursery.cancel_scope.cancel()
        assert said == "False"
        assert VolumeDirectory.find(path) is None
        await create()
