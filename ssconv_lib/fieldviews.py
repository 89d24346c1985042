"""The tables of chapter 5 on Eq. 4: stored maps by network and layer, beside the exact reach.

Frames are those of `fieldstudy.field_frame`; maps are σ(R) by the records' hashes, Tensor[C, H, W].
"""

from collections.abc import Mapping, Sequence

import pandas as pd
from torch import Tensor

from . import readable
from .fieldrun import FieldRun
from .fieldstudy import field_frame, field_maps
from .fieldtables import Maps, layer_text
from .plan import Profile
from .receptive_field import iou, reach, share
from .tables import source
from .training import build_model

SUMMARY = ["source", "model", "layer", "exact", "untrained", "trained", "iou"]
SIZES = {"size": "σ(R) ≥ 1/2", "size_strict": "σ(R) > 1/2", "exact": "exact reach"}


def network_text(model: str, alpha: float) -> str:
    """A network's name in a figure: with "+ ss" if it shuffles."""
    return readable.model_text(model).removesuffix(", generated task") + (" + ss" if alpha else "")


def has_gates(model: str) -> bool:
    """Tell by its name whether a network has squeeze-and-excitation gates."""
    return model.startswith("seresnet") or model.endswith("_senet")


def figure_names(frame: pd.DataFrame) -> dict[str, str]:
    """Which of the paper's figures shows which network: 6 a plain one, 7 one that shuffles, 8 one with gates."""
    names = {}
    for row in frame.itertuples():
        number = 7 if row.alpha else 8 if has_gates(row.model) else 6
        names.setdefault(f"figure{number}", network_text(row.model, row.alpha))
    return names


def drawn(frame: pd.DataFrame, maps: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Sort a study's maps by network and layer, each the mean over the image's channels: Tensor[H, W].

    Args:
        frame: Rows of `study.field_frame`, of one box and one setting.
        maps: σ(R) by the records' hashes, Tensor[C, H, W].
    """
    sorted_: dict[str, dict[str, Tensor]] = {}
    for row in frame.itertuples():
        sorted_.setdefault(network_text(row.model, row.alpha), {})[row.layer] = maps[row.hash].mean(0)
    return sorted_


def exact(profile: Profile, study: str) -> dict[str, dict[str, Tensor]]:
    """Return the exact reach of what a study looks at, by network and layer; no weights are needed for that."""
    reached: dict[str, dict[str, Tensor]] = {}
    for run, layers in looked_at(profile, study):
        model = build_model(run.network, 10, run.input_size)
        seen = reach(model, layers, run.input_size, box=run.box, channel=run.channel)
        reached[network_text(run.network.model, run.network.alpha)] = seen
    return reached


def looked_at(profile: Profile, study: str) -> list[tuple[FieldRun, list[str]]]:
    """The networks of a study, each as the first of its runs, with all layers that are looked at, in order."""
    found: dict[str, tuple[FieldRun, list[str]]] = {}
    for run in profile.field_runs(study) if study in profile.field_studies else []:
        _, layers = found.setdefault(run.network.hash, (run, []))
        if run.layer not in layers:
            layers.append(run.layer)
    return list(found.values())


def some_layers(maps: Maps, count: int = 5) -> Maps:
    """Choose, of every network, so many layers evenly from the first to the last: a figure's width."""
    chosen = {}
    for name, layers in maps.items():
        names, last = list(layers), len(layers) - 1
        places = {round(k * last / max(min(count, len(names)) - 1, 1)) for k in range(min(count, len(names)))}
        chosen[name] = {names[place]: layers[names[place]] for place in sorted(places)}
    return chosen


def optimised_sizes(frame: pd.DataFrame, reached: Maps) -> pd.DataFrame:
    """The sizes of Fig. 5 (a): columns model, layer, trained, kind (see `SIZES`), fraction."""
    rows = []
    for row in frame.itertuples():
        name = network_text(row.model, row.alpha)
        fractions = {"size": row.size, "size_strict": row.size_strict, "exact": share(reached[name][row.layer])}
        for kind, text in SIZES.items():
            one = {"model": name, "layer": layer_text(row.layer), "trained": row.trained, "kind": text}
            rows.append({**one, "fraction": float(fractions[kind])})
    return pd.DataFrame(rows, columns=["model", "layer", "trained", "kind", "fraction"])


def summary(profile: Profile, study: str) -> pd.DataFrame:
    """What Eq. 4 found in a profile's networks, layer by layer, beside the exact reach.

    Returns:
        Columns: source (profile and images), model, layer, exact (the reach's share), untrained and trained
        (the paper's size of the maps), iou (of the trained map, at a half, with the reach).
    """
    frame, maps, reached = field_frame(profile, study), field_maps(profile, study), exact(profile, study)
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for row in frame.itertuples():
        name = network_text(row.model, row.alpha)
        seen = reached[name][row.layer]
        known = {"source": source(frame), "model": name, "layer": layer_text(row.layer), "exact": share(seen)}
        one = rows.setdefault((name, row.layer), known)
        one["trained" if row.trained else "untrained"] = row.size
        if row.trained:
            one["iou"] = iou(maps[row.hash].mean(0) >= 0.5, seen)
    return pd.DataFrame(list(rows.values()), columns=SUMMARY)


def summaries(profiles: Sequence[Profile], study: str) -> pd.DataFrame:
    """The `summary` of each profile, one below the other; no row without profiles."""
    frames = [summary(profile, study) for profile in profiles]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=SUMMARY)


def looked_at_text(row: pd.Series) -> str:
    """What a row of `field_frame` looks at, and for how long: channel 16 of conv2_1, 1,000 iterations."""
    of = layer_text(row["layer"])
    unit = of if pd.isna(row["channel"]) else f"channel {row['channel']:.0f} of {of}"
    return f"{unit}, {row['iterations']:,} iterations"


def settings(
    frame: pd.DataFrame, maps: Mapping[str, Tensor]
) -> dict[str, tuple[pd.Series, dict[str, dict[str, Tensor]]]]:
    """Sort maps of one layer of one network by what is varied, all else the same: β, R₀ or the fill.

    Returns:
        For each of "beta", "start" and "fill" that is varied, a row of the frame, which tells what is the same, and
        the maps, by the network's name and the value.
    """
    names = {
        "beta": lambda beta: f"β = {readable.power_text(beta)}",
        "start": lambda start: f"R₀ = {start:g}".replace("-", "−"),
        "fill": lambda fill: f"hidden is {fill}",
    }
    rows: dict[str, tuple[pd.Series, dict[str, dict[str, Tensor]]]] = {}
    for varied, text in names.items():
        others = ["channel", "iterations", *(name for name in names if name != varied)]
        for _, these in frame.groupby(others, dropna=False, sort=False):
            if these[varied].nunique() > 1 and varied not in rows:
                ordered = [row for _, row in these.sort_values(varied).iterrows()]
                name = network_text(ordered[0]["model"], ordered[0]["alpha"])
                found = {text(row[varied]): maps[row["hash"]].mean(0) for row in ordered}
                rows[varied] = ordered[0], {name: found}
    return rows


def cost(frame: pd.DataFrame) -> pd.DataFrame:
    """Seconds of an iteration, naive and of this project, by network and layer: medians over the records."""
    columns = ["model", "layer", "n", "naive_ms", "fast_ms", "ratio", "device"]
    rows = []
    for (model, alpha, layer, device), of in frame.groupby(["model", "alpha", "layer", "device"], sort=False):
        medians = of[["naive_seconds", "fast_seconds", "ratio"]].median()
        rows.append(
            {
                "model": network_text(model, alpha),
                "layer": layer_text(layer),
                "n": len(of),
                "naive_ms": 1000 * medians["naive_seconds"],
                "fast_ms": 1000 * medians["fast_seconds"],
                "ratio": medians["ratio"],
                "device": device,
            }
        )
    return pd.DataFrame(rows, columns=columns)
