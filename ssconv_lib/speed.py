"""Time and memory of plain convolution, Listing 1 and `SSConv2d`, side by side in one process."""

import importlib.metadata
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch

from . import native
from .arms import Arm, build_arms
from .memory import peak_bytes, saved_bytes
from .origin import device_name, origin
from .plan import Profile
from .records import SCHEMA, RecordStore
from .speedrun import SpeedRun
from .study import speed_frame, speed_missing
from .timing import interleaved, rounded, summary

SHORTEST = 5e-3  # seconds of one timing; faster steps are done several times in it


def here(run: SpeedRun, device: str = "cpu") -> SpeedRun:
    """Return a measurement as it would be made in this process: the machine's name, torch, threads, what is built."""
    built = device == "cpu" and native.load() is not None
    return run.on(device_name(device), importlib.metadata.version("torch"), torch.get_num_threads(), built)


def measure(run: SpeedRun, device: str = "cpu") -> dict[str, Any]:
    """Measure a run's arms in turn, and return the record.

    Args:
        run: What to measure; its machine is filled in.
        device: "cpu" or "cuda".

    Returns:
        `steps` in one timing; `arms`, for each what `timing.summary` returns, `peak_bytes` of a step, `saved_bytes`
        for the backward (in training, else None) and the `seconds` of a step in each round; hash, run and origin.

    Raises:
        RuntimeError: the arms can't be built, see `build_arms`.
    """
    run = here(run, device)
    with fair_gpu():
        arms = build_arms(run, device)
        memory = {name: _memory(arm, device) for name, arm in arms.items()}
        steps = _steps_in_a_timing(arms["conv"], device)
        seconds = interleaved({n: timer(a.step, steps, device) for n, a in arms.items()}, run.rounds, label=run.title)
    per_step = {name: [rounded(one / steps) for one in seconds[name]] for name in arms}
    return {
        "schema": SCHEMA,
        "kind": "speed",
        "hash": run.hash,
        "run": run.to_dict(),
        "steps": steps,
        "arms": {
            name: {**summary(of_arm, per_step["conv"], run.batch), **memory[name], "seconds": of_arm}
            for name, of_arm in per_step.items()
        },
        "origin": origin(device, run.compile),
    }


def measure_missing(
    profile: Profile, study: str, store: RecordStore | None = None, device: str | None = None
) -> pd.DataFrame:
    """Measure what a study lacks on this machine, store it, and return `study.speed_frame` of the study.

    Args:
        profile: What is planned.
        study: One of its studies of speed.
        store: By default the profile's own.
        device: "cpu" or "cuda"; None takes the profile's.
    """
    store = store or RecordStore(profile.name)
    device = device or profile.device
    for run in speed_missing(profile, study, lambda run: here(run, device), store):
        store.add(measure(run, device))
    return speed_frame(profile, study, store)


def timer(step: Callable[[], None], steps: int, device: str) -> Callable[[], float]:
    """The stopwatch of a device: CUDA's own events, or the processor's clock."""

    def on_cpu() -> float:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return time.perf_counter() - start

    def on_cuda() -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(steps):
            step()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1000

    return on_cuda if device.startswith("cuda") else on_cpu


def _steps_in_a_timing(arm: Arm, device: str) -> int:
    fastest = min(timer(arm.step, 1, device)() for _ in range(2))
    return max(1, math.ceil(SHORTEST / fastest))


def _memory(arm: Arm, device: str) -> dict[str, int | None]:
    saved = saved_bytes(arm.model, arm.output) if arm.run.mode == "training" else None
    arm.step()  # so that the optimizer's state is there, and only what a step needs is seen
    if arm.optimizer is not None:
        arm.optimizer.zero_grad(set_to_none=True)
    return {"peak_bytes": peak_bytes(arm.step, device), "saved_bytes": saved}


@contextmanager
def fair_gpu() -> Iterator[None]:
    """On a GPU, fp32 means fp32, and cuDNN tries its algorithms before it takes one."""
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32, cudnn.benchmark = False, True
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark = before
