"""The control experiments in tables: each arm against plain convolution and against ss.

Differences are the reference minus the arm: positive if the arm has less error. p values are also given after Holm's
correction over the arms of a table's group, since the best of many arms looks good by chance.
"""

from functools import cache

import pandas as pd
import torch

from . import readable, receptive_field, stats
from .controlarms import Group, arm_text, groups
from .models import create_model
from .tables import by_seed

_P = ("p to conv", "p to conv, Holm", "p to ss", "p to ss, Holm")


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A table of this module for readers."""
    text = table.copy()
    for name in set(_P) & set(table):
        text[name] = readable.readable(table[[name]].set_axis(["p"], axis=1))["p"]
    return readable.readable(text)


def has_arms(frame: pd.DataFrame) -> bool:
    """Whether there is a pair to compare: conv and another arm of one network, with a seed in common."""
    return any(
        group.paired("conv", arm) is not None
        for group in groups(frame)
        if "conv" in group.arms
        for arm in group.arms
        if arm != "conv"
    )


@cache
def reach(model: str, alpha: float, control: str, size: int) -> float:
    """The share of a square image that a unit in the middle of a network's last layer can depend on, by its wiring.

    Permutations are those of seed 0. That a unit can depend on a pixel says nothing of how strongly.

    Args:
        model: A network of the generated task, for `create_model`.
        alpha: α.
        control: What is in place of the shuffle; at α = 0 it means nothing.
        size: Of the image, in pixels a side.

    Returns:
        0 to 1; nan for a network without a rule in `wiring`, of another make, or whose package is missing.
    """
    shape = (3, size, size)
    try:
        with torch.random.fork_rng(devices=[]):  # the weights don't matter; the caller's generator does
            network = create_model(model, num_classes=2, alpha=alpha, input_size=shape, control=control)
        return receptive_field.share(receptive_field.reach(network, ["layers"], shape)["layers"])
    except (ValueError, RuntimeError):
        return float("nan")


def solved_arms(frame: pd.DataFrame) -> pd.DataFrame:
    """The generated task: a row for each arm.

    Args:
        frame: Records of the generated task (see `study.frame`).

    Returns:
        source, model, alpha, size, distance, arm, reach (see `reach`: necessary beyond the plain network's border, and
        not sufficient), n, solved, low and high (Wilson's interval of that share, %), mean
        (error, %), and p of Fisher's exact test on the runs solved, against conv and against ss, as they are and after
        Holm's correction; nan where there is nothing to compare with.
    """
    rows = []
    for group in groups(frame):
        of_group = []
        for arm, runs in group.arms.items():
            share = stats.proportion(*group.solved(arm))
            counts = {"n": share.n, "solved": share.k, "low": 100 * share.low, "high": 100 * share.high}
            seen = reach(*runs[["model", "alpha", "control"]].iloc[0], group.labels["size"])
            row = {**group.labels, "arm": arm_text(arm), "reach": seen}
            of_group.append({**row, **counts, "mean": float(runs["error"].mean())})
        for reference in ("conv", "ss"):
            p = [_fisher(group, reference, arm) for arm in group.arms]
            for row, plain, corrected in zip(of_group, p, stats.holm(p), strict=True):
                row |= {f"p to {reference}": plain, f"p to {reference}, Holm": corrected}
        rows += of_group
    return pd.DataFrame(rows)


def _fisher(group: Group, reference: str, arm: str) -> float:
    if arm == reference or reference not in group.arms:
        return float("nan")
    return stats.fisher(*group.solved(reference), *group.solved(arm))


def paired_arms(frame: pd.DataFrame, reference: str = "conv") -> pd.DataFrame:
    """Real images: a row for each arm, its error, and the difference to a reference, paired by seed.

    Args:
        frame: Records (see `study.frame`).
        reference: "conv" or "ss".

    Returns:
        source, model, alpha, arm, n (pairs; of the reference runs), error with error_sd, difference (reference minus
        arm: positive if the arm has less error) with difference_sd, low and high, p, that after Holm's correction,
        detectable (seen with 80 % power; below four pairs by the sd pooled over all arms' differences to
        conv), verdict, and note (why there is no interval). The verdict goes by the corrected p at 5 %. A group without
        the reference is left out.
    """
    rows = []
    for group in groups(frame):
        if reference not in group.arms:
            continue
        compared = {arm: group.paired(reference, arm) for arm in group.arms if arm != reference}
        corrected = stats.holm([measured.p if measured else float("nan") for measured in compared.values()])
        errors = by_seed(group.arms[reference])
        summary = stats.summarise(errors)
        start = {**group.labels, "arm": arm_text(reference), "n": len(errors)}
        rows.append({**start, "error": summary.mean, "error_sd": summary.sd})
        for (arm, measured), p in zip(compared.items(), corrected, strict=True):
            row = _compared(group, by_seed(group.arms[arm]), errors, measured, p)
            rows.append({**group.labels, "arm": arm_text(arm), **row})
    return pd.DataFrame(rows)


def _compared(
    group: Group, of_arm: pd.Series, errors: pd.Series, measured: stats.Difference | None, p: float
) -> dict[str, object]:
    """One arm's numbers; of its runs only those with a partner, unless none has one."""
    if measured is None:
        return {"n": 0, "error": float(of_arm.mean()), "error_sd": float(of_arm.std()), "note": "no seed in common"}
    own, known = stats.summarise(of_arm[of_arm.index.isin(errors.index)]), not measured.degenerate
    empty = float("nan")
    return {
        "n": measured.n,
        "error": own.mean,
        "error_sd": own.sd,
        "difference": measured.mean,
        "difference_sd": measured.sd if known else empty,
        "low": measured.low if known else empty,
        "high": measured.high if known else empty,
        "p": measured.p,
        "p, Holm": p,
        "detectable": group.detectable(measured),
        "verdict": _words(measured, p),
        "note": measured.degenerate,
    }


def _words(measured: stats.Difference, corrected: float) -> str:
    if not measured.p < 0.05:
        return "cannot tell"
    direction = "better" if measured.mean > 0 else "worse"
    return direction if corrected < 0.05 else f"{direction}, not after correction"
