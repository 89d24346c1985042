"""The answers of ablated networks, and what they say of a block: the ground of chapter 6's tables and verdicts."""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from .ablation import ALL, KEPT, NEW, NONE
from .bootstrap import ImageDifference, paired_bootstrap_mean
from .fieldtables import layer_text
from .usagetables import with_source

LEVEL = 0.95
NETWORK = ["source", "model", "alpha", "seed", "network"]  # the columns that name a network
CONDITION = ["block", "treatment", "bn"]
CONTROLS = ("others_zeroed", "unshuffled")  # that zeroing is compared with
STATISTICS = (KEPT, NEW)

Answers = dict[tuple[str, str, str], np.ndarray]  # by block, treatment and bn: bool (draws, N)


def block_text(name: str) -> str:
    """A block's name as readers know it: conv4_4 for layer3.3, dense1_2 for the second layer of a first dense block."""
    if layer := re.fullmatch(r"features\.denseblock(\d+)\.denselayer(\d+)", name):
        return f"dense{layer[1]}_{layer[2]}"
    if layer := re.fullmatch(r"block(\d+)\.(\d+)", name):
        return f"dense{layer[1]}_{int(layer[2]) + 1}"
    return "all blocks" if name == ALL else layer_text(name)


def networks(frame: pd.DataFrame) -> Iterator[tuple[dict, Answers]]:
    """Each network's columns, and its answers, with those of the intact network among them.

    Raises:
        ValueError: a network has no row of the intact network with batch norm statistics of some kind.
    """
    for key, group in with_source(frame).groupby(NETWORK, sort=False, dropna=False):
        at = dict(zip(NETWORK, key, strict=True))
        answers = {condition: _stacked(of["wrong"]) for condition, of in group.groupby(CONDITION, sort=False)}
        for bn in dict.fromkeys(bn for _, _, bn in answers):
            if (NONE, "intact", bn) not in answers:
                raise ValueError(
                    f"network {at['network']} ({at['source']}): no row of treatment 'intact' with bn {bn!r}, expected"
                    " one to compare with; measure this network's ablation anew"
                )
        yield at, answers


def zeroed_blocks(answers: Answers, *, with_all: bool = False) -> list[str]:
    """The zeroed blocks in order of the forward."""
    left_out = {NONE} if with_all else {NONE, ALL}
    return list(dict.fromkeys(b for b, treatment, _ in answers if treatment == "zeroed" and b not in left_out))


def cost(
    answers: Answers, block: str, bn: str = KEPT, *, treatment: str = "zeroed", level: float = LEVEL
) -> ImageDifference | None:
    """What a treatment of a block costs; None if that was not measured."""
    wrong = answers.get((block, treatment, bn))
    return None if wrong is None else paired_bootstrap_mean(answers[NONE, "intact", bn], wrong, level=level)


def more(answers: Answers, block: str, control: str, bn: str, level: float = LEVEL) -> ImageDifference | None:
    """What zeroing a block costs above a control, in the mean over its draws; None if one was not measured."""
    first, second = answers.get((block, control, bn)), answers.get((block, "zeroed", bn))
    return None if first is None or second is None else paired_bootstrap_mean(first, second, level=level)


def more_by_draw(answers: Answers, block: str, control: str, bn: str, level: float = LEVEL) -> list[ImageDifference]:
    """What zeroing a block costs above each single draw of a control; nothing if one was not measured."""
    first, second = answers.get((block, control, bn)), answers.get((block, "zeroed", bn))
    if first is None or second is None:
        return []
    return [paired_bootstrap_mean(draw, second, level=level) for draw in first]


def corrected(comparisons: int) -> float:
    """The level of one of several intervals that all hold at `LEVEL` (Bonferroni)."""
    return 1 - (1 - LEVEL) / comparisons


def _stacked(wrong: pd.Series) -> np.ndarray:
    return np.stack([np.asarray(one, dtype=bool) for one in wrong])
