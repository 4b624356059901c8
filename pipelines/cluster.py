"""Ray: an embedded one by default, or the cluster at an address."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

# Before Ray is imported: nothing is reported to anyone.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray announces a change of its environment handling of accelerators on every start otherwise.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
import torch
from ray.data import DataContext
from ray.data.context import ShuffleStrategy

from pipelines.memory import give_back_memory
from pipelines.resources import IN_A_RECIPE, Resources, WorkerNames

_ANSWER_WITHIN_S = 10.0
_NODE_GROUP = "ray.io/node-group"
_TO_MEASURE = IN_A_RECIPE._replace(before=" (dcgan run --until train stops before the measurements)")


class ClusterError(Exception):
    """No Ray can be had."""


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def train_cpus(resources: Resources, cluster: bool) -> int:
    """CPUs of a training rank: as the recipe says, else this machine's cores shared by the ranks (on a cluster: 4)."""
    if resources.train_cpus is not None:
        return resources.train_cpus
    return 4 if cluster else max(1, cores() // resources.train_range[1])


@contextlib.contextmanager
def session(
    address: str | None,
    resources: Resources,
    trains: bool = False,
    names: WorkerNames = IN_A_RECIPE,
    measures: bool = False,
) -> Iterator[None]:
    """Ray for the time of the block: the cluster at `address` or RAY_ADDRESS, or else one of our own on this machine.

    `trains`: whether a training is to run in it; `names`: of its settings, for what is told of them; `measures`:
    whether measurements are.

    Raises:
        ClusterError: no cluster answers at the address, or this machine, or the cluster, has not what the training
            or the measurements ask for.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    if trains and not address:
        check_machine(resources, names)
    elif measures and not address:
        _check_gpus(resources, 1, _TO_MEASURE)
    give_back_memory()
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            _knock(address)
            ray.init(address=address, **quiet)
        else:
            ray.init(
                address="local",
                num_cpus=max(resources.workers or 0, cores()),
                include_dashboard=False,
                object_store_memory=int(resources.object_store_gb * 1e9),
                _node_ip_address="127.0.0.1",
                **quiet,
            )
    except (OSError, RuntimeError, ValueError) as error:
        if not address:
            raise
        raise ClusterError(
            f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}; start one (a client of it needs "
            "RAY_AUTH_MODE=token and the token file), or leave --address out for an embedded Ray"
        ) from error
    _quieten()
    try:
        if trains and address:
            lack(ray.nodes(), resources, names)
        elif measures and address:
            lack_to_measure(ray.nodes(), resources)
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nothing listens at `host:port`; Ray itself tries a closed port for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():  # else a word, such as auto, of which Ray makes an address
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_WITHIN_S).close()


def check_machine(resources: Resources, names: WorkerNames = IN_A_RECIPE) -> None:
    """Raise ClusterError where an embedded Ray would wait for ever for cores or GPUs that are not there."""
    ranks, cpus = resources.train_range[0], train_cpus(resources, cluster=False)
    if ranks * cpus > cores():
        raise ClusterError(
            f"{names.workers}={ranks} and {names.cpus}={cpus} need {ranks * cpus} cores, this machine has {cores()}; "
            f"set them down, or give the --address of a cluster{names.before}"
        )
    _check_gpus(resources, ranks, names)


def _check_gpus(resources: Resources, ranks: int, names: WorkerNames) -> None:
    if resources.gpu and torch.cuda.device_count() < ranks:
        raise ClusterError(
            f"{names.gpu} asks for {ranks} GPUs, this machine has {torch.cuda.device_count()}; "
            f"{names.no_gpu}, or give the --address of a cluster"
        )


def lack(nodes: list[dict[str, Any]], resources: Resources, names: WorkerNames = IN_A_RECIPE) -> str | None:
    """What the nodes of a cluster, as `ray.nodes()` lists them, lack for a training; None where nothing.

    Raises:
        ClusterError: something, and the cluster starts no nodes by itself: the training would wait for ever.
    """
    ranks, cpus = resources.train_range[0], train_cpus(resources, cluster=True)
    there = [node for node in nodes if node["Alive"]]
    fit = sum(_ranks_of(node["Resources"], cpus, resources.gpu) for node in there)
    if fit >= ranks:
        return None
    wanted = f"{cpus} CPUs and a GPU" if resources.gpu else f"{cpus} CPUs"
    asked = f"{names.workers}={ranks} and {names.cpus}={cpus} need {ranks} times {wanted}, each on one node"
    if names is _TO_MEASURE:
        asked = f"a measurement takes {wanted} on one node, as a rank of the training does ({names.cpus}={cpus})"
    lacking = f"{asked}; the cluster's {len(there)} nodes have room for {fit}"
    # The launcher and KubeRay name the group that a node is of, ray start does not.
    if any(node.get("Labels", {}).get(_NODE_GROUP) for node in there):
        return lacking
    no_gpu = f"{names.no_gpu}, " if resources.gpu else ""
    raise ClusterError(f"{lacking}; set them down, {no_gpu}or add nodes first{names.before}")


def lack_to_measure(nodes: list[dict[str, Any]], resources: Resources) -> str | None:
    """As `lack`, for a measurement, which takes as much as one rank of the training."""
    return lack(nodes, resources.model_copy(update={"train_workers": 1}), _TO_MEASURE)


def _ranks_of(node: dict[str, float], cpus: int, gpu: bool) -> int:
    """How many ranks a node can hold."""
    by_cpus = int(node.get("CPU", 0) // cpus)
    return min(by_cpus, int(node.get("GPU", 0))) if gpu else by_cpus


def is_cluster(address: str | None) -> bool:
    """Whether a cluster will be used, rather than an embedded Ray."""
    return bool(address or os.environ.get("RAY_ADDRESS"))


def _quieten() -> None:
    """Our own progress bars stand in for Ray Data's; shuffles are sorts, made of tasks, which Ray does again."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # It looks at each page of a task's memory every second, the mapped LMDB's too, while the task waits.
    context.memory_usage_poll_interval_s = None
    # A hash shuffle keeps its rows in actors: what a lost node held is lost, and each actor starts a process.
    context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
    for name in ("ray.data", "ray.train", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
