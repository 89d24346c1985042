"""The pictures that explain the method: what a layer can see, and where the shuffle moves it.

Each function returns a figure; what it draws comes from real layers, and the tables behind it from `*_data`.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from .conv import SSConv2d
from .figures import BLUE, COLOUR, GREY, ORANGE, VERMILION
from .listing import group
from .receptive_field import box
from .shuffle import shuffled_channels

PAGE = 7.5  # inches
FRAME = 3  # points; the frame of a shuffled channel
GAP = 6  # pixels between two channels of a mosaic, where their numbers stand


def house(size: int = 32) -> Tensor:
    """Draw a house in the sun from circles and lines: Tensor[3, size, size] in [0, 1].

    A picture that everybody recognises, so that one sees at once where its parts have gone.
    """
    row, column = np.mgrid[0:size, 0:size] / (size - 1)
    image = np.stack([0.35 + 0.5 * row, 0.6 + 0.25 * row, 0.95 - 0.25 * row])  # the sky

    def paint(where: np.ndarray, colour: tuple[float, float, float]) -> None:
        image[:, where] = np.array(colour)[:, None]

    paint(row > 0.76, (0.3, 0.55, 0.25))
    paint((row - 0.2) ** 2 + (column - 0.8) ** 2 < 0.13**2, (1, 0.85, 0.2))
    paint((abs(column - 0.4) < 0.24) & (row > 0.48) & (row < 0.86), (0.95, 0.9, 0.8))
    paint((row < 0.5) & (row > 0.2 + 1.0 * abs(column - 0.4)), (0.75, 0.2, 0.15))
    paint((abs(column - 0.48) < 0.07) & (row > 0.62) & (row < 0.86), (0.35, 0.2, 0.1))
    paint((abs(column - 0.29) < 0.06) & (abs(row - 0.63) < 0.06), (0.3, 0.55, 0.8))
    return torch.from_numpy(image).float()


def reach_data(plain: Mapping[str, Tensor], shuffled: Mapping[str, Tensor], sides: Mapping[str, int]) -> pd.DataFrame:
    """Tabulate two results of `reach`, layer by layer, beside the classical side (all in pixels)."""
    rows = [
        {"layer": name, "classical_side": sides[name], "method": method, "pixels": int(maps[name].sum())}
        for name in plain
        for method, maps in (("conv", plain), ("ss", shuffled))
    ]
    data = pd.DataFrame(rows)
    return data.assign(fraction=data.pixels / next(iter(plain.values())).numel())


def receptive_field(
    image: Tensor, plain: Mapping[str, Tensor], shuffled: Mapping[str, Tensor], data: pd.DataFrame, shown: Sequence[str]
) -> Figure:
    """Draw what one output position sees of the image, plain above and ss below, and its share at every layer."""
    figure = plt.figure(figsize=(PAGE, 5.0))
    maps, share = figure.subfigures(2, 1, height_ratios=(1.35, 1))
    axes = maps.subplots(2, len(shown), squeeze=False)
    for column, name in enumerate(shown):
        side = int(data[data.layer == name].classical_side.iloc[0])
        axes[0, column].set_title(f"{name}\n{side}×{side} pixels", fontsize=8.5, fontweight="normal", loc="center")
        for ax, reached, method in zip(axes[:, column], (plain[name], shuffled[name]), ("conv", "ss"), strict=True):
            faded = torch.where(reached, image, 0.12 * image + 0.85)
            ax.imshow(faded.permute(1, 2, 0).numpy())
            _frame(ax, *box(plain[name]), colour="black", width=1.2)
            _bare(ax, COLOUR[method])
    for ax, text in zip(axes[:, 0], ("plain", "ss"), strict=True):
        ax.set_ylabel(text, fontsize=10, fontweight="bold")
    ax = share.subplots()
    for method, label, style in (("ss", "ss convolution", "o-"), ("conv", "plain convolution", "s--")):
        line = data[data.method == method]
        ax.plot(line.layer, 100 * line.fraction, style, color=COLOUR[method], label=label, clip_on=False, ms=4.5)
    ax.set(ylim=(0, 100), yticks=(0, 50, 100))
    ax.set_ylabel("pixels seen (%)", fontsize=9.5)
    ax.tick_params(axis="y", labelsize=8.5)
    ax.set_xticks(range(len(plain)), list(plain), fontsize=7.5, rotation=30, ha="right", rotation_mode="anchor")
    ax.set_xlabel("layer", fontsize=9.5)
    ax.legend(loc="center left", bbox_to_anchor=(0.62, 0.35), fontsize=9)
    title = "In full colour: what the middle of a layer's output can see. Box: the classical receptive field"
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, fontweight="bold")
    return figure


def mosaic_data(before: Tensor, after: Tensor) -> pd.DataFrame:
    """Put two feature maps, Tensor[C, H, W], into a table: channel, row, column (from 1), before, after."""
    index = np.indices(before.shape).reshape(3, -1) + 1
    values = {name: x.detach().numpy().ravel().round(3) for name, x in (("before", before), ("after", after))}
    return pd.DataFrame({"channel": index[0], "row": index[1], "column": index[2], **values})


def mosaic(before: Tensor, after: Tensor, shuffled: Sequence[int], columns: int, groups: int = 1) -> Figure:
    """Draw Fig. 1: the channels before P and after it, shuffled ones framed, groups boxed (a row each).

    Args:
        before: Tensor[C, H, W], the feature map.
        after: P of it.
        shuffled: The shuffled channels, counted from 0.
        columns: Channels side by side; with groups, the channels of one group.
        groups: Groups of the convolution.
    """
    figure, axes = plt.subplots(1, 2, figsize=(PAGE, 4.3))
    top = float(before.detach().quantile(0.99))
    for ax, x, title in zip(axes, (before, after), ("Input x", "After the shuffle, P(x)"), strict=True):
        corners = _channels(ax, x, range(len(x)), shuffled, columns, top)
        for row, column in corners[::columns] if groups > 1 else ():
            height, width = x.shape[1] + GAP, columns * (x.shape[2] + GAP) - GAP + 4
            _frame(ax, row - GAP + 1.5, column - 2, height, width, colour=ORANGE, width=1.3)
        ax.set_title(title, pad=18)
    key = "Blue frames: shuffled channels" + (". Orange boxes: groups" if groups > 1 else "")
    figure.suptitle(f"{key}. White: 0; black: large", x=0.02, ha="left", fontsize=9)
    return figure


def window_data(layer: SSConv2d, row: int, column: int) -> pd.DataFrame:
    """Tabulate where the 3x3 window around a position reads its values in the shuffled channels.

    All counts are from 0: `channel`, `row`, `column` of the tap, `source_*` of the value that P puts there.
    """
    height, width = layer.spatial_size
    channels = range(layer.in_channels)[layer.shuffled]
    source = layer.permutation.view(len(channels), height, width)
    taps = [
        (c, i, j) for c in range(len(channels)) for i in range(row - 1, row + 2) for j in range(column - 1, column + 2)
    ]
    rows = []
    for c, i, j in taps:
        from_c, from_i, from_j = np.unravel_index(int(source[c, i, j]), source.shape)
        rows.append((channels[c], i, j, channels[from_c], int(from_i), int(from_j)))
    return pd.DataFrame(rows, columns=["channel", "row", "column", "source_channel", "source_row", "source_column"])


def window(x: Tensor, data: pd.DataFrame, other: int) -> Figure:
    """Draw the taps of one 3x3 window: in an unshuffled channel, and where they really read in the shuffled ones.

    Args:
        x: Tensor[C, H, W], the feature map before P.
        data: From `window_data`.
        other: An unshuffled channel, counted from 0.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 4.2), width_ratios=(0.8, 1))
    top = float(x.detach().quantile(0.99))
    numbers = sorted(data.channel.unique())
    place = {other: _channels(left, x, [other], [], 1, top)[0]}
    place |= dict(zip(numbers, _channels(right, x, numbers, numbers, 2, top), strict=True))
    for channel, (above, before) in place.items():
        _frame(
            left if channel == other else right,
            above + data.row.min(),
            before + data.column.min(),
            3,
            3,
            colour=BLUE,
            width=1.6,
        )
    taps = np.array([place[c] for c in data.channel]) + data[["row", "column"]].to_numpy()  # (taps, 2)
    sources = np.array([place[c] for c in data.source_channel]) + data[["source_row", "source_column"]].to_numpy()
    neighbours = taps[:9] - place[numbers[0]] + place[other]
    dots = {"s": 24, "color": ORANGE, "edgecolor": "black", "linewidth": 0.6, "zorder": 3}
    left.scatter(*neighbours.T[::-1], **dots)
    right.scatter(*sources.T[::-1], **dots)
    for tap, source in zip(taps[:9], sources[:9], strict=True):
        right.plot(*np.array([tap, source]).T[::-1], color=VERMILION, linewidth=0.9)
    left.set_title(f"Channel {other + 1}, not shuffled:\nthe window reads neighbours", pad=18)
    right.set_title(
        f"Channels {numbers[0] + 1} to {numbers[-1] + 1}, shuffled:\nthe same window reads the dots", pad=18
    )
    return figure


def group_data(channels: int, alphas: Sequence[float], groups: int) -> pd.DataFrame:
    """Tabulate which channel stands where (both from 1), and whether it's shuffled, in three versions of P.

    Listing 1's order comes from running its `_group` on the channels' numbers.
    """
    frames = []
    for alpha in alphas:
        x = torch.arange(1.0, channels + 1).view(1, -1, 1, 1)
        first = shuffled_channels(channels, alpha, "leading")
        s = len(first)
        orders = {
            "Eq. 2": (range(1, channels + 1), first + 1),
            "Listing 1": (group(x[:, :s], x[:, s:]).flatten().int().tolist(), first + 1),
            "Eq. 3": (range(1, channels + 1), shuffled_channels(channels, alpha, "interleaved") + 1),
        }
        for version, (order, shuffled) in orders.items():
            data = pd.DataFrame({"alpha": alpha, "version": version, "position": range(1, channels + 1)})
            data["channel"] = list(order)
            data["shuffled"] = data.channel.isin(shuffled.tolist())
            data["group"] = (data.position - 1) * groups // channels + 1
            frames.append(data)
    return pd.concat(frames, ignore_index=True)


def groups_strip(data: pd.DataFrame) -> Figure:
    """Draw the channel orders of `group_data` as strips, a panel for each α."""
    alphas = data.alpha.unique()
    figure, axes = plt.subplots(len(alphas), 1, figsize=(PAGE, 0.3 + 1.75 * len(alphas)))
    for ax, alpha in zip(np.atleast_1d(axes), alphas, strict=True):
        part = data[data.alpha == alpha]
        versions = list(part.version.unique())
        for at in part.itertuples():
            y = versions.index(at.version)
            moved = at.position != at.channel
            face = BLUE if at.shuffled else (ORANGE if moved else "#E9E9E9")
            ax.add_patch(Rectangle((at.position - 0.5, y - 0.38), 1, 0.76, facecolor=face, edgecolor="white"))
            ax.text(
                at.position,
                y,
                at.channel,
                ha="center",
                va="center",
                fontsize=8.5,
                color="white" if at.shuffled else "black",
            )
        spans = part.groupby("group").position.agg(["min", "max", "mean"])
        for edge in (0, *spans["max"]):
            ax.axvline(edge + 0.5, color="black", linewidth=1.4)
        for g, middle in spans["mean"].items():
            ax.text(middle, len(versions) - 0.42, f"group {g}", ha="center", va="top", fontsize=8, color=GREY)
        ax.set(xlim=(0.3, part.position.max() + 0.7), ylim=(len(versions) - 0.1, -0.5), xticks=[])
        ax.set_yticks(range(len(versions)), versions, fontsize=9)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        s = int(part[part.version == versions[0]].shuffled.sum())
        ax.set_title(f"α = {alpha:g}: {s} of {part.position.max()} channels shuffled", fontsize=10)
    handles = [Patch(color=BLUE, label="shuffled"), Patch(color=ORANGE, label="moved to another place, not shuffled")]
    figure.legend(handles=handles, loc="outside lower left", ncols=2, fontsize=8.5)
    return figure


def _channels(
    ax: Axes, x: Tensor, numbers: Sequence[int], shuffled: Sequence[int], columns: int, top: float
) -> list[tuple[int, int]]:
    """Draw some channels of Tensor[C, H, W] side by side, 0 white and `top` black; return their upper left pixels."""
    height, width = x.shape[1:]
    rows = -(-len(numbers) // columns)
    canvas = np.full((GAP + rows * (height + GAP), columns * (width + GAP) - GAP), np.nan)
    corners = [(GAP + k // columns * (height + GAP), k % columns * (width + GAP)) for k in range(len(numbers))]
    for channel, (row, column) in zip(numbers, corners, strict=True):
        canvas[row : row + height, column : column + width] = x[channel].detach().numpy()
        chosen = channel in shuffled
        colour, weight = (BLUE, "bold") if chosen else (GREY, "normal")
        ax.annotate(
            f"{channel + 1}",
            (column - 0.5, row - 0.5),
            (0, 2.5),
            textcoords="offset points",
            fontsize=7.5,
            color=colour,
            fontweight=weight,
        )
        _frame(ax, row, column, height, width, colour=colour, width=FRAME if chosen else 0.5)
    ax.imshow(canvas, cmap="gray_r", vmin=0, vmax=top)
    ax.set_ylim(canvas.shape[0] - 0.5, GAP - 1)  # so that channels of any size start at the same height
    ax.set_anchor("N")
    ax.axis("off")
    return corners


def _frame(ax: Axes, row: float, column: float, height: float, width_px: float, *, colour: str, width: float) -> None:
    """Frame a box of pixels, `width` points thick."""
    ax.add_patch(
        Rectangle(
            (column - 0.5, row - 0.5), width_px, height, fill=False, edgecolor=colour, linewidth=width, clip_on=False
        )
    )


def _bare(ax: Axes, colour: str) -> None:
    """No ticks, a frame all round in the method's colour."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=colour, linewidth=1.5)
