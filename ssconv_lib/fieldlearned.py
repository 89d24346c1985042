"""What training does to the effective receptive field, of the networks whose weights are kept; no images are needed."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from . import stats
from .effective import effective_field, settle, share_outside
from .fieldplots import displayed
from .fieldrun import FieldRun
from .fieldtables import layer_text
from .fieldviews import exact, looked_at, network_text
from .plan import Profile
from .seeds import stream
from .tables import source
from .training import build_model
from .weights import load_weights, weights_path

IMAGES = 32  # of noise
COLUMNS = ["source", "model", "layer", "n", "untrained", "untrained_low", "untrained_high"]
COLUMNS += ["trained", "trained_low", "trained_high", "factor"]


def learned(profiles: Sequence[Profile], study: str) -> pd.DataFrame:
    """The share of the effective field outside the plain network's reach, before training and after it.

    The plain network is the first of the study. Layers are left out where it sees the whole image, or the other network
    nothing outside.

    Returns:
        Columns: source (profile and images), model, layer, n (images of noise), `untrained` and `trained` (the mean
        share) with the 95 % intervals over the images, factor (trained over untrained). A row for each layer of the
        other networks whose weights are there.
    """
    rows = []
    for profile in profiles:
        networks, reached = looked_at(profile, study), list(exact(profile, study).values())
        for run, layers in networks[1:]:
            if not weights_path(run.network, profile.name).exists():
                continue
            images = noise(run)
            plain = {name: reached[0][name] for name in layers if name in reached[0] and not reached[0][name].all()}
            fields = [
                effective_field(model, [*plain], images, box=run.box) for model in _before_after(run, profile, images)
            ]
            name = network_text(run.network.model, run.network.alpha)
            data = getattr(run.network.data, "folder", run.network.data.name)
            at = {"source": source(pd.DataFrame([{"profile": profile.name, "data": data}])), "model": name}
            rows += [
                {**at, **row} for layer, seen in plain.items() if (row := _row(layer, [f[layer] for f in fields], seen))
            ]
    return pd.DataFrame(rows, columns=COLUMNS)


def noise(run: FieldRun, count: int = IMAGES) -> Tensor:
    """Draw images from N(0, 1) of the size of a run's."""
    return torch.randn(count, *run.input_size, generator=stream(0, "noise images"))


def measures(
    profile: Profile, study: str, drawn: dict[str, dict[str, Tensor]]
) -> tuple[str, dict[str, dict[str, Tensor]]]:
    """Three answers to what a shuffling network sees, by layer: exact reach, effective field and Eq. 4's map.

    Args:
        profile: Whose networks.
        study: Of receptive fields.
        drawn: `fieldviews.drawn` of the trained ones.

    Returns:
        The name of the first network of the study that shuffles, and its maps; none if its weights or maps are not
        there. The effective field is scaled by `fieldplots.displayed`.
    """
    for run, layers in looked_at(profile, study):
        name = network_text(run.network.model, run.network.alpha)
        if run.network.alpha and name in drawn and weights_path(run.network, profile.name).exists():
            model = load_weights(run.network, profile.name)
            fields = effective_field(model, layers, noise(run), box=run.box)
            shown = {layer: displayed(field.mean(0)) for layer, field in fields.items()}
            return name, {"exact reach": exact(profile, study)[name], "effective field": shown, "Eq. 4": drawn[name]}
    return "", {}


def _before_after(run: FieldRun, profile: Profile, images: Tensor) -> tuple[nn.Module, nn.Module]:
    untrained = settle(build_model(run.network, 10, run.input_size), [images])
    return untrained, load_weights(run.network, profile.name)


def _row(layer: str, fields: Sequence[Tensor], plain: Tensor) -> dict[str, object] | None:
    before, after = (stats.summarise(share_outside(field, plain).tolist()) for field in fields)
    if not before.mean:
        return None
    row: dict[str, object] = {"layer": layer_text(layer), "n": before.n, "factor": after.mean / before.mean}
    for name, one in (("untrained", before), ("trained", after)):
        row |= {name: one.mean, f"{name}_low": max(one.low, 0.0), f"{name}_high": one.high}
    return row
