"""Train what a profile lacks, several runs at once, each in a process with one thread.

Two runs on one thread each give more than one run on two, and only with one thread are the numbers the same on
every machine with the same processor and torch. All state is in files that are whole or absent (records and
checkpoints), so a worker, or all of them, may be killed at any moment.
"""

import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .data import Data
from .files import sweep
from .origin import commit
from .paths import results_dir
from .progress import bar
from .records import RecordStore, make_record
from .run import Run
from .study import Profile, missing
from .train import Machine, fit
from .weights import save_weights, weights_path

GRACE = 20.0  # seconds that a worker has for its checkpoint when it is told to end
POLL = 0.2  # seconds between two looks at what the workers report


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


def train_missing(
    profile: Profile,
    study: str | None = None,
    *,
    budget: float | None = None,
    workers: int | None = None,
    records: Path | None = None,
    device: str | None = None,
    compile: str | None = None,
    log: Any = None,
) -> Outcome:
    """Train the runs of a profile that have no record, in order of priority.

    An interrupt (Ctrl-C) or the end of the budget lets each worker write a checkpoint and stop; calling this again
    goes on from there.

    Args:
        profile: What is planned.
        study: Only this study's runs.
        budget: Seconds; None is no limit. The time a last step and its checkpoint take comes on top.
        workers: Processes at once; None is one for each processor on a CPU, and one on a GPU.
        records: The folder of all profiles' records, by default results/records.
        device: As in `Machine`; None takes the profile's.
        compile: As in `Machine`.
        log: A text file for one line an epoch; None logs nothing.
    """
    start = time.monotonic()
    device = check_device(device or profile.device)
    root = records or results_dir() / "records"
    deadline = None if budget is None else start + budget
    kept = frozenset(run.label for run in profile.kept)
    plan = Plan(profile.name, root, device, compile, kept, deadline)
    store = RecordStore(profile.name, root)
    runs = missing(profile, study, store)
    _tidy(plan, store, {run.label for run in runs})
    outcome = Outcome()
    if runs:
        number = workers or (1 if device.startswith("cuda") else _processors())
        _train_all(runs, plan, min(number, len(runs)), outcome, log)
    return outcome


def _tidy(plan: Plan, store: RecordStore, unfinished: set[str]) -> None:
    """Remove what killed processes left: half-written files, and checkpoints of runs whose record is there."""
    for checkpoint in plan.checkpoints.glob("[!.]*.pt"):
        if checkpoint.stem not in unfinished and (store.folder / f"{checkpoint.stem}.json").exists():
            checkpoint.unlink(missing_ok=True)
    sweep(plan.checkpoints)
    store.tidy()


def _train_all(runs: list[Run], plan: Plan, workers: int, outcome: Outcome, log: Any) -> None:
    context = multiprocessing.get_context("spawn")
    stop, epochs = context.Event(), context.SimpleQueue()
    total = sum(run.epochs for run in runs)
    with (
        ProcessPoolExecutor(workers, context, _start_worker, (stop, epochs)) as pool,
        bar(total=total, unit="epoch", desc=f"{len(runs)} runs, {workers} at once") as progress,
    ):
        try:
            futures = {pool.submit(_train_one, run, plan): run for run in runs}
            for future in _as_completed(futures, epochs, progress, log):
                _take(futures[future], future, outcome)
        except KeyboardInterrupt:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            done = {*outcome.trained, *outcome.failed}
            outcome.left = [run.label for run in runs if run.label not in done]


def _as_completed(futures: dict[Future, Run], epochs: Any, progress: Any, log: Any) -> Iterator[Future]:
    """Yield futures as they end, and pass on what the workers report meanwhile."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=POLL, return_when=FIRST_COMPLETED)
        while not epochs.empty():
            label, of, entry = epochs.get()
            progress.update()
            progress.set_postfix_str(f"{label.rpartition('-')[0]}: {entry['error']:.1f} % error")
            if log:
                print(f"{label} epoch {entry['epoch']}/{of}: {entry['error']:.2f} % error", file=log, flush=True)
        yield from done


def _take(run: Run, future: Future, outcome: Outcome) -> None:
    if isinstance(error := future.exception(), BrokenProcessPool):
        outcome.left.append(run.label)
        outcome.failed["a worker"] = "was killed from outside, often for lack of memory; checkpoints stay"
    elif error:
        outcome.failed[run.label] = f"{type(error).__name__}: {error}"
    elif future.result():
        outcome.trained.append(run.label)
    else:
        outcome.left.append(run.label)


_terminated = threading.Event()
_busy = False
_stop: Any = None
_epochs: Any = None


def _start_worker(stop: Any, epochs: Any) -> None:
    """Prepare a worker: one thread, deaf to Ctrl-C (the parent tells it to stop), and gone when the parent is."""
    import signal

    global _stop, _epochs
    _stop, _epochs = stop, epochs
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _on_terminate)
    prepare_torch()
    commit()
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def prepare_torch() -> None:
    """Set what the numbers of a run depend on beside the run."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32 on a GPU too


def _on_terminate(*_: Any) -> None:
    """Batch systems tell all processes: checkpoint and end. A broken pool tells its workers, and waits for them."""
    if not _busy:
        os._exit(1)
    _terminated.set()
    timer = threading.Timer(GRACE, os._exit, (1,))  # where a killed neighbour holds a lock for good
    timer.daemon = True
    timer.start()


def _exit_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _train_one(run: Run, plan: Plan) -> bool:
    global _busy
    _busy = True
    try:
        return train_here(
            run,
            plan,
            lambda: _terminated.is_set() or _stop.is_set(),
            lambda entry: _epochs.put((run.label, run.epochs, entry)),
        )
    finally:
        _busy = False


def train_here(
    run: Run,
    plan: Plan,
    is_stopped: Callable[[], bool] = lambda: False,
    report: Callable[[dict[str, Any]], None] = lambda entry: None,
) -> bool:
    """Train one run in this process and store its record; return False if it had to stop before its end."""
    store = RecordStore(plan.profile, plan.records)
    checkpoint = plan.checkpoints / f"{run.label}.pt"

    def should_stop() -> bool:
        return is_stopped() or (plan.deadline is not None and time.monotonic() >= plan.deadline)

    if store.get(run) is None:
        if should_stop():
            return False
        machine = Machine(plan.device, plan.compile, plan.checkpoint_every, should_stop, report)
        measured = fit(run, machine, checkpoint=checkpoint, keep=lambda *trained: _keep(run, plan, *trained))
        if measured is None:
            return False
        for part in store.add(make_record(run, measured)):
            warnings.warn(f"{run.label}: {part} differs from the record that came meanwhile, which stays", stacklevel=2)
    checkpoint.unlink(missing_ok=True)
    sweep(plan.checkpoints)
    store.tidy()
    return True


def _keep(run: Run, plan: Plan, model: nn.Module, data: Data) -> None:
    """Store a trained network if the profile keeps it; before its record, so that no record is without it."""
    if run.label in plan.kept:
        path = weights_path(run, plan.profile, plan.weights)
        save_weights(path, run, model, data.num_classes, data.input_size)
        sweep(path.parent)


def _processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_device(device: str) -> str:
    """Return the device if it is there.

    Raises:
        ValueError: it is not, or is no device at all.
    """
    known = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if device in ("cpu", *known) or (device == "cuda" and known):
        return device
    raise ValueError(f"device {device!r} is not there; --device cpu trains on the processor")


def log_unless_terminal() -> Any:
    """The log for a command: stderr where no progress bar is shown."""
    return None if sys.stderr.isatty() else sys.stderr
