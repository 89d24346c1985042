"""One run as a task that may be sent to another machine, from where its record comes back as plain values.

Nothing of the caller's folders is known here. The only files written are checkpoints, below this machine's
`results_dir`, so a worker that is started again on the same machine goes on where the run was.
"""

import functools
import hashlib
import multiprocessing
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from .data import GENERATED, Data, DataSpec, load
from .files import sweep
from .origin import commit
from .paths import ROOT, results_dir
from .records import make_record
from .run import Run
from .task import Plan, check_device, prepare_torch
from .train import Machine, fit
from .weights import save_weights

_only_one = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Errand:
    """What a task needs to know beyond the run. There is no path in it.

    Attributes:
        profile: Names the folder of checkpoints.
        code: The caller's `code`.
        device: As in `Machine`.
        compile: As in `Machine`.
        loaders: As in `Machine`.
        kept: Labels of the runs whose trained networks come back with the records.
        seconds: What was left of the budget when the task was sent; None is no limit.
        sent: When that was, as time.time says. So the tasks of two calls are never equal: dask can take equal ones for
            one, and give an earlier result again.
    """

    profile: str
    code: str
    device: str
    compile: str | None
    loaders: int
    kept: frozenset[str]
    seconds: float | None
    sent: float


def train_away(run: dict[str, Any], errand: Errand) -> dict[str, Any]:
    """Train one run in this process, for a caller elsewhere.

    Args:
        run: As `Run.to_dict` gives it.
        errand: From the caller.

    Returns:
        `host`; and `error`, a text, or `record` and `weights`, a file's bytes, or None of a run whose network is not
        kept. Neither is there if the task had to stop before the end.
    """
    try:
        return {"host": socket.gethostname(), **_train(run, errand)}
    except Exception as error:  # as text: not every error can travel, or be read where its package is missing
        return {"host": socket.gethostname(), "error": f"{type(error).__name__}: {error}"}


def _train(fields: dict[str, Any], errand: Errand) -> dict[str, Any]:
    start, taken_back = time.monotonic(), _taken_back()
    waited = max(0.0, time.time() - errand.sent)  # in the executor's queue, as far as the two clocks agree

    def should_stop() -> bool:
        spent = waited + time.monotonic() - start
        return taken_back() or (errand.seconds is not None and spent >= errand.seconds)

    check_code(errand.code)
    if errand.loaders and multiprocessing.current_process().daemon:
        raise RuntimeError(
            f"loaders = {errand.loaders}, but this worker is a daemon, which can't start any: leave --loaders out, or "
            "start the worker with DASK_DISTRIBUTED__WORKER__DAEMON=False in its environment"
        )
    run = Run.from_dict(fields)
    folder = Plan(errand.profile, results_dir() / "records").checkpoints
    checkpoint, networks = folder / f"{run.label}.pt", []
    with _alone():
        prepare_torch()
        if should_stop():
            return {}
        machine = Machine(check_device(errand.device), errand.compile, should_stop=should_stop, loaders=errand.loaders)
        measured = fit(run, machine, checkpoint=checkpoint, keep=lambda *trained: networks.append(trained))
    if measured is None:
        return {}
    weights = _file(run, *networks[0]) if run.label in errand.kept else None
    checkpoint.unlink(missing_ok=True)
    sweep(folder)
    return {"record": make_record(run, measured), "weights": weights}


@contextmanager
def _alone() -> Iterator[None]:
    """Let one run at a time train in this process: the number of threads and torch's generator are the process's."""
    if not _only_one.acquire(blocking=False):
        warnings.warn("a second run waits in this process; start a worker for each run: --nthreads 1", stacklevel=2)
        _only_one.acquire()
    try:
        yield
    finally:
        _only_one.release()


def _taken_back() -> Callable[[], bool]:
    """A function that tells whether dask has taken this task back, since its caller was interrupted or is gone."""
    if "distributed" not in sys.modules:
        return lambda: False
    from distributed.worker import get_worker, thread_state

    try:
        tasks, key = get_worker().state.tasks, thread_state.key
    except ValueError:  # another executor's process, which happens to have dask loaded
        return lambda: False
    return lambda: key not in tasks or tasks[key].state == "cancelled"


def _file(run: Run, model: nn.Module, data: Data) -> bytes:
    """The content of the file of a trained network."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pt"
        save_weights(path, run, model, data.num_classes, data.input_size)
        return path.read_bytes()


@functools.cache
def code() -> str:
    """A fingerprint of the library's source, as it was when this process first asked.

    A commit does not do: two checkouts can have edited it differently, and an installation has none.
    """
    return fingerprint(Path(__file__).parent)


def fingerprint(folder: Path) -> str:
    """Twelve hexadecimal digits for the names and contents of a folder's Python files."""
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*.py")):
        digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def check_code(callers: str) -> None:
    """Hold the library here to the caller's.

    Raises:
        RuntimeError: this process has another version.
    """
    if code() != callers:
        raise RuntimeError(
            f"{ROOT} is at commit {commit()}, source {code()}, expected the caller's source {callers}; bring it to the "
            "caller's version, and start this worker again"
        )


def check_here(callers: str, device: str, data: Iterable[DataSpec]) -> None:
    """Hold this process to all that runs need: the caller's code, a device, their images.

    Raises:
        RuntimeError: it has another version of the library.
        ValueError: the device is not there, or a file or folder is not what it should be.
        FileNotFoundError: images are missing.
    """
    check_code(callers)
    check_device(device)
    for spec in data:
        if type(spec) not in GENERATED:
            load(spec)
