"""Weights that read shuffled channels, of the trained networks that a study of probes asks; no images are needed."""

from collections.abc import Sequence

import pandas as pd

from . import readable
from .judge import verdict_row
from .plan import Profile
from .run import Run
from .usagetables import weight_norms
from .weights import load_weights, weights_path

NETWORK = ["profile", "model", "alpha", "seed"]
BEYOND = 2  # spreads of a ratio of alike channels: what is farther from 1 than that isn't chance


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


def norm_claims(table: pd.DataFrame) -> list[dict[str, str]]:
    """Training weighs shuffled channels unlike others, in one direction: a row for each network.

    A layer speaks if its ratio is more than `BEYOND` spreads above 1 (more weight) or below it (less). Supported: all
    layers speak, in one direction. In part: half of them or more, none in the other one. Nobody can tell of anything
    else, nor where the same channels of the plain network, by the same measure, deviate in as many layers that way:
    then it isn't the shuffle.

    Args:
        table: From `norms`; layers without other channels to compare with are left out.
    """
    rows, known = [], table.dropna(subset=["ss", "spread"])
    for (profile, model, alpha, seed), of in known.groupby(NETWORK, sort=False):
        ss, plain, n = _beyond(of, "ss"), _beyond(of, "conv"), len(of)
        way, other = sorted(ss, key=ss.get, reverse=True)
        outcome = "cannot tell"
        if 2 * ss[way] >= n and not ss[other] and plain[way] < ss[way]:
            outcome = "supported" if ss[way] == n else "in part"
        evidence = (
            f"Shuffled channels against the others of a layer: more weight in {ss['more']} of {n} layers, less in"
            f" {ss['less']}, the others within {BEYOND} sd of chance (mean ratio {of['ss'].mean():.2f}); the same"
            f" channels of the plain network: more in {plain['more']}, less in {plain['less']} (mean ratio"
            f" {of['conv'].mean():.2f}). One network of each kind, n = {n} layers."
        )
        where = f"{readable.model_text(model)}, α = {readable.alpha_text(alpha)}, seed {seed}; {profile}"
        claim = "Training weighs shuffled channels unlike others, all in one direction"
        rows.append(verdict_row(claim, f"Not in the paper; {where}", evidence, outcome))
    return rows


def _beyond(layers: pd.DataFrame, arm: str) -> dict[str, int]:
    """In how many layers an arm's ratio is beyond chance, either way; the plain one's chance is taken as that of ss."""
    away = (layers[arm] - 1) / layers["spread"]
    return {"more": int((away > BEYOND).sum()), "less": int((away < -BEYOND).sum())}


def _is_plain_of(other: Run, run: Run) -> bool:
    return other.alpha == 0 and (other.model, other.seed, other.data) == (run.model, run.seed, run.data)
