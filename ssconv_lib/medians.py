"""The interval of a median from order statistics, which asks nothing of how the values are distributed."""

import functools
import math
from collections.abc import Sequence

from scipy import stats

from ssconv_lib.samples import check_fraction, numbers


def median_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Returns the k-th smallest and the k-th largest value: the true median lies between them at this level or above.

    Each value lies below the true median with probability 1/2, so that the number of them that do is binomial; k is
    the largest rank that leaves at most (1 - level)/2 on either side. An end on one side of 1 says what the two-sided
    sign test against 1 says. Of 15 values k is 4, of 6 or 7 it is 1; fewer than 6 can't reach 95 %, and give the whole
    line. With ties it covers the median more often, not less.

    Args:
        values: of independent repetitions.
        level: at least so often the interval holds the true median.

    Raises:
        ValueError: for no values, or one that is not finite.
    """
    ranked = sorted(numbers(values, "values").tolist())
    check_fraction("level", level)
    k = _rank(len(ranked), level)
    return (ranked[k - 1], ranked[-k]) if k else (-math.inf, math.inf)


@functools.cache
def _rank(n: int, level: float) -> int:
    """The largest k with P(fewer than k of n below the median) < (1 - level)/2; 0 where there is none."""
    return int(stats.binom.ppf((1 - level) / 2, n, 0.5))
