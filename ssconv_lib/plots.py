"""The plots of results: each takes records as DataFrames and returns a figure; every run is shown as a point."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import stats, sweeps
from .figures import BLUE, COLOUR, GREY, VERMILION
from .paper import PrintedDifference
from .readable import alpha_text, model_text

WIDTH = 7.2  # inches: the text width of a page


def alpha_sweep(
    frame: pd.DataFrame, summary: pd.DataFrame, curves: dict[str, pd.DataFrame | None], *, solved: bool = False
) -> Figure:
    """Fig. 2: error over α, a row for each model, with every seed, the mean, and a fitted curve if there is one.

    Where some α are far worse than others, a second panel shows the others alone.

    Args:
        frame: The runs, from `study.frame`.
        summary: From `sweeps.sweep_summary`.
        curves: For each model the fit of `sweeps.fitted_curve`, or None.
        solved: In place of the mean write above each α how many of its runs solved the task, and where chance is.
    """
    models = list(summary["model"].unique())
    near = {model: sweeps.near_best(summary[summary["model"] == model]) for model in models}
    wide = not solved and any(len(alphas) < (summary["model"] == model).sum() for model, alphas in near.items())
    size = (WIDTH, 3.4 * len(models))
    figure, axes = plt.subplots(len(models), 1 + wide, figsize=size, squeeze=False, width_ratios=[1, 1.2][: 1 + wide])
    for model, row in zip(models, axes, strict=True):
        of, runs = summary[summary["model"] == model], frame[frame["model"] == model]
        for ax in row:
            _draw_sweep(ax, runs, of, curves.get(model))
            if not solved:  # of runs that solve it or don't, the mean is where none is
                _draw_means(ax, of)
        row[0].set(ylabel="test error (%)", title=f"{model_text(model)}: error over α")
        if solved:
            _mark_solved(row[0], of)
        else:
            _widen(row[0], 2.0)  # a tenth of a point must not fill the picture
        if wide:
            row[1].set_title("the same, where it is low")
            _zoom(row[1], runs, of, near[model])
            row[0].tick_params(axis="x", labelsize=8)
        row[0].legend(loc="best", fontsize=8.5)
    return figure


def _draw_sweep(ax: Axes, runs: pd.DataFrame, summary: pd.DataFrame, curve: pd.DataFrame | None) -> None:
    places = {alpha: place for place, alpha in enumerate(summary["alpha"])}
    if curve is not None:
        ax.fill_between(curve["x"], curve["low"], curve["high"], color=BLUE, alpha=0.15, lw=0)
        ax.plot(curve["x"], curve["fit"], color=BLUE, lw=1.5, label="fitted curve, 95 % interval")
    ax.scatter(runs["alpha"].map(places) + _jitter(runs["seed"]), runs["error"], s=26, color=GREY, label="one run")
    ax.set_xticks([*places.values()], [alpha_text(alpha) for alpha in places])
    ax.set(xlabel="α, fraction of channels shuffled", xlim=(-0.6, len(places) - 0.4))


def _draw_means(ax: Axes, summary: pd.DataFrame) -> None:
    places = [place for place, n in enumerate(summary["n"]) if n > 1]  # of one run the mean is the run
    ax.scatter(places, summary["mean"].iloc[places], marker="_", s=420, lw=2, color=BLUE, label="mean")


def _zoom(ax: Axes, runs: pd.DataFrame, summary: pd.DataFrame, alphas: list[float]) -> None:
    """Show these α alone, and how many runs each has."""
    places = [place for place, alpha in enumerate(summary["alpha"]) if alpha in alphas]
    shown = runs.loc[runs["alpha"].isin(alphas), "error"]
    margin = 0.08 * (shown.max() - shown.min()) + 0.05
    ax.set(xlim=(places[0] - 0.6, places[-1] + 0.6), ylim=(shown.min() - 2.5 * margin, shown.max() + margin))
    for place in places:
        text = f"n = {summary['n'].iloc[place]}"
        ax.text(place, shown.min() - 2.2 * margin, text, ha="center", fontsize=8)


def _mark_solved(ax: Axes, summary: pd.DataFrame) -> None:
    ax.axhline(50, color=VERMILION, lw=1, ls="--", label="chance")
    ax.set_ylim(-3, 63)
    for place, row in enumerate(summary.itertuples()):
        ax.text(place, 57, f"{row.solved} of {row.n}\nsolved", ha="center", va="center", fontsize=8.5)


def _widen(ax: Axes, span: float) -> None:
    low, high = ax.get_ylim()
    if high - low < span:
        middle = (low + high) / 2
        ax.set_ylim(middle - span / 2, middle + span / 2)


def paired_differences(arms: pd.DataFrame, printed: dict[str, PrintedDifference]) -> Figure:
    """Conv minus ss of each seed, their mean and interval, and the paper's difference with what rounding hides.

    Args:
        arms: Columns label, seed, difference: a row for each pair of runs.
        printed: For a label, the paper's difference to draw beside it.
    """
    labels = list(arms["label"].unique())
    figure, ax = plt.subplots(figsize=(WIDTH, 1.3 + 0.75 * len(labels)))
    ax.axvline(0, color="black", lw=0.8)
    for place, label in enumerate(reversed(labels)):
        values = arms.loc[arms["label"] == label, "difference"]
        first = place == 0
        if label in printed:
            d, r = float(printed[label]), printed[label].rounding
            band = "paper, and what rounding hides" if first else None
            ax.fill_betweenx([place - 0.36, place + 0.36], d - r, d + r, color=VERMILION, alpha=0.25, lw=0, label=band)
            ax.plot([d, d], [place - 0.36, place + 0.36], color=VERMILION, lw=1.5)
        seeds = arms.loc[arms["label"] == label, "seed"]
        ax.scatter(values, place + _jitter(seeds), s=26, color=GREY, zorder=3, label="one pair" if first else None)
        summary = stats.summarise(values)
        ax.plot([summary.low, summary.high], [place] * 2, color=BLUE, lw=2, label="95 % interval" if first else None)
        ax.plot(summary.mean, place, "D", color=BLUE, ms=6, zorder=4, label="mean" if first else None)
    ax.set_yticks(range(len(labels)), [f"{label}\nn = {(arms['label'] == label).sum()}" for label in reversed(labels)])
    ax.set_ylim(-0.6, len(labels) - 0.4)
    ax.set(xlabel="conv minus ss, points of test error: right of 0, shuffling helps")
    figure.suptitle("Paired differences: the two runs of a seed", x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.legend(loc="outside lower left", fontsize=8.5, ncols=4)
    return figure


def learning_curves(histories: pd.DataFrame, alphas: Sequence[float] | None = None) -> Figure:
    """Test error over the epochs, a thin line for each run and a thick one for the mean of an α.

    Args:
        histories: From `study.histories`, of one model.
        alphas: Which α to draw; None takes all.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 3.6))
    chosen = sorted(histories["alpha"].unique()) if alphas is None else alphas
    if len(chosen) > 2:
        colours = dict(zip(chosen, plt.get_cmap("viridis")(np.linspace(0, 0.92, len(chosen))), strict=True))
    else:
        colours = {alpha: COLOUR["ss" if alpha else "conv"] for alpha in chosen}
    for alpha in chosen:
        runs = histories[histories["alpha"] == alpha]
        for _, run in runs.groupby("hash"):
            ax.plot(run["epoch"], run["error"], color=colours[alpha], lw=0.7, alpha=0.45)
        mean = runs.groupby("epoch")["error"].mean()
        label = f"α = {alpha_text(alpha)}" + (" (conv)" if alpha == 0 else "")
        ax.plot(mean.index, mean, color=colours[alpha], lw=2.2, label=f"{label}, n = {runs['hash'].nunique()}")
    ax.set(xlabel="epoch", ylabel="test error (%)", title=f"{model_text(histories['model'].iloc[0])}: learning curves")
    ax.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside right center", fontsize=8.5)
    return figure


def arms(frame: pd.DataFrame, labels: dict[str, str]) -> Figure:
    """Table 1 as a picture: every run of each arm, and the mean with its interval.

    Args:
        frame: The runs with a column `arm`, from `tables.arms`.
        labels: The arms in order, with their names.
    """
    there = [arm for arm in labels if (frame["arm"] == arm).any()]
    figure, ax = plt.subplots(figsize=(WIDTH, 3.4))
    for place, arm in enumerate(there):
        runs = frame[frame["arm"] == arm]
        first = place == 0
        label = "one run" if first else None
        ax.scatter(place + _jitter(runs["seed"]), runs["error"], s=26, color=GREY, zorder=3, label=label)
        summary = stats.summarise(runs["error"])
        half = summary.high - summary.mean
        label = "mean, 95 % interval" if first else None
        ax.errorbar(place + 0.28, summary.mean, half, fmt="D", color=BLUE, capsize=4, ms=6, lw=2, label=label)
    ax.set_xticks(range(len(there)), [labels[arm].replace(", ", ",\n") for arm in there])
    low, high = frame["error"].min(), frame["error"].max()
    margin = 0.25 * (high - low) + 0.5
    ax.set_ylim(max(low - margin, -0.03 * high - 0.3), high + margin)  # an interval of two runs would dwarf the runs
    ax.set(ylabel="test error (%)", title=f"{model_text(frame['model'].iloc[0])}: versions of the grouped shuffle")
    ax.legend(fontsize=8.5)
    return figure


def _jitter(seeds: pd.Series) -> np.ndarray:
    """A sideways shift for each seed, the same in every figure, so that points don't hide each other."""
    return ((seeds.to_numpy() * 0.381966) % 1 - 0.5) * 0.22
