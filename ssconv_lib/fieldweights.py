"""The trained networks that receptive fields and probes look at: which are missing, how they come to be there."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from .paths import results_dir
from .plan import Profile
from .records import RecordStore
from .run import Run
from .task import Plan, prepare_torch, train_here
from .weights import weights_path
from .workers import train_missing


def missing_weights(profile: Profile, run: Run, plan: Plan) -> str | None:
    """Return what to do about the weights of a trained network, if they are not there."""
    path = weights_path(run, profile.name, plan.weights)
    if path.exists():
        return None
    study = _study_of(profile, run)
    store = RecordStore(profile.name, plan.records)
    if not store.path(run).exists():
        return f"{run.label} is not trained yet: {profile.train_command(study)} trains it and keeps its weights"
    return (
        f"{run.label} has a record, but its weights were not kept. Train it once more beside the records: copy "
        f"{store.folder} without {run.label}.json to NEW/records/{profile.name}, give the command "
        f"{profile.train_command(study)} --records NEW/records, and move NEW/weights/{profile.name}/{path.name} "
        f"to {path}"
    )


def train_needed(profile: Profile, study: str, networks: Iterable[Run]) -> None:
    """Train the networks whose weights a study needs for what it lacks: for a chapter of `quick`.

    A network without a record is trained with its study. One with a record but without weights, from before they
    were kept, is trained once more; its record stays.

    Args:
        profile: That has the study.
        study: For the message.
        networks: What it needs; those whose weights are there are left alone.

    Raises:
        RuntimeError: not all of them could be trained.
    """
    plan = Plan(profile.name, results_dir() / "records", profile.device)
    store = RecordStore(profile.name, plan.records)
    needed = {run.hash: run for run in networks}
    lacking = [run for run in needed.values() if not weights_path(run, profile.name, plan.weights).exists()]
    for name in dict.fromkeys(_study_of(profile, run) for run in lacking if store.get(run) is None):
        outcome = train_missing(profile, name)
        if outcome.failed or outcome.left:
            raise RuntimeError(f"not all networks that {study} needs were trained: {outcome.failed or outcome.left}")
    for run in lacking:
        if not weights_path(run, profile.name, plan.weights).exists():
            _train_once_more(run, plan)


def _train_once_more(run: Run, plan: Plan) -> None:
    """Train a run for its weights alone, in a hidden folder."""
    aside = Plan(
        plan.profile, plan.records / ".checkpoints" / "again" / "records", plan.device, kept=frozenset({run.label})
    )
    with one_thread():
        train_here(run, aside)
    target = weights_path(run, plan.profile, plan.weights)
    target.parent.mkdir(parents=True, exist_ok=True)
    weights_path(run, plan.profile, aside.weights).replace(target)
    RecordStore(plan.profile, aside.records).path(run).unlink()


def _study_of(profile: Profile, run: Run) -> str:
    return next(planned.study for planned in profile.planned if planned.run.hash == run.hash)


@contextmanager
def one_thread() -> Iterator[None]:
    """Numbers as in training, for which torch is prepared; a notebook gets its threads back."""
    threads = torch.get_num_threads()
    prepare_torch()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
