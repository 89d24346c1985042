"""The plots of the control experiments: an arm a row, every run a point, ss in its own colour."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from . import stats
from .controlarms import Group, arm_text, groups
from .figures import BLUE, GREY
from .plots import WIDTH
from .readable import alpha_text, model_text
from .tables import SOLVED, by_seed

ROW = 0.33  # inches
DARK = "#2F2F2F"  # what isn't ss
_HEAD = {"x": 0.01, "ha": "left", "fontsize": 11, "fontweight": "bold"}


def solved_arms(frame: pd.DataFrame) -> Figure:
    """The generated task: every run's error, an arm a row, and at the right how many runs solved it.

    Args:
        frame: Records of the generated task (see `study.frame`); a panel for each α and distance.
    """
    panels = list(groups(frame))
    figure, axes = _panels([len(group.arms) for group in panels])
    for group, ax in zip(panels, axes, strict=True):
        ax.axvline(50, color=DARK, lw=0.9, ls="--", zorder=0)
        ax.axvline(SOLVED, color=DARK, lw=0.9, ls=":", zorder=0)
        for place, (arm, runs) in enumerate(group.arms.items()):
            colour = _colour(arm)
            heights = place + _spread(len(runs))
            errors = runs.sort_values("seed")["error"]
            ax.scatter(errors, heights, s=26, color=colour, ec="white", lw=0.5, zorder=3, clip_on=False)
            text = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 8.5, "color": colour}
            ax.text(1.02, place, "{} of {}".format(*group.solved(arm)), **text, fontweight=_weight(arm))
        ax.text(1.02, -0.62, "solved", transform=ax.get_yaxis_transform(), va="bottom", fontsize=8.5, color=GREY)
        for level, name in ((50, "chance"), (SOLVED, f"solved: below {SOLVED:g} %")):
            ax.text(level, -0.62, name, ha="center", va="bottom", fontsize=7.5, color=GREY)
        _rows(ax, list(group.arms))
        ax.set_title(_title(group), fontsize=9.5, pad=14)
        ax.set(xlim=(-2, 62), xticks=(0, 10, 25, 50))
    axes[-1].set_xlabel("test error (%), a point a run")
    figure.suptitle("Generated task: what does the shuffle's work?", **_HEAD)
    return figure


def paired_arms(frame: pd.DataFrame) -> Figure:
    """Real images: conv minus each arm, seed by seed, with mean and 95 % interval; right of 0 the arm is better.

    Args:
        frame: Records (see `study.frame`); a panel for each network and α that have conv and another arm.

    Raises:
        ValueError: none has both, with a seed in common; ask `controltables.has_arms` before.
    """
    panels = [(group, pairs) for group in groups(frame) if (pairs := _differences(group))]
    if not panels:
        raise ValueError(
            f"none of these {len(frame)} records is of an arm that shares a seed with plain convolution: there is no"
            " pair to draw; ask controltables.has_arms first"
        )
    figure, axes = _panels([len(pairs) for _, pairs in panels], room=0.35)
    for (group, pairs), ax in zip(panels, axes, strict=True):
        ax.axvline(0, color="black", lw=0.8, zorder=1)
        if "ss" in pairs:
            ax.axvline(pairs["ss"].mean(), color=BLUE, lw=1, ls="--", zorder=1)
        for place, (arm, values) in enumerate(pairs.items()):
            summary, colour = stats.summarise(values), _colour(arm)
            faint = {"s": 18, "color": colour, "alpha": 0.45, "lw": 0, "zorder": 2}
            ax.scatter(values, place + _spread(len(values)), **faint)
            ax.plot(summary.mean, place, "D", color=colour, mec="white", ms=7, zorder=4)
        _rows(ax, list(pairs), [f"n = {len(values)}" for values in pairs.values()])
        _intervals(ax, pairs)
        ax.set_title(_title(group), fontsize=9.5)
        ax.grid(axis="x")
        ax.tick_params(axis="x", labelsize=9)
    axes[-1].set_xlabel("conv minus arm (points of test error): right of 0, the arm is better")
    figure.suptitle("Real images: what does the shuffle's work?", **_HEAD)
    handles = [
        Line2D([], [], ls="", marker="o", ms=5, mew=0, color=DARK, alpha=0.45, label="a pair: the two runs of a seed"),
        Line2D([], [], marker="D", ms=7, mec="white", lw=2, color=DARK, label="mean, 95 % interval"),
        Line2D([], [], lw=1, ls="--", color=BLUE, label="the mean of ss"),
    ]
    figure.legend(handles=handles, loc="outside lower left", fontsize=8.5, ncols=3)
    return figure


def _differences(group: Group) -> dict[str, pd.Series]:
    """Conv minus each arm by seed, of the arms that share seeds with conv."""
    if "conv" not in group.arms:
        return {}
    conv = by_seed(group.arms["conv"])
    pairs = {arm: (conv - by_seed(runs)).dropna() for arm, runs in group.arms.items() if arm != "conv"}
    return {arm: values for arm, values in pairs.items() if len(values)}


def _intervals(ax: Axes, pairs: dict[str, pd.Series]) -> None:
    """Bars no wider than the runs allow: an interval of two pairs would dwarf the others, and ends in an arrow."""
    intervals = {arm: stats.summarise(values) for arm, values in pairs.items() if len(values) > 1}
    values = np.concatenate([*pairs.values(), [0.0]])
    room, ends = 0.4 * np.ptp(values) + 0.05, [end for one in intervals.values() for end in (one.low, one.high)]
    low = max(min([*values, *ends]), values.min() - room)
    high = min(max([*values, *ends]), values.max() + room)
    margin = 0.05 * (high - low)
    ax.set_xlim(low - margin, high + margin)
    for place, arm in enumerate(pairs):
        if arm not in intervals:
            continue
        of_arm, colour = intervals[arm], _colour(arm)
        drawn = max(of_arm.low, low), min(of_arm.high, high)
        ax.plot(drawn, [place] * 2, color=colour, lw=2.2, zorder=3, solid_capstyle="butt")
        for end, cut, marker in ((low, of_arm.low < low, "<"), (high, of_arm.high > high, ">")):
            if cut:
                ax.plot(end, place, marker, color=colour, ms=7, clip_on=False)


def _panels(rows: Sequence[int], room: float = 0.0) -> tuple[Figure, list[Axes]]:
    heights = [1.0 + ROW * count for count in rows]
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(WIDTH, 0.6 + room + sum(heights)), height_ratios=heights, squeeze=False
    )
    return figure, list(axes[:, 0])


def _rows(ax: Axes, arms: Sequence[str], notes: Sequence[str] | None = None) -> None:
    """Name the arms at the left, the first on top."""
    ax.set_yticks(range(len(arms)), [arm_text(arm) for arm in arms], fontsize=9)
    for tick, arm in zip(ax.get_yticklabels(), arms, strict=True):
        tick.set(color=_colour(arm), fontweight=_weight(arm))
    for place, note in enumerate(notes or ()):
        right = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 8.5, "color": GREY}
        ax.text(1.02, place, note, **right)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(arms) - 0.5, -0.5)


def _title(group: Group) -> str:
    labels = group.labels
    text = f"{model_text(labels['model'])}, α = {alpha_text(labels['alpha'])}"
    return f"{text}, distance {labels['distance']}" if "distance" in labels else text


def _colour(arm: str) -> str:
    return {"ss": BLUE, "conv": GREY}.get(arm, DARK)


def _weight(arm: str) -> str:
    return "bold" if arm == "ss" else "normal"


def _spread(count: int) -> np.ndarray:
    """Heights within a row, so that runs of equal error don't hide each other."""
    return (np.arange(count) - (count - 1) / 2) / max(count, 1) * 0.6
