"""The claims of chapters 2 and 3 against the records: each gives a row with the claim, the evidence and the verdict."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from . import paper, readable, stats, tables

COLUMNS = ["claim", "where", "evidence", "verdict"]
NO_RUNS = "no runs yet"
ALPHA = paper.ALPHA_TAKEN[2]  # the paper prints no α behind Tables 1 and 2
SWEEP = (0.0, 0.02, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0)  # the paper doesn't list the α of Fig. 2
NEAR = (0.04, 0.1)  # what "around 0.06" is taken to include


def verdict_row(claim: str, where: str, evidence: str, outcome: str) -> dict[str, str]:
    """A row of a table of verdicts."""
    return dict(zip(COLUMNS, (claim, where, evidence, outcome.lower()), strict=True))


def _of_difference(claim: str, where: str, sentence: str) -> dict[str, str]:
    """Split a verdict's sentence, "Outcome: evidence.", into two cells."""
    outcome, _, evidence = sentence.partition(": ")
    return verdict_row(claim, where, evidence[0].upper() + evidence[1:], outcome)


def difference_claims(frames: Sequence[pd.DataFrame], number: int = 2) -> list[dict[str, str]]:
    """Shuffling lowers the error (Tables 2 and 3): a row for each profile and network with pairs of runs.

    In the order of the paper's rows; a network that has no pairs yet, nor a relative with some, has a row that says so.
    """
    made = {network: [] for network in paper.table(number)["key"].unique()}
    for frame in frames:
        for row in tables.comparison(frame, number).to_dict("records"):
            if network := tables.STANDS_FOR.get(row["model"]):
                runs = frame[frame["model"] == row["model"]]
                where = _where(f"Table {number}", row["model"], network, runs)
                claim = _lowers(network, row["model"])
                made[network].append(_of_difference(claim, where, row["sentence"] + _unpaired(runs)))
    return [row for network in made for row in made[network] or [_untested(_lowers(network), f"Table {number}")]]


def _lowers(network: str, model: str | None = None) -> str:
    """The claim; a verdict on a relative must not pass for one on the paper's network where it stands alone."""
    relative = "" if model in (None, network) else f" (seen in a relative, {readable.model_text(model)})"
    return f"Shuffling lowers the error of {readable.model_text(network)}{relative}"


def _untested(claim: str, where: str) -> dict[str, str]:
    """The row of a claim that no record speaks to: left out, it would pass for one that was tested."""
    return verdict_row(claim, where, "No record speaks to it yet.", NO_RUNS)


def _unpaired(runs: pd.DataFrame) -> str:
    """What the interval would be without pairs, which decides nothing: that pairs are compared was fixed beforehand."""
    conv, ss = (runs.loc[(runs["alpha"] > 0) == shuffled, "error"] for shuffled in (False, True))
    if min(len(conv), len(ss)) < 2:
        return ""
    one = stats.unpaired_difference(conv, ss)
    return "" if one.degenerate else f" Not paired, the interval would be {readable.interval(one.low, one.high)}."


def se_claim(frames: Sequence[pd.DataFrame]) -> list[dict[str, str]]:
    """Shuffling gains less in SEResNet50 than in ResNet50 (Table 3): a row for each profile with pairs of both.

    The gains (conv minus ss) are paired by seed; four printed numbers hide up to a fifth of a point.
    """
    claim = "The gain of SEResNet50 is smaller than that of ResNet50"
    gain = {network: paper.difference(3, network) for network in ("resnet50", "seresnet50")}
    printed = paper.PrintedDifference(gain["resnet50"] - gain["seresnet50"], 1, "points")
    rows = []
    for frame in frames:
        runs = frame.assign(network=frame["model"].map(tables.STANDS_FOR))
        pairs = {network: tables.gains(runs[runs["network"] == network]) for network in gain}
        shared = pairs["resnet50"].index.intersection(pairs["seresnet50"].index)
        if len(shared):
            measured = stats.paired_difference(*(pairs[network][shared] for network in gain))
            name = "the gain of ResNet50 minus that of SEResNet50"
            model = runs.loc[runs["network"] == "seresnet50", "model"].iloc[0]
            judged = tables.judge_as(model, measured, printed, rounding=2 * printed.rounding, name=name)
            rows.append(_of_difference(claim, _where("Table 3", model, "seresnet50", frame), judged.sentence))
    return rows or [_untested(claim, "Table 3")]


def table1_claims(frames: Sequence[pd.DataFrame]) -> list[dict[str, str]]:
    """Eq. 3 has a lower error than Eq. 2: a row for each profile that has both arms on real images."""
    claim, network = "Eq. 3 is better than Eq. 2", "resnext29_2x64d"
    eq2, eq3 = (paper.value(1, network, "ss", layout=layout) for layout in ("leading", "interleaved"))
    printed = paper.PrintedDifference(eq2 - eq3, 1, "points")
    rows = []
    for frame in frames:
        of = {arm: tables.by_seed(runs) for arm, runs in tables.arms(frame).groupby("arm")}
        model = frame["model"].iloc[0]
        if model in tables.STANDS_FOR and {"leading", "auto"} <= of.keys():
            measured = stats.paired_difference(of["leading"], of["auto"])
            judged = tables.judge_as(model, measured, printed, name="Eq. 2 minus Eq. 3")
            rows.append(_of_difference(claim, _where("Table 1", model, network, frame), judged.sentence))
    return rows or [_untested(claim, "Table 1")]


def reach_claim(frame: pd.DataFrame) -> dict[str, str]:
    """Shuffling lets a network use what is outside its reach, on images where no plain unit reaches both patches.

    Fisher's exact test at 5 % on the runs that solved the task. Seeds and α are fixed by the profile beforehand.
    """
    arms = {"without": frame[frame["alpha"] == 0], "with": frame[frame["alpha"] > 0]}
    counts = {name: tables.solved(runs["error"]) for name, runs in arms.items()}
    p = stats.fisher(*counts["without"], *counts["with"])
    without, shuffled = (stats.proportion(*count) for count in counts.values())
    outcome = "cannot tell"
    if p < 0.05:
        outcome = "reproduced" if shuffled.estimate > without.estimate else "not reproduced"
    evidence = f"Solved without shuffling: {without}; with: {shuffled}; Fisher's exact p = {p:.2g}."
    claim = paper.claim("outside_rf")
    return verdict_row(claim["predicts"], f"{claim['where']}; {tables.source(frame)}", evidence, outcome)


def best_alpha_claims(frames: Sequence[pd.DataFrame]) -> list[dict[str, str]]:
    """The error is lowest near α = 0.06: a row for each profile and network with a sweep over real images.

    Every α outside `NEAR` is compared with 0.06, paired by seed. Reproduced: each is worse, its 95 % interval
    excluding 0, and all of the sweep's α have runs. Not reproduced: one is better, the interval excluding 0 at a level
    corrected for the number of comparisons.
    """
    rows = []
    for frame in frames:
        for model, runs in frame.groupby("model", sort=False):
            if model in tables.STANDS_FOR and (runs["alpha"] == ALPHA).any():
                claim = paper.claim("best_alpha")["quote"]
                network = tables.STANDS_FOR[model]
                evidence, outcome = _best_alpha(runs)
                rows.append(verdict_row(claim, _where("Fig. 2", model, network, runs), evidence, outcome))
    return rows


def _best_alpha(runs: pd.DataFrame) -> tuple[str, str]:
    of = {alpha: tables.by_seed(group) for alpha, group in runs.groupby("alpha")}
    far = [alpha for alpha in SWEEP if not NEAR[0] <= alpha <= NEAR[1]]
    shared = {alpha: of[alpha].index.intersection(of[ALPHA].index) for alpha in far if alpha in of}
    comparable = [alpha for alpha, seeds in shared.items() if len(seeds) > 1]
    lacking = f"{len(set(SWEEP) & set(of))} of the {len(SWEEP)} α have runs"
    if not comparable:
        return f"{lacking}; none outside {NEAR[0]:g} to {NEAR[1]:g} has two pairs with 0.06.", "cannot tell"
    found = {alpha: stats.paired_difference(of[alpha], of[ALPHA]) for alpha in comparable}
    known = [alpha for alpha in comparable if not found[alpha].degenerate]  # runs all alike are no certainty
    level = 1 - 0.05 / len(comparable)
    better = [alpha for alpha in known if stats.paired_difference(of[alpha], of[ALPHA], level=level).high < 0]
    worse = [alpha for alpha in known if found[alpha].low > 0]
    outcome = "not reproduced" if better else "reproduced" if worse == far and set(SWEEP) <= set(of) else "cannot tell"
    return f"{lacking}. {_which(comparable, worse, better)}{_could_be_seen(found)}", outcome


def _which(compared: Sequence[float], worse: Sequence[float], better: Sequence[float]) -> str:
    """Which α are worse than 0.06, better, or neither."""
    undecided = [alpha for alpha in compared if alpha not in (*worse, *better)]
    said = {"worse": worse, "better": better, "undecided": undecided}
    kinds = "; ".join(f"{kind}: {', '.join(map(readable.alpha_text, of)) or 'none'}" for kind, of in said.items())
    return f"Outside 0.04 to 0.1, against 0.06 by their intervals, {kinds}."


def _could_be_seen(found: Mapping[float, stats.Difference]) -> str:
    """What the pairs of each α would have shown with 80 % power."""
    seen = [one.detectable() for one in found.values() if one.knows_spread]
    if not seen:
        return " So few pairs don't know their own spread well enough to say what could have been seen."
    pairs = _range([f"{one.n}" for one in sorted(found.values(), key=lambda one: one.n)])
    return f" Their {pairs} pairs would have seen {_range(map(readable.number, sorted(seen)))} points with 80 % power."


def _range(texts: Iterable[str]) -> str:
    """The first and the last of sorted numbers, or the one that they are."""
    first, *_, last = [*texts] * 2
    return first if first == last else f"{first} to {last}"


def structure_claim(stages: pd.DataFrame) -> dict[str, str]:
    """Table 5: sizes and boxes of ResNet50's stages, as `census.stages` counts them."""
    agree = int(stages["agrees"].sum())
    evidence = f"{agree} of {len(stages)} stages of torchvision's ResNet50 have the printed size and box."
    outcome = "reproduced" if agree == len(stages) else "not reproduced"
    return verdict_row("The sizes of ResNet50's stages, and of the box in each", "Table 5", evidence, outcome)


def _where(printed: str, model: str, network: str, frame: pd.DataFrame) -> str:
    """The paper's table, and what stands for it: a small relative on a short schedule must not pass for the thing."""
    relative = "" if model == network else f"its relative {readable.model_text(model)}, "
    data = frame["data"].iloc[0]
    data = "" if data in ("cifar10", "imagenet") else f" on {tables.DATA.get(data, data)}"
    return f"{printed}; {relative}{frame['epochs'].iloc[0]} epochs{data} ({frame['profile'].iloc[0]})"
