"""docs/fleets.md as it stands: real schedulers, workers and fleets, one of the workers killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

from sim.commands.fleet import run_seed
from sim.show.tally import Tally
from tests.patience import PATIENCE_S
from tests.repo.sources import ROOT, text
from tests.repo.test_readme import blocks

PAGE: Final = text(Path("docs/fleets.md"))
BUG: Final = "third-highest-scl"


@attrs.frozen
class Cluster:
    """The processes of the page, in a directory with its certificates."""

    directory: Path
    lines: list[str]
    """The commands of the page, with a port of our own."""
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = attrs.field(factory=list)

    def shell(self, command: str) -> list[str]:
        (tls,) = [each for each in self.lines if each.startswith("TLS=")]
        return ["bash", "-c", f"{tls}\nexec {command}"]

    def start(self, command: str, until: str) -> subprocess.Popen[str]:
        """Start what stays, and wait until it says so."""
        child = subprocess.Popen(
            self.shell(command), cwd=self.directory, env=self.environment, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(child)
        said = []
        assert child.stderr is not None
        for line in child.stderr:
            said.append(line)
            if until in line:
                return child
        raise AssertionError("".join(said))

    def stop(self, child: subprocess.Popen[str]) -> None:
        child.terminate()
        try:
            child.communicate(timeout=PATIENCE_S)
        finally:
            child.kill()
            child.wait()

    def start_fleet(self) -> subprocess.Popen[str]:
        (sample,) = [each for each in self.lines if "--seeds 8 " in each]
        return subprocess.Popen(
            self.shell(sample.partition("  #")[0]), cwd=self.directory, env=self.environment,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """What the page starts before its first fleet."""
    directory, port = tmp_path_factory.mktemp("fleet"), str(free_port())
    page = "\n".join(blocks(PAGE, "sh")).replace("8786", port)
    lines = [each for each in page.splitlines() if each and ".venv" not in each]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DASK_TEMPORARY_DIRECTORY": str(directory),
    }
    found = Cluster(directory, lines, environment)
    try:
        for line in lines:
            if line.startswith("dask scheduler"):
                found.start(line, "Scheduler at:")
            elif line.startswith("dask worker"):
                found.start(line, "Registered to:")
            elif line.startswith(("mkdir", "openssl")):
                done = subprocess.run(
                    ["bash", "-c", line], cwd=directory, capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, done.stderr
        yield found
    finally:
        for child in reversed(found.started):
            found.stop(child)


def at_home() -> Tally:
    """What the page's seeds come to, run here one after the other."""
    tally = Tally()
    for seed in range(8):
        tally.add(run_seed(seed, BUG))
    return tally


def test_the_page_leads_to_a_finding_though_a_worker_is_killed_midway(cluster: Cluster) -> None:
    """One test for all of it, so that the page's processes are started once."""
    worker = cluster.started[-1]
    running = cluster.start_fleet()
    wait_for(lambda: children(worker.pid), running)  # its process for seeds: it has a batch
    os.kill(worker.pid, signal.SIGKILL)
    output, errors = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 1, errors
    home = at_home()
    assert "8 seeds in " in output and f"digest of all seeds {home.digest}" in output
    for (_, invariant), some in home.kinds().items():
        assert f"violation, {invariant}: seed" in output
        assert f"python -m aurora.sim explain --seed {some[0].seed} --bug {BUG}" in output
    assert f"run again here: {len(home.findings)} findings, each came back" in output
    assert "Traceback" not in errors
    bugs_are_tried_by_who_is_left(cluster)


def bugs_are_tried_by_who_is_left(cluster: Cluster) -> None:
    campaign = next(each for each in cluster.lines if "aurora.sim bugs run" in each)
    command = campaign.partition("--budget")[0]
    done = subprocess.run(
        cluster.shell(f"{command} --wanted 1 --json {BUG}"), cwd=cluster.directory, check=False,
        env=cluster.environment, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["found"] is True


def children(pid: int) -> list[int]:
    """The processes that a process has started itself."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(each) for path in found for each in path.read_text().split()]


def wait_for(condition: Callable[[], object], running: subprocess.Popen[str]) -> None:
    """Look again and again, as long as a process runs."""
    while not condition():
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(timeout=0.02)
