"""The figures of chapter 5: receptive fields as maps (Fig. 3, 4, 6–8), and their sizes over the layers (Fig. 5a).

A map is Tensor[H, W] in [0, 1] or bool, drawn from white (0) to red (1). A box is (low, high) in pixels, half-open, for
rows and columns alike: it ends before pixel `high`, so that its edges are at low - .5 and high - .5 of the drawing.
"""

import string
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from .fieldpanels import (
    LEFT,
    checked_map,
    draw_map,
    draw_missing,
    draw_outline,
    name_row,
    percent,
    sheet,
    write_below,
)
from .fieldtables import Maps, layer_text
from .figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY
from .pictures import PAGE
from .receptive_field import share

ACROSS = 6  # panels side by side
COLOURS = (GREY, BLUE, ORANGE, GREEN, PURPLE, SKY)  # the plain network comes first, then ss, as in the other chapters
SHAPES = ("o", "s", "^", "D", "v")
STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
CSV_SIDE = 32  # values; the CSV of a map has no more in a row


def map_grid(
    rows: Maps,
    box: tuple[int, int],
    *,
    outlines: Mapping[str, Tensor] | None = None,
    outlined: str = "classical receptive field",
    row_notes: Mapping[str, str] | None = None,
    label: str = "σ(R)",
) -> Figure:
    """Draw a row of maps for each model, a column a layer (Fig. 3, 6–8); more than 6 layers go on in further lines.

    Below each panel stands the share of its pixels of at least .5. A layer that a model lacks is a dash.

    Args:
        rows: Of each model, by layer; or of whatever differs from row to row and from column to column.
        box: The units looked at.
        outlines: Of a layer, bool Tensor[H, W], whose border is dashed.
        outlined: What the border is.
        row_notes: Of a model, a second line beside its name.
        label: Of the colour bar.

    Raises:
        ValueError: there is no map, or one is no Tensor[H, W] in [0, 1].
    """
    key = ["Blue: the box looked at", "number: share of pixels ≥ 0.5"]
    if outlines:
        key.insert(1, f"dashed: {outlined}")
    shares = {model: {layer: percent(share(m)) for layer, m in maps.items()} for model, maps in rows.items()}
    return _grid(rows, box, shares, outlines or {}, row_notes or {}, label, "; ".join(key) + ".")


def beside(
    measures: Maps,
    box: tuple[int, int],
    *,
    agreement: pd.DataFrame | None = None,
    outlines: Mapping[str, Tensor] | None = None,
    row_notes: Mapping[str, str] | None = None,
) -> Figure:
    """Draw several measures of one model's receptive field, a row each: exact reach, effective field, Eq. 4.

    Args:
        measures: Of each measure, by layer; an effective receptive field as `displayed` has it.
        box: The units looked at.
        agreement: Columns layer and iou (one model's): what stands below a layer's maps.
        outlines: Of a layer, bool Tensor[H, W], whose border is dashed: the classical receptive field.
        row_notes: Of a measure, a second line beside its name.

    Raises:
        ValueError: there is no map, one is no Tensor[H, W] in [0, 1], or `agreement` has a layer twice.
    """
    numbers, key = {}, ["Blue: the box looked at"] + ["dashed: classical receptive field"] * bool(outlines)
    if agreement is not None:
        if (twice := agreement["layer"][agreement["layer"].duplicated()]).size:
            raise ValueError(f"agreement has {twice.iloc[0]!r} more than once: pass the rows of one model")
        numbers = {
            [*measures][-1]: dict(zip(agreement["layer"], map("IoU {:.2f}".format, agreement["iou"]), strict=True))
        }
        key.append("IoU: of the exact reach and Eq. 4's σ(R) ≥ 0.5")
    return _grid(measures, box, numbers, outlines or {}, row_notes or {}, "value", "; ".join(key) + ".")


def displayed(field: Tensor) -> Tensor:
    """Return the square root of an effective receptive field over its maximum, Tensor[H, W] ≥ 0, so from 0 to 1.

    The field falls off so fast from its middle that a linear scale would show a dot. Zeros stay zeros.

    Raises:
        ValueError: a value is negative or no number.
    """
    if not (field >= 0).all():  # a NaN is not either
        raise ValueError(f"the field's smallest value is {field.min():g}: expected squared gradients, which are ≥ 0")
    return (field / field.max().clamp(min=torch.finfo(field.dtype).tiny)).sqrt()


def channelwise(
    maps: Sequence[Sequence[Tensor]], boxes: Sequence[tuple[int, int]], models: Sequence[str], threshold: float = 0.1
) -> Figure:
    """Draw Fig. 4: the receptive field of one channel in each box, model by model; σ(R) ≥ threshold is drawn as 1.

    Args:
        maps: Of each model, of each box.
        boxes: Each panel shows its own.
        models: Names.
        threshold: From which on a value is drawn as 1; the share below a panel is that of these values.

    Raises:
        ValueError: there is not a map for each model and box, or one is no Tensor[H, W] in [0, 1].
    """
    if [len(of) for of in maps] != [len(boxes)] * len(models):
        found = [len(of) for of in maps]
        raise ValueError(f"maps has {found} maps: expected one for each of {len(boxes)} boxes in {len(models)} models")
    across = max(1, 4 // len(boxes)) * len(boxes)
    panels = [(m, box, model) for of, model in zip(maps, models, strict=True) for m, box in zip(of, boxes, strict=True)]
    lines = -(-len(panels) // across)
    key = f"Blue: the box looked at; number: share of pixels ≥ {threshold:g}, which are drawn as 1."
    figure, axes = sheet([2] * lines, min(across, len(panels)), 0.1, "σ(R)", key)
    for number, (m, box, model) in enumerate(panels):
        ax = axes[number // across][number % across]
        m = checked_map(m, f"{model}, box {box[0]}–{box[1]}")
        draw_map(ax, torch.where(m >= threshold, 1.0, m), box)
        name = string.ascii_lowercase[number]
        ax.set_title(f"({name}) {model},\nbox {box[0]}–{box[1]}", fontsize=8, fontweight="normal", pad=3, loc="left")
        write_below(ax, percent(share(m, threshold)))
    for ax in [ax for line in axes for ax in line][len(panels) :]:
        ax.remove()
    return figure


def sizes(data: pd.DataFrame) -> Figure:
    """Draw the share of the image that each layer sees (Fig. 5a): a panel for each kind, a line for each model.

    Lines that lie on each other stay apart by their widths and marks: the later ones are smaller and in front.

    Args:
        data: Columns model, layer, kind, fraction (0 to 1), and perhaps trained (bool; untrained ones are hollow).
    """
    data = data if "trained" in data else data.assign(trained=True)
    models, layers, kinds = (list(data[name].unique()) for name in ("model", "layer", "kind"))
    series = list(data.groupby(["model", "trained"], sort=False).groups)
    series.sort(key=lambda one: (models.index(one[0]), not one[1]))
    height = 1.3 + 1.45 * len(kinds)
    figure, axes = plt.subplots(len(kinds), 1, figsize=(PAGE, height), sharex=True, sharey=True, squeeze=False)
    for ax, kind in zip(axes[:, 0], kinds, strict=True):
        of = data[data["kind"] == kind]
        ends = []
        for model, trained in series:
            rows = of[(of["model"] == model) & (of["trained"] == trained)]
            if rows.empty:
                continue
            rank = 1 - series.index((model, trained)) / max(len(series) - 1, 1)  # 1 for the first, 0 for the last
            line = _line(models.index(model), trained=trained, width=1.1 + 1.7 * rank, size=4.2 + 4 * rank)
            ax.plot(rows["layer"].map(layers.index), rows["fraction"], **line, label=model)
            ends.append(
                (
                    layers.index(rows["layer"].iloc[-1]),
                    rows["fraction"].iloc[-1],
                    model if trained else f"{model}, untrained",
                    line["color"],
                )
            )
        _name_ends(ax, ends, len(layers) - 1)
        ax.set(ylim=(0, 1), yticks=(0, 0.5, 1))
        ax.set_title(kind, fontsize=9, pad=8)
        ax.tick_params(axis="y", labelsize=8.5)
        ax.grid(axis="y")
    _layer_axis(axes[-1, 0], layers)
    figure.supylabel("share of the image seen", fontsize=10)
    handles = [Line2D([], [], **_line(number), label=model) for number, model in enumerate(models)]
    if not data["trained"].all():
        handles.append(Line2D([], [], color="black", ls="", marker="o", ms=5.5, mfc="white", label="hollow: untrained"))
    figure.legend(handles=handles, loc="outside lower left", fontsize=8.5, ncols=4, handlelength=3)
    return figure


def _line(number: int, *, trained: bool = True, width: float = 1.5, size: float = 5.5) -> dict[str, object]:
    """How a model's line looks: a colour, a mark and dashes of its own, so that colour is not all that tells it."""
    colour = COLOURS[number % len(COLOURS)]
    mark = {"marker": SHAPES[number % len(SHAPES)], "ms": size, "mew": 0.7 if trained else 1.2}
    faces = {"mfc": colour if trained else "white", "mec": "white" if trained else colour}
    return {"color": colour, "ls": STYLES[number % len(STYLES)], "lw": width, **mark, **faces, "clip_on": False}


def mass_outside(data: pd.DataFrame) -> Figure:
    """Draw the share of the gradient that comes from outside the classical field, and its interval, over the layers.

    Args:
        data: Columns model, measure, layer, share, low, high; from `fieldtables.shares_outside`. The scale is
            logarithmic, since networks differ by powers of ten.
    """
    layers = list(data["layer"].unique())
    figure, ax = plt.subplots(figsize=(PAGE, 3.9))
    colours = dict(zip(data["model"].unique(), (BLUE, ORANGE, GREEN), strict=False))
    styles = {"squared": ("-", "o"), "absolute": ("--", "s"), "paths": (":", "^")}
    for (model, measure), rows in data[data["share"] > 0].groupby(["model", "measure"], sort=False):
        places, (style, marker) = [layers.index(layer) for layer in rows["layer"]], styles[measure]
        ax.vlines(places, rows["low"].clip(lower=1e-9), rows["high"], color=colours[model], lw=1.2)
        ax.plot(places, rows["share"], style, marker=marker, ms=5, color=colours[model], label=f"{model}, {measure}")
    ax.set_yscale("log")
    ax.set_ylim(data.loc[data["share"] > 0, "share"].min() / 3, 1)
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    ax.minorticks_off()
    ax.grid(axis="y")
    ax.set_ylabel("share from outside\nthe classical field")
    _layer_axis(ax, layers)
    figure.legend(loc="outside lower left", fontsize=8.5, ncols=3, handlelength=3)
    return figure


def learned(data: pd.DataFrame) -> Figure:
    """Draw what training does to the share outside: an arrow from before to after, for each layer.

    Args:
        data: Columns source, model, measure, layer, untrained and trained with `_low` and `_high`; from
            `fieldlearned.learned`.
    """
    groups = list(data.groupby(["source", "model", "measure"], sort=False))
    figure, ax = plt.subplots(figsize=(PAGE, 0.9 + 0.27 * (len(data) + len(groups))))
    place, ticks = 0.0, {}
    for (origin, model, measure), rows in groups:
        ax.text(
            0.0,
            place,
            f"{model}, {origin}: {measure}",
            transform=ax.get_yaxis_transform(),
            fontsize=8.5,
            fontweight="bold",
            va="center",
        )
        for row in rows.itertuples():
            place += 1
            ticks[place] = row.layer
            colour = BLUE if row.trained > row.untrained else ORANGE
            ax.annotate(
                "", (row.trained, place), (row.untrained, place), arrowprops={"arrowstyle": "-|>", "color": colour}
            )
            for low, high in ((row.untrained_low, row.untrained_high), (row.trained_low, row.trained_high)):
                ax.plot([max(low, 1e-9), high], [place, place], color=GREY, lw=3, alpha=0.4, solid_capstyle="butt")
            ax.plot(row.untrained, place, "o", color="white", mec=GREY, ms=6)
            ax.plot(row.trained, place, "o", color=colour, ms=6)
        place += 1
    least = data[["untrained", "trained"]].min().min()
    ax.set_xscale("log")
    ax.set(
        xlim=(least / 3, 1), ylim=(place - 0.4, -0.7), xlabel="share of the gradient from outside the classical field"
    )
    ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    ax.minorticks_off()
    ax.set_yticks(list(ticks), list(ticks.values()), fontsize=8)
    ax.grid(axis="x")
    key = "Hollow: untrained; filled: trained, blue if more than before, orange if less. Grey: 95 % over images"
    ax.set_title(key, fontsize=8.5, fontweight="normal", color=GREY)
    return figure


def grid_data(rows: Maps) -> pd.DataFrame:
    """Tabulate the maps of a figure, large ones as means of square blocks, so that no side has more than 32 values.

    Returns:
        Columns: model, layer, share (of the whole map's pixels ≥ .5) and mean (of all its pixels), and of each block
        row and column of its first pixel, from 0, and value, its mean.
    """
    frames = []
    for model, maps in rows.items():
        for layer, m in maps.items():
            m = checked_map(m, f"{model}, {layer}")
            block = -(-max(m.shape) // CSV_SIDE)
            values = F.avg_pool2d(m[None], block, ceil_mode=True)[0]
            row, column = (
                block * index.flatten() for index in torch.meshgrid(*map(torch.arange, values.shape), indexing="ij")
            )
            one = {"model": model, "layer": layer_text(layer), "share": share(m), "mean": m.mean().item()}
            frames.append(pd.DataFrame({**one, "row": row, "column": column, "value": values.flatten()}))
    return pd.concat(frames, ignore_index=True)


def _grid(
    rows: Maps,
    box: tuple[int, int],
    numbers: Mapping[str, Mapping[str, str]],
    outlines: Mapping[str, Tensor],
    notes: Mapping[str, str],
    label: str,
    key: str,
) -> Figure:
    rows, numbers = _by_text(rows), _by_text(numbers)
    outlines = {layer_text(layer): region for layer, region in outlines.items()}
    layers = list(dict.fromkeys(layer for maps in rows.values() for layer in maps))
    if not layers:
        raise ValueError("there is no map to draw: expected at least one model with at least one layer")
    parts = [layers[start : start + ACROSS] for start in range(0, len(layers), ACROSS)]
    lines = [(model, part) for part in parts for model in rows]
    titled = [int(number % len(rows) == 0) for number in range(len(lines))]
    figure, axes = sheet(titled, len(parts[0]), LEFT, label, key)
    for (model, part), line, title in zip(lines, axes, titled, strict=True):
        name_row(line[0], model, notes.get(model, ""))
        for ax in line[len(part) :]:
            ax.remove()
        for layer, ax in zip(part, line, strict=False):
            if title:
                ax.set_title(layer, fontsize=8.5, fontweight="normal", pad=3, loc="center")
            if layer not in rows[model]:
                draw_missing(ax)
                continue
            draw_map(ax, checked_map(rows[model][layer], f"{model}, {layer}"), box)
            if layer in outlines:
                draw_outline(ax, outlines[layer])
            write_below(ax, numbers.get(model, {}).get(layer, ""))
    return figure


def _by_text(table: Mapping[str, Mapping[str, object]]) -> dict[str, dict]:
    return {model: {layer_text(layer): value for layer, value in of.items()} for model, of in table.items()}


def _name_ends(ax: Axes, ends: Sequence[tuple[int, float, str, str]], last: int, gap: float = 0.15) -> None:
    """Name the lines, (place, value, name, colour), beside the last layer, one below the other where close."""
    highest = 1.0
    for number, (place, value, name, colour) in enumerate(sorted(ends, key=lambda end: -end[1])):
        at = max(min(value, highest), gap * (len(ends) - 1 - number))  # room above 0 for those to come
        highest = at - gap
        leader = {"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 0, "shrinkB": 6, "relpos": (0, 0.5)}
        text = {"textcoords": "data", "fontsize": 8, "va": "center", "annotation_clip": False}
        ax.annotate(f"{name}: {percent(value)}", (place, value), (last + 0.9, at), arrowprops=leader, **text)


def _layer_axis(ax: Axes, layers: Sequence[str]) -> None:
    ax.set_xticks(range(len(layers)), layers, fontsize=7.5, rotation=30, ha="right", rotation_mode="anchor")
    ax.set(xlabel="layer", xlim=(-0.3, len(layers) - 0.7))
    ax.grid(axis="y")
