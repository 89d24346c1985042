"""Weights that read shuffled channels, of the trained networks that a study of probes asks; no images are needed."""

from collections.abc import Sequence

import pandas as pd

from .plan import Profile
from .run import Run
from .usagetables import weight_norms
from .weights import load_weights, weights_path

NETWORK = ["profile", "model", "alpha", "seed"]


def norms(profiles: Sequence[Profile], study: str) -> pd.DataFrame:
    """Compare the norms of weights in each shuffling network with the plain one of its seed.

    Returns:
        Columns: profile, model, alpha, seed of each network of the study whose weights are there, with those of the
        plain network of its seed, and `usagetables.weight_norms`'s.
    """
    rows = []
    for profile in profiles:
        asked = {run.network.hash: run.network for run in profile.probe_runs(study)}
        there = [run for run in asked.values() if weights_path(run, profile.name).exists()]
        for run in there:
            plain = next((other for other in there if run.alpha and _is_plain_of(other, run)), None)
            if plain:
                models = load_weights(plain, profile.name), load_weights(run, profile.name)
                at = {"profile": profile.name, **{name: getattr(run, name) for name in NETWORK[1:]}}
                rows.append(weight_norms(*models).assign(**at))
    if not rows:
        return pd.DataFrame(columns=[*NETWORK, "layer", "shuffled", "channels", "ss", "conv", "spread"])
    table = pd.concat(rows, ignore_index=True)
    return table[[*NETWORK, *(name for name in table if name not in NETWORK)]]


def _is_plain_of(other: Run, run: Run) -> bool:
    return other.alpha == 0 and (other.model, other.seed, other.data) == (run.model, run.seed, run.data)
