"""What choosing α by the test error does to the error reported, and how many runs a difference needs.

The mean error of an arm (an α) on a test set is taken as its true error, plus a part that all arms of that test set
share (the sampling error of its images), plus a part of its own (the seeds: sd of a run / √n). The shared part moves
all arms alike: it can't favour one, so it biases neither the choice nor a difference between arms, and only widens the
spread of the error reported. The own part is what a choice of the smallest mean feeds on. One test set can't tell how
far an α suits its images whichever the seed; that would be own, too, so the optimism here is a lower bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats as distributions

from . import stats, tables
from .readable import model_text
from .samples import check_fraction

DELTAS = (0.1, 0.2, 0.3)  # points
# of a two-sided 95 % interval, what lies above 0 by chance is half of its 5 %
SEEN = "looks better by its interval (%), 2.5 nominal"
_CHUNK = 5_000  # draws at a time, so that many seeds don't fill the memory
_ARM = ("profile", "alpha", "layout", "replace", "control")


@dataclass(frozen=True)
class MeasuredSd:
    """An sd and what it comes from.

    Attributes:
        sd: In points.
        df: Its degrees of freedom.
        n: Runs of the smallest arm, or pairs.
        records: How many records it was estimated from.
        source: Whose, for readers: "WRN-10-2, laptop (CIFAR-10)".
    """

    sd: float
    df: int
    n: int
    records: int
    source: str = ""

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The χ² interval of the sd, which takes the errors as normal."""
        check_fraction("level", level)
        tails = distributions.chi2.ppf([(1 + level) / 2, (1 - level) / 2], self.df)
        return tuple(float(end) for end in self.sd * (self.df / tails) ** 0.5)


def pooled_sd(frame: pd.DataFrame) -> MeasuredSd:
    """The sd of one run over seeds, pooled within the arms of a network: their means may differ, their sd not.

    Args:
        frame: Records of one network on one data set (see `study.frame`).

    Raises:
        ValueError: for records of several networks or data sets, or no arm with two runs.
    """
    _check_one_network(frame)
    arms = [group["error"] for _, group in frame.groupby([name for name in _ARM if name in frame])]
    arms = [errors for errors in arms if len(errors) > 1]
    df = sum(len(errors) - 1 for errors in arms)
    if not df:
        raise ValueError(f"no arm of these {len(frame)} records has two runs: an sd needs two seeds of one α")
    squares = sum((len(errors) - 1) * errors.var(ddof=1) for errors in arms)
    return MeasuredSd(float((squares / df) ** 0.5), df, min(map(len, arms)), sum(map(len, arms)), _source(frame))


def pair_sd(frame: pd.DataFrame) -> MeasuredSd:
    """The sd of conv minus ss of one seed.

    Args:
        frame: Records of one network on one data set, with α = 0 and one other.

    Raises:
        ValueError: for records of several networks or data sets, or fewer than two pairs.
    """
    _check_one_network(frame)
    if (alphas := sorted(frame.loc[frame["alpha"] > 0, "alpha"].unique())) and len(alphas) > 1:
        raise ValueError(f"the records have α = {', '.join(f'{a:g}' for a in alphas)} beside 0: pass those of one")
    differences = tables.gains(frame)
    if len(differences) < 2:
        raise ValueError(f"the records make {len(differences)} pairs of conv and ss: an sd needs two")
    n = len(differences)
    return MeasuredSd(float(differences.std(ddof=1)), n - 1, n, 2 * n, _source(frame))


class Spread(NamedTuple):
    """What the runs of one network on one data set say about chance.

    Attributes:
        pair: The sd of conv minus ss of one seed.
        run: The sd of a run.
        error: Mean error in percent.
        images: Of the test set.
    """

    pair: MeasuredSd
    run: MeasuredSd
    error: float
    images: int


def spread_of_runs(frames: Sequence[pd.DataFrame]) -> Spread | None:
    """Take the spread from the network on real images with most pairs of conv and ss; None where none has two.

    Args:
        frames: Records of several profiles, with one α beside 0 for each network (see `Chapter.evidence`).
    """
    real = [frame[frame["data"] != "longrange"] for frame in frames]
    networks = [of for frame in real for _, of in frame.groupby(["profile", "model", "data"], sort=False)]
    networks = [of for of in networks if len(tables.gains(of)) > 1]
    if not networks:
        return None
    most = max(networks, key=lambda of: len(tables.gains(of)))
    return Spread(pair_sd(most), pooled_sd(most), float(most["error"].mean()), int(most["n_images"].iloc[0]))


def _source(frame: pd.DataFrame) -> str:
    profiles = [tables.source(of) for _, of in frame.groupby("profile", sort=False)]
    return f"{model_text(frame['model'].iloc[0])}, {' and '.join(profiles)}"


def _check_one_network(frame: pd.DataFrame) -> None:
    kinds = [" on ".join(kind) for kind in frame.groupby(["model", "data"]).groups]
    if len(kinds) != 1:
        raise ValueError(f"the records are of {', '.join(kinds) or 'nothing'}: pass those of one network and data set")


def selection_bias(
    sd: float | MeasuredSd,
    n: int,
    arms: int,
    *,
    shared: float = 0.0,
    truth: Sequence[float] | None = None,
    draws: int = 100_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Simulate the choice of α by the smallest mean error on the test set that then reports it.

    Every draw has n normal errors for conv and for each of the arms; the arm of the smallest mean is chosen and
    compared with conv.

    Args:
        sd: Of one run in points, without the sampling error of the test set: as measured over seeds on one test set.
        n: Seeds an arm.
        arms: How many α there are to choose from, conv not counted.
        shared: Sampling error of the test set in points (100 · `stats.sampling_error`): the same for all arms.
        truth: Each arm's true error minus conv's, in points; None is the null, that all are as conv.
        draws: Simulated studies.
        seed: Of the simulation.

    Returns:
        One row: source (of the sd, "" for a plain number), the sd, how many records it comes from (None for a plain
        number), n, arms; `optimism`, the true error of the chosen arm minus its mean, in points; for each Δ of `DELTAS`
        how often (%) the chosen arm looks better than conv by Δ or more; `SEEN`, how often its paired 95 % interval
        lies above 0, so that it would be called better (2.5 under the null if nothing were chosen; nan at n = 1);
        `best chosen (%)` if there is a truth; and the sd of the error reported, with the shared part.

    Raises:
        ValueError: for an sd that is not positive, n or arms below 1, or a truth of another length.
    """
    value = _check_sd(sd)
    if n < 1 or arms < 1:
        raise ValueError(f"n is {n} and arms {arms}: expected at least one seed and one α")
    level = np.zeros(arms) if truth is None else np.asarray(truth, dtype=float)
    if len(level) != arms:
        raise ValueError(f"truth has {len(level)} values for {arms} arms: give each its true error minus conv's")
    own, common = np.random.default_rng(seed).spawn(2)
    sizes = [min(_CHUNK, draws - start) for start in range(0, draws, _CHUNK)]
    chosen, best, gain, seen = (
        np.concatenate(part) for part in zip(*(_choose(own, value, n, level, size) for size in sizes), strict=True)
    )
    return pd.DataFrame(
        [
            {
                "source": sd.source if isinstance(sd, MeasuredSd) else "",
                "sd of a run": value,
                "records": sd.records if isinstance(sd, MeasuredSd) else None,
                "seeds an arm": n,
                "α tried": arms,
                "optimism": float((level[chosen] - best).mean()),
                **{f"looks {delta:g} better (%)": 100 * float((gain >= delta).mean()) for delta in DELTAS},
                SEEN: 100 * float(seen.mean()),
                **({} if truth is None else {"best chosen (%)": 100 * float((chosen == level.argmin()).mean())}),
                "sd of the error reported": float((best + common.normal(0, shared, draws)).std()),
            }
        ]
    )


def _choose(
    rng: np.random.Generator, sd: float, n: int, level: np.ndarray, draws: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each draw: which arm is chosen, its mean, conv's mean minus that, and whether the interval excludes 0."""
    conv = sd * rng.standard_normal((draws, n))
    arms = sd * rng.standard_normal((draws, len(level), n)) + level[:, None]
    chosen = arms.mean(2).argmin(1)
    best = arms[np.arange(draws), chosen]  # (draws, n)
    pairs = conv - best
    gain = pairs.mean(1)
    if n == 1:
        return chosen, best.mean(1), gain, np.full(draws, np.nan)
    half = distributions.t.ppf(0.975, n - 1) * pairs.std(1, ddof=1) / n**0.5
    return chosen, best.mean(1), gain, gain > half


def power_table(
    sd_pair: float | MeasuredSd, sd_run: float | MeasuredSd, deltas: Sequence[float] = (0.1, 0.2, 0.3, 0.5)
) -> pd.DataFrame:
    """How many pairs, or runs an arm, it takes to see a true difference with 80 % power.

    Args:
        sd_pair: Of the paired differences, in points.
        sd_run: Of one run, for arms that are not paired.
        deltas: True differences, in points.

    Returns:
        A row for each design and true difference: source (whose spread the sd is), `needed`, and low to high, what is
        needed at the ends of the sd's own 95 % interval; `n so far`, `sees now` (the difference that so many would
        see), sd, and the number of records it comes from. Of a plain number source, interval, n and records are not
        known, and empty.
    """
    rows = []
    for design, sd in (("pairs", sd_pair), ("runs an arm", sd_run)):
        value, paired, measured = _check_sd(sd), design == "pairs", isinstance(sd, MeasuredSd)
        ends = sd.interval() if measured else ()
        known = measured and sd.n > 1
        for delta in deltas:
            low, high = [stats.seeds_needed(end, delta, paired=paired) for end in ends] or [float("nan")] * 2
            rows.append(
                {
                    "source": sd.source if measured else "",
                    "design": design,
                    "true difference": delta,
                    "needed": stats.seeds_needed(value, delta, paired=paired),
                    "low": low,
                    "high": high,
                    "n so far": sd.n if measured else float("nan"),
                    "sees now": stats.detectable(value, sd.n, paired=paired) if known else float("nan"),
                    "sd": value,
                    "records": sd.records if measured else float("nan"),
                }
            )
    table = pd.DataFrame(rows, dtype=object)  # so that counts stay whole beside those not known
    return table.astype({"true difference": float, "sees now": float, "sd": float})


def _check_sd(sd: float | MeasuredSd) -> float:
    value = sd.sd if isinstance(sd, MeasuredSd) else float(sd)
    if not 0 < value < float("inf"):
        raise ValueError(f"the sd is {value}: expected a finite number above 0, of at least two runs that differ")
    return value
