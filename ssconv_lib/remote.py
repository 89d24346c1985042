"""Runs over any `concurrent.futures.Executor`, such as a dask cluster's (`cluster.connected`).

Only the caller writes records and trained networks. So the machines need no common folder, and a run has one record
also where the executor trains it twice, since the first worker was lost.
"""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any

from .errand import Errand, code, train_away
from .files import sweep, write_whole
from .progress import bar
from .records import RecordStore
from .run import Run
from .task import Outcome, Plan, add
from .weights import weights_path

POLL = 0.5  # seconds between two looks at the budget


def train_over(executor: Executor, runs: list[Run], plan: Plan, outcome: Outcome, log: Any) -> None:
    """Train runs by an executor's workers, submitted in order of priority; store what comes back.

    An interrupt, or the end of the budget, cancels what has not come. dask's workers then stop, with a checkpoint;
    other executors' end the run that they have begun, or its budget.
    """
    errand = Errand(
        profile=plan.profile,
        code=code(),
        device=plan.device,
        compile=plan.compile,
        loaders=plan.loaders,
        kept=plan.kept,
        seconds=None if plan.deadline is None else plan.deadline - time.monotonic(),
        sent=time.time(),
    )
    futures: dict[Future, Run] = {}
    with bar(total=len(runs), unit="run", desc=f"{len(runs)} runs") as progress:
        try:
            for run in runs:
                futures[executor.submit(train_away, run.to_dict(), errand)] = run
            for future in _as_completed(futures, plan.deadline):
                _take(futures[future], future, plan, outcome, log)
                progress.update()
        except KeyboardInterrupt:
            for future, run in futures.items():
                if future.done() and not future.cancelled() and run.label not in outcome.trained:
                    _take(run, future, plan, outcome, log)
        finally:
            for future in reversed(futures):  # those that wait first, or one would begin in place of each that ends
                future.cancel()
    outcome.left = [run.label for run in runs if run.label not in {*outcome.trained, *outcome.failed}]


def _as_completed(futures: Iterable[Future], deadline: float | None) -> Iterator[Future]:
    """Yield futures as they end; from the deadline on, only those that can't be cancelled."""
    pending = [*futures]
    while pending:
        done, _ = wait(pending, timeout=POLL, return_when=FIRST_COMPLETED)
        yield from [future for future in pending if future in done]
        pending = [future for future in pending if future not in done]
        if deadline is not None and time.monotonic() >= deadline:
            pending = [future for future in reversed(pending) if not future.cancel()]


def _take(run: Run, future: Future, plan: Plan, outcome: Outcome, log: Any) -> None:
    if future.cancelled():
        outcome.failed["the cluster"] = "gave runs up: the connection to its scheduler is lost"
    elif isinstance(error := future.exception(), BrokenExecutor):
        outcome.failed["a worker"] = "was killed from outside, often for lack of memory; checkpoints stay"
    elif error:
        outcome.failed[run.label] = _message(error)
    elif "error" in (answer := future.result()):
        outcome.failed[run.label] = f"{answer['error']} (on {answer['host']})"
    elif "record" in answer:
        _store(run, answer, plan)
        outcome.trained.append(run.label)
        if log:
            error = answer["record"]["final"]["error"]
            print(f"{run.label}: {error:.2f} % error, trained on {answer['host']}", file=log, flush=True)


def _message(error: BaseException) -> str:
    if type(error).__name__ == "KilledWorker":  # of dask, which need not be installed
        return (
            "the workers that had it died, one after the other, often for lack of memory (dask worker --memory-limit 0 "
            "sets no limit of its own); checkpoints stay"
        )
    return f"{type(error).__name__}: {error}"


def _store(run: Run, answer: dict[str, Any], plan: Plan) -> None:
    """Write the network, if it came, before the record, so that no record is without it."""
    if answer["weights"] is not None:
        path = weights_path(run, plan.profile, plan.weights)
        write_whole(path, answer["weights"])
        sweep(path.parent)
    add(RecordStore(plan.profile, plan.records), answer["record"], run.label)
