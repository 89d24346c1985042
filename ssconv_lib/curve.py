"""A smooth curve of error over alpha, with what its seeds leave open."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import interpolate, stats

from ssconv_lib.samples import check_fraction, numbers

FEWEST_X = 5  # what scipy's smoothing spline needs


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
    check_fraction("level", level)
    runs = pd.DataFrame({"x": numbers(x, "x"), "y": numbers(y, "y"), "seed": np.asarray(seed)})
    if (twice := runs.duplicated(["x", "seed"])).any():
        at, which = runs.x[twice].iloc[0], runs.seed[twice].iloc[0]
        raise ValueError(f"x = {at:g} holds seed {which} more than once: pass one run for each x and seed")
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
