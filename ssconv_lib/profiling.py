"""Where the time of a step goes, by the operators that torch runs, and the bytes that a shuffle has to move."""

from statistics import median

import pandas as pd
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from .arms import Arm, build_arms, build_network, convert
from .conv import SSConv2d
from .listing import values_copied
from .speed import fair_gpu, timer
from .speedrun import SpeedRun

KINDS = {  # the first that has a part of the name of an operator, or of a GPU's kernel
    "batch norm": ("batch_norm", "bn_"),
    "convolution": ("conv", "mm", "fprop", "dgrad", "wgrad", "winograd"),
    "activation": ("relu", "clamp", "sigmoid", "threshold"),
    "pooling": ("pool", "mean"),
    "gather": ("gather", "index", "scatter"),
    "copy": ("copy", "clone", "cat"),
    "arithmetic": ("add", "mul", "sum"),
    "allocation": ("empty", "resize", "zero_", "fill_"),
}


def profile_arms(run: SpeedRun, device: str = "cpu", *, rounds: int = 5) -> dict[str, pd.DataFrame]:
    """Profile a step of each arm in turn, and return of each its fastest.

    Returns:
        By the arm's name, a row an operator, the longest first: `op`, `kind` (one of `KINDS`, dispatch or other),
        `calls` and `seconds` of a step, its own without what it calls. The last row, of kind "outside", is what of
        the profiled time no operator accounts for: Python and the profiler on a CPU, gaps between kernels on a GPU.
    """
    found: dict[str, list[pd.DataFrame]] = {}
    with fair_gpu():
        arms = build_arms(run, device)
        for number in range(-1, rounds):
            for name, arm in arms.items():
                table = _profiled(arm, device)
                if number >= 0:
                    found.setdefault(name, []).append(table)
    return {name: min(tables, key=lambda table: table["seconds"].sum()) for name, tables in found.items()}


def _profiled(arm: Arm, device: str) -> pd.DataFrame:
    on_gpu = device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        wall = timer(arm.step, 1, device)()
    rows = []
    for event in profiled.key_averages():
        seconds = (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
        if seconds > 0:
            rows.append({"op": event.key, "kind": kind_of(event.key), "calls": event.count, "seconds": seconds})
    table = pd.DataFrame(rows, columns=["op", "kind", "calls", "seconds"]).sort_values("seconds", ascending=False)
    rest = {"op": "outside", "kind": "outside", "calls": 0, "seconds": max(0.0, wall - table["seconds"].sum())}
    return pd.concat([table, pd.DataFrame([rest])], ignore_index=True)


def kind_of(op: str) -> str:
    """Return the kind of an operator or kernel, by its name; "dispatch" is what calls operators: autograd, Python."""
    if op.startswith(("autograd::", "Shuffled", "torch::")) or (op[:1].isupper() and op.endswith("Backward0")):
        return "dispatch"
    found = (kind for kind, parts in KINDS.items() if any(part in op.lower() for part in parts))
    return next(found, "other")


def bytes_moved(model: nn.Module, images: Tensor) -> dict[str, int]:
    """Count the bytes that one forward of a converted model must move, at the values' own size.

    Args:
        model: With `SSConv2d` layers, as `convert_to_ssconv` returns it; on the device and of the type of the images.
        images: Tensor[N, C, H, W].

    Returns:
        `shuffle`: to save the values that move, to gather them into their new places, and to put them back, each with
        a read and a write; π, which is read once an image, is not counted. `listing`: what Listing 1's `cat` reads
        and writes, and its gather. `convolutions`: the inputs and outputs of all convolutions, shuffling or not.
    """
    size, batch = images.element_size(), len(images)
    counts = dict.fromkeys(("shuffle", "listing", "convolutions"), 0)

    def note(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        counts["convolutions"] += size * (inputs[0].numel() + output.numel())
        if isinstance(conv, SSConv2d):
            moved = conv.permutation.numel()
            counts["shuffle"] += 3 * 2 * size * batch * moved
            counts["listing"] += 2 * size * batch * (values_copied(conv) + (moved if values_copied(conv) else 0))

    handles = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, nn.Conv2d)]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(images)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return counts


def bytes_of(run: SpeedRun) -> dict[str, int]:
    """Count `bytes_moved` in one forward of what a measurement's arm "ss" runs, in fp32."""
    model = convert(build_network(run.network, run.channels), run)
    return bytes_moved(model, torch.zeros(run.batch, run.channels or 3, run.pixels, run.pixels))


def copy_bandwidth(device: str = "cpu", *, values: int = 1 << 24, rounds: int = 7) -> float:
    """Return the bytes a second, read and written, at which this machine copies fp32 values that no cache holds."""
    source, target = (torch.zeros(values, device=device) for _ in range(2))
    copy = timer(lambda: target.copy_(source), 1, device)
    copy()
    return 2 * source.nbytes / median(copy() for _ in range(rounds))
