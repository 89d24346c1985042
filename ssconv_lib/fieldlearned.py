"""What training does to the effective receptive field, of the networks whose weights are kept."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from torch import Tensor

from . import stats
from .data import LongRange, load
from .effective import absolute_gradient, effective_field, settle, share_outside
from .fieldnets import noise
from .fieldplots import ROOT, displayed
from .fieldrun import FieldRun
from .fieldtables import layer_text
from .fieldviews import exact, has_gates, looked_at, network_text
from .loader import make_batches
from .plan import Profile
from .tables import source
from .training import build_model
from .weights import load_weights, weights_path

IMAGES = 32
COLUMNS = ["source", "model", "measure", "layer", "n", "untrained", "untrained_low", "untrained_high"]
COLUMNS += ["trained", "trained_low", "trained_high", "factor"]


def learned(profiles: Sequence[Profile], study: str) -> pd.DataFrame:
    """The share of the gradient from outside the plain network's reach, before training and after it.

    Layers are left out where the plain network of the study sees the whole image, or the other one nothing outside.

    Returns:
        Columns: source (profile and images), model, measure ("squared" or "absolute"), layer, n (images, see
        `images_for`), `untrained` and `trained` (the mean share) with the 95 % intervals over the images, factor
        (trained over untrained). A row for each measure and layer of the networks whose weights are there.
    """
    rows = []
    for profile in profiles:
        networks, reached = looked_at(profile, study), exact(profile, study)
        plain = next((reached[_name(run)] for run, _ in networks if _is_plain(run)), {})
        for run, layers in networks:
            if not _is_plain(run) and weights_path(run.network, profile.name).exists():
                seen = {name: plain[name] for name in layers if name in plain and not plain[name].all()}
                data = getattr(run.network.data, "folder", run.network.data.name)
                at = {"source": source(pd.DataFrame([{"profile": profile.name, "data": data}])), "model": _name(run)}
                rows += [{**at, **row} for row in _rows(run, profile, seen)]
    return pd.DataFrame(rows, columns=COLUMNS)


def images_for(run: FieldRun, count: int = IMAGES) -> Tensor:
    """Return images of the generated task, if that is a run's; for others noise, so that no data set is needed."""
    if isinstance(run.network.data, LongRange):
        batches = make_batches(load(run.network.data), "train", count, seed=run.seed, train=True)
        return next(iter(batches.epoch(0)))[0]
    return noise(count, run.input_size)


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
        name = _name(run)
        if run.network.alpha and name in drawn and weights_path(run.network, profile.name).exists():
            model = load_weights(run.network, profile.name)
            fields = effective_field(model, layers, images_for(run), box=run.box)
            shown = {layer: displayed(field.mean(0)) for layer, field in fields.items()}
            return name, {"exact reach": exact(profile, study)[name], ROOT: shown, "Eq. 4": drawn[name]}
    return "", {}


def _name(run: FieldRun) -> str:
    return network_text(run.network.model, run.network.alpha)


def _is_plain(run: FieldRun) -> bool:
    return run.network.alpha == 0 and not has_gates(run.network.model)


def _rows(run: FieldRun, profile: Profile, plain: Mapping[str, Tensor]) -> Iterator[dict[str, object]]:
    images, layers = images_for(run), [*plain]
    untrained = settle(build_model(run.network, 10, run.input_size), [images])
    networks = untrained, load_weights(run.network, profile.name)
    squared = [effective_field(model, layers, images, box=run.box) for model in networks]
    absolute = [absolute_gradient(model, layers, images, box=run.box) for model in networks]
    for measure, fields in (("squared", squared), ("absolute", absolute)):
        for layer in layers:
            before, after = (stats.summarise(share_outside(of[layer], plain[layer]).tolist()) for of in fields)
            if before.mean:
                row: dict[str, object] = {"measure": measure, "layer": layer_text(layer), "n": before.n}
                for name, one in (("untrained", before), ("trained", after)):
                    row |= {name: one.mean, f"{name}_low": max(one.low, 0.0), f"{name}_high": one.high}
                yield {**row, "factor": after.mean / before.mean}
