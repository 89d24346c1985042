"""Many runs: a profile describes them, the store keeps their records, a study is a table of those."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from .fieldstudy import empty_field_frame, field_frame, field_maps, field_missing
from .plan import Profile, load_profile, profile_names
from .probestudy import empty_probe_frame, probe_frame, probe_missing
from .records import RecordStore
from .run import Run
from .speedrun import MACHINE, SpeedRun

__all__ = [
    "Profile",
    "empty_field_frame",
    "empty_frame",
    "empty_probe_frame",
    "empty_speed_frame",
    "field_frame",
    "field_maps",
    "field_missing",
    "frame",
    "histories",
    "load_profile",
    "missing",
    "probe_frame",
    "probe_missing",
    "profile_names",
    "speed_frame",
    "speed_missing",
    "status",
]


def missing(profile: Profile, study: str | None = None, store: RecordStore | None = None) -> list[Run]:
    """The runs without a record, in order of priority."""
    store = store or RecordStore(profile.name)
    return [run for run in profile.runs(study) if store.get(run) is None]


def frame(profile: Profile, study: str, store: RecordStore | None = None) -> pd.DataFrame:
    """The stored records of a study, a row each, in order of the plan.

    Returns:
        Columns profile, the fields of the run (data as its name, or its folder's), `error`, `top5_error` (of image
        folders) and `best_error` in percent, `best_epoch`, `evaluated_on`, `n_images`, `pixels` (of image folders),
        `distance`, `exact` and `size` (of generated images), `n_train` (training images), `seconds` (training and
        evaluation), `train_seconds` (None if it went on on another kind of machine), `device`, `processes`, `hash`.
        Without records the columns are there and no row.
    """
    store = store or RecordStore(profile.name)
    rows = [_row(profile, run, record) for run in profile.runs(study) if (record := store.get(run))]
    return pd.DataFrame(rows, columns=[*_COLUMNS])


def empty_frame() -> pd.DataFrame:
    """The columns of `frame`, without a row."""
    return pd.DataFrame(columns=[*_COLUMNS])


_RUN_FIELDS = [field.name for field in dataclasses.fields(Run)]
_FINAL = ("error", "top5_error", "best_error", "best_epoch", "evaluated_on", "n_images")
_GENERATED = ("distance", "exact", "size")  # of generated images
_MADE = ("pixels", *_GENERATED, "n_train", "seconds", "train_seconds", "device", "processes")
_COLUMNS = ("profile", *_RUN_FIELDS, *_FINAL, *_MADE, "hash")


def _row(profile: Profile, run: Run, record: dict[str, Any]) -> dict[str, Any]:
    return {
        "profile": profile.name,
        **{name: getattr(run, name) for name in _RUN_FIELDS},
        "data": getattr(run.data, "folder", run.data.name),  # which images, not just that they are in a folder
        **{name: record["final"].get(name) for name in _FINAL},
        "pixels": getattr(run.data, "pixels", None),
        **{name: getattr(run.data, name, None) for name in _GENERATED},
        "n_train": record.get("n_train"),
        "seconds": sum(record["seconds"].values()),
        "train_seconds": record["seconds"]["train"] if _made_on_one(record) else None,
        "device": record["origin"]["device"],
        "processes": record["origin"].get("processes", 1),
        "hash": run.hash,
    }


def _made_on_one(record: dict[str, Any]) -> bool:
    """Tell whether one kind of machine did all of it: else its seconds are of none."""
    origins = [record["origin"], *record.get("earlier_origins", [])]
    return len({(origin["device"], origin.get("processes", 1)) for origin in origins}) == 1


def histories(profile: Profile, study: str, store: RecordStore | None = None) -> pd.DataFrame:
    """The learning curves of a study: a row an epoch, with the run's model, alpha, layout, seed and hash."""
    store = store or RecordStore(profile.name)
    curves = [
        pd.DataFrame(record["history"]).assign(
            model=run.model, alpha=run.alpha, layout=run.layout, seed=run.seed, hash=run.hash
        )
        for run in profile.runs(study)
        if (record := store.get(run))
    ]
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()


SPEED_FIELDS = ("network", "channels", "mode", "precision", "memory_format", "compile", "alpha", "batch", "pixels")
_MACHINE = (*MACHINE, "native")
_SPEED_COLUMNS = (
    *("profile", *SPEED_FIELDS, "arm", "n", "seconds", "seconds_low", "seconds_high", "seconds_each"),
    *("ms_per_image", "ratio", "ratio_low", "ratio_high", "saved_mb", "peak_mb", *_MACHINE, "hash", "date"),
)


def speed_frame(profile: Profile, study: str, store: RecordStore | None = None) -> pd.DataFrame:
    """The stored measurements of a study of speed, a row an arm, in order of the plan; of every machine.

    Returns:
        Columns profile, the fields that say what was measured, `arm`, `n` (rounds), `seconds` of a step (median)
        with quartiles `seconds_low` and `seconds_high`, `seconds_each` (a tuple, round by round: the arms of a hash
        are paired), `ms_per_image`, `ratio` to the plain convolution (median of the rounds) with quartiles, `saved_mb`
        for the backward (in training) and `peak_mb` of a step in 10⁶ bytes, `device`, `torch`, `threads`, `native`,
        `hash`, `date`. Without records the columns are there and no row.
    """
    store = store or RecordStore(profile.name)
    place = {run.hash: number for number, run in enumerate(profile.speed_runs(study))}
    found = [(place[plan.hash], run, record) for plan, run, record in _measured(store) if plan.hash in place]
    found.sort(key=lambda one: (one[0], [str(getattr(one[1], name)) for name in _MACHINE]))
    rows = [row for _, run, record in found for row in _speed_rows(profile, run, record)]
    return pd.DataFrame(rows, columns=[*_SPEED_COLUMNS])


def empty_speed_frame() -> pd.DataFrame:
    """The columns of `speed_frame`, without a row."""
    return pd.DataFrame(columns=[*_SPEED_COLUMNS])


def speed_missing(
    profile: Profile, study: str | None, here: Callable[[SpeedRun], SpeedRun], store: RecordStore | None = None
) -> list[SpeedRun]:
    """The measurements without a record of a machine, in order; `here` puts one on that machine (see `speed.here`)."""
    store = store or RecordStore(profile.name)
    return [run for run in profile.speed_runs(study) if store.get(here(run)) is None]


def _measured(store: RecordStore) -> Iterator[tuple[SpeedRun, SpeedRun, dict[str, Any]]]:
    """Each record of speed with its run, before that the same on no machine, which the plan has."""
    for record in store.speeds():
        run = SpeedRun.from_dict(record["run"])
        yield run.plan, run, record


def _speed_rows(profile: Profile, run: SpeedRun, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    fields = {name: getattr(run, name) for name in (*SPEED_FIELDS, *_MACHINE, "hash")}
    for name, arm in record["arms"].items():
        low, high = arm["quartiles"]
        ratio_low, ratio_high = arm["ratio_quartiles"]
        yield {
            "profile": profile.name,
            **fields,
            "arm": name,
            "n": arm["n"],
            "seconds": arm["median"],
            "seconds_low": low,
            "seconds_high": high,
            "seconds_each": tuple(arm["seconds"]),
            "ms_per_image": 1000 * arm["per_image"],
            "ratio": arm["ratio"],
            "ratio_low": ratio_low,
            "ratio_high": ratio_high,
            "saved_mb": None if arm["saved_bytes"] is None else arm["saved_bytes"] / 1e6,
            "peak_mb": arm["peak_bytes"] / 1e6,
            "date": record["origin"]["date"],
        }


def status(profile: Profile, store: RecordStore | None = None) -> pd.DataFrame:
    """What is there and what is missing, a row a study; seconds are the mean of the runs that are there.

    A measurement of speed is there if any machine has made it.
    """
    store = store or RecordStore(profile.name)
    rows = []
    for study in profile.studies:
        there = frame(profile, study, store)
        mean = round(there["seconds"].mean(), 1) if len(there) else None
        rows.append(_status(study, len(profile.runs(study)), len(there), mean, "train"))
    measured = {plan.hash for plan, _, _ in _measured(store)} if profile.timed else {}
    for study in profile.speed_studies:
        runs = profile.speed_runs(study)
        rows.append(_status(study, len(runs), sum(run.hash in measured for run in runs), None, "bench"))
    for study in profile.field_studies:
        there = field_frame(profile, study, store)
        mean = round(there["seconds"].mean(), 1) if len(there) else None
        rows.append(_status(study, len(profile.field_runs(study)), len(there), mean, "fields"))
    for study in profile.probe_studies:
        seconds = [record["seconds"] for run in profile.probe_runs(study) if (record := store.get(run))]
        mean = round(sum(seconds) / len(seconds), 1) if seconds else None
        rows.append(_status(study, len(profile.probe_runs(study)), len(seconds), mean, "probe"))
    return pd.DataFrame(rows)


def _status(study: str, planned: int, there: int, seconds: float | None, command: str) -> dict[str, Any]:
    row = {"study": study, "planned": planned, "there": there, "missing": planned - there}
    return {**row, "seconds a run": seconds, "made by": command}
