"""Chapter 4's claims against the records: the rules by which "1.15 times slower" is judged, in code.

What decides is the 95 % interval of the median ratio of two arms timed in the same rounds. The quartiles that tables
and figures show are a description: they don't shrink with the rounds, and of few they exclude too little.
"""

import functools
import math
from collections.abc import Sequence

import pandas as pd

from . import paper
from .judge import COLUMNS
from .readable import model_text
from .speedtables import PAPER_SETTING, is_gpu, source
from .stats import median_interval

NEXT_TO_NOTHING = 1.05  # the cost that this project set itself as a limit for its own layer


@functools.cache
def printed_ratio() -> tuple[float, float, float]:
    """Table 4's ratio of ss to conv, and the least and the most that it can have been before rounding."""
    conv, ss = (paper.value(4, "resnet50", method) for method in ("conv", "ss"))
    half = 0.5 * 10.0 ** -int(paper.table(4)["decimals"].iloc[0])
    return ss / conv, (ss - half) / (conv + half), (ss + half) / (conv - half)


def ratio_interval(over: Sequence[float], under: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the median ratio of two arms' seconds, round by round; of few rounds the whole line.

    It knows the rounds of one process, not what differs from one process to the next.
    """
    return median_interval([one / other for one, other in zip(over, under, strict=True)])


def judge_cost(low: float, high: float, *, pixels: int, papers_setting: bool) -> tuple[str, str]:
    """Judge "1.15 times slower" by the 95 % interval, low to high, of Listing 1's ratio.

    Slower: "reproduced" if low is above 1, "not reproduced" if high is not, else "cannot tell". The paper's ratio,
    which may be anything that rounds to it: does the interval include it? In its own setting, "reproduced" or "not
    reproduced"; elsewhere "here too", or "smaller" or "larger here", since another machine has a ratio of its own.
    "Cannot tell" if the interval includes 1 as well, and from images of another size.

    Args:
        low: The interval's lower end.
        high: Its upper end.
        pixels: The size of the images.
        papers_setting: A GPU, with the paper's images and batch.

    Returns:
        The two outcomes.
    """
    _, least, most = printed_ratio()
    slower = "reproduced" if low > 1 else "cannot tell" if high > 1 else "not reproduced"
    includes = high >= least and low <= most
    if pixels != PAPER_SETTING["pixels"] or (includes and slower == "cannot tell"):
        return slower, "cannot tell"
    if includes:
        return slower, "reproduced" if papers_setting else "here too"
    if papers_setting:
        return slower, "not reproduced"
    return slower, "smaller here" if high < least else "larger here"


def judge_better_code(gain: tuple[float, float], ours: tuple[float, float]) -> str:
    """Judge "a more efficient implementation may decrease the gap", by two 95 % intervals of one measurement.

    Reproduced: the gain lies above 1, and our ratio below the paper's. Not reproduced: the gain lies below 1. Else it
    can't be told.

    Args:
        gain: Of Listing 1's time over ours.
        ours: Of our time over plain convolution's.
    """
    if gain[0] > 1 and ours[1] < printed_ratio()[1]:
        return "reproduced"
    return "not reproduced" if gain[1] < 1 else "cannot tell"


TRAINING_CLAIM = "In training, too, more efficient code decreases the gap"


def cost_claims(table4: pd.DataFrame) -> list[dict[str, str]]:
    """The claim `cost`: a row for each machine that has measured Table 4's case.

    Args:
        table4: From `study.speed_frame`.
    """
    printed, least, most = printed_ratio()
    rows = []
    plain = table4[table4["arm"] == "conv"].set_index(["profile", "hash"])["seconds_each"]
    for row in table4[table4["arm"] == "listing"].to_dict("records"):
        own = is_gpu(row["device"]) and all(row[name] == PAPER_SETTING[name] for name in ("pixels", "batch"))
        low, high = ratio_interval(row["seconds_each"], plain[row["profile"], row["hash"]])
        outcomes = judge_cost(low, high, pixels=row["pixels"], papers_setting=own)
        spread = f"95 % interval {low:.3f} to {high:.3f}" if math.isfinite(low) else "too few rounds for an interval"
        evidence = (
            f"Listing 1 takes {row['ratio']:.3f} times as long ({spread}, n = {row['n']});"
            f" the paper's ratio is {printed:.3f} ({least:.3f} to {most:.3f} before rounding)."
        )
        case = f"{row['pixels']} pixels, batch {row['batch']}"
        rows.append(_row("cost", row, case, evidence, f"slower: {outcomes[0]}; {printed:.2f} times: {outcomes[1]}"))
    return rows


def better_code_claims(frame: pd.DataFrame) -> list[dict[str, str]]:
    """The claim `better_code`: a row for each machine; and for its training, of which the paper says nothing.

    The verdict is that of most cases: "reproduced" or "not reproduced" needs more than half of them, and none of the
    opposite; the evidence counts them all.

    Args:
        frame: From `study.speed_frame`, of whole networks.
    """
    rows = []
    if frame.empty:
        return rows
    sources = frame.apply(source, axis=1)
    for (_, mode), group in frame.groupby([sources, "mode"], sort=False):
        arms = {arm: group[group["arm"] == arm].set_index("hash") for arm in ("conv", "listing", "ss")}
        shared = arms["listing"].index.intersection(arms["ss"].index)
        if shared.empty:
            continue
        each = {arm: rows.loc[shared, "seconds_each"] for arm, rows in arms.items()}
        gains = [ratio_interval(*rounds) for rounds in zip(each["listing"], each["ss"], strict=True)]
        ours = [ratio_interval(*rounds) for rounds in zip(each["ss"], each["conv"], strict=True)]
        outcomes = [judge_better_code(*both) for both in zip(gains, ours, strict=True)]
        row = _row(
            "better_code",
            group.iloc[0],
            ", ".join(model_text(name) for name in group["network"].unique()),
            f"{mode}: {_counted(gains, outcomes)} {_medians(*(arms[arm].loc[shared] for arm in ('ss', 'listing')))}",
            _majority(outcomes),
        )
        rows.append(_beyond(row) if mode == "training" else row)
    return rows


def _counted(gains: list[tuple[float, float]], outcomes: list[str]) -> str:
    return (
        f"by 95 % intervals ours is quicker than Listing 1 in {sum(low > 1 for low, _ in gains)} of {len(gains)} cases,"
        f" slower in {sum(high < 1 for _, high in gains)}; quicker, and below the paper's ratio, in"
        f" {outcomes.count('reproduced')}."
    )


def _medians(ours: pd.DataFrame, listing: pd.DataFrame) -> str:
    medians, n = ours["ratio"], ours["n"]
    rounds = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    return (
        f"Our medians are {_range(medians)}, Listing 1's {_range(listing['ratio'])} (n = {rounds} rounds a case);"
        f" at most {NEXT_TO_NOTHING:g} in {(medians <= NEXT_TO_NOTHING).sum()} of {len(medians)}."
    )


def _beyond(row: dict[str, str]) -> dict[str, str]:
    """The same of training, of which the paper says nothing."""
    where = row["where"].partition("; ")[2]
    verdict = row["verdict"].replace("reproduced", "supported")
    return row | {"claim": TRAINING_CLAIM, "where": f"Not in the paper; {where}", "verdict": verdict}


def _majority(outcomes: list[str]) -> str:
    for outcome, opposite in (("reproduced", "not reproduced"), ("not reproduced", "reproduced")):
        if 2 * outcomes.count(outcome) > len(outcomes) and opposite not in outcomes:
            return outcome
    return "cannot tell"


def _row(name: str, run: pd.Series | dict, what: str, evidence: str, outcome: str) -> dict[str, str]:
    claim = paper.claim(name)
    where = f"{claim['where']}; {source(pd.Series(run))}; {what}"
    return dict(zip(COLUMNS, (claim["quote"], where, evidence, outcome), strict=True))


def _range(values: pd.Series) -> str:
    low, high = (f"{value:.3f}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"
