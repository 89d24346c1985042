"""Intervals, paired differences and proportions; with medians, power, curve and verdict, the statistics of the book.

The distributions are scipy's. Differences are first minus second: with conv first and ss second, positive means
that shuffling helps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from ssconv_lib.curve import smooth_curve
from ssconv_lib.medians import median_interval
from ssconv_lib.power import detectable, seeds_needed, smallest_seen
from ssconv_lib.samples import check_count, check_fraction, numbers, spread
from ssconv_lib.strata import Stratified, stratified
from ssconv_lib.verdict import Verdict, verdict

__all__ = [
    "Difference",
    "Proportion",
    "Stratified",
    "Summary",
    "Verdict",
    "detectable",
    "fisher",
    "holm",
    "median_interval",
    "paired_difference",
    "proportion",
    "sampling_error",
    "seeds_needed",
    "smooth_curve",
    "stratified",
    "summarise",
    "unpaired_difference",
    "verdict",
]


@dataclass(frozen=True)
class Summary:
    """Mean, sd (of one run) and t interval of the mean; nan where n = 1 says nothing."""

    mean: float
    sd: float
    n: int
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        return format(self)

    def __format__(self, spec: str) -> str:
        spec = spec or ".2f"
        around = f" ± {self.sd:{spec}}" if self.n > 1 else ""
        return f"{self.mean:{spec}}{around} (n = {self.n})"


@dataclass(frozen=True)
class Proportion:
    """k of n with its Wilson interval, as fractions."""

    k: int
    n: int
    estimate: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        return (
            f"{self.k} of {self.n} ({100 * self.level:g} % interval {100 * self.low:.0f} % to {100 * self.high:.0f} %)"
        )


@dataclass(frozen=True)
class Difference:
    """The mean of first minus second, with its t interval and two-sided p.

    Attributes:
        sd: of the paired differences; of one run (root mean square of the two arms) when not paired.
        n: pairs, or runs in the smaller arm.
        counts: (pairs,) or (runs of the first arm, runs of the second).
        se: standard error of the mean behind the interval.
        df: its degrees of freedom.
        unmatched: values left out because the other side had no such seed.
        degenerate: why the spread cannot be judged, or "". With n < 2 sd, interval and p are nan. With no spread
            at all sd is 0, the interval shrinks to the mean and p is nan: that is no evidence of certainty.
    """

    mean: float
    sd: float
    n: int
    low: float
    high: float
    p: float
    test: str
    se: float = field(repr=False)
    df: float = field(repr=False)
    counts: tuple[int, ...]
    level: float = 0.95
    unmatched: int = 0
    degenerate: str = ""

    @property
    def knows_spread(self) -> bool:
        """Whether the sd is known well enough to say what could have been seen: from four pairs on.

        At three its own 95 % interval reaches from half the estimate to six times it.
        """
        return not self.degenerate and self.df >= 3

    def detectable(self, power: float = 0.8) -> float:
        """The smallest true difference that this design sees with that power; nan unless it `knows_spread`."""
        return smallest_seen(self.se, self.df, power, self.level) if self.knows_spread else float("nan")


def summarise(values: Sequence[float], level: float = 0.95) -> Summary:
    """Returns mean, sd and t interval of one value a seed; ValueError when empty or not finite."""
    values, n = numbers(values, "values"), len(values)
    check_fraction("level", level)
    mean = float(values.mean())
    if n == 1:
        return Summary(mean, float("nan"), 1, float("nan"), float("nan"), level)
    sd = spread(values, np.abs(values).max())
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * sd / n**0.5
    return Summary(mean, sd, n, mean - half, mean + half, level)


def paired_difference(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Difference:
    """Returns first minus second, paired (t test on the differences).

    Two Series are matched by index (the seed); a seed that one of them lacks, or holds as nan, is dropped and
    counted. Anything else is matched by position.

    Raises:
        ValueError: for nothing to pair, one Series among others, a seed there twice, or a value not finite.
    """
    check_fraction("level", level)
    if isinstance(first, pd.Series) != isinstance(second, pd.Series):
        raise ValueError("one of first and second is a Series, matched by seed, the other is not: pass two")
    unmatched = 0
    if isinstance(first, pd.Series):
        for name, series in (("first", first), ("second", second)):
            if twice := list(series.index[series.index.duplicated()].unique()):
                raise ValueError(f"{name} holds seed {twice[0]!r} more than once: pass one value a seed")
        first, second = first.dropna(), second.dropna()
        seeds = first.index.intersection(second.index, sort=False)
        unmatched = len(first) + len(second) - 2 * len(seeds)
        if not len(seeds):
            raise ValueError(f"no seed is in both: first has {list(first.index)}, second {list(second.index)}")
        first, second = first.loc[seeds], second.loc[seeds]
    first, second = numbers(first, "first"), numbers(second, "second")
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values can't be paired by position: pass Series by seed")
    n, differences = len(first), first - second
    sd = spread(differences, max(np.abs(first).max(), np.abs(second).max()))
    mean = float(differences.mean())
    return _difference(mean, sd, (n,), sd / n**0.5, n - 1, level, "paired t test", unmatched)


def unpaired_difference(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Difference:
    """Returns first minus second of two independent arms (Welch's t test)."""
    check_fraction("level", level)
    arms = numbers(first, "first"), numbers(second, "second")
    counts = len(arms[0]), len(arms[1])
    scale = max(np.abs(arm).max() for arm in arms)
    variances = np.array([spread(arm, scale) ** 2 for arm in arms])  # nan where an arm has one run
    parts = variances / counts
    se = float(parts.sum() ** 0.5)
    df = float("nan")
    if min(counts) > 1 and se > 0:
        df = float(1 / ((parts / parts.sum()) ** 2 / (np.array(counts) - 1)).sum())
    mean = float(arms[0].mean() - arms[1].mean())
    return _difference(mean, float(variances.mean() ** 0.5), counts, se, df, level, "Welch's t test")


def proportion(k: int, n: int, level: float = 0.95) -> Proportion:
    """Returns "solved k of n" with its Wilson interval."""
    check_count(k, n)
    check_fraction("level", level)
    interval = stats.binomtest(k, n).proportion_ci(level, method="wilson")
    return Proportion(k, n, k / n, float(interval.low), float(interval.high), level)


def fisher(k1: int, n1: int, k2: int, n2: int) -> float:
    """Returns the two-sided p of Fisher's exact test for k1 of n1 against k2 of n2."""
    check_count(k1, n1)
    check_count(k2, n2)
    return float(stats.fisher_exact([[k1, n1 - k1], [k2, n2 - k2]]).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p values; nan, of a comparison not made, stays and doesn't count."""
    p = np.asarray(p_values, dtype=float)
    corrected, there = np.full(len(p), np.nan), np.flatnonzero(~np.isnan(p))
    order = there[np.argsort(p[there], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1)
    return corrected.tolist()


def sampling_error(error_rate: float, n_test: int) -> float:
    """Returns sqrt(p(1 - p)/n), the sampling error of a test set of n_test images; rates are fractions of 1."""
    if not 0 <= error_rate <= 1:
        raise ValueError(f"error_rate is {error_rate}: expected a fraction in [0, 1]; divide percent by 100")
    if n_test < 1:
        raise ValueError(f"n_test is {n_test}: expected at least one image")
    return (error_rate * (1 - error_rate) / n_test) ** 0.5


def _difference(
    mean: float, sd: float, counts: tuple, se: float, df: float, level: float, test: str, unmatched: int = 0
) -> Difference:
    n, why, low, high, p = min(counts), "", float("nan"), float("nan"), float("nan")
    if n < 2:
        why = f"a single {'pair' if len(counts) == 1 else 'run in an arm'} has no spread to judge by"
    elif se == 0:
        low, high = mean, mean
        why = "the runs agree to the last digit, so their spread is not known"
    else:
        half = float(stats.t.ppf((1 + level) / 2, df)) * se
        low, high, p = mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / se, df))
    return Difference(mean, sd, n, low, high, p, test, se, df, counts, level, unmatched, why)
