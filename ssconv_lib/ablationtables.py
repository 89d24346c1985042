"""Chapter 6's tables: what each treatment of P costs, with its interval over the test images."""

from itertools import product

import numpy as np
import pandas as pd
from torch import nn

from . import readable
from .ablation import TREATMENT_TEXT, blocks
from .ablationanswers import (
    CONDITION,
    CONTROLS,
    NETWORK,
    STATISTICS,
    block_text,
    cost,
    more,
    more_by_draw,
    networks,
    zeroed_blocks,
)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A table of this module for readers: treatments by name, no hash, and the range over draws in one column."""
    text = table.drop(columns=["network", "draw_low", "draw_high"], errors="ignore")
    for name in {"treatment", "control"} & set(text):
        text[name] = text[name].map(lambda how: TREATMENT_TEXT.get(how, how))
    text = readable.readable(text)
    if "draw_low" in table:
        place = [*text].index("95 % interval") + 1
        text.insert(place, "above single draws", _ranges(table))
    return text


def _ranges(table: pd.DataFrame) -> list[str]:
    """The range over draws, where there are several."""
    ends = readable.readable(table[["draw_low", "draw_high"]].set_axis(["least", "most"], axis=1))
    pairs = zip(ends["least"], ends["most"], table["draws"], strict=True)
    return [f"{least} to {most}" if draws > 1 else "" for least, most, draws in pairs]


def doses(model: nn.Module) -> pd.DataFrame:
    """How much there is to zero in each block.

    Returns:
        A row for each block: convolutions that shuffle, shuffled (channels that they shuffle) and channels (that they
        read), values (that move in an image: Σ m).
    """
    rows = []
    for block, names in blocks(model).items():
        layers = [model.get_submodule(name) for name in names]
        row = {"block": block_text(block), "convolutions": len(layers)}
        row |= {"shuffled": sum(layer.num_shuffled for layer in layers)}
        row |= {"channels": sum(layer.in_channels for layer in layers)}
        rows.append({**row, "values": sum(len(layer.permutation) for layer in layers)})
    return pd.DataFrame(rows, columns=["block", "convolutions", "shuffled", "channels", "values"])


def ablation_table(frame: pd.DataFrame) -> pd.DataFrame:
    """What each treatment of each block costs.

    A drop with new batch norm statistics is against the intact network with new statistics, not against the one that
    was trained: what the new statistics alone cost is in the error of the intact rows, and in no drop.

    Args:
        frame: A row for each condition of `ablation.ablate`: columns source (or profile and data, as in
            `probestudy.probe_frame`), model, alpha, seed, network (a hash), block, treatment, draw, bn, and wrong (bool
            vectors, of the same images for all rows of a network). Others are ignored.

    Returns:
        A row for each network, block, treatment and bn, in that order: error (%), drop (points of error above the
        intact network with batch norm statistics of the same kind) and `drop_sd`, its sd over draws (nan of one),
        low and high (95 % over images, for these draws), detectable (a drop seen with 80 % power), n (images), draws.
        `block` is `block_text`; rows of the intact network have block "none" and no drop.

    Raises:
        ValueError: a network has no row of the intact network with such statistics.
    """
    rows = []
    for at, answers in networks(frame):
        for (block, treatment, bn), wrong in answers.items():
            errors = 100 * wrong.mean(1)
            row = {**at, "block": block_text(block), "treatment": treatment, "bn": bn, "error": errors.mean()}
            drop = None if treatment == "intact" else cost(answers, block, bn, treatment=treatment)
            row |= {"drop": drop.mean, **drop.interval} if drop else {}
            row["drop_sd"] = _sd(errors)
            rows.append({**row, "n": wrong.shape[1], "draws": len(errors)})
    columns = [*NETWORK, *CONDITION, "error", "drop", "drop_sd", "low", "high", "detectable", "n", "draws"]
    return pd.DataFrame(rows, columns=columns)


def control_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Does zeroing the shuffled channels cost more than its controls? The question that the paper leaves open.

    Args:
        frame: As in `ablation_table`.

    Returns:
        A row for each network, block, control (`CONTROLS`) and bn: more (points of error that zeroing costs above the
        control, in the mean over its draws, paired by image), low and high (95 % over images, for these draws),
        `draw_low` and `draw_high`: the least and the most that zeroing costs above a single draw (points; equal where
        nothing is drawn), for draws can differ by more than images; detectable, p (bootstrap), n (images), draws of
        the control.
    """
    rows = []
    for at, answers in networks(frame):
        for block, control, bn in product(zeroed_blocks(answers, with_all=True), CONTROLS, STATISTICS):
            if (above := more(answers, block, control, bn)) is not None:
                by_draw = [one.mean for one in more_by_draw(answers, block, control, bn)]
                row = {**at, "block": block_text(block), "control": control, "bn": bn, "more": above.mean}
                row |= {**above.interval, "draw_low": min(by_draw), "draw_high": max(by_draw)}
                rows.append({**row, "p": above.p, "n": above.n, "draws": len(by_draw)})
    columns = [*NETWORK, "block", "control", "bn", "more", "low", "high", "draw_low", "draw_high", "detectable"]
    return pd.DataFrame(rows, columns=[*columns, "p", "n", "draws"])


def _sd(errors: np.ndarray) -> float:
    return float(errors.std(ddof=1)) if len(errors) > 1 else float("nan")
