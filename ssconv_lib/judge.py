"""Chapter 2's claims against the records: each gives a row with the claim, the evidence and the verdict."""

from collections.abc import Sequence

import pandas as pd

from . import paper, stats, tables

COLUMNS = ["claim", "evidence and verdict"]


def table2_claims(table2: pd.DataFrame) -> list[dict[str, str]]:
    """Shuffling lowers the error: a row for each profile and network with pairs of runs."""
    if "sentence" not in table2:
        return []
    judged = table2.dropna(subset=["sentence"])
    return [
        {
            "claim": f"Table 2: shuffling helps {tables.model_text(row.model)} ({row.source})",
            "evidence and verdict": row.sentence,
        }
        for row in judged.itertuples()
    ]


def table1_claims(frames: Sequence[pd.DataFrame]) -> list[dict[str, str]]:
    """Eq. 3 has a lower error than Eq. 2: a row for each profile that has both arms on real images."""
    eq2, eq3 = (paper.value(1, "resnext29_2x64d", "ss", layout=layout) for layout in ("leading", "interleaved"))
    printed = paper.PrintedDifference(eq2 - eq3, 1, "points")
    rows = []
    for frame in frames:
        of = {arm: tables.by_seed(runs) for arm, runs in tables.arms(frame).groupby("arm")}
        if frame["model"].iloc[0] in tables.STANDS_FOR and {"leading", "auto"} <= of.keys():
            measured = stats.paired_difference(of["leading"], of["auto"])
            sentence = stats.verdict(measured, printed, name="Eq. 2 minus Eq. 3").sentence
            claim = f"Table 1: Eq. 3 beats Eq. 2 ({frame['profile'].iloc[0]})"
            rows.append({"claim": claim, "evidence and verdict": sentence})
    return rows


def solved_shares(summary: pd.DataFrame) -> dict[str, stats.Proportion]:
    """Of the generated task: the share of runs that solved it without, with some and with complete shuffling."""
    alpha = summary["alpha"]
    parts = {"α = 0": alpha == 0, "0 < α < 1": (alpha > 0) & (alpha < 1), "α = 1": alpha == 1}
    counts = {name: summary.loc[chosen, ["solved", "n"]].sum() for name, chosen in parts.items()}
    return {name: stats.proportion(int(count["solved"]), int(count["n"])) for name, count in counts.items()}


def long_range_claim(summary: pd.DataFrame) -> dict[str, str]:
    """Shuffling lets a network use what is outside its reach: by Fisher's exact test at 5 %, on the generated task."""
    shares = solved_shares(summary)
    without, some = shares["α = 0"], shares["0 < α < 1"]
    p = stats.fisher(without.k, without.n, some.k, some.n)
    outcome = "Cannot tell"
    if p < 0.05:
        outcome = "Reproduced" if some.estimate > without.estimate else "Not reproduced"
    counts = "; ".join(f"{name}: {share.k} of {share.n}" for name, share in shares.items())
    sentence = (
        f"{outcome}: runs that solved the generated task, {counts} (Fisher's exact test of the first two, p = {p:.2g})."
    )
    return {"claim": paper.claim("outside_rf")["predicts"], "evidence and verdict": sentence}


def best_alpha_claims(frames: Sequence[pd.DataFrame]) -> list[dict[str, str]]:
    """The error is lowest near α = .06: a row for each profile and network with a sweep over real images.

    Every other α is compared with .06, paired by seed. Not reproduced: the interval of one of them excludes 0 in its
    favour. Reproduced: those further off than the neighbours .04 and .1 are all worse, their intervals excluding 0.
    """
    rows = []
    for frame in frames:
        for model, runs in frame.groupby("model", sort=False):
            if model in tables.STANDS_FOR and (runs["alpha"] == 0.06).any():
                claim = f"Fig. 2: α near .06 is best for {tables.model_text(model)} ({frame['profile'].iloc[0]})"
                rows.append(dict(zip(COLUMNS, (claim, _best_alpha(runs)), strict=True)))
    return rows


def _best_alpha(runs: pd.DataFrame) -> str:
    of = {alpha: tables.by_seed(group) for alpha, group in runs.groupby("alpha")}
    paired = {
        alpha: stats.paired_difference(errors, of[0.06])
        for alpha, errors in of.items()
        if alpha != 0.06 and not errors.index.intersection(of[0.06].index).empty
    }
    others = {alpha: difference for alpha, difference in paired.items() if not difference.degenerate}
    far = {alpha: difference for alpha, difference in others.items() if not 0.04 <= alpha <= 0.1}
    better = [tables.alpha_text(alpha) for alpha, difference in others.items() if difference.high < 0]
    worse = [tables.alpha_text(alpha) for alpha, difference in far.items() if difference.low > 0]
    lowest = tables.alpha_text(min(of, key=lambda alpha: of[alpha].mean()))
    evidence = (
        f"of {len(of)} α with runs, {lowest} has the lowest mean error; against .06, the paired 95 % interval excludes"
        f" 0 for {', '.join(worse) or 'no α'} (worse) and {', '.join(better) or 'no α'} (better)"
    )
    if better:
        return f"Not reproduced: {evidence}."
    enough = {0.0, 0.02, 0.2, 0.5, 1.0} <= far.keys()
    return f"{'Reproduced' if enough and len(worse) == len(far) else 'Cannot tell'}: {evidence}."
