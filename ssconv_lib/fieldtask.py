"""Make the receptive fields that a profile lacks, network by network; weights that are missing are waited for."""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .data import Batches, Data, DataSpec, load
from .effective import settle
from .fieldmap import encode_map
from .fieldrun import FieldRun
from .fields import digest
from .fieldstep import Optimised, black_of, clean_parts, held
from .fieldstudy import field_missing
from .fieldweights import missing_weights, one_thread
from .files import sweep
from .imagefolder import FolderData
from .loader import FolderBatches, make_batches
from .optimised_field import optimise
from .origin import origin
from .plan import Profile
from .progress import bar
from .records import SCHEMA, RecordStore
from .task import LookOutcome, Plan, add, default_loaders, plan_here
from .training import build_model
from .weights import load_weights

SETTLING = 8  # batches whose statistics an untrained network's batch norm takes


def make_missing(
    profile: Profile,
    study: str | None = None,
    *,
    budget: float | None = None,
    records: Path | None = None,
    device: str | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
    log: Any = None,
) -> LookOutcome:
    """Make the receptive fields of a profile that have no record, trained networks first.

    When it is stopped, or at the end of the budget, checkpoints are written; calling this again goes on from there.
    What one network or its images lack is noted in the outcome, and the others go on.

    Args:
        profile: What is planned.
        study: Only this study's fields.
        budget: Seconds; None is no limit.
        records: The folder of all profiles' records, by default results/records; networks are looked for beside it.
        device: "cpu" or "cuda"; None takes the profile's.
        is_stopped: Asked before each iteration.
        log: A text file for one line a field; None logs nothing.

    Raises:
        OSError: nothing can be written where the records go.
        ValueError: there is no such study, or no such device here.
    """
    plan = plan_here(profile, budget, records, device)
    maker = _Maker(profile, plan, is_stopped, log)
    missing = field_missing(profile, study, maker.store)
    groups: dict[tuple, list[FieldRun]] = {}
    for run in sorted(missing, key=lambda run: not run.trained):
        groups.setdefault((run.trained, digest(run.network_identity), run.seed, run.batch), []).append(run)
    total = sum(run.iterations for run in missing)
    if missing:
        maker.store.prepare()
    with one_thread(), bar(total=total, unit="iteration", desc=f"{len(missing)} fields") as maker.progress:
        for runs in groups.values():
            maker.make(runs)
    sweep(plan.checkpoints)
    maker.store.tidy()
    return maker.outcome


class _Maker:
    """Makes one group of fields after another, and keeps what became of them."""

    def __init__(self, profile: Profile, plan: Plan, is_stopped: Callable[[], bool], log: Any) -> None:
        self.profile, self.plan, self.is_stopped, self.log = profile, plan, is_stopped, log
        self.store, self.outcome = RecordStore(profile.name, plan.records), LookOutcome()
        self.progress = bar(hidden=True)
        self._data: tuple[DataSpec, Data | FolderData] | None = None

    def should_stop(self) -> bool:
        return self.is_stopped() or self.plan.is_over

    def make(self, runs: Sequence[FieldRun]) -> None:
        """Make fields of one network, seed and batch; store what is finished."""
        labels = [run.label for run in runs]
        if self.should_stop():
            self.outcome.left += labels
            return
        if runs[0].trained and (how := missing_weights(self.profile, runs[0].network, self.plan)):
            self.outcome.waiting.setdefault(how, []).extend(labels)
            return
        try:
            self._make(runs)
        except Exception as error:  # whatever one network does, the others go on
            failed = dict.fromkeys(labels, f"{type(error).__name__}: {error}")
            self.outcome.failed |= {label: why for label, why in failed.items() if label not in self.outcome.failed}

    def _make(self, runs: Sequence[FieldRun]) -> None:
        first = runs[0]
        data = self._load(first.network.data)
        loaders = default_loaders(self.plan.device, None, 1) if isinstance(data, FolderData) else 0
        options = {"seed": first.seed, "train": True, "device": self.plan.device, "loaders": loaders}
        batches = make_batches(data, "train", first.batch, **options)
        try:
            network = self._network(first, data, batches)
            runs = self._possible(network, runs)
            found = optimise(
                network,
                batches,
                runs,
                black=black_of(data),
                checkpoints=self.plan.checkpoints,
                checkpoint_every=self.plan.checkpoint_every,
                should_stop=self.should_stop,
                report=self.progress.update,
            )
        finally:
            if isinstance(batches, FolderBatches):
                batches.close()
        for run in runs:
            if run.hash in found:
                self._store(run, found[run.hash])
            else:
                self.outcome.left.append(run.label)

    def _load(self, spec: DataSpec) -> Data | FolderData:
        """Images are read once for all networks that were trained on them."""
        if self._data is None or self._data[0] != spec:
            self._data = None  # one data set at a time
            self._data = spec, load(spec)
        return self._data[1]

    def _network(self, run: FieldRun, data: Data | FolderData, batches: Batches | FolderBatches) -> nn.Module:
        if run.trained:
            return load_weights(run.network, self.profile.name, self.plan.weights).to(self.plan.device)
        network = build_model(run.network, data.num_classes, data.input_size).to(self.plan.device)
        return settle(network, [images for images, _ in islice(batches.epoch(0), SETTLING)])

    def _possible(self, network: nn.Module, runs: Sequence[FieldRun]) -> list[FieldRun]:
        """The runs whose layer, box and channel the network has; the others have failed."""
        black = torch.zeros(1, *runs[0].input_size, device=self.plan.device)
        good = []
        with held(network):
            for run in runs:
                try:
                    clean_parts(network, [(run.layer, run.box, run.channel)], black)
                    good.append(run)
                except ValueError as error:
                    self.outcome.failed[run.label] = f"ValueError: {error}"
        return good

    def _store(self, run: FieldRun, found: Optimised) -> None:
        add(self.store, make_field_record(run, found, self.plan.device), run.label)
        (self.plan.checkpoints / f"{run.label}.pt").unlink(missing_ok=True)
        self.outcome.made.append(run.label)
        if self.log:
            share = 100 * found.sizes["at_least_half"]
            print(f"{run.label}: {share:.1f} % at least half, {found.seconds:.0f} s", file=self.log, flush=True)


def make_field_record(run: FieldRun, found: Optimised, device: str) -> dict[str, Any]:
    """Put together a record of what was optimised and what was found, on a device."""
    return {
        "schema": SCHEMA,
        "kind": "field",
        "hash": run.hash,
        "run": run.to_dict(),
        "map": encode_map(found.map),
        "sizes": found.sizes,
        "loss": found.loss,
        "cost": found.cost,
        "seconds": round(found.seconds, 3),
        "origin": origin(device),
    }
