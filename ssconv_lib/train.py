"""One run: from its description to its measured errors, resumable at every step with the same result."""

import dataclasses
import math
import resource
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .data import Batches, Data, load
from .files import write_whole
from .models import create_model
from .origin import origin
from .run import Run
from .seeds import mixed_seed

EVALUATION_BATCH = 500
STATE = ("epoch", "batch", "sums", "seconds", "history", "origins")  # with model and optimizer, all that resuming needs


@dataclasses.dataclass
class Machine:
    """How a run is carried out, as opposed to what it is; no part of the run's hash.

    Attributes:
        device: "cpu", "cuda", "cuda:1", …
        compile: A mode of `torch.compile`, such as "reduce-overhead" (CUDA graphs); None is eager. It has not been
            run on a GPU yet, so it is off by default.
        checkpoint_every: Seconds between checkpoints.
        should_stop: Asked after each step; True saves a checkpoint and ends.
        report: Called with each finished epoch's entry of the history.
    """

    device: str = "cpu"
    compile: str | None = None
    checkpoint_every: float = 60.0
    should_stop: Callable[[], bool] = lambda: False
    report: Callable[[dict[str, Any]], None] = lambda entry: None


class Training:
    """The state of a run between two steps: what a checkpoint holds and resuming restores.

    Order of the data and augmentation are functions of (seed, epoch), so there are no generators to save.
    """

    def __init__(self, run: Run, data: Data, machine: Machine) -> None:
        self.run, self.machine = run, machine
        self.device = torch.device(machine.device)
        self.data = data.to(self.device)
        self.train_batches = Batches(self.data, "train", run.batch_size, seed=run.seed, train=True, device=self.device)
        self.test_batches = Batches(self.data, "test", EVALUATION_BATCH, train=False, device=self.device)
        self.model = build_model(run, data.num_classes, data.input_size).to(self.device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=run.lr,
            momentum=run.momentum,
            weight_decay=run.weight_decay,
            nesterov=run.nesterov,
        )
        if machine.compile:
            torch._dynamo.reset()  # or the graphs of earlier runs in this process count against its limit
        # only what runs in training: evaluation stays eager
        self.forward = torch.compile(self.model, mode=machine.compile) if machine.compile else self.model
        self.epoch, self.batch = 0, 0
        self.sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss, wrong: of this epoch so far
        self.seconds = {"train": 0.0, "evaluate": 0.0}
        self.history: list[dict[str, Any]] = []
        self.origins = [origin(machine.device, machine.compile)]

    def train_epoch(self, after_step: Callable[[], bool]) -> bool:
        """Train to the end of the epoch, or until `after_step` returns True; return whether the end was reached."""
        self.model.train()
        last = time.perf_counter()
        for images, labels in self.train_batches.epoch(self.epoch, start=self.batch):
            self.step(images, labels)
            self.batch += 1
            now = time.perf_counter()
            self.seconds["train"] += now - last  # with the loading, which happens between two steps
            last = now
            if after_step():
                return False
        return True

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One step of SGD; on a GPU nothing in it waits for the host."""
        steps = len(self.train_batches)
        lr = self.run.lr_at(Fraction(self.epoch * steps + self.batch, self.run.epochs * steps))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.run.precision == "bf16"):
            logits = self.forward(images)  # (N, classes)
        loss = F.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.sums += torch.stack((loss.detach() * len(labels), (logits.argmax(1) != labels).sum()))

    def end_epoch(self) -> dict[str, Any]:
        """Evaluate, and move the epoch's numbers into the history."""
        start = time.perf_counter()
        loss, wrong = evaluate(self.model, self.test_batches)
        self.seconds["evaluate"] += time.perf_counter() - start
        train_loss, train_wrong = self.sums.tolist()
        n_train, n_test = len(self.data.train.labels), len(self.data.test.labels)
        self.epoch, self.batch = self.epoch + 1, 0
        self.sums.zero_()
        entry = {
            "epoch": self.epoch,
            "train_loss": _finite(train_loss / n_train),
            "train_error": 100 * train_wrong / n_train,
            "loss": _finite(loss / n_test),
            "error": 100 * wrong / n_test,
        }
        self.history.append(entry)
        return entry

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {name: getattr(self, name) for name in STATE}
        state |= {"run": self.run.hash, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        write_whole(path, lambda file: torch.save(state, file))

    def resume(self, path: Path) -> None:
        """Take up a checkpoint of the same run.

        Raises:
            ValueError: the file is damaged or belongs to another run.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            owner = state["run"]
            if owner == self.run.hash:
                self.model.load_state_dict(state["model"])
                self.optimizer.load_state_dict(state["optimizer"])
                state = {name: state[name] for name in STATE}
        except (OSError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a torn file fails in many ways, all meaning the same
            raise ValueError(f"checkpoint {path} is damaged; delete it to start {self.run.label} anew") from error
        if owner != self.run.hash:
            raise ValueError(f"checkpoint {path} belongs to run {owner}, not to {self.run.label}; delete it")
        here = self.origins
        for name, value in state.items():
            setattr(self, name, value)
        if _without_date(self.origins[-1]) != _without_date(here[0]):
            self.origins += here


def build_model(run: Run, num_classes: int, input_size: tuple[int, int, int]) -> nn.Module:
    """Build the network of a run; its initial weights have a stream of their own, shared by conv and ss."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(mixed_seed(run.seed, "weights"))  # torch.manual_seed seeds GPUs as well
        model = create_model(
            run.model,
            num_classes=num_classes,
            alpha=run.alpha,
            input_size=input_size,
            layout=run.layout,
            replace=run.replace,
            seed=run.seed if run.pi_seed is None else run.pi_seed,
        )
    return model.to(memory_format=torch.channels_last)


@torch.no_grad()
def evaluate(model: nn.Module, batches: Batches) -> tuple[float, int]:
    """Return summed cross-entropy and the number of wrong top-1 answers, in fp32 and eval mode."""
    model.eval()
    device = batches.labels.device.type
    loss = wrong = torch.zeros((), dtype=torch.float64)
    for images, labels in batches.epoch(0):
        with torch.autocast(device, enabled=False):
            logits = model(images)
        loss = loss + F.cross_entropy(logits, labels, reduction="sum").double()
        wrong = wrong + (logits.argmax(1) != labels).sum()
    return float(loss), int(wrong)


def fit(
    run: Run,
    machine: Machine | None = None,
    *,
    checkpoint: Path | None = None,
    data_root: Path | None = None,
    keep: Callable[[nn.Module, Data], None] = lambda model, data: None,
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
        The measured part of a record (`history`, `final`, `seconds`, `peak_memory_mb`, `origin`; `earlier_origins`
        too if other code or another machine trained a part of it), or None if
        `machine.should_stop` ended it before the end.

    Raises:
        ValueError: the checkpoint is damaged or of another run.
    """
    machine = machine or Machine()
    if machine.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(machine.device)
    training = Training(run, load(run.data, data_root), machine)
    if checkpoint and checkpoint.exists():
        training.resume(checkpoint)
    last_saved = time.monotonic()

    def after_step() -> bool:
        nonlocal last_saved
        stop = machine.should_stop()
        if checkpoint and (stop or time.monotonic() - last_saved >= machine.checkpoint_every):
            training.save(checkpoint)
            last_saved = time.monotonic()
        return stop

    while training.epoch < run.epochs:
        if not training.train_epoch(after_step):
            return None
        machine.report(training.end_epoch())
    keep(training.model, training.data)
    return {
        "history": training.history,
        "final": _final(run, training),
        "seconds": {name: round(value, 3) for name, value in training.seconds.items()},
        "peak_memory_mb": _peak_memory_mb(training.device),
        "origin": origin(machine.device, machine.compile),
    } | ({"earlier_origins": training.origins[:-1]} if len(training.origins) > 1 else {})


def _final(run: Run, training: Training) -> dict[str, Any]:
    """The last epoch's error, as the paper reports it, and the best epoch's, which was selected by what it measures."""
    best = min(training.history, key=lambda entry: entry["error"])
    return {
        "error": training.history[-1]["error"],
        "best_error": best["error"],
        "best_epoch": best["epoch"],
        "evaluated_on": getattr(run.data, "evaluate", "test"),
        "n_images": len(training.data.test.labels),
    }


def _peak_memory_mb(device: torch.device) -> float:
    """Peak of the GPU's allocator, or of the whole process on a CPU."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def _without_date(origin: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in origin.items() if name != "date"}


def _finite(value: float) -> float | None:
    """JSON has no NaN: a diverged loss is null."""
    return value if math.isfinite(value) else None
