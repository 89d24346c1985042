"""Chapter 7's figures of trained networks: the wiring treated, images moved, resized and corrupted."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .ablation import TREATMENT_TEXT
from .ablationplots import LOOKS
from .figures import BLUE, COLOUR, GREY, ORANGE, SKY
from .plots import WIDTH
from .readable import alpha_text, model_text
from .usage import AS_IS, BACK, TREATMENTS
from .usagetables import MEAN, NETWORK, control_text

LINES = {"conv": {"color": COLOUR["conv"], "marker": "s"}, "ss": {"color": COLOUR["ss"], "marker": "o"}}
# how each way to take another size looks: colour, mark, dashes and name; conv's, then ss's
WAYS = {
    ("conv", "as is"): (GREY, "s", "-", "conv"),
    ("conv", "resized back"): (GREY, "D", "--", "conv, image resized back"),
    ("ss", "as is"): (BLUE, "o", "-", "ss, as it is"),
    ("ss", "new π"): (BLUE, "o", "-", "ss (other sizes: new π)"),
    ("ss", "resized back"): (SKY, "D", "--", "ss, image resized back"),
    ("ss", "unshuffled"): (ORANGE, "^", ":", "ss, un-shuffled"),
}


def wiring(table: pd.DataFrame) -> Figure:
    """Draw the error under each treatment of the wiring, a panel for each network.

    Args:
        table: From `usagetables.wiring_table`.

    Raises:
        ValueError: the table has no row.
    """
    networks = _networks(table, "usagetables.wiring_table")
    shown = [how for how in ("intact", *TREATMENTS) if (table["treatment"] == how).any()]
    height = 1.0 + len(networks) * (0.55 + 0.33 * len(shown))
    figure, axes = plt.subplots(len(networks), 1, figsize=(WIDTH, height), squeeze=False)
    for (key, of), ax in zip(networks, axes[:, 0], strict=True):
        rows = of.set_index("treatment")
        intact = rows.loc["intact", "error"]
        ax.axvline(intact, color=GREY, lw=1, ls="--")
        for place, how in enumerate(shown):
            if how in rows.index:
                _treatment(ax, place, how, rows.loc[how], intact)
        ax.set_yticks(range(len(shown)), [TREATMENT_TEXT[how] for how in shown])
        ax.set_ylim(len(shown) - 0.5, -0.5)
        low, high = ax.get_xlim()
        ax.set_xlim(min(low, 0), high + 0.22 * (high - min(low, 0)))  # room for the numbers
        ax.set_title(_title(key, of), fontsize=9)
        ax.grid(axis="x")
    axes[-1, 0].set_xlabel("test error (%), with the 95 % interval of what the treatment adds")
    _head(figure, "Is the wiring used? All ss convolutions treated at once")
    return figure


def shifts(table: pd.DataFrame) -> Figure:
    """Draw how many answers change when the image moves, and conv minus ss of these, with its interval.

    Args:
        table: From `usagetables.shift_table`.

    Raises:
        ValueError: the table has no row.
    """
    networks = _networks(table[table["measure"] == "changed"], "usagetables.shift_table")
    figure, axes = plt.subplots(
        len(networks), 2, figsize=(WIDTH, 0.9 + 2.7 * len(networks)), squeeze=False, width_ratios=(3, 2)
    )
    for (key, of), (left, right) in zip(networks, axes, strict=True):
        places = range(len(of))
        for arm, line in LINES.items():
            left.plot(places, of[arm], ms=6, lw=1.8, mec="white", mew=0.7, label=arm, **line)
        left.set(ylabel="answers that change (%)")
        left.set_ylim(bottom=0)
        left.set_title(_title(key, of), fontsize=9)
        right.axhline(0, color="black", lw=0.8)
        ends = (of["difference"] - of["low"]).to_numpy(), (of["high"] - of["difference"]).to_numpy()
        right.errorbar(places, of["difference"], ends, fmt="D", color=BLUE, capsize=3, ms=5, lw=1.5)
        right.set(ylabel="conv − ss (points), 95 % interval")
        right.set_title("the difference\n(below 0, ss changes more)", fontsize=9)
        for ax in (left, right):
            ax.set_xticks(places, [f"{pixels:g}" for pixels in of["shift"]])
            ax.set(xlabel="pixels moved", xlim=(-0.4, len(of) - 0.6))
            ax.grid(axis="y")
    axes[0, 0].legend(loc="upper left", fontsize=8.5)
    _head(figure, "Consistency: how many answers change when the image moves")
    return figure


def robustness(corruptions: pd.DataFrame, sizes: pd.DataFrame) -> Figure:
    """Draw the error of conv and ss over severity, a panel a corruption, and over the input size, for each pair.

    A hollow mark of ss says that the 95 % interval of its difference to conv includes 0.

    Args:
        corruptions: From `usagetables.corruption_table`.
        sizes: From `usagetables.size_table`.

    Raises:
        ValueError: a table has no row.
    """
    networks = _networks(corruptions, "usagetables.corruption_table")
    _networks(sizes, "usagetables.size_table")
    kinds = [kind for kind in corruptions["corruption"].unique() if kind != "none"]
    across, down = 2, (len(kinds) + 2) // 2
    figure, axes = plt.subplots(
        down * len(networks), across, figsize=(WIDTH, 0.9 + 2.5 * down * len(networks)), squeeze=False
    )
    for number, (key, of) in enumerate(networks):
        panels = list(axes[down * number : down * (number + 1)].flat)
        for ax, kind in zip(panels, kinds, strict=False):
            _corruption(ax, of, kind)
        _sizes(panels[len(kinds)], key, sizes)
        for ax in panels[len(kinds) + 1 :]:
            ax.remove()
        panels[0].set_title(f"{_title(key, of)}\n\n{kinds[0]}", fontsize=9)
    _legend(figure, axes[0, 0], sizes)
    _head(figure, "Corrupted and resized images: conv against ss")
    return figure


def _treatment(ax: Axes, place: int, how: str, row: pd.Series, intact: float) -> None:
    colour, mark = LOOKS.get(how, (GREY, "o"))
    if row["low"] == row["low"]:
        ax.plot([intact + row["low"], intact + row["high"]], [place] * 2, color=colour, lw=2)
    ax.plot(row["error"], place, mark, color=colour, ms=7, mec="white", mew=0.7, zorder=3)
    text = f"{row['error']:.1f}" + ("" if how == "intact" else f" ({row['drop']:+.1f})".replace("-", "−"))
    right = max(row["error"], intact + row["high"]) if row["high"] == row["high"] else row["error"]
    ax.annotate(text, (right, place), (7, 0), textcoords="offset points", va="center", fontsize=8.5)


def _corruption(ax: Axes, of: pd.DataFrame, kind: str) -> None:
    clean = of[of["corruption"] == "none"]
    rows = pd.concat([clean, of[(of["corruption"] == kind) & (of["severity"] != MEAN)]])
    severities, apart = rows["severity"].astype(int), (rows["low"] > 0) | (rows["high"] < 0)
    for arm, line in LINES.items():
        ax.plot(severities, rows[arm], lw=1.6, ms=5, **line)
    colour = LINES["ss"]["color"]
    ax.scatter(severities[~apart], rows["ss"][~apart], s=28, color="white", edgecolor=colour, lw=1.3, zorder=3)
    ax.set(xlabel="severity (0: clean)", ylabel="test error (%)")
    ax.set_title(kind, fontsize=9)
    ax.grid(axis="y")


def _sizes(ax: Axes, key: tuple, sizes: pd.DataFrame) -> None:
    at = dict(zip(NETWORK, key, strict=True))
    pair = sizes[(sizes["source"] == at["source"]) & (sizes["model"] == at["model"]) & (sizes["seed"] == at["seed"])]
    arms = {"conv": pair[pair["alpha"] == 0], "ss": pair[pair["network"] == at["network"]]}
    for (arm, way), (colour, mark, dashes, _) in WAYS.items():
        rows = _of_way(arms[arm], way)
        ax.plot(rows["size"], rows["error"], color=colour, marker=mark, ls=dashes, ms=5, lw=1.6, mec="white", mew=0.7)
    ax.set_xticks(sorted(pair["size"].unique()))
    ax.set(xlabel="input size (pixels)", ylabel="test error (%)")
    ax.set_title("other input sizes", fontsize=9)
    ax.grid(axis="y")


def _of_way(rows: pd.DataFrame, way: str) -> pd.DataFrame:
    """The errors at each size; an image of the network's own size need not be resized back, and stands with those."""
    own = rows[(rows["way"] == AS_IS) & ~rows["size"].isin(rows.loc[rows["way"] == BACK, "size"])]
    found = rows[rows["way"] == way]
    if way == AS_IS and len(found) == len(own):  # which another line has
        return found[:0]
    return pd.concat([found, own] if way == BACK else [found]).sort_values("size")


def _legend(figure: Figure, ax: Axes, sizes: pd.DataFrame) -> None:
    shown = {(("ss" if a else "conv"), way) for a, way in zip(sizes["alpha"] > 0, sizes["way"], strict=True)}
    several = sizes[(sizes["alpha"] > 0) & (sizes["way"] == AS_IS)].groupby(NETWORK).size().max() > 1
    handles = [
        ax.plot([], [], color=colour, marker=mark, ls=dashes, ms=5, lw=1.6, mec="white", mew=0.7, label=label)[0]
        for (arm, way), (colour, mark, dashes, label) in WAYS.items()
        if (arm, way) in shown and ((arm, way) != ("ss", AS_IS) or several)
    ]
    title = "Corruptions: ss is hollow where the 95 % interval of conv minus ss includes 0"
    look = {"fontsize": 8.5, "title_fontsize": 8.5, "alignment": "left", "handlelength": 3}
    figure.legend(handles=handles, loc="outside lower left", ncols=3, title=title, **look)


def _networks(table: pd.DataFrame, origin: str) -> Sequence[tuple[tuple, pd.DataFrame]]:
    if table.empty:
        raise ValueError(f"the table has no row to draw: expected one from {origin}, of networks with probes")
    return list(table.groupby(NETWORK, sort=False))


def _title(key: tuple, rows: pd.DataFrame) -> str:
    at = dict(zip(NETWORK, key, strict=True))
    control = f", {text}" if (text := control_text(at["control"])) else ""
    name = f"{model_text(at['model'])}, α = {alpha_text(at['alpha'])}{control}, seed {at['seed']}"
    return f"{name}\n{at['source']}, n = {rows['n'].iloc[0]:,} images"


def _head(figure: Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
