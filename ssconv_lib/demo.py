"""The book's one interactive figure: the shuffle, value by value, by the permutations that `SSConv2d` draws.

The page, its style and its script are in `demo.html`; here are the numbers that they show.
"""

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .conv import SSConv2d
from .shuffle import listing_order

if TYPE_CHECKING:
    from IPython.display import HTML

PAGE = Path(__file__).with_name("demo.html")
ROWS = 4  # of maps; in a grouped convolution a row is a group
GROUPS = {"leading": 1, "interleaved": ROWS, "listing": ROWS}  # Eq. 3 and Listing 1 are about grouped convolutions
PAPER = 0.06  # the α that the paper finds best on CIFAR-10; of 16 channels it shuffles none
LEVELS = 100  # of grey


def html(channels: int = 16, size: int = 6, seed: int = 0) -> str:
    """Return the figure as a part of a page: style, script and numbers are in it, and nothing is loaded.

    It may stand on a page more than once. Without JavaScript it is one sentence.

    Args:
        channels: C, a multiple of 4; the slider has a stop for each k/C from 0 to 1.
        size: Height and width of a map.
        seed: Of π.

    Raises:
        ValueError: channels is not a multiple of 4, or the size is not positive.
    """
    numbers = json.dumps(tables(channels, size, seed), separators=(",", ":"))
    return PAGE.read_text(encoding="utf-8").replace("{{numbers}}", numbers)


def show(channels: int = 16, size: int = 6, seed: int = 0) -> "HTML":
    """Return the figure for a cell of a notebook; arguments as of `html`."""
    from IPython.display import HTML  # the book's, not the layer's

    return HTML(html(channels, size, seed))


def tables(channels: int, size: int, seed: int) -> dict:
    """Return what the page shows, as JSON has it.

    Returns:
        channels, size: As given; `columns` of the maps side by side.
        values: The input, C·H·W levels from 0 to 99 in (c, h, w) order.
        alphas: The slider's, 0 to 1, then the paper's, as readers write them.
        pi: The permutation by the number of channels that it shuffles.
        layouts: For each its number of groups; for each α the shuffled channels as a slice (start, stop, step), and
            the order of all channels behind the shuffle, null where all stay in place. Counted from 0.

    Raises:
        ValueError: as `html`.
    """
    if channels < 1 or channels % ROWS or size < 1:
        raise ValueError(f"channels={channels!r}, size={size!r}: expected a multiple of {ROWS}, and at least 1")
    alphas = [k / channels for k in range(channels + 1)] + [PAPER]
    permutations, layouts = {}, {}
    for layout, groups in GROUPS.items():
        layers = [layer(channels, size, seed, layout, alpha) for alpha in alphas]
        permutations |= {one.num_shuffled: one.permutation.tolist() for one in layers}
        steps = [[one.shuffled.start, one.shuffled.stop, one.shuffled.step] for one in layers]
        layouts[layout] = {"groups": groups, "shuffled": steps, "order": [_order(one) for one in layers]}
    return {
        "channels": channels,
        "size": size,
        "columns": channels // ROWS,
        "values": (maps(channels, size) * (LEVELS - 1)).round().int().flatten().tolist(),
        "alphas": [f"{alpha:.4g}" for alpha in alphas],
        "pi": permutations,
        "layouts": layouts,
    }


def layer(channels: int, size: int, seed: int, layout: str, alpha: float) -> SSConv2d:
    """Build the layer whose shuffle the page shows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Eq. 3 shuffles all above 1/2; the page says so itself
        options = {"alpha": alpha, "spatial_size": size, "layout": layout, "seed": seed}
        return SSConv2d(channels, channels, 3, padding=1, groups=GROUPS[layout], **options)


def maps(channels: int, size: int) -> Tensor:
    """Draw the input: in each channel a soft light, at another place.

    Smooth, as feature maps are, so that one sees at once which channels have turned to noise.

    Returns:
        Tensor[channels, size, size] in [0, 1], each channel from 0 to 1.
    """
    at = torch.linspace(-1, 1, size)
    angle = torch.arange(channels).view(-1, 1, 1) * 2.4  # about the golden angle: neighbours differ
    row, column = at.view(1, -1, 1) - 0.8 * angle.sin(), at.view(1, 1, -1) - 0.8 * angle.cos()
    light = torch.exp(-0.8 * (row**2 + column**2))
    low, high = light.amin((1, 2), keepdim=True), light.amax((1, 2), keepdim=True)
    return (light - low) / (high - low).clamp_min(1e-6)


def _order(one: SSConv2d) -> list[int] | None:
    """The channel at each place behind the shuffle, None if all are in their own."""
    numbers = torch.arange(one.in_channels).view(-1, 1, 1)
    if one.layout != "listing" or not one.num_shuffled:
        return None
    order = listing_order(numbers, one.num_shuffled)
    return None if torch.equal(order, numbers) else order.flatten().tolist()
