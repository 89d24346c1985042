"""The paired bootstrap over test images: what two answers to the same images say about a difference of errors.

The difference of two errors is a mean over images of values of few kinds (only the first wrong, only the second, no
difference), so drawing images with replacement is drawing how many are of each kind: one multinomial draw. It has
exactly the distribution that drawing images has, at no cost.

The interval is for other images of the same kind and this network. What another seed would give is not in it; what
another draw of a treatment would give is in that of `over_images_and_draws` alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from .power import smallest_seen
from .samples import check_fraction
from .seeds import mixed_seed

POWER = 0.8
INTERVAL = ("low", "high", "detectable")


@dataclass(frozen=True)
class ImageDifference:
    """The second error minus the first, in points (percent of the images).

    Attributes:
        mean: The difference; positive if the second has more errors.
        low: Where the percentile interval of the bootstrap begins. If all images are answered alike it shrinks to 0,
            which is no evidence of certainty: see `degenerate`.
        high: Where it ends.
        n: Images.
        p: Of the bootstrap, two-sided: twice the smaller part of the draws that are on or beyond 0.
        mcnemar: Exact p of McNemar's test; nan for an average over several answers.
        detectable: The true difference that an interval of this level would leave 0 out of with 80 % power, given how
            many images are answered differently; nan if none is.
        level: Of the interval.
    """

    mean: float
    low: float
    high: float
    n: int
    p: float
    mcnemar: float
    detectable: float
    level: float = 0.95

    @property
    def degenerate(self) -> str:
        """Why the spread cannot be judged, or ""."""
        return "" if self.detectable == self.detectable else "no image is answered differently"

    @property
    def interval(self) -> dict[str, float]:
        """low, high and detectable for a table: nan where the spread can't be judged, which is no certainty."""
        return {name: float("nan") if self.degenerate else getattr(self, name) for name in INTERVAL}


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike, *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> ImageDifference:
    """Compare two vectors of wrong answers, of the same images in the same order.

    Args:
        first: bool (N,), a tensor or an array.
        second: bool (N,).
        level: Of the interval.
        draws: Of the bootstrap.
        seed: Of its draws.

    Raises:
        ValueError: the vectors are empty, not bool or of different lengths.
    """
    return paired_bootstrap_mean(first, [second], level=level, draws=draws, seed=seed)


def paired_bootstrap_mean(
    first: ArrayLike, seconds: ArrayLike | Sequence, *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> ImageDifference:
    """Compare averages over several answers, such as those of several draws of a treatment, to the same images.

    Images are drawn together with all answers to them. The interval is for these draws of the treatment.

    Args:
        first: bool (N,), or several such, (D, N).
        seconds: bool (D, N), or a list of (N,).
        level: As in `paired_bootstrap`, and so are draws and seed.
        draws: Of the bootstrap.
        seed: Of its draws.

    Raises:
        ValueError: as `paired_bootstrap`.
    """
    check_fraction("level", level)
    if draws < 1:
        raise ValueError(f"draws is {draws}: expected at least 1, such as 10000")
    first, second = _answers("first", first), _answers("second", seconds)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{first.shape[1]} and {second.shape[1]} answers can't be paired: expected the same images")
    n = first.shape[1]
    # whole numbers, so that equal differences are equal to the last bit
    twos = second.sum(0) * len(first) - first.sum(0) * len(second)  # (N,)
    kinds, counts = np.unique(twos, return_counts=True)
    points = 100 * kinds / (len(first) * len(second))
    mean = float(points @ counts / n)
    drawn = np.random.default_rng(mixed_seed(seed, "bootstrap")).multinomial(n, counts / n, size=draws) @ kinds
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) * 100 / (len(first) * len(second) * n)
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (1 + float(tail)) / (1 + draws))
    single = len(first) == len(second) == 1
    exact = _mcnemar(int(counts[kinds == -1].sum()), int(counts[kinds == 1].sum())) if single else float("nan")
    spread = float((points**2 @ counts / n) ** 0.5)  # as it would be if the difference were 0
    return ImageDifference(mean, float(low), float(high), n, p, exact, _detectable(spread, n, level), level)


def over_images_and_draws(first: ArrayLike, seconds: ArrayLike | Sequence, *, level: float = 0.95) -> ImageDifference:
    """What a treatment that is drawn costs, for other images and other draws of it.

    The variance of the mean is the one over images plus the one over draws, which has D - 1 degrees of freedom, so the
    interval is t's with Satterthwaite's degrees. (What images bring differently in each draw is in both: it is a
    little wide.) Of a single draw, or draws of the same error, it is `paired_bootstrap_mean`'s, over images.

    Args:
        first: As in `paired_bootstrap_mean`, and so is seconds.
        seconds: The draws.
        level: Of the interval.

    Raises:
        ValueError: as `paired_bootstrap`.
    """
    found = paired_bootstrap_mean(first, seconds, level=level)
    wrong, second = _answers("first", first).mean(0), _answers("seconds", seconds)
    by_draw = 100 * (second - wrong).mean(1)  # (D,)
    if len(second) == 1 or not np.ptp(by_draw):
        return found
    by_image = 100 * (second.mean(0) - wrong)  # (N,)
    over_draws = by_draw.var(ddof=1) / len(second)
    variance, as_if_0 = (v / found.n + over_draws for v in (by_image.var(), (by_image**2).mean()))
    df = (len(second) - 1) * (variance / over_draws) ** 2
    half = float(stats.t.ppf((1 + level) / 2, df)) * variance**0.5
    return replace(
        found,
        low=found.mean - half,
        high=found.mean + half,
        p=float(2 * stats.t.sf(abs(found.mean) / variance**0.5, df)),
        detectable=smallest_seen(as_if_0**0.5, df, POWER, level),
    )


def _answers(name: str, wrong: ArrayLike | Sequence) -> np.ndarray:
    """One vector or several as whole numbers (D, N)."""
    array = np.stack([np.asarray(one) for one in wrong]) if isinstance(wrong, list | tuple) else np.asarray(wrong)
    array = np.atleast_2d(array)
    if array.dtype != bool or array.ndim != 2 or not array.size:
        raise ValueError(
            f"{name} is of shape {array.shape} and type {array.dtype}: expected whether each image is answered wrongly,"
            " a bool vector of at least one"
        )
    return array.astype(np.int64)


def _mcnemar(only_first: int, only_second: int) -> float:
    discordant = only_first + only_second
    return float(stats.binomtest(only_second, discordant).pvalue) if discordant else 1.0


def _detectable(spread: float, n: int, level: float) -> float:
    """By the normal approximation, with the standard error that a difference of 0 has."""
    if not spread:
        return float("nan")
    return float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(POWER)) * spread / n**0.5
