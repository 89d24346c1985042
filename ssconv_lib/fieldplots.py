"""The figures of chapter 5 that are maps of receptive fields (Fig. 3, 4, 6–8).

A map is Tensor[H, W] in [0, 1] or bool, drawn from white (0) to red (1). A box is (low, high) in pixels, half-open, for
rows and columns alike: it ends before pixel `high`, so that its edges are at low - .5 and high - .5 of the drawing.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from .fieldpanels import (
    LEFT,
    checked_map,
    draw_map,
    draw_missing,
    draw_outline,
    name_row,
    percent,
    sheet,
    write_below,
)
from .fieldtables import Maps, layer_text
from .receptive_field import share

ACROSS = 6  # panels side by side
ROOT = "effective field, root"  # what `displayed` makes of one
CSV_SIDE = 32  # values; the CSV of a map has no more in a row


def map_grid(
    rows: Maps,
    box: tuple[int, int],
    *,
    title: str,
    outlines: Mapping[str, Tensor] | None = None,
    label: str = "σ(R)",
    threshold: float = 0.5,
) -> Figure:
    """Draw a row of maps for each model, a column a layer (Fig. 3, 6–8); more than 6 layers go on in further lines.

    Below each panel stands the share of its pixels from the threshold on. A layer that a model lacks is a dash.

    Args:
        rows: Of each model, by layer; or of whatever differs from row to row and from column to column.
        box: The units looked at.
        title: Of the figure.
        outlines: Of a layer, the classical receptive field, bool Tensor[H, W]; its border is dashed.
        label: Of the colour bar.
        threshold: From which on a pixel counts, see `fieldchannel.threshold`.

    Raises:
        ValueError: there is no map, or one is no Tensor[H, W] in [0, 1].
    """
    key = ["Blue: the box looked at", f"number: share of pixels ≥ {threshold:g}"]
    if outlines:
        key.insert(1, "dashed: classical receptive field")
    shares = {model: {layer: percent(share(m, threshold)) for layer, m in maps.items()} for model, maps in rows.items()}
    return _grid(rows, box, shares, outlines or {}, title, label, "; ".join(key) + ".")


def beside(
    measures: Maps,
    box: tuple[int, int],
    *,
    title: str,
    agreement: pd.DataFrame,
) -> Figure:
    """Draw several measures of one model's receptive field, a row each: exact reach, effective field, Eq. 4.

    Args:
        measures: Of each measure, by layer; an effective receptive field as `displayed` has it, and named `ROOT`.
        box: The units looked at.
        title: Of the figure.
        agreement: Columns layer and iou (one model's): what stands below a layer's maps.

    Raises:
        ValueError: there is no map, one is no Tensor[H, W] in [0, 1], or `agreement` has a layer twice.
    """
    if (twice := agreement["layer"][agreement["layer"].duplicated()]).size:
        raise ValueError(f"agreement has {twice.iloc[0]!r} more than once: pass the rows of one model")
    texts = dict(zip(agreement["layer"], map("IoU {:.2f}".format, agreement["iou"]), strict=True))
    key = ["Blue: the box looked at", "IoU: of the exact reach and Eq. 4's σ(R) ≥ 0.5"]
    if ROOT in measures:
        key.insert(1, "root: √(field / its largest value)")
    return _grid(measures, box, {[*measures][-1]: texts}, {}, title, "value", "; ".join(key) + ".")


def displayed(field: Tensor) -> Tensor:
    """Return the square root of an effective receptive field over its maximum, Tensor[H, W] ≥ 0, so from 0 to 1.

    The field falls off so fast from its middle that a linear scale would show a dot. Zeros stay zeros.

    Raises:
        ValueError: a value is negative or no number.
    """
    if not (field >= 0).all():  # a NaN is not either
        raise ValueError(f"the field's smallest value is {field.min():g}: expected squared gradients, which are ≥ 0")
    return (field / field.max().clamp(min=torch.finfo(field.dtype).tiny)).sqrt()


def channelwise(
    maps: Sequence[Sequence[Tensor]],
    boxes: Sequence[tuple[int, int]],
    models: Sequence[str],
    letters: Sequence[str],
    *,
    title: str,
    threshold: float = 0.1,
) -> Figure:
    """Draw Fig. 4: the receptive field of one channel in each box, model by model; σ(R) ≥ threshold is drawn as 1.

    Args:
        maps: Of each model, of each box.
        boxes: Each panel shows its own.
        models: Names.
        letters: Of each model, those of its panels in the paper's figure; "" for a model that isn't in it.
        title: Of the figure.
        threshold: From which on a value is drawn as 1; the share below a panel is that of these values.

    Raises:
        ValueError: there is not a map for each model and box, or one is no Tensor[H, W] in [0, 1].
    """
    if [len(of) for of in maps] != [len(boxes)] * len(models):
        found = [len(of) for of in maps]
        raise ValueError(f"maps has {found} maps: expected one for each of {len(boxes)} boxes in {len(models)} models")
    across = max(1, 4 // len(boxes)) * len(boxes)
    panels = [
        (m, box, f"({letter}) {model}" if letter else model)
        for of, model, known in zip(maps, models, letters, strict=True)
        for m, box, letter in zip(of, boxes, known or [""] * len(boxes), strict=True)
    ]
    lines = -(-len(panels) // across)
    key = f"Blue: the box looked at; number: share of pixels ≥ {threshold:g}, which are drawn as 1."
    figure, axes = sheet([2] * lines, min(across, len(panels)), 0.1, title, "σ(R)", key)
    for number, (m, box, model) in enumerate(panels):
        ax = axes[number // across][number % across]
        m = checked_map(m, f"{model}, box {box[0]}–{box[1]}")
        draw_map(ax, torch.where(m >= threshold, 1.0, m), box)
        ax.set_title(f"{model},\nbox {box[0]}–{box[1]}", fontsize=8, fontweight="normal", pad=3, loc="left")
        write_below(ax, percent(share(m, threshold)))
    for ax in [ax for line in axes for ax in line][len(panels) :]:
        ax.remove()
    return figure


def grid_data(rows: Maps, threshold: float = 0.5) -> pd.DataFrame:
    """Tabulate the maps of a figure, large ones as means of square blocks, so that no side has more than 32 values.

    Returns:
        Columns: model, layer, share (of the whole map's pixels from the threshold on) and mean (of all its pixels),
        and of each block row and column of its first pixel, from 0, and value, its mean.
    """
    frames = []
    for model, maps in rows.items():
        for layer, m in maps.items():
            m = checked_map(m, f"{model}, {layer}")
            block = -(-max(m.shape) // CSV_SIDE)
            values = F.avg_pool2d(m[None], block, ceil_mode=True)[0]
            row, column = (
                block * index.flatten() for index in torch.meshgrid(*map(torch.arange, values.shape), indexing="ij")
            )
            one = {"model": model, "layer": layer_text(layer), "share": share(m, threshold), "mean": m.mean().item()}
            frames.append(pd.DataFrame({**one, "row": row, "column": column, "value": values.flatten()}))
    return pd.concat(frames, ignore_index=True)


def _grid(
    rows: Maps,
    box: tuple[int, int],
    numbers: Mapping[str, Mapping[str, str]],
    outlines: Mapping[str, Tensor],
    title: str,
    label: str,
    key: str,
) -> Figure:
    rows, numbers = _by_text(rows), _by_text(numbers)
    outlines = {layer_text(layer): region for layer, region in outlines.items()}
    layers = list(dict.fromkeys(layer for maps in rows.values() for layer in maps))
    if not layers:
        raise ValueError("there is no map to draw: expected at least one model with at least one layer")
    parts = [layers[start : start + ACROSS] for start in range(0, len(layers), ACROSS)]
    lines = [(model, part) for part in parts for model in rows]
    titled = [int(number % len(rows) == 0) for number in range(len(lines))]
    figure, axes = sheet(titled, len(parts[0]), LEFT, title, label, key)
    for (model, part), line, named in zip(lines, axes, titled, strict=True):
        name_row(line[0], model)
        for ax in line[len(part) :]:
            ax.remove()
        for layer, ax in zip(part, line, strict=False):
            if named:
                ax.set_title(layer, fontsize=8.5, fontweight="normal", pad=3, loc="center")
            if layer not in rows[model]:
                draw_missing(ax)
                continue
            draw_map(ax, checked_map(rows[model][layer], f"{model}, {layer}"), box)
            if layer in outlines:
                draw_outline(ax, outlines[layer])
            write_below(ax, numbers.get(model, {}).get(layer, ""))
    return figure


def _by_text(table: Mapping[str, Mapping[str, object]]) -> dict[str, dict]:
    return {model: {layer_text(layer): value for layer, value in of.items()} for model, of in table.items()}
