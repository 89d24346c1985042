"""The plots of the mechanism task: what is solved over the distance between the patches, and the border."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from .figures import BLUE, GREY, VERMILION
from .plots import WIDTH
from .readable import alpha_text
from .tables import SOLVED

CHANCE = 50  # percent of error
BLUES = LinearSegmentedColormap.from_list("ss", ["#9CCBEA", BLUE, "#002D4D"])  # small α to large
SHARE = LinearSegmentedColormap.from_list("share", ["#FFFFFF", BLUE])
LABEL = 8.5


def distances(table: pd.DataFrame) -> Figure:
    """Draw the error of every run over the distance: a panel for each depth and size, a colour for each α.

    Distances stand side by side, in columns of one width: to scale there would be no room for the runs of a distance
    between it and a border half a pixel before it.

    Args:
        table: From `mechanismtables.cells`, of one profile.

    Raises:
        ValueError: for cells of several profiles, or none.
    """
    panels, alphas = _panels(table), sorted(table["alpha"].unique())
    colours = _colours(alphas)
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(WIDTH, 0.9 + 2.35 * len(panels)), squeeze=False, sharex=True, sharey=True
    )
    shown = sorted(table["distance"].unique())
    for (head, of), ax in zip(panels, axes[:, 0], strict=True):
        own = sorted(of["alpha"].unique())
        for number, alpha in enumerate(own):
            shift = 0.8 * ((number + 0.5) / len(own) - 0.5)
            rows = of[of["alpha"] == alpha]
            for row in rows.itertuples():
                x = shown.index(row.distance) + shift + _spread(len(row.errors), 0.7 / len(own))
                style = {"color": colours[alpha], "s": 24, "zorder": 3, "lw": 0.5, "ec": "white"}
                ax.scatter(x, row.errors, **style, clip_on=False)
        _levels(ax, labelled=ax is axes[0, 0])
        _border_line(ax, of["border"].iloc[0], shown)
        ax.set_title(head, fontsize=9.5, pad=14)
        ax.set(ylim=(-3, 62), yticks=(0, 25, 50), xlim=(-0.5, len(shown) - 0.5))
        ax.set_xticks(range(len(shown)), shown)
    axes[-1, 0].set_xlabel(_distance_label(table))
    figure.supylabel("test error (%)", fontsize=10)
    figure.suptitle("Plain and shuffling networks over the distance of the patches", **_HEAD)
    handles = [
        plt.Line2D([], [], ls="", marker="o", ms=5.5, color=colours[alpha], label=_alpha_name(alpha))
        for alpha in alphas
    ]
    figure.legend(handles=handles, loc="outside lower left", fontsize=LABEL, ncols=6, columnspacing=1.2)
    return figure


_HEAD = {"x": 0.01, "ha": "left", "fontsize": 11, "fontweight": "bold"}


def heat_map(table: pd.DataFrame) -> Figure:
    """Draw how many runs solved the task, over distance and α: a panel for each depth and size.

    Args:
        table: From `mechanismtables.cells`, of one profile.

    Raises:
        ValueError: for cells of several profiles, or none.
    """
    panels = _panels(table)
    shown = sorted(table["distance"].unique())
    heights = [0.75 + 0.28 * of["alpha"].nunique() for _, of in panels]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(WIDTH, 0.9 + sum(heights)), squeeze=False, sharex=True, height_ratios=heights
    )
    for (head, of), ax in zip(panels, axes[:, 0], strict=True):
        alphas = sorted(of["alpha"].unique())
        for row in of.itertuples():
            at = shown.index(row.distance), alphas.index(row.alpha)
            share = row.solved / row.n
            ax.add_patch(plt.Rectangle((at[0] - 0.5, at[1] - 0.5), 1, 1, fc=SHARE(share), ec="#D8D8D8", lw=0.6))
            colour = "white" if share > 0.6 else "black"
            ax.text(*at, f"{row.solved} of {row.n}", ha="center", va="center", fontsize=8, color=colour)
        limit = of["border"].iloc[0]
        beyond = sum(distance < limit for distance in shown)  # between two columns, or at the right edge
        if 0 < beyond < len(shown):
            ax.plot([beyond - 0.5] * 2, [-0.5, len(alphas) - 0.5], color=VERMILION, lw=2.5, clip_on=False)
        ax.text(beyond - 0.5, len(alphas) - 0.42, _border_text(limit, shown), **_border_style(beyond, shown))
        ax.set_title(head, fontsize=9.5, pad=16)
        ax.set(xlim=(-0.5, len(shown) - 0.5), ylim=(-0.5, len(alphas) - 0.5))
        ax.set_yticks(range(len(alphas)), [_alpha_name(alpha) for alpha in alphas], fontsize=LABEL)
        ax.set_xticks(range(len(shown)), shown)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[-1, 0].set_xlabel(_distance_label(table))
    figure.suptitle("How many runs solved the task: over distance and α", **_HEAD)
    return figure


def _border_style(beyond: int, shown: Sequence[int]) -> dict[str, object]:
    """Where the border's name goes: off the panel's edges it reads away from them."""
    aside = "left" if beyond < len(shown) / 2 else "right"
    return {"ha": aside, "va": "bottom", "fontsize": 8, "color": VERMILION}


def _border_text(limit: int, shown: Sequence[int]) -> str:
    if limit > max(shown):
        return f"a unit of the plain network reaches both up to {limit - 1} px"
    return f"from {limit} px on no unit of the plain network reaches both"


def _border_line(ax: Axes, limit: int, shown: Sequence[int]) -> None:
    """A line between the last distance before the border and the first from it on."""
    beyond = sum(distance < limit for distance in shown)
    at = beyond - 0.5
    if 0 < beyond < len(shown):
        ax.axvline(at, color=VERMILION, lw=1.6, zorder=1)
    text = {"transform": ax.get_xaxis_transform(), **_border_style(beyond, shown)}
    ax.text(at, 1.01, _border_text(limit, shown), **text)


def _levels(ax: Axes, *, labelled: bool) -> None:
    ax.axhline(CHANCE, color="#444444", lw=0.9, ls="--", zorder=0)
    ax.axhline(SOLVED, color="#444444", lw=0.9, ls=":", zorder=0)
    if labelled:
        right = {"transform": ax.get_yaxis_transform(), "fontsize": 7.5, "color": GREY, "ha": "left", "va": "center"}
        ax.text(1.01, CHANCE, "chance", **right)
        ax.text(1.01, SOLVED, f"solved:\nbelow {SOLVED:g} %", **right)


def _panels(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The cells of each depth and size; those of two profiles would lie upon each other, so they are refused."""
    if len(sources := table["source"].unique()) != 1:
        raise ValueError(
            f"the cells are of {', '.join(sources) or 'no records'}: a figure has room for those of one profile; pass"
            " the cells of one source"
        )
    groups = table.groupby(["depth", "size"])
    return [
        (f"{depth} convolutions, images of {size}×{size} pixels: a unit sees {4 * depth}×{4 * depth}", of)
        for (depth, size), of in groups
    ]


def _colours(alphas: Sequence[float]) -> dict[float, object]:
    """Grey for the plain network, and blues from light to dark."""
    ss = [alpha for alpha in alphas if alpha > 0]
    blues = {alpha: BLUES(number / max(len(ss) - 1, 1) if len(ss) > 1 else 0.5) for number, alpha in enumerate(ss)}
    return {0.0: GREY, **blues}


def _alpha_name(alpha: float) -> str:
    return "conv" if alpha == 0 else f"α = {alpha_text(alpha)}"


def _distance_label(table: pd.DataFrame) -> str:
    return f"{'' if table['exact'].all() else 'least '}distance between the patches (pixels)"


def _spread(count: int, width: float) -> np.ndarray:
    """Places side by side, so that runs of equal error don't hide each other."""
    return (np.arange(count) - (count - 1) / 2) / max(count, 1) * width
