"""A Ray cluster instead of an embedded Ray: its launcher file, and real nodes that give the same bytes."""

import copy
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import jsonschema  # type: ignore[import-untyped]
import numpy as np
import psutil
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from test_run import digests

from manifests.store import Folder
from pipelines import cluster
from pipelines.recipe import load_recipe
from pipelines.resources import Resources
from pipelines.sources.lsun import lsun_key, write_lmdb
from pipelines.stages import STAGE_FILE

ROOT = Path(__file__).parents[1]
_IMAGES = 1200  # enough for an ingest that lasts until a node of it is killed, on a busy machine too
# Loopback addresses of their own, so that Ray takes them for two machines. Ray replaces 127.0.0.1 by an outer address.
HEAD_IP, WORKER_IP = "127.0.0.2", "127.0.0.3"

Settings = dict[str, Any]


@pytest.fixture(scope="module")
def launcher() -> Settings:
    described: Settings = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text("utf-8"))
    return described


def check(launcher: Settings) -> Settings:
    """What `ray up` does to a launcher file before it talks to the cloud."""
    prepared: Settings = prepare_config(copy.deepcopy(launcher))
    validate_config(prepared)
    return prepared


def test_launcher_file_passes_rays_own_schema(launcher: Settings) -> None:
    types = check(launcher)["available_node_types"]
    assert {name: node["min_workers"] for name, node in types.items()} == {"head": 0, "cpu": 0, "gpu": 0}
    assert types["head"]["max_workers"] == 0
    assert types["cpu"]["max_workers"] > 0


def _unknown_key(launcher: Settings) -> None:
    launcher["idle_timeout"] = 10


def _fraction_of_a_cpu(launcher: Settings) -> None:
    launcher["available_node_types"]["cpu"]["resources"]["CPU"] = "many"


def _misspelt_node_key(launcher: Settings) -> None:
    launcher["available_node_types"]["gpu"]["max_worker"] = 4


def _head_of_no_type(launcher: Settings) -> None:
    launcher["head_node_type"] = "boss"


@pytest.mark.parametrize("spoil", [_unknown_key, _fraction_of_a_cpu, _misspelt_node_key, _head_of_no_type])
def test_schema_refuses_a_broken_launcher_file(launcher: Settings, spoil: Callable[[Settings], None]) -> None:
    broken = copy.deepcopy(launcher)
    spoil(broken)
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        check(broken)


def test_paper_recipe_fits_the_cluster_that_the_launcher_file_describes(launcher: Settings) -> None:
    resources = load_recipe("lsun_bedroom").resources
    gpu = launcher["available_node_types"]["gpu"]
    assert resources.gpu
    assert resources.train_workers <= gpu["max_workers"] * gpu["resources"]["GPU"]
    assert cluster.train_cpus(resources, cluster=True) <= gpu["resources"]["CPU"]


def test_every_node_starts_with_the_token_and_none_is_written_down(launcher: Settings) -> None:
    for commands in (launcher["head_start_ray_commands"], launcher["worker_start_ray_commands"]):
        starts = [command for command in commands if "ray start" in command]
        assert starts
        assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "RAY_AUTH_TOKEN=" not in (ROOT / "ray_cluster.yaml").read_text("utf-8")
    assert any(path.endswith(".ray/auth_token") for path in launcher["file_mounts"])


def test_commands_of_the_launcher_file_are_valid_shell(launcher: Settings) -> None:
    lists = [value for key, value in launcher.items() if key.endswith("_commands")]
    commands = [command for listed in lists for command in listed]
    assert len(commands) > 10
    for command in commands:
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"{command}: {checked.stderr}"


@pytest.mark.ray
def test_an_address_where_nothing_listens_is_said_at_once() -> None:
    began = time.monotonic()
    with (
        pytest.raises(cluster.ClusterError, match=r"no Ray cluster answers at 127\.0\.0\.1:"),
        cluster.session(f"127.0.0.1:{free_port()}", Resources()),
    ):
        pass
    assert time.monotonic() - began < 15


def free_port() -> int:
    """A port that is free on every address: Ray's agents listen on 127.0.0.1 beside their node's own."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Node:
    """What one `ray start` brought to life: a session of processes, and those that left it for one of their own."""

    started: subprocess.Popen[bytes]
    log: Path

    def processes(self) -> list[psutil.Process]:
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.started.pid:
                    found |= {p.pid: p for p in (process, *process.children(recursive=True))}
            except (psutil.Error, ProcessLookupError):
                continue
        return list(found.values())

    def works_on_parts(self) -> bool:
        """Whether a worker of this node is inside a part right now."""
        for process in self.processes():
            try:
                if "".join(process.cmdline()[:1]).startswith("ray::_work_on_part"):
                    return True
            except psutil.Error:
                continue
        return False

    def kill(self) -> None:
        """SIGKILL to all of it, as a power cut would."""
        deadline = time.monotonic() + 30
        while (left := self.processes()) and time.monotonic() < deadline:
            for process in left:
                try:
                    process.send_signal(signal.SIGKILL)
                except psutil.NoSuchProcess:
                    continue
            self.started.poll()
            time.sleep(0.05)
        self.started.wait(10)


@dataclass
class TwoNodes:
    """A head and a worker of one CPU each, and how to send them work."""

    head: Node
    worker: Node
    dashboard: str
    temporary: Path
    environment: dict[str, str]
    jobs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def submit(self, recipe: Path, run: Path, log: Path) -> subprocess.Popen[bytes]:
        """Submit `dcgan run`; the process ends when the job does. Nodes that have only just started may refuse it."""
        job = ["python", "-m", "pipelines", "run", str(recipe), "--run", str(run), "--until", "shard"]
        deadline = time.monotonic() + 90
        while True:
            with log.open("wb") as out:
                process = subprocess.Popen(
                    ["ray", "job", "submit", "--address", self.dashboard, "--working-dir", ".", "--", *job],
                    cwd=ROOT,
                    env=self.environment,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            self.jobs.append(process)
            while process.poll() is None and b"submitted successfully" not in log.read_bytes():
                time.sleep(0.02)
            if b"No available agent" not in log.read_bytes() or time.monotonic() > deadline:
                return process
            process.wait(30)


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """Two Ray nodes with a token, ports and a temporary folder of their own; all is gone after the block."""
    # A socket's path holds 107 bytes at most, and Ray's own part of it is long.
    with TemporaryDirectory(prefix="dc", dir="/tmp", ignore_cleanup_errors=True) as name:
        temporary = Path(name)
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        port, dashboard_port, client_port = free_port(), free_port(), free_port()
        nodes: list[Node] = []
        made: TwoNodes | None = None

        def start(title: str, address: str, *options: str) -> Node:
            log = temporary / f"{title}.log"
            command = ["ray", "start", "--block", f"--node-ip-address={address}", f"--temp-dir={temporary / title}"]
            agent_port = f"--dashboard-agent-listen-port={free_port()}"
            command += ["--num-cpus=1", "--object-store-memory=150000000", agent_port, *options]
            with log.open("wb") as out:
                process = subprocess.Popen(
                    command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
                )
            nodes.append(Node(process, log))
            wait_until(lambda: b"Ray runtime started" in log.read_bytes(), 90, process, log)
            return nodes[-1]

        try:
            head = start(
                "h",
                HEAD_IP,
                "--head",
                f"--port={port}",
                f"--ray-client-server-port={client_port}",
                "--dashboard-host=127.0.0.1",
                f"--dashboard-port={dashboard_port}",
            )
            worker = start("w", WORKER_IP, f"--address={HEAD_IP}:{port}")
            made = TwoNodes(head, worker, f"http://127.0.0.1:{dashboard_port}", temporary, environment)
            yield made
        finally:
            for node in reversed(nodes):
                node.kill()
            for job in made.jobs if made is not None else ():
                job.kill()
                job.wait()


def wait_until(ready: Callable[[], bool], timeout_s: float, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for `ready()`; fail, with the log, if the process ends before or it takes too long."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        said = log.read_text("utf-8", "replace")[-3000:]
        assert process.poll() is None, f"it ended with {process.returncode}: {said}"
        assert time.monotonic() < deadline, f"not ready in {timeout_s} s: {said}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (_IMAGES, 5, 5, 3), dtype=np.uint8)
    pictures[20::20] = pictures[19:-1:20]  # near-duplicates: the same picture in another quality
    qualities = [60 if number and number % 20 == 0 else 95 for number in range(len(pictures))]
    encoded = [
        cv2.imencode(
            ".jpg", cv2.resize(small, (320, 320), interpolation=cv2.INTER_CUBIC), [cv2.IMWRITE_JPEG_QUALITY, quality]
        )[1].tobytes()
        for small, quality in zip(pictures, qualities, strict=True)
    ]
    write_lmdb(folder / "rooms.lmdb", ((lsun_key(str(number)), data) for number, data in enumerate(encoded)))
    values = {
        "name": "two nodes",
        "seed": 5,
        "sources": [{"name": "rooms", "kind": "lsun", "path": str(folder / "rooms.lmdb")}],
        # All are planted, so that ingest takes long enough to be hit in the middle.
        "ingest": {"plant_sources": _IMAGES},
        "encode": {"autoencoder": {"epochs": 1}},
        "shard": {"shard_images": 150, "heldout_share": 0.1},
        "train": {"preset": "paper-64-narrow", "images": 640},
        "resources": {"part_images": 32, "object_store_gb": 0.2},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def embedded(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of a run on an embedded Ray."""
    run = tmp_path_factory.mktemp("embedded") / "run"
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "pipelines", "run", str(recipe), "--run", str(run), "--until", "shard"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return digests(Folder(run))


def part_files(run: Path) -> int:
    return len(list((run / "samples").glob("part-*.parquet")))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_on_two_nodes_gives_the_bytes_of_an_embedded_run(
    recipe: Path, embedded: dict[str, str], tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "job.log"
    with two_nodes() as nodes:
        job = nodes.submit(recipe, run, log)
        worked: set[str] = set()

        def ended() -> bool:
            worked.update(name for name in ("head", "worker") if getattr(nodes, name).works_on_parts())
            return job.poll() is not None

        wait_until(ended, 240, nodes.head.started, log)
        assert job.returncode == 0, log.read_text()
        uploaded = nodes.temporary.glob("h/session_2*/runtime_resources/working_dir_files/_ray_pkg_*/*")
        names = {path.name for path in uploaded}
    assert worked == {"head", "worker"}
    assert digests(Folder(run)) == embedded
    # The packages travel; the environment, the tests and earlier runs don't.
    assert {"manifests", "dedup", "training", "pipelines"} <= names
    assert not names & {".venv", ".git", "tests", "benchmarks", "runs"}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_that_dies_in_the_middle_of_ingest_costs_time_and_nothing_else(
    recipe: Path, embedded: dict[str, str], tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "job.log"
    with two_nodes() as nodes:
        job = nodes.submit(recipe, run, log)
        wait_until(lambda: part_files(run) >= 1 and nodes.worker.works_on_parts(), 120, job, log)
        nodes.worker.kill()
        assert not (run / "samples" / STAGE_FILE).exists(), "ingest was over before the node was killed"
        assert nodes.worker.processes() == []
        wait_until(lambda: job.poll() is not None, 240, nodes.head.started, log)
        assert job.returncode == 0, log.read_text()
        assert "dead" in log.read_text()  # Ray noticed, so the node was in use
    assert digests(Folder(run)) == embedded
