"""Train one run after another, each with all the processes that torchrun started: on several GPUs or machines.

A process that fails ends with its message, and torchrun ends the others. Only process 0 reads and writes records and
checkpoints, so the machines need no common folder as long as process 0 is on the same one when a job goes on.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .group import joined, local_processes
from .paths import results_dir
from .progress import bar
from .records import RecordStore
from .run import Run
from .study import Profile, missing
from .task import Outcome, Plan, check_device, default_loaders, epoch_line, prepare_torch, train_here


def train_together(
    profile: Profile,
    study: str | None = None,
    *,
    budget: float | None = None,
    records: Path | None = None,
    device: str | None = None,
    compile: str | None = None,
    loaders: int | None = None,
    log: Any = None,
) -> Outcome | None:
    """Train the runs of a profile that have no record, in order of priority; call it in every process.

    SIGTERM, Ctrl-C or the end of the budget at any of the processes lets all stop at the same step, with a checkpoint;
    another call goes on from there, also with another number of processes.

    Args:
        profile: What is planned.
        study: Only this study's runs.
        budget: Seconds; None is no limit.
        records: The folder of all profiles' records, by default results/records.
        device: "cpu" or "cuda", on which every process takes the GPU of its local rank; None takes the profile's.
        compile: As in `Machine`.
        loaders: As in `Machine`, for each process; None is none on a CPU, and on a GPU what the processors allow.
        log: A text file for one line an epoch, of process 0; None logs nothing.

    Returns:
        What became of the runs; in other processes than process 0 None.

    Raises:
        ValueError: a run's steps can't be shared equally by so many processes.
    """
    deadline = None if budget is None else time.monotonic() + budget
    root = records or results_dir() / "records"
    prepare_torch()
    outcome = Outcome()
    with joined(check_device(device or profile.device)) as (group, own), _told_to_stop() as stop:
        kept = frozenset(run.label for run in profile.kept)
        loaders = default_loaders(own, loaders, local_processes())
        plan = Plan(profile.name, root, own, compile, kept, deadline, loaders=loaders)
        runs = group.share(lambda: _lacking(profile, study, RecordStore(profile.name, root)))
        total = sum(run.epochs for run in runs)
        name = f"{len(runs)} runs, {group.size} processes"
        with bar(total=total, unit="epoch", desc=name, hidden=group.rank > 0) as progress:
            for run in runs:

                def report(entry: dict[str, Any], label: str = run.label, of: int = run.epochs) -> None:
                    progress.update()
                    if log and group.rank == 0:
                        print(epoch_line(label, of, entry), file=log, flush=True)

                done = train_here(run, plan, stop.is_set, report, group)
                (outcome.trained if done else outcome.left).append(run.label)
    return outcome if group.rank == 0 else None


def _lacking(profile: Profile, study: str | None, store: RecordStore) -> list[Run]:
    """The runs to train, and that their records can be written."""
    if runs := missing(profile, study, store):
        store.prepare()
    return runs


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set: a process in the midst of a step must not leave the others waiting."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
