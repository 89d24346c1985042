"""What the mechanism task says of the border, and by what rule: one claim is geometry, the other a comparison."""

import itertools

import pandas as pd

from . import stats
from .judge import verdict_row
from .mechanismtables import sides

WHERE = "Not in the paper"
FAILS = "Beyond its theoretical receptive field, plain convolution fails"
MORE_OFTEN = "At one distance, plain networks that see both patches solve the task more often than those that don't"
HALF = 0.5
RULES = (
    "That plain convolution **fails beyond its border** is supported if no run there solves the task and the interval"
    " of that share ends below a half, not supported if one does. There is no p: those runs' patches are also further"
    " apart.",
    "That networks which **see both patches** solve it more often is told among runs on images of one size with patches"
    " at one distance, by an exact test stratified by both (two-sided, 5 %).",
)


def runs_a_side(level: float = 0.05) -> int:
    """How many runs a side it takes, at the least, until all against none is below the level by Fisher's test."""
    return next(m for m in itertools.count(1) if stats.fisher(m, m, 0, m) < level)


def border_claims(table: pd.DataFrame) -> list[dict[str, str]]:
    """What plain convolution does on either side of its border: two rows for each profile.

    That it fails beyond the border follows from what a unit sees, and the runs are a check. That it is the border which
    counts needs a comparison of like with like. `RULES` say how both are judged; else nobody can tell, as where no size
    and distance has runs on both sides.

    Args:
        table: From `mechanismtables.cells`.
    """
    rows = []
    for origin, group in table[table["alpha"] == 0].groupby("source", sort=False):
        *_, outside, n_outside = sides(group)
        if n_outside:
            rows += [
                verdict_row(claim, f"{WHERE}; {origin}", *judged)
                for claim, judged in ((FAILS, _beyond(outside, n_outside)), (MORE_OFTEN, _at_one_distance(group)))
            ]
    return rows


def _beyond(solved: int, n: int) -> tuple[str, str]:
    share = stats.proportion(solved, n)
    outcome = "not supported" if solved else "supported" if share.high < HALF else "cannot tell"
    evidence = f"Solved without shuffling where no unit reaches both patches: {share}. That none can be follows from"
    return f"{evidence} what a unit sees (chapter 2); the runs check it.", outcome


def _at_one_distance(group: pd.DataFrame) -> tuple[str, str]:
    strata = {key: sides(of) for key, of in group.groupby(["size", "exact", "distance"])}
    compared = {key: counts for key, counts in strata.items() if counts[1] and counts[3]}
    if not compared:
        return "No image size and distance has runs on both sides of the border.", "cannot tell"
    found = stats.stratified(compared.values())
    outcome = "cannot tell" if found.p >= 0.05 else "supported" if found.k > found.expected else "not supported"
    texts = [
        f"{k} of {n} against {other} of {m} ({size}×{size} pixels, {distance}{'' if exact else ' or more'} apart)"
        for (size, exact, distance), (k, n, other, m) in compared.items()
    ]
    return (
        f"Solved without shuffling by networks that see both patches, against others: {', '.join(texts)}; exact p ="
        f" {found.p:.2g}, stratified by size and distance. All against none could be told from {runs_a_side()} runs a"
        " side on. The networks that see more are the deeper ones: which of the two helps, this doesn't tell."
    ), outcome
