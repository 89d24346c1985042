"""Intervals, paired differences, power, and the one verdict rule of the book; the distributions are scipy's.

Differences are first minus second: with conv first and ss second, positive means that shuffling helps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import interpolate, optimize, stats

FEWEST_X = 5  # what scipy's smoothing spline needs
SAME = 1e-12  # a spread this small beside the values is rounding: 5.1 - 4.8 and 5.2 - 4.9 differ by 9e-16


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
        spread = f" ± {self.sd:{spec}}" if self.n > 1 else ""
        return f"{self.mean:{spec}}{spread} (n = {self.n})"


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
        return f"{self.k} of {self.n} ({self.level:.0%} interval {self.low:.0%} to {self.high:.0%})"


@dataclass(frozen=True)
class Difference:
    """The mean of first minus second, with its t interval and two-sided p.

    Attributes:
        sd: of the paired differences; of one run (root mean square of the two arms) when not paired.
        n: pairs, or runs in the smaller arm.
        counts: (pairs,) or (runs of the first arm, runs of the second).
        se, df: standard error of the mean and degrees of freedom behind the interval.
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

    def detectable(self, power: float = 0.8) -> float:
        """The smallest true difference that this design sees with that power; nan when degenerate."""
        return float("nan") if self.degenerate else _detectable(self.se, self.df, power, self.level)


def summarise(values: Sequence[float], level: float = 0.95) -> Summary:
    """Returns mean, sd and t interval of one value a seed; ValueError when empty or not finite."""
    values, n = _values(values, "values"), len(values)
    _check_fraction("level", level)
    mean = float(values.mean())
    if n == 1:
        return Summary(mean, float("nan"), 1, float("nan"), float("nan"), level)
    sd = _sd(values, np.abs(values).max())
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * sd / n**0.5
    return Summary(mean, sd, n, mean - half, mean + half, level)


def paired_difference(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Difference:
    """Returns first minus second, paired (t test on the differences).

    Two Series are matched by index (the seed); a seed that one of them lacks, or holds as nan, is dropped and
    counted. Anything else is matched by position.

    Raises:
        ValueError: for nothing to pair, one Series among others, a seed there twice, or a value not finite.
    """
    _check_fraction("level", level)
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
        first, second = first[seeds], second[seeds]
    first, second = _values(first, "first"), _values(second, "second")
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values can't be paired by position: pass Series by seed")
    n, differences = len(first), first - second
    sd = _sd(differences, max(np.abs(first).max(), np.abs(second).max()))
    mean = float(differences.mean())
    return _difference(mean, sd, (n,), sd / n**0.5, n - 1, level, "paired t test", unmatched)


def unpaired_difference(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Difference:
    """Returns first minus second of two independent arms (Welch's t test)."""
    _check_fraction("level", level)
    arms = _values(first, "first"), _values(second, "second")
    counts = len(arms[0]), len(arms[1])
    scale = max(np.abs(arm).max() for arm in arms)
    variances = np.array([_sd(arm, scale) ** 2 for arm in arms])  # nan where an arm has one run
    parts = variances / counts
    se = float(parts.sum() ** 0.5)
    df = float(se**4 / (parts**2 / (np.array(counts) - 1)).sum()) if min(counts) > 1 and se > 0 else float("nan")
    mean = float(arms[0].mean() - arms[1].mean())
    return _difference(mean, float(variances.mean() ** 0.5), counts, se, df, level, "Welch's t test")


def detectable(
    sd_of_difference: float, n: int, power: float = 0.8, level: float = 0.95, paired: bool = True
) -> float:
    """Returns the smallest true difference that the two-sided t test sees with this power (non-central t).

    Args:
        sd_of_difference: the sd of the paired differences; when not paired, the sd of one run (the same in both arms).
        n: pairs, or runs an arm; at least 2.
        power: wanted chance of an interval that excludes 0.
        level: level of that interval.
        paired: pairs (n - 1 degrees of freedom) or two arms (2n - 2).
    """
    if n < 2:
        raise ValueError(f"n is {n}: expected at least 2, one run has no spread")
    if not 0 <= sd_of_difference < float("inf"):
        raise ValueError(f"sd_of_difference is {sd_of_difference}: expected a finite number from 0 up")
    arms = 1 if paired else 2
    return _detectable(sd_of_difference * (arms / n) ** 0.5, arms * (n - 1), power, level)


def seeds_needed(
    sd: float, delta: float, power: float = 0.8, level: float = 0.95, paired: bool = False
) -> int:
    """Returns the fewest runs an arm (or pairs) with which a true difference `delta` is seen with this power."""
    for name, value in (("sd", sd), ("delta", delta)):
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} is {value}: expected a finite number above 0")
    low, high = 1, 2  # low is too few, high is doubled until it is enough
    while detectable(sd, high, power, level, paired) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if detectable(sd, middle, power, level, paired) > delta else (low, middle)
    return high


def proportion(k: int, n: int, level: float = 0.95) -> Proportion:
    """Returns "solved k of n" with its Wilson interval."""
    _check_count(k, n)
    _check_fraction("level", level)
    interval = stats.binomtest(k, n).proportion_ci(level, method="wilson")
    return Proportion(k, n, k / n, float(interval.low), float(interval.high), level)


def fisher(k1: int, n1: int, k2: int, n2: int) -> float:
    """Returns the two-sided p of Fisher's exact test for k1 of n1 against k2 of n2."""
    _check_count(k1, n1)
    _check_count(k2, n2)
    return float(stats.fisher_exact([[k1, n1 - k1], [k2, n2 - k2]]).pvalue)


def sampling_error(error_rate: float, n_test: int) -> float:
    """Returns sqrt(p(1 - p)/n), the sampling error of a test set of n_test images; rates are fractions of 1."""
    if not 0 <= error_rate <= 1:
        raise ValueError(f"error_rate is {error_rate}: expected a fraction in [0, 1]; divide percent by 100")
    if n_test < 1:
        raise ValueError(f"n_test is {n_test}: expected at least one image")
    return (error_rate * (1 - error_rate) / n_test) ** 0.5


def smooth_curve(
    x: Sequence[float],
    y: Sequence[float],
    seed: Sequence[int],
    *,
    points: int = 101,
    resamples: int = 200,
    level: float = 0.95,
    rng: int = 0,
) -> pd.DataFrame:
    """Fits error over alpha (Fig. 2): a smoothing spline through the means, with a pointwise interval.

    The stiffness is chosen by generalised cross-validation, anew in each resample. Runs are drawn with replacement
    within each x; their deviation is scaled by sqrt(n/(n - 1)), without which two seeds would show half the
    variance. The interval is fit ± t · (sd over resamples), t at the n - 1 degrees of freedom of the nearby x, so
    few seeds give a wide band: at two seeds very wide. It does not hold where the true curve has a corner that
    smoothing rounds off. Transform x first (position, sqrt(alpha)) if its values crowd together.

    Args:
        x: alpha of each run, transformed or not.
        y: its error.
        seed: its seed; one run for each x and seed.
        points: rows of the result, evenly spaced over x.
        resamples: bootstrap resamples (about 4 ms each).
        level: of the interval at each x.
        rng: seed of the bootstrap: same input, same curve.

    Returns:
        A DataFrame with columns x, fit, low, high.

    Raises:
        ValueError: with fewer than 5 distinct x, or fewer than 2 seeds at one of them.
    """
    _check_fraction("level", level)
    runs = pd.DataFrame({"x": _values(x, "x"), "y": _values(y, "y"), "seed": np.asarray(seed)})
    if (twice := runs.duplicated(["x", "seed"])).any():
        row = runs[twice].iloc[0]
        raise ValueError(f"x = {row.x:g} holds seed {row.seed} more than once: pass one run for each x and seed")
    groups = {at: group.y.to_numpy() for at, group in runs.groupby("x")}
    if len(groups) < FEWEST_X:
        raise ValueError(f"a curve needs at least {FEWEST_X} distinct x, got {len(groups)}: draw the points alone")
    if few := [at for at, group in groups.items() if len(group) < 2]:
        raise ValueError(f"a curve needs at least 2 seeds at each x: x = {few[0]:g} has one; run more or leave it out")
    at, counts = np.array(list(groups)), np.array([len(group) for group in groups.values()])
    means = np.array([group.mean() for group in groups.values()])
    grid, generator = np.linspace(at[0], at[-1], points), np.random.default_rng(rng)
    fits = []
    for _ in range(resamples):
        drawn = [generator.choice(group, len(group)).mean() for group in groups.values()]
        fits.append(_spline(at, means + (drawn - means) * np.sqrt(counts / (counts - 1)), counts)(grid))
    fit, sd = _spline(at, means, counts)(grid), np.std(fits, axis=0, ddof=1)
    half = stats.t.ppf((1 + level) / 2, np.interp(grid, at, counts) - 1) * sd
    return pd.DataFrame({"x": grid, "fit": fit, "low": fit - half, "high": fit + half})


def _spline(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> interpolate.BSpline:
    return interpolate.make_smoothing_spline(x, y, w=weights)


def _difference(
    mean: float, sd: float, counts: tuple, se: float, df: float, level: float, test: str, unmatched: int = 0
) -> Difference:
    n, why, low, high, p = min(counts), "", float("nan"), float("nan"), float("nan")
    if n < 2:
        why = "a single pair has no spread to judge by" if len(counts) == 1 else "a single run has no spread to judge by"
    elif se == 0:
        low, high = mean, mean
        why = "the runs agree to the last digit, so their spread is not known"
    else:
        half = float(stats.t.ppf((1 + level) / 2, df)) * se
        low, high, p = mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / se, df))
    return Difference(mean, sd, n, low, high, p, test, se, df, counts, level, unmatched, why)


def _detectable(se: float, df: float, power: float, level: float) -> float:
    _check_fraction("level", level)
    if not 1 - level < power < 1:
        raise ValueError(f"power is {power}: expected a number between 1 - level = {1 - level:g} and 1")
    critical = float(stats.t.ppf((1 + level) / 2, df))

    def short(shift: float) -> float:
        return stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift) - power

    upper = critical + 2.0
    while short(upper) < 0:
        upper *= 2
    return float(optimize.brentq(short, 0.0, upper, xtol=1e-10)) * se


def _sd(values: np.ndarray, scale: float) -> float:
    if len(values) < 2:
        return float("nan")
    return 0.0 if np.ptp(values) <= SAME * scale else float(values.std(ddof=1))


def _values(values: Sequence[float], name: str) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} has shape {array.shape}: expected a list of at least one number")
    if not np.isfinite(array).all():
        where = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{name}[{where}] is {array[where]}: expected finite numbers; leave failed runs out")
    return array


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}: expected a number between 0 and 1, such as 0.95")


def _check_count(k: int, n: int) -> None:
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"{k} of {n}: expected a count k from 0 to n, with n at least 1")
