"""What the gain of shuffling comes from, by the controls: which explanation each supports, and by what rule."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd

from . import readable, stats
from .controlarms import Group, arm_text, groups
from .judge import verdict_row


class Explanation(NamedTuple):
    """What shuffling may help by, and the controls that decide.

    Attributes:
        claim: In a sentence.
        controls: Arms that decide, where they have runs.
        needed: Those of them without which it can't be told that all lose the gain.
        kept: The outcome if one of the controls keeps the gain: "supported" or "not supported".
        why: What of the explanation the controls have or lack.
        beside: Arms that bear on it and don't decide, for they differ from ss in more than this, or less.
    """

    claim: str
    controls: tuple[str, ...]
    needed: tuple[str, ...]
    kept: str
    why: str
    beside: tuple[str, ...] = ()


EXPLANATIONS = (
    Explanation(
        "The wiring has to be fixed",
        ("fresh",),
        ("fresh",),
        "not supported",
        "it wires places as far apart, to others each time; it must lose the gain",
    ),
    Explanation(
        "What comes in has to come from far away",
        ("windows",),
        ("windows",),
        "not supported",
        "it wires as many places, fixed and at random, all of them close together; it must lose the gain",
    ),
    Explanation(
        "The wiring has to be random, and across channels",
        ("roll", "per_channel"),
        ("roll", "per_channel"),
        "not supported",
        "both are fixed and reach far; the first isn't random, the second stays in a channel; both must lose the gain",
    ),
    Explanation(
        "Shuffling helps as global context does",
        ("mean",),
        ("mean",),
        "supported",
        "it gives context without places, in the same channels at the same cost; it must keep the gain",
        beside=("se", "gc"),  # they have parameters of their own
    ),
    Explanation(
        "Shuffling helps as regularisation does, by what it takes away",
        ("zeroed", "narrower"),
        ("zeroed",),
        "supported",
        "the channels that are shuffled carry nothing, or aren't there; one must keep the gain",
        beside=("fresh",),  # the most noise, but it brings in values from far away, too
    ),
)
RULES = (
    "**Better** means that the 95 % interval of the paired difference excludes 0; on the generated task, that more runs"
    " solve it (Fisher's exact test, 5 %).",
    "A control **keeps the gain** if it is better than plain convolution and the interval of what it lacks to the"
    " shuffle ends below half of the gain.",
    "It **loses the gain** if it is worse than the shuffle and the interval of what it has over plain convolution ends"
    " below that.",
    "If it is better than plain convolution and no more is seen, it keeps a part at least, and the claim stands"
    " **in part**; else nobody can tell.",
    "Where the shuffle itself isn't seen to be better, there is no gain to explain.",
)


class Comparison(NamedTuple):
    """How much better the second of two arms is, in points of error or as a share of runs solved.

    Attributes:
        seen: Whether it is seen to be better.
        gain: By how much.
        high: The upper end of that gain's interval; infinite where there is none.
        text: The numbers in words.
    """

    seen: bool
    gain: float
    high: float
    text: str


_Compare = Callable[[str, str, float], Comparison]
_PARTS = {"keeps a part", "keeps at least a part"}


def verdicts(frames: Sequence[pd.DataFrame]) -> list[dict[str, str]]:
    """What the gain comes from: a row for each group of runs with controls, and explanation.

    `RULES` in detail. A control that is better than conv, at a level corrected for the number of controls that decide
    (one is enough), *keeps the gain* if the upper end of its shortfall to ss is below half of the gain of ss over conv;
    it *keeps a part* if it is worse than ss; else it *keeps at least a part*. One that is worse than ss and not better
    than conv *loses the gain* if the upper end of its gain over conv is below that half, else it *loses at least a
    part*. Of all others it *can't be told*. The interval of two shares of runs solved is Newcombe's, of Wilson's two.

    One that keeps the gain decides, see `Explanation.kept`. One that keeps a part, or at least a part: "in part". That
    all lose it decides the opposite. Else "cannot tell"; so, too, where ss isn't seen to be better than conv.
    """
    rows = []
    for group in (group for frame in frames for group in groups(frame)):
        compare = _by_runs_solved(group) if "distance" in group.labels else _by_error(group)
        for explanation in EXPLANATIONS:
            if set(explanation.controls) & set(group.arms) and {"conv", "ss"} <= set(group.arms):
                rows.append(_verdict(explanation, group, compare))
    return rows


def _verdict(explanation: Explanation, group: Group, compare: _Compare) -> dict[str, str]:
    of_ss = compare("conv", "ss", 0.95)
    evidence, outcome = f"{_both(group)}: {of_ss.text}", "cannot tell"
    if of_ss.seen:
        texts, outcome = _judged(explanation, group, compare, of_ss.gain)
        evidence = "; ".join([evidence, *texts])
    else:
        evidence = f"No gain of ss is seen that could be explained: {evidence}"
    names = " and ".join(arm_text(arm) for arm in explanation.controls)
    evidence += f". Decided by {names}: {explanation.why}."
    return verdict_row(explanation.claim, f"Not in the paper; {_setting(group)}", evidence, outcome)


def _judged(explanation: Explanation, group: Group, compare: _Compare, gain: float) -> tuple[list[str], str]:
    """What each control does to a gain that is seen, and the outcome."""
    there = [arm for arm in explanation.controls if arm in group.arms]
    readings = {arm: _reading(arm, compare, gain, len(there)) for arm in there}
    texts = [f"{_named(group, arm)}: {text}, {reading}" for arm, (reading, text) in readings.items()]
    for arm in [arm for arm in explanation.beside if arm in group.arms]:
        reading, text = _reading(arm, compare, gain, 1)
        texts.append(f"beside it {_named(group, arm)}: {text}, {reading}")
    if absent := [arm_text(arm) for arm in explanation.controls if arm not in group.arms]:
        texts.append(f"without runs: {', '.join(absent)}")
    return texts, _outcome(explanation, {arm: reading for arm, (reading, _) in readings.items()})


def _outcome(explanation: Explanation, readings: dict[str, str]) -> str:
    found = set(readings.values())
    if "keeps the gain" in found:
        return explanation.kept
    if found & _PARTS:
        return "in part"
    if set(explanation.needed) <= set(readings) and found == {"loses the gain"}:
        return {"supported": "not supported", "not supported": "supported"}[explanation.kept]
    return "cannot tell"


def _reading(arm: str, compare: _Compare, gain: float, deciding: int) -> tuple[str, str]:
    """What a control does to the gain of ss, and the numbers that say so."""
    over_conv, short = compare("conv", arm, 0.95), compare(arm, "ss", 0.95)
    text = f"it over conv {over_conv.text}, ss over it {short.text}"
    if compare("conv", arm, 1 - 0.05 / deciding).seen:
        if short.seen:
            return "keeps a part", text
        return ("keeps the gain" if short.high < gain / 2 else "keeps at least a part"), text
    if short.seen and not over_conv.seen:
        return ("loses the gain" if over_conv.high < gain / 2 else "loses at least a part"), text
    return "can't be told", text


def _named(group: Group, arm: str) -> str:
    """An arm; of the generated task with how many runs solve it."""
    solves = f" solves {stats.proportion(*group.solved(arm))}" if "distance" in group.labels else ""
    return f"{arm_text(arm)}{solves}"


def _both(group: Group) -> str:
    if "distance" not in group.labels:
        return "ss over conv"
    ss, conv = (stats.proportion(*group.solved(arm)) for arm in ("ss", "conv"))
    return f"ss solves {ss}, conv {conv}"


def _setting(group: Group) -> str:
    labels = group.labels
    where = f"{readable.model_text(labels['model'])}, α = {readable.alpha_text(labels['alpha'])}, {labels['source']}"
    return f"{where}, distance {labels['distance']}" if "distance" in labels else where


def _by_error(group: Group) -> _Compare:
    """Whether the second arm has less error than the first, by the interval of the paired difference."""

    def compare(first: str, second: str, level: float) -> Comparison:
        measured = group.paired(first, second, level)
        if measured is None or measured.degenerate:
            why = f"n = {measured.n}: {measured.degenerate}" if measured else "no seed in common"
            return Comparison(False, measured.mean if measured else float("nan"), math.inf, f"no interval ({why})")
        number, ends = readable.number, readable.interval(measured.low, measured.high)
        seen = number(float(group.detectable(measured))) + ("" if measured.knows_spread else " by the sd over all arms")
        text = f"{number(float(measured.mean))} points ({ends}, n = {measured.n} pairs, detectable {seen})"
        return Comparison(measured.low > 0, measured.mean, measured.high, text)

    return compare


def _by_runs_solved(group: Group) -> _Compare:
    """Whether the second arm solves the task more often, by Fisher's exact test."""

    def compare(first: str, second: str, level: float) -> Comparison:
        one, other = (stats.proportion(*group.solved(arm), level) for arm in (first, second))
        p, gain = stats.fisher(one.k, one.n, other.k, other.n), other.estimate - one.estimate
        high = gain + math.hypot(other.high - other.estimate, one.estimate - one.low)  # Newcombe 1998, his method 10
        return Comparison(gain > 0 and p < 1 - level, gain, high, f"p = {p:.2g}")

    return compare
