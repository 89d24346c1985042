"""Several things timed in turn: the rounds, and the medians, quartiles and ratios that they give."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

from .progress import bar

WARM_UP = 1  # rounds that are not counted, after the steps that building an arm and its memory have taken


def interleaved(
    timers: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: int = WARM_UP, label: str = ""
) -> dict[str, list[float]]:
    """Time each thing once a round, so that what disturbs the machine hits all alike.

    Args:
        timers: Do a thing once and return the seconds that it took.
        rounds: How often each is timed.
        warm_up: Rounds before these, which are dropped.
        label: Of the progress bar.

    Returns:
        The seconds of each, in the order of the rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    with _no_collection():
        for number in bar(iterable=range(-warm_up, rounds), desc=label, unit="round"):
            for name in order(list(timers), number):
                elapsed = timers[name]()
                if number >= 0:
                    seconds[name].append(elapsed)
    return seconds


def order(names: Sequence[str], number: int) -> list[str]:
    """Return the order of a round: rotated from pair to pair, and every second one reversed.

    In 2·len(names) rounds each is at every place twice, and two neighbours come as often either way about.
    """
    first = number // 2 % len(names)
    turned = [*names[first:], *names[:first]]
    return turned[::-1] if number % 2 else turned


def summary(seconds: Sequence[float], conv: Sequence[float], batch: int) -> dict[str, Any]:
    """Return what a record says of an arm's rounds.

    Args:
        seconds: Of one step in each round.
        conv: The plain convolution's, in the same rounds.
        batch: Images a step.

    Returns:
        `n`; `median` and `quartiles` of the seconds; `per_image`; `ratio` to the plain convolution and
        `ratio_quartiles`, taken round by round, since the two were measured within a moment.
    """
    ratios = [one / other for one, other in zip(seconds, conv, strict=True)]
    return {
        "n": len(seconds),
        "median": rounded(median(seconds)),
        "quartiles": quartiles(seconds),
        "per_image": rounded(median(seconds) / batch),
        "ratio": rounded(median(ratios)),
        "ratio_quartiles": quartiles(ratios),
    }


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the first and third quartile, interpolated linearly, to six digits."""
    ranked = sorted(values)
    found = []
    for part in (0.25, 0.75):
        low, rest = divmod(part * (len(ranked) - 1), 1)
        high = min(int(low) + 1, len(ranked) - 1)
        found.append(rounded(ranked[int(low)] * (1 - rest) + ranked[high] * rest))
    return found


def rounded(value: float) -> float:
    """Return six significant digits: more than any clock here means."""
    return float(f"{value:.6g}")


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector out of the measurement."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
