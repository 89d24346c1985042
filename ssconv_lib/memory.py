"""How much memory a step takes: what a forward saves for the backward, and the peak."""

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or the profiler tells stderr that there is no GPU


def saved_bytes(model: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Count the bytes that a forward keeps for the backward: each storage once, without parameters and buffers.

    The images count, if the first layer saves them, and what autocast casts weights to does too; both are the same
    in all arms.

    Args:
        model: Whose parameters and buffers don't count.
        forward: Computes something that can be differentiated.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}  # the tensors, so that no storage is freed and its address taken again

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()
    total = sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in own)
    del output
    return total


def peak_bytes(step: Callable[[], None], device: str) -> int:
    """Measure the most memory that torch has allocated during a step, above what it had before.

    On a CPU, from the profiler: libraries such as oneDNN take working memory that torch knows nothing of.
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(profile_memory=True) as profiled:
        step()
    events = [event for event in profiled.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
