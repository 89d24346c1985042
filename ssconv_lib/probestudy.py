"""The probes of a profile: what is missing, and the stored answers as a table."""

import pandas as pd

from .plan import Profile
from .proberecord import ANSWER_COLUMNS, SOURCE_COLUMNS, unpack
from .proberun import ProbeRun
from .records import RecordStore

_NETWORK_FIELDS = ("model", "alpha", "layout", "control", "seed")


def probe_missing(profile: Profile, study: str | None = None, store: RecordStore | None = None) -> list[ProbeRun]:
    """The probes without a record, in order of the plan."""
    store = store or RecordStore(profile.name)
    return [run for run in profile.probe_runs(study) if store.get(run) is None]


def probe_frame(profile: Profile, study: str, store: RecordStore | None = None) -> pd.DataFrame:
    """The stored answers of a study of probes, a row a condition, in order of the plan and of the conditions.

    Returns:
        Columns: profile; of the network `model`, `alpha`, `layout`, `control`, `seed`, `data` (its name, or its
        folder's) and `network`, the hash of its run; `probe`; a column for each part of a condition that a record of
        the study has, None where a condition is without it; `error` in percent; `n_images`; `wrong`, a bool array
        (n_images,); `hash`, the probe's. Without records there is no row and no column of a condition's.
    """
    store = store or RecordStore(profile.name)
    found = [(run, record) for run in profile.probe_runs(study) if (record := store.get(run))]
    parts = dict.fromkeys(name for _, record in found for one in record["conditions"] for name in one["condition"])
    rows = [
        {
            **_source(profile, run),
            **{name: one["condition"].get(name) for name in parts},
            "error": one["error"],
            "n_images": record["n_images"],
            "wrong": unpack(one["wrong"], record["n_images"]),
            "hash": run.hash,
        }
        for run, record in found
        for one in record["conditions"]
    ]
    table = pd.DataFrame(rows, columns=[*SOURCE_COLUMNS, *parts, *ANSWER_COLUMNS])
    for name in parts:
        values = [row[name] for row in rows]
        if None in values:  # which pandas would make NaN, and whole numbers with it fractions
            table[name] = pd.Series(values, dtype=object)
    return table


def empty_probe_frame() -> pd.DataFrame:
    """The columns of `probe_frame`, but for those of conditions, without a row."""
    return pd.DataFrame(columns=[*SOURCE_COLUMNS, *ANSWER_COLUMNS])


def _source(profile: Profile, run: ProbeRun) -> dict[str, str | int | float]:
    network = run.network
    return {
        "profile": profile.name,
        **{name: getattr(network, name) for name in _NETWORK_FIELDS},
        "data": getattr(network.data, "folder", network.data.name),
        "network": network.hash,
        "probe": run.probe,
    }
