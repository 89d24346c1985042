"""Ask the trained networks of a profile what it has no record of; weights that are missing are waited for."""

import time
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from .data import Data, DataSpec, load
from .fieldweights import missing_weights, one_thread
from .imagefolder import FolderData
from .origin import origin
from .plan import Profile
from .proberecord import check_probe, encode_outcomes, state_digest
from .proberun import ProbeRun
from .probes import Subject, choose_images, find_probe
from .probestudy import probe_missing
from .progress import bar
from .records import SCHEMA, RecordStore
from .task import LookOutcome, Plan, add, default_loaders, plan_here
from .weights import load_weights


def ask_missing(
    profile: Profile,
    study: str | None = None,
    *,
    budget: float | None = None,
    records: Path | None = None,
    device: str | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
    log: Any = None,
) -> LookOutcome:
    """Make the probes of a profile that have no record, in order of the plan.

    When it is told to stop, or at the end of the budget, it ends after the condition at hand. The probe that this
    belongs to is begun anew the next time, as a warning says, so a budget must be long enough for one. What one network
    or its images lack is noted in the outcome, and the others go on.

    Args:
        profile: What is planned.
        study: Only this study's probes.
        budget: Seconds; None is no limit.
        records: The folder of all profiles' records, by default results/records; networks are looked for beside it.
        device: "cpu" or "cuda"; None takes the profile's.
        is_stopped: Asked after each condition.
        log: A text file for one line a probe; None logs nothing.

    Raises:
        OSError: nothing can be written where the records go.
        ValueError: there is no such study, or no such device here.
    """
    plan = plan_here(profile, budget, records, device)
    store, outcome, images = RecordStore(profile.name, plan.records), LookOutcome(), lru_cache(maxsize=1)(load)
    missing = probe_missing(profile, study, store)
    if missing:
        store.prepare()

    def should_stop() -> bool:
        return is_stopped() or plan.is_over

    with one_thread(), bar(total=len(missing), unit="probe", desc="probes") as progress:
        for run in missing:
            if should_stop():
                outcome.left.append(run.label)
            elif how := missing_weights(profile, run.network, plan):
                outcome.waiting.setdefault(how, []).append(run.label)
            else:
                try:
                    record = ask(_subject(run, plan, images), should_stop)
                except Exception as error:  # whatever one network does, the others go on
                    outcome.failed[run.label] = f"{type(error).__name__}: {error}"
                else:
                    _keep(run, record, store, outcome, log)
            progress.update()
    store.tidy()
    return outcome


def ask(subject: Subject, should_stop: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
    """Make the record of one probe; None if it was stopped.

    Args:
        subject: The network and its images; the network is left as it was.
        should_stop: Asked after each condition.

    Raises:
        ValueError: the network or its images are not such that this can be asked.
    """
    run, weights, outcomes = subject.run, state_digest(subject.model), []
    start = time.perf_counter()
    asked = find_probe(run.probe)(subject)
    while (outcome := next(asked, None)) is not None:
        outcomes.append(outcome)
        if should_stop() and (next(asked, None) is not None):
            warnings.warn(
                f"{run.label} was stopped at condition {len(outcomes)}, after {time.perf_counter() - start:.0f} s; "
                "it begins anew the next time",
                stacklevel=2,
            )
            return None
    record = {
        "schema": SCHEMA,
        "kind": "probe",
        "hash": run.hash,
        "run": run.to_dict(),
        **encode_outcomes(outcomes),
        "seconds": round(time.perf_counter() - start, 3),
        "weights": weights,
        "origin": origin(str(subject.device)),
    }
    check_probe(record, run)  # or it would be refused when it is read, and made again and again
    return record


def _subject(run: ProbeRun, plan: Plan, images: Callable[[DataSpec], Data | FolderData]) -> Subject:
    model = load_weights(run.network, plan.profile, plan.weights).to(plan.device)
    data = choose_images(images(run.network.data), run.images).to(plan.device)
    loaders = default_loaders(plan.device, None, 1) if isinstance(data, FolderData) else 0
    return Subject(run, model, data, plan.device, loaders)


def _keep(run: ProbeRun, record: dict[str, Any] | None, store: RecordStore, outcome: LookOutcome, log: Any) -> None:
    if record is None:
        outcome.left.append(run.label)
        return
    add(store, record, run.label)
    outcome.made.append(run.label)
    if log:
        print(f"{run.label}: {len(record['conditions'])} conditions, {record['seconds']:.0f} s", file=log, flush=True)
