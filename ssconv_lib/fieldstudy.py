"""The optimised receptive fields of a profile: what is missing, and the stored ones as a table and as maps."""

from statistics import median
from typing import Any

import pandas as pd
from torch import Tensor

from .fieldmap import decode_map
from .fieldrun import FieldRun
from .plan import Profile
from .records import RecordStore

_NETWORK_FIELDS = ("model", "alpha", "layout", "seed", "data")
_OPTIONS = ("channel", "beta", "start", "eps", "lr", "iterations", "batch", "fill")
_COLUMNS = (
    *("profile", *_NETWORK_FIELDS, "trained", "layer", "box_low", "box_high", *_OPTIONS, "field_seed"),
    *("size", "size_strict", "perceptual", "penalty", "seconds", "naive_seconds", "fast_seconds", "ratio"),
    *("device", "torch", "hash"),
)


def field_missing(profile: Profile, study: str | None = None, store: RecordStore | None = None) -> list[FieldRun]:
    """The receptive fields without a record, in order of the plan."""
    store = store or RecordStore(profile.name)
    return [run for run in profile.field_runs(study) if store.get(run) is None]


def field_frame(profile: Profile, study: str, store: RecordStore | None = None) -> pd.DataFrame:
    """The stored receptive fields of a study, a row each, in order of the plan.

    Returns:
        Columns: profile; of the network `model`, `alpha`, `layout`, `seed`, `data` (its name, or its folder's) and
        `trained`; `layer`, `box_low`, `box_high`, `channel` (None is all) and the other fields of a `FieldRun`, its
        seed as `field_seed`; `size`, the share of σ(R) >= .5, as the paper has it, and `size_strict`, of > .5;
        `perceptual` and `penalty` at the last iteration; `seconds` of all iterations; `naive_seconds` and
        `fast_seconds` of one (medians) and `ratio`, the median of naive over fast, round by round; `device`, `torch`,
        `hash`. Without records the columns are there and no row.
    """
    store = store or RecordStore(profile.name)
    rows = [_row(profile, run, record) for run in profile.field_runs(study) if (record := store.get(run))]
    return pd.DataFrame(rows, columns=[*_COLUMNS])


def empty_field_frame() -> pd.DataFrame:
    """The columns of `field_frame`, without a row."""
    return pd.DataFrame(columns=[*_COLUMNS])


def field_maps(profile: Profile, study: str, store: RecordStore | None = None) -> dict[str, Tensor]:
    """The stored maps of a study by hash: σ(R), Tensor[C, H, W], see `fieldmap.decode_map`."""
    store = store or RecordStore(profile.name)
    found = ((run.hash, store.get(run)) for run in profile.field_runs(study))
    return {name: decode_map(record) for name, record in found if record}


def _row(profile: Profile, run: FieldRun, record: dict[str, Any]) -> dict[str, Any]:
    network, cost = run.network, record["cost"]
    return {
        "profile": profile.name,
        **{name: getattr(network, name) for name in _NETWORK_FIELDS},
        "data": getattr(network.data, "folder", network.data.name),
        "trained": run.trained,
        "layer": run.layer,
        "box_low": run.box[0],
        "box_high": run.box[1],
        **{name: getattr(run, name) for name in _OPTIONS},
        "field_seed": run.seed,
        "size": record["sizes"]["at_least_half"],
        "size_strict": record["sizes"]["above_half"],
        **{name: record["loss"][name][-1] for name in ("perceptual", "penalty")},
        "seconds": record["seconds"],
        "naive_seconds": median(cost["naive"]),
        "fast_seconds": median(cost["fast"]),
        "ratio": median(naive / fast for naive, fast in zip(cost["naive"], cost["fast"], strict=True)),
        **{name: record["origin"][name] for name in ("device", "torch")},
        "hash": run.hash,
    }
