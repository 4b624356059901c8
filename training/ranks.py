"""The workers that train together: how many, and the few things that they agree on.

Everything here also works alone, where it does nothing. The collectives work with gloo (CPU) and NCCL.
"""

import contextlib
from collections.abc import Iterable, Iterator

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class RanksDiffer(Exception):
    """The workers' networks are no longer equal."""


def workers() -> int:
    """The number of processes that train together."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if together else 1


def rank() -> int:
    """This process's number among the workers."""
    return torch.distributed.get_rank() if workers() > 1 else 0


def averaging(network: nn.Module, device: torch.device) -> nn.Module:
    """The network, wrapped so that a backward pass leaves the workers' mean gradients; alone: the network itself.

    The workers' weights become those of worker 0.
    """
    if workers() == 1:
        return network
    # The networks have no buffers, which DDP would broadcast at each forward pass: D's two a step could not bear it.
    return DistributedDataParallel(
        network, device_ids=[device] if device.type == "cuda" else None, gradient_as_bucket_view=True
    )


@contextlib.contextmanager
def adding_up(network: nn.Module, more: bool) -> Iterator[None]:
    """Where `more` backward passes follow before the step, gradients are added up here and averaged at the last."""
    if more and isinstance(network, DistributedDataParallel):
        with network.no_sync():
            yield
    else:
        yield


def sum_of_workers(values: Tensor) -> Tensor:
    """The sum of each value over the workers."""
    if workers() > 1:
        torch.distributed.all_reduce(values)
    return values


def mean_over_workers(values: Tensor) -> Tensor:
    """The mean of each value over the workers."""
    return sum_of_workers(values).div_(workers())


def largest_of_workers(values: Tensor) -> Tensor:
    """The largest of each value over the workers."""
    if workers() > 1:
        torch.distributed.all_reduce(values, op=torch.distributed.ReduceOp.MAX)
    return values


def any_of_workers(said: bool, device: torch.device) -> bool:
    """Whether any worker said so. None goes on before all have said."""
    return bool(largest_of_workers(torch.tensor(int(said), device=device)).item())


def rows_of_workers(values: Tensor) -> Tensor:
    """Every worker's values. values: float[K] -> float[workers, K], in order of rank."""
    # A sum of what one rank fills and the others leave zero: exact, and there is an all-reduce in every backend.
    rows = values.new_zeros((workers(), *values.shape))
    rows[rank()] = values
    return sum_of_workers(rows)


def check_equal(named: Iterable[tuple[str, Tensor]]) -> None:
    """Raise RanksDiffer if a tensor hasn't the same bits in all workers; the error names the first such."""
    if workers() == 1:
        return
    tensors = [(name, tensor.detach()) for name, tensor in named]
    sums = torch.stack([_checksum(tensor) for _, tensor in tensors])
    ends = largest_of_workers(torch.stack([sums, -sums]))
    differing = (ends[0] != -ends[1]).nonzero().flatten().tolist()
    if differing:
        raise RanksDiffer(
            f"{tensors[differing[0]][0]} differs between the {workers()} workers, as do {len(differing) - 1} tensors "
            "more; the last checkpoint is from before: start again to go on from it, and look for a faulty machine"
        )


def _checksum(tensor: Tensor) -> Tensor:
    """int64, made of all bits and their places."""
    whole = tensor.contiguous().reshape(-1)
    bits = whole.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[whole.element_size()]).to(torch.int64)
    odd = torch.arange(1, 2 * len(bits), 2, device=bits.device)
    return (bits * odd).sum()
