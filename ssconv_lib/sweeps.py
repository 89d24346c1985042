"""Errors over α: Fig. 2 in numbers, its fitted curve, and an α that held-out images choose."""

from collections.abc import Collection, Sequence

import pandas as pd

from . import stats
from .tables import by_seed, solved

PAPERS_CHOICE = (0.02, 0.04, 0.06)  # Sec. 4.2: it takes the best of these
NEAR = 2.0  # points of error
COLUMNS = ["profile", "model", "alpha", "n", "mean", "sd", "low", "high"]
GAIN = ["pairs", "gain", "gain_low", "gain_high", "p", "p, Holm"]


def with_pairs(sweeps: Sequence[pd.DataFrame], pairs: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Add to each sweep the runs that another study has of the same profile, network and α, such as Table 2's pairs.

    One difference then has one value in a chapter, whichever table shows it.
    """
    return [_with_pairs(sweep, pairs) for sweep in sweeps]


def _with_pairs(sweep: pd.DataFrame, pairs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    same = ["profile", "model", "alpha"]
    known = set(sweep[same].itertuples(index=False, name=None))
    others = [frame[[row in known for row in frame[same].itertuples(index=False, name=None)]] for frame in pairs]
    found = pd.concat([sweep, *(frame for frame in others if len(frame))])
    return found.drop_duplicates("hash").reset_index(drop=True)


def sweep_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Fig. 2 in numbers: a row for each profile, model and α, with n (seeds), mean, sd of a seed and interval.

    `gain` is the mean paired difference to α = 0 (positive: shuffling helps) over `pairs` seeds, with its interval,
    `p` that of its t test, and `p, Holm` corrected for the number of α.

    `solved` counts the runs below the threshold `tables.SOLVED`. It is for the generated task alone, whose runs are of
    two kinds, so that an interval of their mean would mean nothing and is left out.
    """
    rows = []
    for (profile, model), of_model in frame.groupby(["profile", "model"], sort=False):
        generated = of_model["data"].iloc[0] == "longrange"
        plain = by_seed(of_model[of_model["alpha"] == 0])
        of = [_row(group, None if generated or alpha == 0 else plain) for alpha, group in of_model.groupby("alpha")]
        for row, p in zip(of, stats.holm([row["p"] for row in of]), strict=True):
            rows.append({"profile": profile, "model": model, **row, "p, Holm": p})
    table = pd.DataFrame(rows, columns=[*COLUMNS, *GAIN, "solved"]).astype({"solved": "Int64", "pairs": "Int64"})
    return table.sort_values(["profile", "model", "alpha"], ignore_index=True)


def _row(group: pd.DataFrame, plain: pd.Series | None) -> dict[str, float]:
    """One α of a network; `plain` holds the errors without shuffling by seed, None where nothing is to be compared."""
    generated = group["data"].iloc[0] == "longrange"
    errors = group["error"] if generated else by_seed(group)  # several π of a seed are no further seeds
    seen = stats.summarise(errors)
    interval = {"low": float("nan"), "high": float("nan")} if generated else {"low": seen.low, "high": seen.high}
    row = {
        "alpha": group["alpha"].iloc[0],
        "n": seen.n,
        "mean": seen.mean,
        "sd": seen.sd,
        **interval,
        "p": float("nan"),
    }
    if plain is not None and len(plain.index.intersection(errors.index)):
        gain = stats.paired_difference(plain, errors)
        row |= {"pairs": gain.n, "gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high, "p": gain.p}
    return row | {"solved": solved(errors)[0] if generated else None}


def near_best(summary: pd.DataFrame) -> list[float]:
    """The α of one network whose mean is within `NEAR` points of the best, and what lies between them.

    Where everything is shuffled the error is many points higher: beside it differences of tenths can't be seen, and a
    smooth curve that has to climb there swings before it does.
    """
    near = summary.index[summary["mean"] < summary["mean"].min() + NEAR]
    return summary.loc[near[0] : near[-1], "alpha"].tolist() if len(near) else []


def fitted_curve(frame: pd.DataFrame) -> pd.DataFrame | None:
    """A smooth curve of the error over the place of α in its list, with its interval; None where runs are too few.

    Places rather than values: the α of the sweep are spaced unevenly, and 0 has no logarithm. It is fitted to the α of
    `near_best` that have two seeds.
    """
    runs = frame.groupby(["alpha", "seed"], as_index=False)["error"].mean()
    of = runs.groupby("alpha", as_index=False)["error"].agg(["mean", "count"])
    places = {alpha: place for place, alpha in enumerate(of["alpha"])}
    enough = set(of.loc[of["count"] >= 2, "alpha"]) & set(near_best(of))
    if len(enough) < 5:
        return None
    runs = runs[runs["alpha"].isin(enough)]
    return stats.smooth_curve(runs["alpha"].map(places), runs["error"], runs["seed"])


def selection(validation: pd.DataFrame, tested: pd.DataFrame, planned: Collection[float]) -> pd.DataFrame:
    """α chosen on held-out training images, and the paper's way beside it.

    Both choose among α that have the same seeds: of means over one run and over three, the former is lowest more
    often, by luck alone.

    Args:
        validation: Records that read held-out training images.
        tested: Records that read the test set, of the same model.
        planned: The α among which the held-out images choose; nothing is chosen before each has a run.

    Returns:
        A row for each α: mean validation error with its n; `chosen` marks the α where it is lowest, `papers_rule` the
        one of the lowest test error among the paper's .02, .04 and .06. Only these two show their test error.
    """
    held_out, chosen = _lowest(validation, planned)
    test, papers = _lowest(tested, PAPERS_CHOICE)
    shown = test[test.index.isin([chosen, papers])]
    table = held_out.add_suffix("_validation").join(shown.add_suffix("_test"), how="outer")
    table["chosen"], table["papers_rule"] = table.index == chosen, table.index == papers
    return table.rename_axis("alpha").reset_index()


def _lowest(runs: pd.DataFrame, among: Collection[float]) -> tuple[pd.DataFrame, float | None]:
    """Mean and count for each α over the seeds that all of `among` have, and which of these is lowest.

    Without such a seed the means are over all runs, and none is called lowest.
    """
    means = runs.groupby("alpha")["error"].agg(["mean", "count"])
    errors = runs[runs["alpha"].isin(list(among))].groupby(["seed", "alpha"])["error"].mean()
    seeds = errors.groupby("seed").size()
    shared = seeds.index[seeds == len(among)]
    if not len(shared):
        return means, None
    means = runs[runs["seed"].isin(shared)].groupby("alpha")["error"].agg(["mean", "count"])
    return means, means["mean"].reindex(list(among)).idxmin()
