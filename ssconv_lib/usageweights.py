"""Weights that read shuffled channels, of the trained networks that a study of probes asks; no images are needed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import Tensor, nn

from . import readable
from .ablation import blocks
from .fieldtables import layer_text
from .judge import verdict_row
from .plan import Profile
from .run import Run
from .weights import load_weights, weights_path

NETWORK = ["profile", "model", "alpha", "seed"]
BEYOND = 2  # spreads of a ratio of alike channels: what is farther from 1 than that isn't chance


def norms(profiles: Sequence[Profile], study: str) -> pd.DataFrame:
    """Compare the norms of weights in each shuffling network with the plain one of its seed.

    Returns:
        Columns: profile, model, alpha, seed of each network of the study whose weights are there, with those of the
        plain network of its seed, and `weight_norms`'s.
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


def weight_norms(model_plain: nn.Module, model_ss: nn.Module) -> pd.DataFrame:
    """Does training give shuffled channels more weight, or less? From the weights alone.

    The norm of an input channel is the L2 norm of all weights that read it. The leading channels of a plain network are
    like any others, so the same channels of one of the same seed are the control. A norm says nothing of how large the
    values are that it weighs.

    Args:
        model_plain: Trained without shuffling.
        model_ss: The same network, trained with it.

    Returns:
        A row for each ss convolution that shuffles: layer, shuffled and channels (counts), `ss` and `conv`: the mean
        norm of these channels over that of the others, in either network; spread: the sd that such a ratio has by
        chance, if the shuffled channels of the ss network are like its others.

    Raises:
        ValueError: a convolution is not in the plain network, or of another shape there.
    """
    plain, rows = dict(model_plain.named_modules()), []
    for name in [name for layers in blocks(model_ss).values() for name in layers]:
        layer, other = model_ss.get_submodule(name), plain.get(name)
        if not isinstance(other, nn.Conv2d) or other.weight.shape != layer.weight.shape:
            raise ValueError(f"{name}: the plain network has no such convolution; expected the same model without α")
        shuffled = np.zeros(layer.in_channels, dtype=bool)
        shuffled[layer.shuffled] = True
        count = int(shuffled.sum())
        row = {"layer": _convolution_text(name), "shuffled": count, "channels": layer.in_channels}
        norms = {arm: channel_norms(conv.weight, conv.groups) for arm, conv in (("ss", layer), ("conv", other))}
        for arm, of in norms.items():
            row[arm] = of[shuffled].mean() / of[~shuffled].mean() if count < len(of) else float("nan")
        rest = norms["ss"][~shuffled]
        many = len(rest) > 1
        row["spread"] = rest.std(ddof=1) / rest.mean() * (1 / count + 1 / len(rest)) ** 0.5 if many else float("nan")
        rows.append(row)
    return pd.DataFrame(rows, columns=["layer", "shuffled", "channels", "ss", "conv", "spread"])


def channel_norms(weight: Tensor, groups: int = 1) -> np.ndarray:
    """Return the L2 norm of the weights that read each input channel: (C,), of a weight (out, C / groups, kh, kw)."""
    parts = weight.detach().double().cpu().unflatten(0, (groups, -1))  # (groups, out / groups, C / groups, kh, kw)
    return parts.square().sum((1, 3, 4)).sqrt().flatten().numpy()


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


def _convolution_text(name: str) -> str:
    """conv2_1.conv2 for stage1.0.conv2: the block as in Table 5, then what is within."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        block = ".".join(parts[:end])
        if layer_text(block) != block:
            return ".".join([layer_text(block), *parts[end:]])
    return name
