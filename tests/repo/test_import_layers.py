"""Who may import whom: the table of docs/architecture.md, held against every import there is."""

from __future__ import annotations

import ast
import sys
import tomllib
from typing import Final

import pytest

from tests.repo.sources import PACKAGES, ROOT, imported_modules, of_each, parsed, python_files

LAYERS: Final = {
    "segments/protocol/": ("segments.protocol",),
    "segments/": ("segments",),
    "aurora/sim.py": ("sim.commands.cli",),
    "aurora/cluster.py": (
        "aurora",
        "segments.protocol",
        "segments.config",
        "segments.disks",
        "segments.host",
        "segments.pausing",
        "segments.server",
        "segments.storage",
        "segments.vdl_ledger",
        "segments.volume_copy",
    ),
    "aurora/cloning.py": (
        "aurora",
        "segments.protocol",
        "segments.cloning",
        "segments.core",
        "segments.disks",
        "segments.file_storage",
        "segments.host",
        "segments.io_threads",
        "segments.locked_directory",
        "segments.server",
    ),
    "aurora/checkup.py": ("aurora", "segments.protocol", "segments.host"),
    "aurora/conversion.py": ("aurora", "segments.protocol", "segments.conversion"),
    "aurora/volume_statistics.py": (
        "aurora",
        "segments.protocol",
        "segments.host",
        "segments.statistics",
    ),
    "aurora/terminal/": ("aurora", "segments.protocol", "segments.host", "segments.statistics"),
    "aurora/__init__.py": (
        "aurora",
        "segments.protocol",
        "segments.config",
        "segments.statistics",
    ),
    "aurora/sqlite/": ("aurora", "segments.protocol"),
    "aurora/sqlite/exporting.py": ("aurora", "segments.protocol", "segments.locked_directory"),
    "aurora/config.py": ("aurora", "segments.protocol", "segments.config"),
    "aurora/": ("aurora", "segments.protocol"),
    "sim/": ("aurora", "segments", "sim"),
}
"""What of ours the files under a path may import; the longest path that fits decides."""

SHELLS: Final = (
    "segments/disks.py",
    "segments/file_storage.py",
    "segments/io_ring.py",
    "segments/io_threads.py",
    "segments/operation.py",
    "segments/host.py",
    "segments/hot_log.py",
    "segments/pausing.py",
    "segments/server.py",
    "segments/storage.py",
    "segments/vdl_ledger.py",
    "segments/volume_copy.py",
    "segments/write_cycle.py",
    "aurora/cloning.py",
    "aurora/cluster.py",
    "aurora/commit_queue.py",
    "aurora/engine.py",
    "aurora/health_watch.py",
    "aurora/opening.py",
    "aurora/sqlite/bridge.py",
    "aurora/sqlite/connections.py",
    "aurora/sqlite/database.py",
    "aurora/sqlite/importing.py",
    "aurora/sqlite/rows.py",
    "aurora/sqlite/transaction.py",
    "aurora/sqlite/turns.py",
    "aurora/sqlite/volume.py",
    "aurora/sqlite/writer.py",
    "aurora/terminal/",
    "aurora/transport.py",
    "aurora/trio_run.py",
    "aurora/writer_shell.py",
    "sim/",
)
"""The only files that may import trio."""

PLACES: Final = {
    "click": ("aurora/terminal/", "sim/"),
    "rich": ("aurora/terminal/", "sim/"),
    "prompt_toolkit": ("aurora/terminal/", "sim/"),
    "msgpack": ("segments/protocol/codec.py",),
    "xxhash": ("segments/protocol/codec.py",),
    "apsw": ("aurora/sqlite/",),
    "h11": ("sim/view/server.py",),
    "greenlet": ("aurora/sqlite/bridge.py",),
    "distributed": ("sim/crews/dask_crew.py",),
    "trio": SHELLS,
    "aurora.sqlite": ("aurora/__init__.py", "aurora/sqlite/", "aurora/terminal/", "sim/"),
    "trio._core": ("sim/world/scheduler.py",),
}
"""Libraries, and ours, that have their place, and may be imported nowhere else."""


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def violations(path: str, tree: ast.Module) -> list[str]:
    """What the file at ``path`` imports that it may not."""
    allowed = LAYERS[max((each for each in LAYERS if path.startswith(each)), key=len)]
    found = []
    for line, module in imported_modules(tree):
        ours = module.split(".")[0] in (*PACKAGES, "tests", "scripts")
        # `from segments import protocol` gives "segments.protocol", a plain name one part more.
        if ours and not any(within(module, each) for each in allowed):
            found.append(f"{path}:{line} imports {module}: expected only {', '.join(allowed)}")
        for library, places in PLACES.items():
            if within(module, library) and not path.startswith(places):
                found.append(f"{path}:{line} imports {module}: expected only in {places}")
    return found


def test_a_file_imports_only_what_its_layer_allows() -> None:
    files = python_files(*PACKAGES)
    assert of_each(files, lambda path: violations(path.as_posix(), parsed(path))) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("segments/protocol/ids.py", "from segments.wal import Frame"),
        ("segments/protocol/ids.py", "import segments"),
        ("segments/wal.py", "import aurora.engine"),
        ("segments/wal.py", "def later():\n    import trio"),
        ("segments/wal.py", "from sim.world.disk import Disk"),
        ("segments/wal.py", "import msgpack"),
        ("aurora/quorum.py", "from segments.core import SegmentCore"),
        ("aurora/quorum.py", "from segments import server"),
        ("aurora/quorum.py", "from sim import cli"),
        ("aurora/quorum.py", "from tests.unit import oracle"),
        ("aurora/cluster.py", "from segments.materializer import Materializer"),
        ("aurora/sim.py", "from sim.world.world import World"),
        ("aurora/sim.py", "import trio"),
        ("aurora/engine.py", "import rich.live"),
        ("aurora/engine.py", "from aurora.sqlite.bridge import run"),
        ("aurora/sqlite/header.py", "import trio"),
        ("aurora/sqlite/header.py", "from segments.core import SegmentCore"),
        ("sim/world/world.py", "from trio._core import _run"),
        ("sim/world/world.py", "import scripts.check"),
        ("sim/commands/fleet.py", "import distributed"),
    ],
)
def test_a_forbidden_import_is_found(path: str, source: str) -> None:
    assert len(violations(path, ast.parse(source))) == 1


def test_allowed_imports_are_not_complained_about() -> None:
    source = "import trio\nfrom segments.protocol import codec\nfrom aurora.core import Core\n"
    assert violations("aurora/engine.py", ast.parse(source)) == []


def test_every_library_used_is_a_declared_dependency() -> None:
    """A forgotten one would show only on a machine that does not happen to have it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = project["dependencies"] + extras["sql"] + extras["fleet"]
    declared = {each.split(">=")[0] for each in needed}
    known = {*PACKAGES, *declared, *sys.stdlib_module_names}
    for path in python_files(*PACKAGES):
        for line, module in imported_modules(parsed(path)):
            assert module.split(".")[0] in known, f"{path}:{line} imports {module}: not declared"
