"""The sheets of maps in chapter 5: square panels laid out in inches, each a map from white (0) to red (1)."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch.nn.functional as F
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from .figures import BLUE, GREY
from .pictures import PAGE

RED = "#C4161C"  # dark enough for grey print, where white to red is white to dark grey
WHITE_TO_RED = LinearSegmentedColormap.from_list("field", ["white", RED])
SIDE = 1.75  # inches, of the largest panel
LEFT, RIGHT, GUTTER, HEAD, TITLE, NUMBER, KEY = 0.55, 0.75, 0.12, 0.36, 0.2, 0.22, 0.3  # inches


def sheet(
    titles: Sequence[int], across: int, left: float, head: str, label: str, key: str
) -> tuple[Figure, list[list[Axes]]]:
    """Lay out lines of square panels on a page, and a colour bar at the right of the first.

    Args:
        titles: Of each line of panels, how many lines of text stand above it.
        across: Panels in a line.
        left: Inches left of the panels.
        head: Title of the figure.
        label: Of the colour bar.
        key: What the drawing's parts mean, for the lower left corner.

    Returns:
        The figure, and the axes of each line.
    """
    side = min(SIDE, (PAGE - left - RIGHT) / across - GUTTER)
    height = sum(TITLE * title + side + NUMBER for title in titles) + KEY + HEAD
    figure = plt.figure(figsize=(PAGE, height), layout="constrained")
    figure.set_layout_engine("none")  # of a figure that never had an engine, saving would make a new one

    def place(x: float, y: float, width: float, tall: float) -> Axes:  # inches from the upper left corner
        return figure.add_axes((x / PAGE, 1 - (y + tall) / height, width / PAGE, tall / height))

    top, axes = HEAD, []
    for title in titles:
        top += TITLE * title
        axes.append([place(left + number * (side + GUTTER), top, side, side) for number in range(across)])
        top += side + NUMBER
    colours = ScalarMappable(cmap=WHITE_TO_RED)
    colours.set_clim(0, 1)
    first = HEAD + TITLE * titles[0]
    scale = place(left + across * (side + GUTTER) + 0.06, first, 0.1, side)
    bar = figure.colorbar(colours, cax=scale, ticks=(0, 0.5, 1))
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.ax.set_title(label, fontsize=8, fontweight="normal", pad=7, loc="left")
    bar.outline.set_linewidth(0.6)
    figure.text(0.1 / PAGE, 0.07 / height, key, fontsize=7.5, color=GREY, va="bottom")
    figure.text(0.1 / PAGE, 1 - 0.08 / height, head, fontsize=11, fontweight="bold", va="top")
    return figure, axes


def draw_map(ax: Axes, m: Tensor, box: tuple[int, int]) -> None:
    """Draw Tensor[H, W] in [0, 1], and the box [low, high) in blue."""
    ax.imshow(m.numpy(), cmap=WHITE_TO_RED, vmin=0, vmax=1, interpolation="nearest")
    low, side = box[0] - 0.5, box[1] - box[0]
    halo = [patheffects.withStroke(linewidth=2.4, foreground="white")]  # in grey print blue on red would be lost
    ax.add_patch(Rectangle((low, low), side, side, fill=False, ec=BLUE, lw=1.3, path_effects=halo, zorder=3))
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color="#AAAAAA", linewidth=0.6)


def draw_outline(ax: Axes, region: Tensor) -> None:
    """Draw the border of a bool Tensor[H, W] as a dashed line."""
    dash = {"linewidths": 1.0, "linestyles": (0, (3, 2)), "colors": "black", "clip_on": False}
    ax.add_collection(LineCollection(border(region), **dash, zorder=4), autolim=False)


def draw_missing(ax: Axes) -> None:
    """Draw a dash and no frame, where there is no map."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.text(0.5, 0.5, "–", transform=ax.transAxes, ha="center", va="center", fontsize=14, color=GREY)


def write_below(ax: Axes, text: str) -> None:
    """Write a small text below a panel."""
    ax.set_xlabel(text, fontsize=7.5, labelpad=2)


def name_row(ax: Axes, name: str) -> None:
    """Write a name upright at the left of a panel."""
    text = {"rotation": 90, "ha": "right", "va": "center", "transform": ax.transAxes, "fontsize": 8.5}
    width = ax.get_position().width * PAGE  # inches
    ax.text(-0.08 / width, 0.5, name, fontweight="bold", **text)


def border(region: Tensor) -> list[list[tuple[float, float]]]:
    """Return the border of a bool Tensor[H, W] along the edges of pixels, as straight pieces [(x, y), (x, y)]."""
    pieces = []
    for part, across in ((region, False), (region.T, True)):
        edges = F.pad(part.int(), (1, 1)).diff(dim=1).abs().T  # (W + 1, H), between neighbours of a row
        ends = F.pad(edges, (1, 1)).diff(dim=1)  # (W + 1, H + 1)
        for (x, low), (_, high) in zip((ends > 0).nonzero().tolist(), (ends < 0).nonzero().tolist(), strict=True):
            piece = [(x - 0.5, low - 0.5), (x - 0.5, high - 0.5)]
            pieces.append([(y, x) for x, y in piece] if across else piece)
    return pieces


def checked_map(m: Tensor, where: str) -> Tensor:
    """Return a map as float Tensor[H, W] on the CPU.

    Raises:
        ValueError: naming `where` it is from; it is no Tensor[H, W] in [0, 1].
    """
    if m.ndim != 2:
        raise ValueError(f"the map of {where} has the shape {tuple(m.shape)}: expected (H, W), a mean over the rest")
    m = m.detach().cpu().float()
    if not ((m >= 0) & (m <= 1)).all():  # a NaN is not either
        low, high = m.min().item(), m.max().item()
        raise ValueError(f"the map of {where} goes from {low:g} to {high:g}: expected 0 to 1; see fieldplots.displayed")
    return m


def percent(part: float) -> str:
    """Return a share as 26 %; 0 % and 100 % are just that, not rounded to it."""
    if 0 < part < 0.01:
        return "< 1 %"
    if 0.99 < part < 1:
        return "> 99.9 %" if part > 0.999 else "> 99 %"
    return f"{100 * part:.0f} %"
