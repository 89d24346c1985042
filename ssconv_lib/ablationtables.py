"""Chapter 6's tables and verdicts: what each treatment of P costs, with its interval over the test images."""

import re
from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd
from torch import nn

from . import readable
from .ablation import ALL, KEPT, NEW, NONE, blocks
from .bootstrap import ImageDifference, paired_bootstrap_mean
from .fieldtables import layer_text
from .judge import verdict_row
from .usagetables import with_source

LEVEL = 0.95
NETWORK = ["source", "model", "alpha", "seed", "network"]  # the columns that name a network
CONDITION = ["block", "treatment", "bn"]
# treatments as readers know them
TREATMENT_TEXT = {
    "intact": "intact",
    "zeroed": "zeroed (Eq. 5)",
    "others_zeroed": "as many others zeroed",
    "unshuffled": "un-shuffled",
    "mean": "channel mean",
    "other_pi": "another π",
    "fresh": "a fresh π each forward",
}
CONTROLS = ("others_zeroed", "unshuffled")  # that zeroing is compared with

Answers = dict[tuple[str, str, str], np.ndarray]  # by block, treatment and bn: bool (draws, N)


def block_text(name: str) -> str:
    """A block's name as readers know it: conv4_4 for layer3.3, dense1_2 for the second layer of a first dense block."""
    if layer := re.fullmatch(r"features\.denseblock(\d+)\.denselayer(\d+)", name):
        return f"dense{layer[1]}_{layer[2]}"
    if layer := re.fullmatch(r"block(\d+)\.(\d+)", name):
        return f"dense{layer[1]}_{int(layer[2]) + 1}"
    return "all blocks" if name == ALL else layer_text(name)


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
    for at, answers in _networks(frame):
        for (block, treatment, bn), wrong in answers.items():
            errors = 100 * wrong.mean(1)
            row = {**at, "block": block_text(block), "treatment": treatment, "bn": bn, "error": errors.mean()}
            cost = None if treatment == "intact" else _cost(answers, block, bn, treatment=treatment)
            row |= {"drop": cost.mean if cost else float("nan"), "drop_sd": _sd(errors), **_interval(cost)}
            rows.append({**row, "n": wrong.shape[1], "draws": len(errors)})
    columns = [*NETWORK, *CONDITION, "error", "drop", "drop_sd", "low", "high", "detectable", "n", "draws"]
    return pd.DataFrame(rows, columns=columns)


def control_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Does zeroing the shuffled channels cost more than its controls? The question that the paper leaves open.

    Args:
        frame: As in `ablation_table`.

    Returns:
        A row for each network, block, control (`CONTROLS`) and bn: more (points of error that zeroing costs above the
        control, paired by image), low and high (95 %), p (bootstrap), detectable, n (images), draws of the control.
    """
    rows = []
    for at, answers in _networks(frame):
        for block, control, bn in product(_blocks(answers, with_all=True), CONTROLS, (KEPT, NEW)):
            if (more := _more(answers, block, control, bn)) is not None:
                row = {**at, "block": block_text(block), "control": control, "bn": bn, "more": more.mean}
                draws = len(answers[block, control, bn])
                rows.append({**row, **_interval(more), "p": more.p, "n": more.n, "draws": draws})
    columns = [*NETWORK, "block", "control", "bn", "more", "low", "high", "detectable", "p", "n", "draws"]
    return pd.DataFrame(rows, columns=columns)


def verdict_rows(frame: pd.DataFrame) -> list[dict[str, str]]:
    """The paper's three sentences on Fig. 5 (b), and the control that it lacks, for each network.

    All rest on 95 % intervals over images, with batch norm's statistics kept, as in the paper. What must hold of every
    block needs no correction; that one of several blocks speaks against a claim is asked at a corrected level.

    - Every block, and the first one: reproduced if zeroing it costs; not reproduced if it helps.
    - The biggest drop is late but not last ("between the middle and high layers"; conv4_4 is the 11th of ResNet50's 16
      blocks): reproduced if the costliest block of the second half, the last one left out, costs more than the
      costliest of the others; not reproduced if it costs less.
    - Zeroing the shuffled channels costs more than zeroing as many others, or un-shuffling: reproduced if it does in
      every block; not reproduced if it costs less in one.

    Args:
        frame: As in `ablation_table`; without rows there are no verdicts.
    """
    rows = []
    for at, answers in _networks(frame):
        name = f"{readable.model_text(at['model'])}, seed {at['seed']}; {at['source']}"
        rows += [_every(answers, name), _biggest(answers, name), _first(answers, name)]
        rows += [row for control in CONTROLS if (row := _against(answers, control, name))]
    return rows


def _every(answers: Answers, name: str) -> dict[str, str]:
    blocks = _blocks(answers)
    helped = [b for b in blocks if _cost(answers, b, level=_corrected(len(blocks))).high < 0]
    costs = {bn: _present({b: _cost(answers, b, bn) for b in blocks}) for bn in (KEPT, NEW)}
    counts = {bn: sum(cost.low > 0 for cost in of.values()) for bn, of in costs.items()}
    evidence = f"Zeroing raises the error in {counts[KEPT]} of {len(blocks)} blocks: {_listed(costs[KEPT])}"
    evidence += _anew(counts[NEW], costs[NEW])
    claim = "Zeroing the shuffled channels of any block degrades the performance"
    return _row(claim, name, evidence, counts[KEPT] == len(blocks), bool(helped))


def _first(answers: Answers, name: str) -> dict[str, str]:
    first = _blocks(answers)[0]
    cost, new = _cost(answers, first), _cost(answers, first, NEW)
    evidence = f"Zeroing raises the error by {_listed({first: cost})}"
    if new is not None:
        evidence += f"; with batch norm's statistics estimated anew, by {_points(new)}"
    return _row("The performance is degraded even at the first block", name, evidence, cost.low > 0, cost.high < 0)


def _biggest(answers: Answers, name: str) -> dict[str, str]:
    blocks = _blocks(answers)
    claim = "The biggest drop is at a block between the middle and the last"
    late = blocks[len(blocks) // 2 : -1]
    others = [block for block in blocks if block not in late]
    if not late:
        return _row(claim, name, f"Of {len(blocks)} blocks none lies between the middle and the last", False, False)
    costs = {block: _cost(answers, block).mean for block in blocks}
    best, rival = (max(of, key=lambda block: costs[block]) for of in (late, others))
    level = _corrected(len(late) * len(others))  # both are chosen by what they are judged by
    more = paired_bootstrap_mean(answers[rival, "zeroed", KEPT], answers[best, "zeroed", KEPT], level=level)
    evidence = (
        f"Of the late blocks {block_text(best)} costs most, {_number(costs[best])} points, of the others "
        f"{block_text(rival)}, {_number(costs[rival])}; difference {_points(more)}"
    )
    return _row(claim, name, evidence, more.low > 0, more.high < 0)


def _against(answers: Answers, control: str, name: str) -> dict[str, str] | None:
    """Zeroing against a control; None if that was not measured."""
    blocks = _blocks(answers)
    more = {bn: _present({b: _more(answers, b, control, bn) for b in blocks}) for bn in (KEPT, NEW)}
    if not more[KEPT]:
        return None
    less = [b for b in more[KEPT] if _more(answers, b, control, KEPT, _corrected(len(blocks))).high < 0]
    counts = {bn: sum(one.low > 0 for one in of.values()) for bn, of in more.items()}
    evidence = f"Zeroing costs more in {counts[KEPT]} of {len(blocks)} blocks, by {_listed(more[KEPT])}"
    evidence += _anew(counts[NEW], more[NEW])
    what = {"others_zeroed": "zeroing as many others", "unshuffled": "un-shuffling them"}[control]
    claim = f"Zeroing the shuffled channels costs more than {what}"
    where = "Control of Fig. 5 (b), not in the paper"
    return _row(claim, name, evidence, counts[KEPT] == len(blocks), bool(less), where)


def _row(claim: str, name: str, evidence: str, holds: bool, fails: bool, where: str = "Fig. 5 (b)") -> dict[str, str]:
    outcome = "reproduced" if holds else "not reproduced" if fails else "cannot tell"
    return verdict_row(claim, f"{where}; {name}", evidence, outcome)


def _networks(frame: pd.DataFrame) -> Iterator[tuple[dict, Answers]]:
    """Each network's columns, and its answers, with those of the intact network among them."""
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


def _stacked(wrong: pd.Series) -> np.ndarray:
    return np.stack([np.asarray(one, dtype=bool) for one in wrong])


def _blocks(answers: Answers, *, with_all: bool = False) -> list[str]:
    """The zeroed blocks in order of the forward."""
    left_out = {NONE} if with_all else {NONE, ALL}
    return list(dict.fromkeys(b for b, treatment, _ in answers if treatment == "zeroed" and b not in left_out))


def _cost(
    answers: Answers, block: str, bn: str = KEPT, *, treatment: str = "zeroed", level: float = LEVEL
) -> ImageDifference | None:
    """What a treatment of a block costs; None if that was not measured."""
    wrong = answers.get((block, treatment, bn))
    return None if wrong is None else paired_bootstrap_mean(answers[NONE, "intact", bn], wrong, level=level)


def _more(answers: Answers, block: str, control: str, bn: str, level: float = LEVEL) -> ImageDifference | None:
    """What zeroing a block costs above a control; None if one of them was not measured."""
    first, second = answers.get((block, control, bn)), answers.get((block, "zeroed", bn))
    return None if first is None or second is None else paired_bootstrap_mean(first, second, level=level)


def _corrected(comparisons: int) -> float:
    return 1 - (1 - LEVEL) / comparisons


def _present(found: dict[str, ImageDifference | None]) -> dict[str, ImageDifference]:
    return {block: one for block, one in found.items() if one is not None}


def _sd(errors: np.ndarray) -> float:
    return float(errors.std(ddof=1)) if len(errors) > 1 else float("nan")


def _interval(one: ImageDifference | None) -> dict[str, float]:
    """Without a spread an interval would be no evidence of certainty."""
    known = one is not None and not one.degenerate
    return {name: getattr(one, name) if known else float("nan") for name in ("low", "high", "detectable")}


def _anew(count: int, found: dict[str, ImageDifference]) -> str:
    return f"; with batch norm's statistics estimated anew in {count}: {_listed(found)}" if found else ""


def _listed(found: dict[str, ImageDifference]) -> str:
    return ", ".join(f"{_points(one)} ({block_text(block)})" for block, one in found.items())


def _points(one: ImageDifference) -> str:
    return f"{_number(one.mean)} [{_number(one.low)}, {_number(one.high)}]"


def _number(points: float) -> str:
    return f"{points:.2f}".replace("-", "−")
