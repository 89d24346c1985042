"""From records to the tables of chapters 2 and 3: the paper's numbers beside each profile's, with intervals."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from . import paper, stats
from .readable import model_text
from .study import empty_frame

# the paper's network that each of ours stands for; those of the generated task stand for none
STANDS_FOR = {
    "wrn16_4": "wrn16_4",
    "wrn10_2": "wrn16_4",
    "densenet_bc_100_12": "densenet_bc_100_12",
    "densenet_bc_40_12": "densenet_bc_100_12",
    "resnext29_2x64d": "resnext29_2x64d",
    "resnext29_2x16d": "resnext29_2x64d",
    "resnet50": "resnet50",
    "resnet14": "resnet50",
    "resnet50_abn": "resnet50_abn",
    "resnet14_abn": "resnet50_abn",
    "seresnet50": "seresnet50",
    "seresnet14": "seresnet50",
    "densenet121": "densenet121",
    "resnext50_32x4d": "resnext50_32x4d",
}
# Table 1's arms: how the grouped convolutions are shuffled, by the layout in the records
ARMS = {
    "conv": "Conv",
    "leading": "Eq. 2",
    "listing": "Listing 1 as written",
    "matched": "Eq. 2, Eq. 3's count",
    "auto": "Eq. 3",
}
CONTRASTS = {
    "conv-auto": ("conv", "auto", "does Eq. 3 help at all?"),
    "conv-leading": ("conv", "leading", "does Eq. 2?"),
    "leading-auto": ("leading", "auto", "is Eq. 3 better than Eq. 2, as the paper says?"),
    "matched-auto": ("matched", "auto", "and at the same number of shuffled channels?"),
    "leading-listing": ("leading", "listing", "a null pair: the same but for the order of unshuffled channels"),
}
DATA = {
    "cifar10": "CIFAR-10",
    "longrange": "generated task",
    "pathfinder": "Pathfinder",
    "imagenet": "ImageNet-1k",
    "imagenette160": "Imagenette",
}
SOLVED = 10.0  # percent of error below which the generated task counts as solved; chance is 50


def solved(errors: pd.Series) -> tuple[int, int]:
    """How many runs of the generated task, or of Pathfinder, solved it, of how many."""
    return int((errors < SOLVED).sum()), len(errors)


def source(frame: pd.DataFrame) -> str:
    """Where a profile's numbers come from, for a column's head: quick (generated task)."""
    data = frame["data"].iloc[0]
    return f"{frame['profile'].iloc[0]} ({DATA.get(data, data)})"


def by_seed(frame: pd.DataFrame) -> pd.Series:
    """The errors of one arm, indexed by seed; where π has seeds of its own, their mean."""
    return frame.groupby("seed")["error"].mean()


def schedules(pilots: list[pd.DataFrame], results: list[pd.DataFrame]) -> pd.DataFrame:
    """What a longer schedule brings: the pilots' errors beside those of the same network in the results.

    Returns:
        A row for each profile, number of epochs and α, shortest first: `n`, `error` (mean) and `error_sd`.
    """
    models = {model for frame in pilots for model in frame["model"]}
    alphas = {alpha for frame in pilots for alpha in frame["alpha"]}
    runs = pd.concat([*pilots, *results] or [empty_frame()])
    runs = runs[runs["model"].isin(models) & runs["alpha"].isin(alphas)]
    table = runs.groupby(["model", "epochs", "alpha", "profile"], as_index=False)["error"].agg(
        n="size", error="mean", error_sd="std"
    )
    return table[["profile", "model", "epochs", "alpha", "n", "error", "error_sd"]]


def _paired(first: pd.Series, second: pd.Series) -> stats.Difference | None:
    """The paired difference of two arms, None if they share no seed."""
    shared = first.index.intersection(second.index)
    return stats.paired_difference(first[shared], second[shared]) if len(shared) else None


def comparison(frame: pd.DataFrame, number: int = 2) -> pd.DataFrame:
    """Conv against ss at the paper's α, paired by seed: a row for each model that has both.

    Args:
        frame: Records of one profile (see `study.frame`), of any models, with α = 0 and one other α.
        number: The paper's table, 2 or 3, that the difference is judged by.

    Returns:
        model, n (pairs), conv and ss (mean and sd), difference (conv minus ss: positive is for shuffling) with
        interval and p, detectable (the difference seen with 80 % power; from four pairs on), `best, selected on test`
        (means of the best epochs' errors, conv / ss: selected by what they measure), outcome and sentence of the
        verdict.

    Raises:
        ValueError: a network has records of several α beside 0.
    """
    rows = []
    for model, group in frame.groupby("model", sort=False):
        conv, ss = _two_arms(group)
        shared = conv.index.intersection(ss.index)
        if shared.empty:
            continue
        conv, ss = conv[shared], ss[shared]  # a seed without its partner would shift one mean and not the other
        measured = stats.paired_difference(conv, ss)
        row = {"model": model, "n": measured.n, **_mean_sd("conv", conv), **_mean_sd("ss", ss), **_numbers(measured)}
        group = group[group["seed"].isin(shared)]
        if "best_error" in group:
            best = [group.loc[chosen, "best_error"].mean() for chosen in (group["alpha"] == 0, group["alpha"] > 0)]
            row["best, selected on test"] = " / ".join(f"{error:.2f}" for error in best)
        if printed := STANDS_FOR.get(model):
            judged = judge_as(model, measured, paper.difference(number, printed), name="conv minus ss")
            row |= {"outcome": judged.outcome, "sentence": judged.sentence}
        rows.append(row)
    return pd.DataFrame(rows)


def table2(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Table 2, the paper's rows first, then those of each profile's frame that stand for the same network."""
    return _side_by_side(frames, 2)


def table3(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Table 3, likewise; small profiles have a part of ImageNet, which their source says."""
    return _side_by_side(frames, 3)


def _side_by_side(frames: Sequence[pd.DataFrame], number: int) -> pd.DataFrame:
    rows = []
    measured = [(source(frame), comparison(frame, number)) for frame in frames if len(frame)]
    for printed in paper.table(number)["key"].unique():
        conv, ss = (paper.value(number, printed, method) for method in ("conv", "ss"))
        runs = int(paper.table(number)["n_runs"].iloc[0])
        rows.append({"source": "paper", "model": printed, "n": runs, "conv": conv, "ss": ss, "difference": conv - ss})
        for name, table in measured:
            own = [row for row in table.to_dict("records") if STANDS_FOR.get(row["model"]) == printed]
            rows += [{"source": name, **row} for row in own]
    return pd.DataFrame(rows)


def gains(runs: pd.DataFrame) -> pd.Series:
    """Conv minus ss of one network, indexed by the seeds that have both."""
    conv, ss = _two_arms(runs)
    return (conv - ss).dropna()


def _two_arms(runs: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """The errors of conv and of ss by seed; a mean over several α would be the error of no network."""
    if len(alphas := sorted(runs.loc[runs["alpha"] > 0, "alpha"].unique())) > 1:
        raise ValueError(
            f"{runs['model'].iloc[0]}: α = {', '.join(f'{a:g}' for a in alphas)} beside 0 in a study that compares two"
            " arms, expected one; give the others a study of their own in the profile"
        )
    return by_seed(runs[runs["alpha"] == 0]), by_seed(runs[runs["alpha"] > 0])


def judge_as(model: str, measured: stats.Difference, printed: paper.PrintedDifference, **options: Any) -> stats.Verdict:
    """The book's rule, which for a relative of the paper's network asks for less (see `verdict.verdict`)."""
    return stats.verdict(measured, printed, relative=STANDS_FOR[model] != model, **options)


def pairs(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Conv minus ss for each seed: a row a pair, labelled by model, profile and images."""
    rows = []
    for frame in frames:
        for model, runs in frame.groupby("model", sort=False):
            label = {"label": f"{model_text(model)}, {source(frame)}", "model": model}
            rows += [{**label, "seed": seed, "difference": d} for seed, d in gains(runs).items()]
    return pd.DataFrame(rows, columns=["label", "model", "seed", "difference"])


def printed_differences(pairs: pd.DataFrame, number: int = 2) -> dict[str, paper.PrintedDifference]:
    """For each label of `pairs` that stands for a network of the paper, the difference that the paper prints."""
    known = pairs[pairs["model"].isin(STANDS_FOR)].drop_duplicates("label")
    return {row.label: paper.difference(number, STANDS_FOR[row.model]) for row in known.itertuples()}


def pairs_needed(table: pd.DataFrame, number: int = 2) -> pd.DataFrame:
    """How many pairs would see the paper's difference with 80 % power, given the sd that `table2` measured.

    Below four pairs the sd itself is too uncertain (at two, its 95 % interval reaches 32 times the estimate).
    """
    rows = []
    for row in table[table["source"] != "paper"].to_dict("records"):
        sd, printed = row["difference_sd"], paper.difference(number, STANDS_FOR[row["model"]])
        knows = pd.notna(row["detectable"])
        needed = stats.seeds_needed(sd, float(printed), paired=True) if knows else None
        rows.append(
            {
                "source": row["source"],
                "model": row["model"],
                "pairs so far": row["n"],
                "sd of a pair": sd,
                "paper's difference": float(printed),
                "pairs needed": needed,
            }
        )
    return pd.DataFrame(rows)


def arms(frame: pd.DataFrame) -> pd.DataFrame:
    """Table 1's records with a column `arm`: "conv", or the layout."""
    return frame.assign(arm=frame["layout"].where(frame["alpha"] > 0, "conv"))


def table1(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Table 1: a row for each arm, the paper's number and each profile's mean, sd and n."""
    printed = {
        "conv": paper.value(1, "resnext29_2x64d", "conv"),
        "leading": paper.value(1, "resnext29_2x64d", "ss", layout="leading"),
        "auto": paper.value(1, "resnext29_2x64d", "ss", layout="interleaved"),
    }
    rows = []
    for arm, label in ARMS.items():
        row = {"arm": label, "paper (CIFAR-10)": printed.get(arm)}
        for frame in frames:
            errors = arms(frame).query("arm == @arm")["error"]
            if len(errors):
                row |= _mean_sd(where := source(frame), errors) | {f"n, {where}": len(errors)}
        rows.append(row)
    return pd.DataFrame(rows)


def contrasts(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The paired differences behind Table 1's claims, for each profile: positive if the second arm has less error."""
    rows = []
    for frame in frames:
        of = {arm: by_seed(group) for arm, group in arms(frame).groupby("arm")}
        for first, second, question in CONTRASTS.values():
            if first in of and second in of and (measured := _paired(of[first], of[second])):
                row = {"source": source(frame), "contrast": f"{ARMS[first]} − {ARMS[second]}", "question": question}
                rows.append(row | {"n": measured.n, **_numbers(measured)})
    return pd.DataFrame(rows)


def _mean_sd(name: str, errors: pd.Series) -> dict[str, float]:
    summary = stats.summarise(errors)
    return {name: summary.mean, f"{name}_sd": summary.sd}


def _numbers(measured: stats.Difference) -> dict[str, float]:
    known = not measured.degenerate  # an interval without spread is no evidence of certainty
    return {
        "difference": measured.mean,
        "difference_sd": measured.sd if known else float("nan"),
        "low": measured.low if known else float("nan"),
        "high": measured.high if known else float("nan"),
        "p": measured.p,
        "detectable": measured.detectable(),
        "note": measured.degenerate,
    }
