"""What a design can see: power of the two-sided t test, exact, through the non-central t distribution."""

from scipy import optimize, stats

from ssconv_lib.samples import check_fraction


def detectable(sd_of_difference: float, n: int, power: float = 0.8, level: float = 0.95, paired: bool = True) -> float:
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
    return smallest_seen(sd_of_difference * (arms / n) ** 0.5, arms * (n - 1), power, level)


def seeds_needed(sd: float, delta: float, power: float = 0.8, level: float = 0.95, paired: bool = False) -> int:
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


def smallest_seen(se: float, df: float, power: float, level: float) -> float:
    """Returns the true difference seen with this power by a t test with that standard error and those degrees."""
    check_fraction("level", level)
    if not 1 - level < power < 1:
        raise ValueError(f"power is {power}: expected a number between 1 - level = {1 - level:g} and 1")
    critical = float(stats.t.ppf((1 + level) / 2, df))

    def short(shift: float) -> float:
        other_tail = stats.nct.sf(critical, df, -shift)  # nct.cdf(-critical, df, shift) is nan here and there
        return stats.nct.sf(critical, df, shift) + other_tail - power

    upper = critical + 2.0
    while short(upper) < 0:
        upper *= 2
    return float(optimize.brentq(short, 0.0, upper, xtol=1e-10)) * se
