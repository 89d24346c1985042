"""The tables of chapter 5 on untrained networks: what a part of a layer sees, by the wiring and by gradients."""

import re
from collections.abc import Mapping, Sequence
from itertools import product

import pandas as pd
import torch
from torch import Tensor, nn

from . import stats
from .effective import absolute_gradient, effective_field, share_outside
from .fieldnets import BOX, PLAIN, SHUFFLED
from .models import IMAGENET
from .receptive_field import classical_size, path_mass, share

Maps = Mapping[str, Mapping[str, Tensor]]  # model, layer, map


def layer_text(name: str) -> str:
    """A layer's name as Table 5 has it: conv2_1 for layer1.0 or stage1.0, conv2 for layers.0; other names stay."""
    if block := re.fullmatch(r"(?:layer|stage)(\d+)\.(\d+)", name):
        return f"conv{int(block[1]) + 1}_{int(block[2]) + 1}"
    if layer := re.fullmatch(r"layers\.(\d+)", name):
        return f"conv{int(layer[1]) + 2}"
    return {"stem": "conv1", "maxpool": "pool"}.get(name, name)


def reach_table(reached: Maps, chains: Mapping[str, Sequence[tuple[int, int]]]) -> pd.DataFrame:
    """The exact reach of each layer's units in the box, a row a layer.

    Args:
        reached: Of each model; the first one is plain.
        chains: (kernel, stride) up to each layer of the plain one.

    Returns:
        Columns: layer, classical size of one unit in pixels, first and last pixel that the plain network reaches, and
        each model's share of the image.
    """
    plain = next(iter(reached.values()))
    rows = []
    for layer, seen in plain.items():
        places = seen.any(0).nonzero().flatten().tolist()
        size = {"layer": layer_text(layer), "size": classical_size(chains[layer])}
        shares = {model: share(maps[layer]) for model, maps in reached.items()}
        rows.append({**size, "first": places[0], "last": places[-1], **shares})
    return pd.DataFrame(rows)


def mass_outside(fields: Maps, plain: Mapping[str, Tensor], measure: str) -> pd.DataFrame:
    """How much of a gradient's mass is not in the plain network's reach.

    Args:
        fields: Of each model and layer, Tensor[N, H, W], a map an image.
        plain: Of each layer the plain network's reach, bool Tensor[H, W].
        measure: What the maps are: "squared" or "absolute".

    Returns:
        Columns: model, measure, layer, n (images), share (mean), low, high (its 95 % interval over the images).
    """
    rows = []
    for model, maps in fields.items():
        for layer, field in maps.items():
            one = stats.summarise(share_outside(field, plain[layer]).tolist())
            row = {"model": model, "measure": measure, "layer": layer_text(layer), "n": one.n, "share": one.mean}
            rows.append({**row, "low": max(one.low, 0.0), "high": one.high})
    return pd.DataFrame(rows)


def shares_outside(
    models: Mapping[str, nn.Module], plain: Mapping[str, Tensor], images: Tensor, layers: Sequence[str]
) -> pd.DataFrame:
    """Both measures of untrained networks, the plain one left out, and the share of paths: rows as `mass_outside`'s."""
    others = {name: model for name, model in models.items() if name != PLAIN}
    squared = {name: effective_field(model, layers, images, box=BOX) for name, model in others.items()}
    few = images[:4]
    absolute = {name: absolute_gradient(model, layers, few, box=BOX, units=6) for name, model in others.items()}
    paths = {name: path_mass(model, layers, IMAGENET, box=BOX) for name, model in others.items() if name == SHUFFLED}
    paths = {name: {layer: mass[None] for layer, mass in of.items()} for name, of in paths.items()}
    measures = (squared, "squared"), (absolute, "absolute"), (paths, "paths")
    return pd.concat([mass_outside(fields, plain, name) for fields, name in measures], ignore_index=True)


def drift(
    penalties: Sequence[float], epsilons: Sequence[float], starts: Sequence[float], iterations: int
) -> pd.DataFrame:
    """Follow σ(R) of Eq. 4 at a pixel that changes nothing: only the penalty β moves it, by Adam as the paper sets it.

    Args:
        penalties: Values of β.
        epsilons: Values of Adam's eps.
        starts: Values of R₀.
        iterations: Steps.

    Returns:
        Columns: beta, eps, start (R₀), before (σ(R₀)), moved (R - R₀), after (σ(R)).
    """
    rows = []
    for beta, eps in product(penalties, epsilons):
        r = torch.tensor([*starts], dtype=torch.double)
        adam = torch.optim.Adam([r], lr=0.1, betas=(0.9, 0.99), eps=eps)
        for _ in range(iterations):
            r.grad = beta * torch.sigmoid(r) * torch.sigmoid(-r)
            adam.step()
        for start, end in zip(starts, r, strict=True):
            before, after = (torch.sigmoid(torch.as_tensor(value)).item() for value in (start, end))
            moved = (end - start).item()
            rows.append({"beta": beta, "eps": eps, "start": start, "before": before, "moved": moved, "after": after})
    return pd.DataFrame(rows)
