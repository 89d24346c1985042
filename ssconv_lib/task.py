"""One run as a task of a process: where its files go, where it computes, when it stops, what became of it."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .data import Data
from .files import sweep
from .group import SOLO, Group
from .origin import processors
from .paths import results_dir
from .plan import Profile
from .records import RecordStore, make_record
from .run import Run
from .train import Machine, fit
from .weights import save_weights, weights_path


@dataclass(frozen=True)
class Plan:
    """What a worker needs to know beyond the run: where things go, where to compute, when to stop."""

    profile: str
    records: Path
    device: str = "cpu"
    compile: str | None = None
    kept: frozenset[str] = frozenset()  # labels of the runs whose trained networks are kept
    deadline: float | None = None  # of time.monotonic, which the processes of a machine share
    checkpoint_every: float = 60.0
    loaders: int = 0  # processes that decode images, of each worker

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    @property
    def checkpoints(self) -> Path:
        """Checkpoints lie in a hidden folder among the records; git ignores it."""
        return self.records / ".checkpoints" / self.profile

    @property
    def weights(self) -> Path:
        """Trained networks lie beside the records' folder."""
        return self.records.parent / "weights"


@dataclass
class Outcome:
    """What became of the runs: labels of those trained, and of those left for the next time; errors by label."""

    trained: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass
class LookOutcome:
    """What became of receptive fields or probes: labels of those made, and of those left for the next time.

    `waiting` has, for each network without weights, what to do and the labels that wait for it; `failed` errors by
    label.
    """

    made: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    waiting: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def plan_here(profile: Profile, budget: float | None, records: Path | None, device: str | None) -> Plan:
    """Plan to compute in this process, for so many seconds; None is no limit, the usual folder, the profile's device.

    Raises:
        ValueError: there is no such device here.
    """
    deadline = None if budget is None else time.monotonic() + budget
    where = check_device(device or profile.device)
    return Plan(profile.name, records or results_dir() / "records", where, deadline=deadline)


def prepare_torch() -> None:
    """Set what the numbers of a run depend on beside the run."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32 on a GPU too


def train_here(
    run: Run,
    plan: Plan,
    is_stopped: Callable[[], bool] = lambda: False,
    report: Callable[[dict[str, Any]], None] = lambda entry: None,
    group: Group = SOLO,
) -> bool:
    """Train one run in this process and store its record; return False if it had to stop before its end.

    In a group all call it, and process 0 alone reads and writes records and checkpoints.
    """
    store = RecordStore(plan.profile, plan.records)
    checkpoint = plan.checkpoints / f"{run.label}.pt"

    def should_stop() -> bool:
        return is_stopped() or plan.is_over

    if group.share(lambda: store.get(run)) is None:
        if group.any(should_stop()):
            return False
        machine = Machine(
            plan.device, plan.compile, plan.checkpoint_every, should_stop, report, plan.loaders, group=group
        )
        keeps = group.rank == 0 and run.label in plan.kept
        measured = fit(run, machine, checkpoint=checkpoint, keep=partial(_keep, run, plan) if keeps else None)
        if measured is None:
            return False
        if group.rank == 0:
            add(store, make_record(run, measured), run.label)
    if group.rank == 0:
        checkpoint.unlink(missing_ok=True)
        sweep(plan.checkpoints)
        store.tidy()
    return True


def add(store: RecordStore, record: dict[str, Any], label: str) -> None:
    """Store a record; if its run got another one meanwhile, that one stays, and a warning says what differs."""
    for part in store.add(record):
        warnings.warn(f"{label}: {part} differs from the record that came meanwhile, which stays", stacklevel=3)


def _keep(run: Run, plan: Plan, model: nn.Module, data: Data) -> None:
    """Store a trained network, before its record, so that no record is without it."""
    path = weights_path(run, plan.profile, plan.weights)
    save_weights(path, run, model, data.num_classes, data.input_size)
    sweep(path.parent)


def epoch_line(label: str, of: int, entry: dict[str, Any]) -> str:
    """What a log says of an epoch."""
    return f"{label} epoch {entry['epoch']}/{of}: {entry['error']:.2f} % error"


def default_loaders(device: str, loaders: int | None, runs: int) -> int:
    """Processes that decode images for each of so many runs at once, unless a number is given.

    On a CPU none: the processors are busy with training, and decoding 64 to 128 pixels takes a tenth of a step.
    """
    if loaders is not None:
        return loaders
    return max(1, processors() // runs - 1) if device.startswith("cuda") else 0


def check_device(device: str) -> str:
    """Return the device if it is there.

    Raises:
        ValueError: it is not, or is no device at all.
    """
    known = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if device in ("cpu", *known) or (device == "cuda" and known):
        return device
    raise ValueError(f"device {device!r} is not there; --device cpu trains on the processor")
