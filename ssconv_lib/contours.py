"""Pathfinder's records: examples of the images, the runs as a table and a figure, and what they say."""

import dataclasses

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from . import pathfinder, stats
from .figures import BLUE, GREY
from .judge import verdict_row
from .mechanismjudge import runs_a_side
from .mechanismtables import depth_of
from .pathfinder import Pathfinder
from .plan import Profile
from .plots import WIDTH
from .readable import alpha_text, model_text
from .tables import solved, source

EXAMPLES = 4  # of each class
COLUMNS = ["source", "model", "alpha", "n", "solved", "low", "high", "error", "p"]


def examples(profile: Profile, study: str) -> tuple[Figure, pd.DataFrame] | None:
    """Draw images of both classes as the study's runs have them; None if the profile doesn't have the study.

    Returns:
        The figure, and which class each image shows.
    """
    specs = [run.data for run in profile.runs(study)] if study in profile.studies else []
    if not specs or not isinstance(specs[0], Pathfinder):
        return None
    images, labels = pathfinder.generate(dataclasses.replace(specs[0], test=4 * EXAMPLES), "test")
    figure, axes = plt.subplots(2, EXAMPLES, figsize=(WIDTH, 4.1))
    for row, (label, text) in enumerate(((1, "the same contour"), (0, "two contours"))):
        for ax, image in zip(axes[row], images[labels == label], strict=False):
            ax.imshow(image, interpolation="nearest", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        axes[row, 0].set_ylabel(text)
    figure.suptitle("Pathfinder: are the dots on one contour?", x=0.01, ha="left", fontsize=11, fontweight="bold")
    shown = [{"row": row, "column": k, "label": 1 - row} for row in range(2) for k in range(EXAMPLES)]
    return figure, pd.DataFrame(shown)


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """How many runs of each network follow the contour.

    A run does or it doesn't, as on the generated task, so they are counted: of errors near 0 and near 50 % a mean and
    its interval say little.

    Args:
        frame: Records of Pathfinder (see `study.frame`), of several profiles.

    Returns:
        A row for each profile, network and α: n; solved, the runs with an error below `tables.SOLVED`; low and high,
        Wilson's 95 % interval of that share (%); error, the mean (%); and where it shuffles p of Fisher's exact test on
        the runs solved, against the plain network.
    """
    rows = []
    for (_, model), runs in frame.groupby(["profile", "model"], sort=False):
        for alpha, of in runs.groupby("alpha"):
            share = stats.proportion(*_solved(runs, alpha))
            row = {"source": source(of), "model": model, "alpha": alpha, "n": share.n, "solved": share.k}
            row |= {"low": 100 * share.low, "high": 100 * share.high, "error": of["error"].mean()}
            if alpha and (runs["alpha"] == 0).any():
                row["p"] = stats.fisher(*_solved(runs, 0), *_solved(runs, alpha))
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def runs(frame: pd.DataFrame) -> Figure:
    """Draw every run's error, a row for each network and α, and profile if there are several; chance is 50 %.

    At the right how many runs follow the contour: a mean would be where no run is.
    """
    arms = list(frame.groupby(["profile", "model", "alpha"], sort=False))
    several = frame["profile"].nunique() > 1
    figure, ax = plt.subplots(figsize=(WIDTH, 1.4 + 0.42 * len(arms)))
    ax.axvline(50, color=GREY, lw=1, ls="--")
    above = {"transform": ax.get_xaxis_transform(), "ha": "center", "va": "bottom"}  # the line would cross it below
    ax.text(50, 1.01, "chance", **above, fontsize=8, color=GREY)
    ax.text(1.02, 1.01, "solved", transform=ax.transAxes, va="bottom", fontsize=8, color=GREY)
    names = []
    for place, ((profile, model, alpha), of) in enumerate(arms):
        colour = BLUE if alpha else GREY
        heights = place + 0.1 * (of["seed"].rank() - (len(of) + 1) / 2)
        ax.scatter(of["error"], heights, s=26, color=colour, ec="white", lw=0.5, zorder=3)
        right = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 8.5, "color": colour}
        ax.text(1.02, place, "{} of {}".format(*solved(of["error"])), **right)
        name = f"{network_text(model)}, " + (f"α = {alpha_text(alpha)}" if alpha else "conv")
        names.append(f"{name} ({profile})" if several else name)
    ax.set_yticks(range(len(arms)), names)
    ax.set(ylim=(len(arms) - 0.5, -0.8), xlim=(-3, 60), xlabel="test error (%), a point a run")
    figure.suptitle("Pathfinder: who follows the contour?", x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def claims(frame: pd.DataFrame) -> list[dict[str, str]]:
    """Shuffling helps a network to follow a contour: a row for each profile, network and α beside plain runs.

    Supported if more runs with shuffling follow it, by Fisher's exact test (5 %); not supported if fewer do; else it
    can't be told.
    """
    rows = []
    for (_, model), of in frame.groupby(["profile", "model"], sort=False):
        plain = _solved(of, 0)
        for alpha in sorted(of.loc[of["alpha"] > 0, "alpha"].unique()) if plain[1] else ():
            ss = _solved(of, alpha)
            p = stats.fisher(*plain, *ss)
            more = ss[0] / ss[1] > plain[0] / plain[1]
            outcome = "cannot tell" if p >= 0.05 else "supported" if more else "not supported"
            evidence = (
                f"With shuffling solved: {stats.proportion(*ss)}; without: {stats.proportion(*plain)}; Fisher's exact p"
                f" = {p:.2g}. All against none could be told from {runs_a_side()} runs a side on."
            )
            claim = f"Shuffling helps {network_text(model)} to follow a contour (α = {alpha_text(alpha)})"
            rows.append(verdict_row(claim, f"Not in the paper; {source(of)}", evidence, outcome))
    return rows


def network_text(model: str) -> str:
    """A network's name; those of the generated task have one that names it, and here the images are others."""
    depth = depth_of(model)
    return f"a CNN of {depth} layers" if depth else model_text(model)


def _solved(runs_of: pd.DataFrame, alpha: float) -> tuple[int, int]:
    """How many of a network's runs at this α follow the contour, of how many."""
    return solved(runs_of.loc[runs_of["alpha"] == alpha, "error"])
