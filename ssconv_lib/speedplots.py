"""The plots of chapter 4: time over plain convolution, with the quartiles of the rounds."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import BLUE, COLOUR, GREEN, GREY, ORANGE, PURPLE, SKY, YELLOW
from .plots import WIDTH
from .readable import alpha_text, model_text
from .speedtables import ARMS, AXES, GROUPS, LAYOUTS

MARK = {"listing": "s", "ss": "o"}
RATIO = "time over plain convolution"
SOURCES = [(BLUE, "o"), (GREEN, "s"), (ORANGE, "^"), (PURPLE, "D"), (GREY, "v")]  # not the paper's colour
ORDER = {"mode": ["inference", "training"], "precision": ["fp32", "bf16"], "memory_format": [*LAYOUTS]}
PARTS = dict(zip(GROUPS, (SKY, GREY, ORANGE, YELLOW, PURPLE), strict=True))


def table4(table: pd.DataFrame) -> Figure:
    """Table 4 as ratios: a row for each arm, the paper's as a line, each machine a point with its quartiles.

    Args:
        table: From `speedtables.table4`.
    """
    printed, measured = table[table["ratio_low"].isna()], table[table["ratio_low"].notna()]
    arms = [arm for arm in ARMS if arm != "conv" and (table["arm"] == arm).any()]
    sources = [*measured["source"].unique()]
    figure, ax = plt.subplots(figsize=(WIDTH, 1.5 + 0.55 * len(arms) + 0.2 * len(sources)))
    ax.axvline(1, color="black", lw=0.8)
    for place, arm in enumerate(arms):
        for ratio in printed.loc[printed["arm"] == arm, "ratio"]:
            label = printed["source"].iloc[0] if place == 0 else None
            ax.plot([ratio] * 2, [place - 0.4, place + 0.4], color=COLOUR["paper"], lw=2.5, label=label)
            ax.annotate(
                f"{ratio:.2f}", (ratio, place - 0.4), (3, -2), textcoords="offset points", color=COLOUR["paper"]
            )
    for number, name in enumerate(sources):
        rows = measured[(measured["source"] == name) & measured["arm"].isin(arms)]
        colour, marker = SOURCES[number % len(SOURCES)]
        places = rows["arm"].map(arms.index) + 0.5 * ((number + 1) / (len(sources) + 1) - 0.5)
        first = rows.iloc[0]
        label = f"{name}; {first['pixels']} px, batch {first['batch']}, n = {first['n']}"
        _points(ax, rows["ratio"], rows["ratio_low"], rows["ratio_high"], places, colour, marker, label)
    ax.set_yticks(range(len(arms)), [ARMS[arm] for arm in arms])
    ax.set_ylim(len(arms) - 0.4, -0.6)
    ax.set(xlabel=f"{RATIO}, same machine (median, quartiles)", title="ResNet50, inference: what an image costs")
    ax.grid(axis="x")
    figure.legend(loc="outside lower left", fontsize=8)
    return figure


def _points(
    ax: Axes, ratio: pd.Series, low: pd.Series, high: pd.Series, places: pd.Series, colour: str, marker: str, label: str
) -> None:
    ax.hlines(places, low, high, color=colour, lw=2)
    ax.plot(ratio, places, ls="", marker=marker, color=colour, ms=5.5, label=label)


def networks(cases: pd.DataFrame) -> Figure:
    """Every case as a row and every machine as a panel: Listing 1's and our ratio with their quartiles.

    Args:
        cases: From `speedtables.cases`.
    """
    kinds = cases[["network", *ORDER]].drop_duplicates()
    kinds = kinds.sort_values([*ORDER], key=lambda column: column.map(ORDER[column.name].index), kind="stable")
    rows: list[tuple] = []
    for name in cases["network"].unique():
        group = kinds[kinds["network"] == name]
        rows += [(name, None), *((name, tuple(kind)) for kind in group.iloc[:, 1:].itertuples(index=False))]
    places = {row: place for place, row in enumerate(rows)}
    sources = [*cases["source"].unique()]
    size = (WIDTH, 2.0 + 0.21 * len(rows))
    figure, axes = plt.subplots(1, len(sources), figsize=size, sharex=True, sharey=True, squeeze=False)
    for name, ax in zip(sources, axes[0], strict=True):
        of = cases[cases["source"] == name]
        at = pd.Series([places[row.network, (row.mode, row.precision, row.memory_format)] for row in of.itertuples()])
        ax.axvline(1, color="black", lw=0.8)
        for arm in ("listing", "ss"):
            shift = at + (0.16 if arm == "ss" else -0.16)
            label = ARMS[arm] if name == sources[0] else None
            _points(ax, of[arm], of[f"{arm}_low"], of[f"{arm}_high"], shift, COLOUR[arm], MARK[arm], label)
        first = of.iloc[0]
        setting = f"{model_text(first['network'])}: {first['pixels']} px, batch {first['batch']}"
        ax.set_title(
            f"{name.replace(', ', chr(10)).replace(': ', chr(10))}\n{setting}", fontsize=8, fontweight="normal"
        )
        ax.grid(axis="x")
        ax.tick_params(axis="y", length=0, labelsize=8.5)
    axes[0, 0].set_yticks(range(len(rows)), [_row_text(row) for row in rows])
    for tick, (_, kind) in zip(axes[0, 0].get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if kind is None else "normal")
    axes[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    figure.supxlabel(f"{RATIO} (median, quartiles)", fontsize=10)
    figure.suptitle("Inference and training: what a step costs", x=0.01, ha="left", fontsize=11, fontweight="bold")
    below = 1 - 0.3 / size[1]  # the title; beside the panels' titles, above the rows' names
    figure.legend(loc="upper left", bbox_to_anchor=(0, below), fontsize=8.5)
    return figure


def _row_text(row: tuple) -> str:
    network, kind = row
    return model_text(network) if kind is None else f"{kind[0]}, {kind[1]}, {LAYOUTS[kind[2]]}"


def scaling(table: pd.DataFrame) -> Figure:
    """One layer's ratio along α, channels, image size and batch: a column for each, a row for each layer and layout.

    Args:
        table: From `speedtables.scaling`, of one machine.
    """
    kinds = [*table.groupby(["network", "memory_format"], sort=False).groups]
    kinds.sort(key=lambda kind: (kind[0], [*LAYOUTS].index(kind[1])))
    axes_there = [axis for axis in AXES if (table["axis"] == axis).any()]
    size = (WIDTH, 0.9 + 1.55 * len(kinds))
    figure, grid = plt.subplots(len(kinds), len(axes_there), figsize=size, sharex="col", sharey="row", squeeze=False)
    for row, kind in zip(grid, kinds, strict=True):
        of = table[(table["network"] == kind[0]) & (table["memory_format"] == kind[1])]
        for axis, ax in zip(axes_there, row, strict=True):
            _along(ax, of[of["axis"] == axis], axis, labelled=ax is grid[0, 0])
        row[0].set_title(f"{model_text(kind[0])}, {LAYOUTS[kind[1]]}", fontsize=9.5)
    for axis, ax in zip(axes_there, grid[-1], strict=True):
        ax.set_xlabel(AXES[axis])
    figure.supylabel(f"{RATIO} (median, quartiles)", fontsize=10)
    figure.suptitle(f"One thing varies; the others: {table['held'].iloc[0]}", x=0.01, ha="left", fontsize=9.5)
    figure.legend(loc="outside lower left", fontsize=8.5, ncols=2)
    return figure


def _along(ax: Axes, table: pd.DataFrame, axis: str, *, labelled: bool) -> None:
    values = sorted(table["value"].unique())
    ax.axhline(1, color="black", lw=0.8)
    for arm in ("listing", "ss"):
        of = table[table["arm"] == arm]
        style = {"color": COLOUR[arm], "marker": MARK[arm], "ms": 4, "lw": 1.5}
        ax.plot(of["value"], of["ratio"], **style, label=ARMS[arm] if labelled else None)
        ax.fill_between(of["value"], of["ratio_low"], of["ratio_high"], color=COLOUR[arm], alpha=0.2, lw=0)
    ax.set_xscale("log")
    shown = values if len(values) < 5 else values[::2]
    text = alpha_text if axis == "alpha" else "{:.0f}".format
    ax.set_xticks(shown, [text(value) for value in shown], fontsize=8.5)
    ax.set_xticks([], minor=True)
    ax.grid(axis="y")


def parts_of_a_step(table: pd.DataFrame) -> Figure:
    """Where a step's time goes: the whole step of each arm, and beside it all but the convolutions, enlarged.

    Args:
        table: From `speedtables.parts_of_a_step`.
    """
    arms = [*table["arm"].unique()]
    wide = table.pivot(index="arm", columns="part", values="ms").loc[arms, [*GROUPS]]
    calls = table.pivot(index="arm", columns="part", values="calls").loc[arms, [*GROUPS]]
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.6), width_ratios=(1, 1.15), sharey=False)
    edges = wide.cumsum(axis=1)
    for part, before in zip(GROUPS, [None, *GROUPS], strict=False):
        start = edges[before] if before else 0
        left.barh(range(len(arms)), wide[part], left=start, color=PARTS[part], label=part, height=0.6)
    left.set_yticks(range(len(arms)), [ARMS[arm].replace(" ", "\n", 1) for arm in arms])
    left.set(xlabel="ms a step, under the profiler", title="the whole step")
    left.invert_yaxis()
    rest = [part for part in GROUPS if part != "convolution"]
    height = 0.8 / len(arms)
    for number, arm in enumerate(arms):
        places = [place + (number - (len(arms) - 1) / 2) * height for place in range(len(rest))]
        colour = [PARTS[part] for part in rest]
        right.barh(places, wide.loc[arm, rest], height=0.9 * height, color=colour)
        for place, part in zip(places, rest, strict=True):
            text = f"{ARMS[arm].removeprefix('ss, ').removesuffix(' convolution')}: {calls.loc[arm, part]:.0f} calls"
            shown = text if part != "outside operators" else text.partition(":")[0]
            right.annotate(shown, (wide.loc[arm, part], place), (3, 0), textcoords="offset points", va="center", size=7)
    right.set_yticks(range(len(rest)), [part.replace(", ", ",\n") for part in rest])
    right.set_xlim(0, 1.45 * wide[rest].to_numpy().max())
    right.set(xlabel="ms a step, under the profiler", title="all but the convolutions")
    right.invert_yaxis()
    figure.legend(loc="outside lower left", fontsize=8.5, ncols=3)
    return figure
