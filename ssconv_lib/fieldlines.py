"""The line plots of chapter 5: sizes of receptive fields (Fig. 5 a), and the share that comes from outside."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .fieldpanels import percent
from .figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY
from .pictures import PAGE

COLOURS = (GREY, BLUE, ORANGE, GREEN, PURPLE, SKY)  # the plain network comes first, then ss, as in the other chapters
SHAPES = ("o", "s", "^", "D", "v")
STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


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
    figure.supylabel("share of R's values, or of the image", fontsize=10)
    _head(figure, "Fig. 5 (a): size of the receptive field")
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
    ax.set_ylabel("share of the gradient from\noutside the classical field")
    _layer_axis(ax, layers)
    figure.legend(loc="outside lower left", fontsize=8.5, ncols=3, handlelength=3)
    _head(figure, "Untrained networks: how much comes from outside")
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
        bold = {"fontsize": 8.5, "fontweight": "bold", "va": "center", "transform": ax.get_yaxis_transform()}
        ax.text(0.0, place, f"{model}, {origin}: {measure}", **bold)
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
    _head(figure, "What training does to the share from outside")
    return figure


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


def _head(figure: Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
