"""What ships: three typed packages with scenarios, glossary and the viewer's page, nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import aurora
from tests.repo.sources import PACKAGES, ROOT, all_files


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the tools at hand: nothing is downloaded."""
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    done = subprocess.run([*build, target, ROOT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_holds_exactly_the_three_packages_and_the_scenarios(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    packed = {name for name in names if ".dist-info/" not in name}
    sources = {path.as_posix() for path in all_files() if path.parts[0] in PACKAGES}
    scenarios = {
        f"sim/scenarios/{path.name}"
        for path in all_files()
        if path.parent.as_posix() == "scripts/scenarios"
    }
    assert packed == sources | scenarios | {"sim/glossary.md"}
    assert {f"{package}/py.typed" for package in PACKAGES} <= packed
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_packages_work_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = (
        "import sys; sys.path.insert(0, 'site')\n"
        "import aurora, segments.protocol.codec, sim, aurora.sim, sim.files.scenario\n"
        "import sim.view.page, sim.view.words\n"
        "assert 'default' in sim.files.scenario.shipped()\n"
        "assert sim.view.page.INDEX in sim.view.page.read_assets()\n"
        "assert sim.view.words.glossary()['SCL'].startswith('segment complete LSN')\n"
        "print(aurora.__file__, segments.__file__, sim.__file__, aurora.sim.__file__, sep='\\n')"
    )
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [Path(line).parts[-3:-1] for line in done.stdout.splitlines()]
    assert found == [("site", "aurora"), ("site", "segments"), ("site", "sim"), ("site", "aurora")]


def test_the_version_is_the_same_wherever_it_is_asked_for(wheel: Path, tmp_path: Path) -> None:
    assert wheel.name.startswith(f"aurora_py-{aurora.__version__}-")
    scripts = zipfile.ZipFile(wheel).read(
        f"aurora_py-{aurora.__version__}.dist-info/entry_points.txt"
    )
    assert b"aurora = aurora.terminal.cli:main\naurora-sim = aurora.sim:main" in scripts
    zipfile.ZipFile(wheel).extractall(tmp_path)
    for module in ("aurora", "aurora.sim"):
        command = [sys.executable, "-m", module, "--version"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, f"aurora-py {aurora.__version__}\n")


def test_importing_the_engine_does_not_load_the_simulator() -> None:
    program = (
        "import sys, aurora.sim; sys.exit(any(name.split('.')[0] == 'sim' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
