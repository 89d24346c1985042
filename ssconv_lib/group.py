"""The processes that train one run together, each on a device of its own; torchrun starts them.

What they say to each other about the run goes over gloo, also where gradients go over NCCL: no message about stopping
or resuming waits for a GPU.
"""

import gc
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn  # imported after init_process_group, its functions' defaults would hold the group for ever
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


class ToldByRankZero(RuntimeError):
    """What process 0 was asked to do for all failed, and it says so itself: the others have no message of their own."""


@dataclass(frozen=True)
class Group:
    """The place of this process among those that train together.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are; with one, every method is its trivial case and needs no process group.
    """

    rank: int = 0
    size: int = 1

    def any(self, flag: bool) -> bool:
        """Tell every process whether one of them says yes: all stop at the same step."""
        if self.size == 1:
            return flag
        flags = torch.tensor([float(flag)])
        dist.all_reduce(flags)
        return bool(flags.item())

    def sum_(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place, on its device."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def wrap(self, model: nn.Module) -> DistributedDataParallel:
        """Give every process the parameters and buffers of process 0, π among them, and let gradients be averaged.

        No step sends buffers after that: π stays, and running statistics are seen to by `RunningStatistics`.
        """
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)  # parameters are sent by DistributedDataParallel itself
        known = inspect.signature(DistributedDataParallel).parameters
        switch = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # before torch 2.14
        return DistributedDataParallel(model, **{switch: False})

    def share(self, make: Callable[[], T]) -> T:
        """Return to every process what process 0 makes; if that fails there, all fail.

        Raises:
            ToldByRankZero: on the other processes, in place of the error that process 0 raises.
        """
        if self.size == 1:
            return make()
        message: list = [None, None]  # the value, the error
        failure = None
        if self.rank == 0:
            try:
                message[0] = make()
            except Exception as error:
                failure, message[1] = error, f"{type(error).__name__}: {error}"
        dist.broadcast_object_list(message, src=0)
        if failure is not None:
            raise failure
        if message[1] is not None:
            raise ToldByRankZero(message[1])
        return message[0]


SOLO = Group()


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun started, or the only one."""
    return dist.is_torchelastic_launched()


def local_processes() -> int:
    """How many of the processes are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


@contextmanager
def joined(device: str) -> Iterator[tuple[Group, str]]:
    """Join the processes that torchrun started; yields the group and this process's own device.

    Raises:
        ValueError: there are fewer GPUs on this machine than processes.
    """
    backend = "gloo"
    if device.startswith("cuda"):
        own = int(os.environ["LOCAL_RANK"])
        if own >= torch.cuda.device_count():
            raise ValueError(
                f"process {own} of this machine has no GPU, there are {torch.cuda.device_count()}: start torchrun with "
                "--nproc-per-node of at most that, or with --device cpu"
            )
        device, backend = f"cuda:{own}", "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(device)
    dist.init_process_group(backend)
    yield Group(dist.get_rank(), dist.get_world_size()), device
    # Not after an error: with NCCL it waits for processes that wait for this one. What still holds the group must go
    # first: a worker thread of gloo that outlives this would ask for a tensor's owner while Python ends, and abort it.
    gc.collect()
    dist.destroy_process_group()
