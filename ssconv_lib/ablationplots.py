"""Chapter 6's figure: Fig. 5 (b) again, with the controls that the paper lacks."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from .ablation import ALL, KEPT, NEW, TREATMENT_TEXT
from .ablationanswers import NETWORK, block_text
from .figures import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from .plots import WIDTH
from .readable import alpha_text, model_text

# colour and mark of each treatment, so that colour is not all that tells them apart
LOOKS = {
    "zeroed": (BLUE, "o"),
    "others_zeroed": (VERMILION, "s"),
    "unshuffled": (ORANGE, "^"),
    "mean": (GREEN, "D"),
    "other_pi": (PURPLE, "v"),
    "fresh": (SKY, "p"),
}
STATISTICS = {KEPT: "batch norm's statistics kept", NEW: "batch norm's statistics estimated anew"}
FEW = 6  # blocks; up to so many, two panels stand side by side, and all blocks at once on the same scale
GAP = 0.5  # between the last block and all blocks
LAST = block_text(ALL)


def block_drops(table: pd.DataFrame) -> Figure:
    """Draw what each treatment of each block costs: a panel for each network and kind of batch norm statistics.

    Args:
        table: Of one or several networks, from `ablationtables.ablation_table`.

    Raises:
        ValueError: the table has no treated block.
    """
    table = table[table["treatment"].isin(LOOKS)]
    if table.empty:
        raise ValueError("the table has no row of a treated block: expected one from ablationtables.ablation_table")
    kinds = [bn for bn in STATISTICS if (table["bn"] == bn).any()]
    networks = list(table.groupby(NETWORK, sort=False, dropna=False))
    panels = [(key, of, bn) for key, of in networks for bn in kinds]
    most = max(of["block"].nunique() for _, of in networks)
    figure, parts = _few(len(networks), len(kinds)) if most <= FEW else _many(len(panels), most)
    for number, ((key, of, bn), axes) in enumerate(zip(panels, parts, strict=True)):
        blocks = list(of["block"].unique())
        shares = [blocks] if len(axes) == 1 else [[b for b in blocks if b != LAST], [b for b in blocks if b == LAST]]
        for ax, share in zip(axes, shares, strict=True):
            _panel(ax, of[of["bn"] == bn], share, 5 if most <= FEW else 3.5)
        axes[0].set_title(_title(key, of, bn, named=most > FEW or number % len(kinds) == 0), fontsize=9)
        if most > FEW or number % len(kinds) == 0:
            axes[0].set_ylabel("drop of top-1 accuracy\n(points)", fontsize=9)
    for first in range(0, len(panels), len(kinds)):
        for same in zip(*parts[first : first + len(kinds)], strict=True):
            _align(same)
    _legend(figure, parts[0][0], table)
    figure.suptitle(
        "Fig. 5 (b): what each block loses, by treatment", x=0.01, ha="left", fontsize=11, fontweight="bold"
    )
    return figure


def treatments(shown: Mapping[str, Tensor], shuffled: int, other: int) -> Figure:
    """Draw what a convolution is handed under each treatment: a channel that it shuffles, and one that it doesn't.

    Args:
        shown: For each of `ablation.TREATMENTS` that is to be seen, P(x) as a Tensor[C, H, W].
        shuffled: Number of the one channel.
        other: Number of the other one.
    """
    high = max(x[[shuffled, other]].max().item() for x in shown.values())
    figure, axes = plt.subplots(2, len(shown), figsize=(WIDTH, 2.9), squeeze=False)
    for column, (how, x) in enumerate(shown.items()):
        for row, channel in enumerate((shuffled, other)):
            axes[row, column].imshow(x[channel], cmap="gray", vmin=0, vmax=high, interpolation="nearest")
            axes[row, column].set(xticks=[], yticks=[])
        name = textwrap.fill(TREATMENT_TEXT[how].replace("Eq. ", "Eq.\u00a0"), 12)
        axes[0, column].set_title(name, fontsize=8, fontweight="normal", loc="center")
    for row, text in enumerate(("a shuffled\nchannel", "another one")):
        axes[row, 0].set_ylabel(text, fontsize=8.5)
    figure.suptitle("What each treatment leaves of P(x)", x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _few(down: int, across: int) -> tuple[Figure, list[tuple[Axes, ...]]]:
    """A row for each network, its panels side by side."""
    figure, axes = plt.subplots(down, across, figsize=(WIDTH, 0.9 + 2.9 * down), squeeze=False)
    return figure, [(ax,) for ax in axes.flat]


def _many(down: int, blocks: int) -> tuple[Figure, list[tuple[Axes, ...]]]:
    """Panels below each other, each with a second one for all blocks at once, which would dwarf a single one."""
    ratios = {"width_ratios": [blocks, 1.6]}
    figure, axes = plt.subplots(down, 2, figsize=(WIDTH, 0.9 + 2.4 * down), gridspec_kw=ratios, squeeze=False)
    return figure, [tuple(row) for row in axes]


def _panel(ax: Axes, rows: pd.DataFrame, blocks: list[str], size: float) -> None:
    places = {block: place + GAP * (block == LAST) for place, block in enumerate(blocks)}
    series = [how for how in LOOKS if (rows["treatment"] == how).any()]
    offsets = np.linspace(-0.32, 0.32, len(series)) if len(series) > 1 else [0.0]
    ax.axhline(0, color=GREY, lw=1)
    for how, offset in zip(series, offsets, strict=True):
        colour, mark = LOOKS[how]
        of = rows[(rows["treatment"] == how) & rows["block"].isin(blocks)]
        ends = of["drop"] - of["low"], of["high"] - of["drop"]  # nan, and no bar, where nothing tells the spread
        x = of["block"].map(places) + offset
        ax.errorbar(x, of["drop"], ends, fmt=mark, color=colour, ms=size, lw=1.3, mew=0.5, mec="white", zorder=3)
    if LAST in places and len(places) > 1:
        ax.axvline(places[LAST] - 0.5 - GAP / 2, color=GREY, lw=0.8, ls=":")
    tilted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(blocks) > FEW else {}
    ax.set_xticks([*places.values()], [*places], fontsize=8, **tilted)
    ax.tick_params(axis="y", labelsize=8.5)
    ax.set_xlim(min(places.values(), default=0) - 0.6, max(places.values(), default=0) + 0.6)
    ax.grid(axis="y")
    if LAST not in places or len(places) > 1:
        ax.set_xlabel("block", fontsize=9)


def _align(panels: Sequence[Axes]) -> None:
    """One scale for both kinds of statistics, so that they can be compared."""
    ends = [end for ax in panels for end in ax.get_ylim()]
    for ax in panels:
        ax.set_ylim(min(ends), max(ends))


def _title(key: tuple, rows: pd.DataFrame, bn: str, *, named: bool) -> str:
    """The network over the first of its panels, where it may run on above the next one."""
    at = dict(zip(NETWORK, key, strict=True))
    name = f"{model_text(at['model'])}, α = {alpha_text(at['alpha'])}, seed {at['seed']}, {at['source']}"
    return (f"{name}, n = {rows['n'].iloc[0]:,} images\n" if named else "\n") + STATISTICS[bn]


def _legend(figure: Figure, ax: Axes, table: pd.DataFrame) -> None:
    shown = [how for how in LOOKS if (table["treatment"] == how).any()]
    handles = []
    for how in shown:
        colour, mark = LOOKS[how]
        draws = table.loc[table["treatment"] == how, "draws"].max()
        label = TREATMENT_TEXT[how] + (f", mean of {draws}" if draws > 1 else "")
        handles.append(ax.errorbar([], [], [], fmt=mark, color=colour, ms=5, lw=1.3, mew=0.5, mec="white", label=label))
    title = "mean and 95 % interval over images; 0: the intact network"
    figure.legend(
        handles=handles,
        loc="outside lower left",
        fontsize=8.5,
        ncols=3,
        title=title,
        title_fontsize=8.5,
        alignment="left",
    )
