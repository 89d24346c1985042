"""Train what a profile lacks, several runs at once, each in a process with one thread.

Two runs on one thread each give more than one run on two, and only with one thread are the numbers the same on
every machine with the same processor and torch. All state is in files that are whole or absent (records and
checkpoints), so a worker, or all of them, may be killed at any moment.
"""

import multiprocessing
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

from .children import end_with_parent, end_within
from .files import sweep
from .origin import commit, processors
from .paths import results_dir
from .progress import bar
from .records import RecordStore
from .remote import train_over
from .run import Run
from .study import Profile, missing
from .task import Outcome, Plan, check_device, default_loaders, epoch_line, prepare_torch, train_here

GRACE = 20.0  # seconds that a worker has for its checkpoint when it is told to end
POLL = 0.2  # seconds between two looks at what the workers report


def train_missing(
    profile: Profile,
    study: str | None = None,
    *,
    budget: float | None = None,
    workers: int | None = None,
    records: Path | None = None,
    device: str | None = None,
    compile: str | None = None,
    loaders: int | None = None,
    executor: Executor | None = None,
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
        loaders: As in `Machine`, for each run; None is none on a CPU or with an executor, and on a GPU what the
            processors allow.
        executor: Trains in place of processes of its own, on whatever machines its workers are: dask's, say
            (`cluster.connected`). Records and networks are written here; checkpoints lie where the workers are.
        log: A text file for one line an epoch, with an executor one line a run; None logs nothing.

    Raises:
        OSError: nothing can be written where the records go.
        ValueError: there is no such study, or no such device here; or both `workers` and an executor are given.
    """
    start = time.monotonic()
    if executor and workers:
        raise ValueError(f"workers = {workers} with an executor: expected one of the two, an executor has its workers")
    device = device or profile.device
    if not executor:
        check_device(device)
    root = records or results_dir() / "records"
    deadline = None if budget is None else start + budget
    kept = frozenset(run.label for run in profile.kept)
    store = RecordStore(profile.name, root)
    runs = missing(profile, study, store)
    number = min(workers or (1 if device.startswith("cuda") else processors()), max(1, len(runs)))
    each = loaders or 0 if executor else default_loaders(device, loaders, number)
    plan = Plan(profile.name, root, device, compile, kept, deadline, loaders=each)
    _tidy(plan, store, {run.label for run in runs})
    outcome = Outcome()
    if runs and executor:
        train_over(executor, runs, plan, outcome, log)
    elif runs:
        _train_all(runs, plan, number, outcome, log)
    return outcome


def _tidy(plan: Plan, store: RecordStore, unfinished: set[str]) -> None:
    """See that records can be written, and remove what killed processes left, and checkpoints of done runs."""
    for checkpoint in plan.checkpoints.glob("[!.]*.pt"):
        if checkpoint.stem not in unfinished and (store.folder / f"{checkpoint.stem}.json").exists():
            checkpoint.unlink(missing_ok=True)
    sweep(plan.checkpoints)
    if unfinished:
        store.prepare()
    else:
        store.tidy()  # also where nothing could be written


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
    """Yield futures as they end, and pass on what the workers report meanwhile; of ten thousand as fast as of ten."""
    ended, left = queue.SimpleQueue(), len(futures)
    for future in futures:
        future.add_done_callback(ended.put)
    while left:
        done = []
        with suppress(queue.Empty):
            done.append(ended.get(timeout=POLL))
        while not epochs.empty():
            label, of, entry = epochs.get()
            progress.update()
            progress.set_postfix_str(f"{label.rpartition('-')[0]}: {entry['error']:.1f} % error")
            if log:
                print(epoch_line(label, of, entry), file=log, flush=True)
        left -= len(done)
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
    end_with_parent()


def _on_terminate(*_: Any) -> None:
    """Batch systems tell all processes: checkpoint and end. A broken pool tells its workers, and waits for them."""
    if not _busy:
        os._exit(1)
    _terminated.set()
    end_within(GRACE)  # where a killed neighbour holds a lock for good


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


def log_unless_terminal() -> Any:
    """The log for a command: stderr where no progress bar is shown."""
    return None if sys.stderr.isatty() else sys.stderr
