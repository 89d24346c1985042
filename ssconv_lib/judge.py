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
