"""Chapter 4's claims against the records: the rules by which "1.15 times slower" is judged, in code."""

import pandas as pd

from . import paper
from .judge import COLUMNS
from .readable import model_text
from .speedtables import PAPER_SETTING, is_gpu, source

ROUNDS = 5  # below that, quartiles say nothing
NEXT_TO_NOTHING = 1.05  # the cost that this project set itself as a limit for its own layer


def printed_ratio() -> tuple[float, float, float]:
    """Table 4's ratio of ss to conv, and the least and the most that it can have been before rounding."""
    conv, ss = (paper.value(4, "resnet50", method) for method in ("conv", "ss"))
    half = 0.5 * 10.0 ** -int(paper.table(4)["decimals"].iloc[0])
    return ss / conv, (ss - half) / (conv + half), (ss + half) / (conv - half)


def judge_cost(low: float, high: float, *, rounds: int, pixels: int, papers_setting: bool) -> tuple[str, str]:
    """Judge "1.15 times slower" by the quartiles, low and high, of Listing 1's ratio.

    Slower: "reproduced" if low is above 1, "not reproduced" if high is not, else "cannot tell". The paper's ratio,
    which may be anything that rounds to it: do the quartiles include it? In its own setting, "reproduced" or "not
    reproduced"; elsewhere "here too", or "smaller" or "larger here", since another machine has a ratio of its own.
    Both "cannot tell" from fewer than `ROUNDS` rounds, and the second from images of another size.

    Args:
        low: First quartile.
        high: Third quartile.
        rounds: Their number.
        pixels: The size of the images.
        papers_setting: A GPU, with the paper's images and batch.

    Returns:
        The two outcomes.
    """
    _, least, most = printed_ratio()
    if rounds < ROUNDS:
        return "cannot tell", "cannot tell"
    slower = "reproduced" if low > 1 else "cannot tell" if high > 1 else "not reproduced"
    if pixels != PAPER_SETTING["pixels"]:
        return slower, "cannot tell"
    if high >= least and low <= most:
        return slower, "reproduced" if papers_setting else "here too"
    if papers_setting:
        return slower, "not reproduced"
    return slower, "smaller here" if high < least else "larger here"


def judge_better_code(listing: tuple[float, float], ours: tuple[float, float], *, rounds: int) -> str:
    """Judge "a more efficient implementation may decrease the gap", by the quartiles of both in one measurement.

    Reproduced: all of ours lie below all of Listing 1's, and below the paper's ratio. Not reproduced: all of ours
    lie above all of Listing 1's. Else, and from fewer than `ROUNDS` rounds, it can't be told.
    """
    if rounds < ROUNDS:
        return "cannot tell"
    if ours[1] < min(listing[0], printed_ratio()[1]):
        return "reproduced"
    return "not reproduced" if ours[0] > listing[1] else "cannot tell"


TRAINING_CLAIM = "In training, too, more efficient code decreases the gap"


def cost_claims(table4: pd.DataFrame) -> list[dict[str, str]]:
    """The claim `cost`: a row for each machine that has measured Table 4's case.

    Args:
        table4: From `study.speed_frame`.
    """
    printed, least, most = printed_ratio()
    rows = []
    for row in table4[table4["arm"] == "listing"].to_dict("records"):
        own = is_gpu(row["device"]) and all(row[name] == PAPER_SETTING[name] for name in ("pixels", "batch"))
        low, high = row["ratio_low"], row["ratio_high"]
        outcomes = judge_cost(low, high, rounds=row["n"], pixels=row["pixels"], papers_setting=own)
        evidence = (
            f"Listing 1 takes {row['ratio']:.3f} times as long (quartiles {low:.3f} to {high:.3f}, n = {row['n']});"
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
        listing, ours = (group[group["arm"] == arm].set_index("hash") for arm in ("listing", "ss"))
        shared = listing.index.intersection(ours.index)
        if shared.empty:
            continue
        outcomes = [
            judge_better_code(_quartiles(listing.loc[run]), _quartiles(ours.loc[run]), rounds=ours.loc[run, "n"])
            for run in shared
        ]
        medians = ours.loc[shared, "ratio"]
        evidence = (
            f"{mode}: ours is below Listing 1 and the paper's ratio in {outcomes.count('reproduced')} of"
            f" {len(shared)} cases, above Listing 1 in {outcomes.count('not reproduced')};"
            f" its medians are {_range(medians)}, Listing 1's {_range(listing.loc[shared, 'ratio'])};"
            f" at most {NEXT_TO_NOTHING:g} in {(medians <= NEXT_TO_NOTHING).sum()} of {len(shared)}."
        )
        names = ", ".join(model_text(name) for name in group["network"].unique())
        row = _row("better_code", group.iloc[0], names, evidence, _majority(outcomes))
        rows.append(_beyond(row) if mode == "training" else row)
    return rows


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


def _quartiles(row: pd.Series) -> tuple[float, float]:
    return row["ratio_low"], row["ratio_high"]


def _range(values: pd.Series) -> str:
    low, high = (f"{value:.3f}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"
