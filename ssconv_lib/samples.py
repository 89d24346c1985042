"""What every statistic asks of the numbers it is given."""

from collections.abc import Sequence

import numpy as np

SAME = 1e-12  # a spread this small beside the values is rounding: 5.1 - 5.0 and 5.2 - 5.1 differ by 9e-16


def spread(values: np.ndarray, scale: float) -> float:
    """Returns the sample sd: nan of one value, 0 when the values differ by less than rounding at this scale."""
    if len(values) < 2:
        return float("nan")
    return 0.0 if np.ptp(values) <= SAME * scale else float(values.std(ddof=1))


def numbers(values: Sequence[float], name: str) -> np.ndarray:
    """Returns the values as a float array; ValueError, quoting the first, if any is not finite or there are none."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} has shape {array.shape}: expected a list of at least one number")
    if not np.isfinite(array).all():
        where = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{name}[{where}] is {array[where]}: expected finite numbers; leave failed runs out")
    return array


def check_fraction(name: str, value: float) -> None:
    """Raises ValueError unless 0 < value < 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}: expected a number between 0 and 1, such as 0.95")


def check_count(k: int, n: int) -> None:
    """Raises ValueError unless 0 <= k <= n and n >= 1."""
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"{k} of {n}: expected a count k from 0 to n, with n at least 1")
