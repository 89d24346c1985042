"""The jackknife: an interval for any smooth number made from a sample, by leaving out one value of it at a time."""

from collections.abc import Callable

import numpy as np

from .stats import Summary, summarise


def jackknife(statistic: Callable[[list[int]], float], n: int, level: float = 0.95) -> Summary:
    """Give a number its interval; that of a mean is the usual t interval.

    Args:
        statistic: The number, made from those values of the sample whose places, from 0, it is given.
        n: Values in the sample.
        level: Of the interval.

    Returns:
        The number, from the whole sample, as `mean`; low and high are nan for fewer than two values. `sd` is a
        single value's, as it would be of a mean.

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}: expected at least one value")
    whole = statistic([*range(n)])
    if n == 1:
        return summarise([whole], level)
    without = np.array([statistic([*range(left_out), *range(left_out + 1, n)]) for left_out in range(n)])
    values = whole - (n - 1) * (without - without.mean())  # whose mean is the number, whose spread the jackknife's
    return summarise(values, level)
