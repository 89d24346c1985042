"""The landing page's figure: what one output can see, without and with shuffled channels.

`python -m ssconv_lib.ideapicture` writes it anew, as book/images/idea.{svg,png,csv}.
"""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from . import figures
from .figures import COLOUR, GREY
from .models import create_model
from .paths import ROOT
from .pictures import PAGE, house
from .receptive_field import box, reach

MODEL, SIDE = "wrn16_4", 32  # the paper's network and picture size for CIFAR-10
LAYER = "stage1.0.conv2"  # the third convolution, the first behind a shuffle: 3 of its 64 channels at this α
ALPHAS = {"conv": 0.0, "ss": 0.06}
FINE = 12  # screen pixels to a pixel of the network's, so that the house is a house
WORDS = {
    "conv": ("Convolution", "One output sees\na small window:"),
    "ss": ("A few channels shuffled", "It sees that window, and\nsamples from everywhere:"),
}


def seen() -> tuple[dict[str, Tensor], int]:
    """Ask both networks what the middle of the layer's output depends on, and how many parameters they have.

    Returns:
        For "conv" and "ss" a bool Tensor[32, 32]; the number of parameters.

    Raises:
        ValueError: the two differ in their parameters, and the picture would lie.
    """
    networks = {method: create_model(MODEL, num_classes=10, alpha=alpha) for method, alpha in ALPHAS.items()}
    counts = {sum(p.numel() for p in network.parameters()) for network in networks.values()}
    if len(counts) > 1:
        raise ValueError(f"expected as many parameters with shuffling as without, got {sorted(counts)}")
    maps = {method: reach(network, [LAYER], (3, SIDE, SIDE))[LAYER] for method, network in networks.items()}
    return maps, counts.pop()


def table(maps: Mapping[str, Tensor]) -> pd.DataFrame:
    """Tabulate the maps of `seen`, a pixel a row: row and column, from 1, and for each method 1 where it is seen."""
    row, column = np.indices((SIDE, SIDE)).reshape(2, -1) + 1
    return pd.DataFrame({"row": row, "column": column, **{name: m.int().flatten() for name, m in maps.items()}})


def idea() -> tuple[Figure, pd.DataFrame]:
    """Draw the house twice, in colour where one output of a network sees it; and return what was drawn.

    Returns:
        The figure; the table of `table`.
    """
    maps, parameters = seen()
    data = table(maps)
    figure, axes = plt.subplots(1, 2, figsize=(PAGE, 5.3), layout="constrained")
    figure.get_layout_engine().set(wspace=0.07, rect=(0, 0.065, 1, 0.935))
    for ax, (method, (title, words)) in zip(axes, WORDS.items(), strict=True):
        colour = COLOUR[method]
        _view(ax, maps[method], maps["conv"], colour)
        ax.set_title(title, fontsize=16, loc="center", pad=8)
        ax.set_xlabel(words, fontsize=15, labelpad=8)
        share = f"{100 * data[method].mean():.0f} % of the picture"
        below = {"xy": (0.5, 0), "xycoords": "axes fraction", "xytext": (0, -64), "textcoords": "offset points"}
        ax.annotate(share, **below, ha="center", fontsize=17, fontweight="bold", color=colour)
    note = f"The same network with the same {parameters:,} parameters"
    figure.text(0.5, 0.02, note, ha="center", fontsize=13, color=GREY)
    return figure, data


def _view(ax: Axes, mask: Tensor, window: Tensor, colour: str) -> None:
    """Draw the house, grey and pale but for the mask, with a frame round the plain window."""
    image = house(SIDE * FINE)
    grey = (0.35 * torch.einsum("c,chw->hw", torch.tensor([0.3, 0.59, 0.11]), image) + 0.6).expand_as(image)
    fine = mask.repeat_interleave(FINE, 0).repeat_interleave(FINE, 1)
    ax.imshow(torch.where(fine, image, grey).permute(1, 2, 0).numpy(), extent=(0, SIDE, SIDE, 0))
    top, left, height, width = box(window)
    ax.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor="black", linewidth=2.2))
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=colour, linewidth=2)


def write(path: Path = ROOT / "book" / "images" / "idea") -> None:
    """Write `path`.svg, .png and .csv."""
    with plt.rc_context():
        figures.use_style()
        figure, data = idea()
        figures.save(figure, data, path)
        plt.close(figure)


if __name__ == "__main__":
    write()
