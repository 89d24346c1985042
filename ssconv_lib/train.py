"""One run: from its description to its measured errors, resumable at every step with the same result."""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .data import Data, load
from .run import Run
from .training import Machine, Training

__all__ = ["Machine", "fit"]


def fit(
    run: Run,
    machine: Machine | None = None,
    *,
    checkpoint: Path | None = None,
    data_root: Path | None = None,
    keep: Callable[[nn.Module, Data], None] | None = None,
) -> dict[str, Any] | None:
    """Train a run to its end, from its checkpoint if there is one.

    On a CPU the same run gives the same metrics every time, bit for bit, however often it was interrupted, as long
    as torch uses one thread.

    Args:
        run: What to train.
        machine: Where and how; by default on the CPU.
        checkpoint: A file to resume from and to save to. It stays when the run is done: the caller removes it when
            the record is safe.
        data_root: The folder of the data sets, by default the project's.
        keep: Called with the trained network and its data, at the end.

    Returns:
        The measured part of a record (`history`, `final`, `n_train`, `seconds`, `peak_memory_mb`, `origin`;
        `earlier_origins` too if other code or another machine trained a part of it), or None if
        `machine.should_stop` ended it before the end.

    Raises:
        ValueError: the checkpoint is damaged or of another run; or the group can't share the run's steps equally.
    """
    machine = machine or Machine()
    if machine.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(machine.device)
    training = Training(run, load(run.data, data_root), machine)
    if checkpoint and machine.group.share(checkpoint.exists):
        training.resume(checkpoint)
    last_saved = time.monotonic()

    def after_step() -> bool:
        nonlocal last_saved
        stop = machine.group.any(machine.should_stop())
        if checkpoint and (stop or time.monotonic() - last_saved >= machine.checkpoint_every):
            training.save(checkpoint)
            last_saved = time.monotonic()
        return stop

    while training.epoch < run.epochs:
        if not training.train_epoch(after_step):
            return None
        machine.report(training.end_epoch())
    if keep:
        keep(training.model, training.data)
    return {
        "history": training.history,
        "final": _final(run, training),
        "n_train": len(training.data.train),
        "seconds": {name: round(value, 3) for name, value in training.seconds.items()},
        "peak_memory_mb": _peak_memory_mb(training.device),
        "origin": machine.origin,
    } | ({"earlier_origins": training.origins[:-1]} if len(training.origins) > 1 else {})


def _final(run: Run, training: Training) -> dict[str, Any]:
    """The last epoch's error, as the paper reports it, and the best epoch's, which was selected by what it measures."""
    best, last = min(training.history, key=lambda entry: entry["error"]), training.history[-1]
    return {
        "error": last["error"],
        "best_error": best["error"],
        "best_epoch": best["epoch"],
        "evaluated_on": getattr(run.data, "evaluate", "test"),
        "n_images": training.evaluated,
        **{name: last[name] for name in ("top5_error", "skipped_images") if name in last},
    }


def _peak_memory_mb(device: torch.device) -> float:
    """Peak of the GPU's allocator, or of the whole process on a CPU."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
