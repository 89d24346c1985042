"""An exact test of counts in strata: does one side succeed more often, when unlike is not compared with unlike?"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import stats

from ssconv_lib.samples import check_count

SAME = 1e-7  # tables of equal probability differ by rounding; scipy's Fisher test takes the same


class Stratified(NamedTuple):
    """What several 2×2 tables say together.

    Attributes:
        k: Successes of the first side, over all strata.
        expected: Of them, if within each stratum the sides were alike.
        p: Two-sided, exact; 1 where no stratum could have come out otherwise.
    """

    k: int
    expected: float
    p: float


def stratified(tables: Iterable[tuple[int, int, int, int]]) -> Stratified:
    """The exact test of k1 of n1 against k2 of n2 in each of several strata, conditional on every stratum's margins.

    If the sides are alike within a stratum, its k1 is hypergeometric, and their sum is distributed as the convolution.
    Two-sided as Fisher's test is, which this is for one stratum: the probability of every sum that is no likelier than
    the one observed. A stratum with runs on one side, or where all runs or none succeed, adds nothing.

    Args:
        tables: (k1, n1, k2, n2) of each stratum; a side may have no runs.

    Raises:
        ValueError: a count below 0 or above its n.
    """
    chances, least, observed, expected = np.ones(1), 0, 0, 0.0
    for k1, n1, k2, n2 in tables:
        for k, n in ((k1, n1), (k2, n2)):
            if n or k:
                check_count(k, n)
        successes, runs = k1 + k2, n1 + n2
        possible = np.arange(max(0, successes - n2), min(successes, n1) + 1)
        chances = np.convolve(chances, stats.hypergeom.pmf(possible, runs, successes, n1) if runs else np.ones(1))
        least, observed = least + int(possible[0]), observed + k1
        expected += n1 * successes / runs if runs else 0.0
    p = chances[chances <= chances[observed - least] * (1 + SAME)].sum()
    return Stratified(observed, expected, min(1.0, float(p)))
