"""What the gain of shuffling comes from, by the controls: which explanation each supports, and by what rule."""

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
_Better = Callable[[str, str, float], tuple[bool, str]]


def verdicts(frames: Sequence[pd.DataFrame]) -> list[dict[str, str]]:
    """What the gain comes from: a row for each group of runs with controls, and explanation.

    A control *keeps the gain* of ss if it is better than conv, at a level corrected for the number of controls that
    decide (one is enough), and not worse than ss; it *loses the gain* if it is worse than ss and not better than conv;
    it *keeps a part* if it is better than conv and worse than ss; else it *can't be told*. Better means that the 95 %
    interval of the paired difference excludes 0; on the generated task, that more runs solve it with Fisher's exact p
    below 5 %.

    One that keeps the gain decides, see `Explanation.kept`. That all lose it decides the opposite; "in part" if some
    keep a part. Where ss isn't better than conv there is no gain to explain: "cannot tell".

    That a control is better than conv says that its shortfall to ss is less than the gain; where the intervals include
    both no gain of it over conv and no shortfall, it can't be told.
    """
    rows = []
    for group in (group for frame in frames for group in groups(frame)):
        better = _solves_more(group) if "distance" in group.labels else _has_less_error(group)
        for explanation in EXPLANATIONS:
            if set(explanation.controls) & set(group.arms) and {"conv", "ss"} <= set(group.arms):
                rows.append(_verdict(explanation, group, better))
    return rows


def _verdict(explanation: Explanation, group: Group, better: _Better) -> dict[str, str]:
    there = [arm for arm in explanation.controls if arm in group.arms]
    gains, gain = better("conv", "ss", 0.95)
    readings = {arm: _reading(arm, better, len(there)) for arm in there}
    outcome = (
        _outcome(explanation, {arm: reading for arm, (reading, _) in readings.items()}) if gains else "cannot tell"
    )
    texts = [f"ss{_count(group, 'ss')} over conv{_count(group, 'conv')}: {gain}"]
    texts += [f"{arm_text(arm)}{_count(group, arm)}: {text}, {reading}" for arm, (reading, text) in readings.items()]
    if not gains:
        texts.append("no gain of ss is seen that could be explained")
    for arm in [arm for arm in explanation.beside if arm in group.arms]:
        reading, text = _reading(arm, better, 1)
        texts.append(f"beside it {arm_text(arm)}{_count(group, arm)}: {text}, {reading}")
    if absent := [arm_text(arm) for arm in explanation.controls if arm not in group.arms]:
        texts.append(f"without runs: {', '.join(absent)}")
    names = " and ".join(arm_text(arm) for arm in explanation.controls)
    evidence = f"{'; '.join(texts)}. Decided by {names}: {explanation.why}."
    return verdict_row(explanation.claim, f"beyond the paper; {_setting(group)}", evidence, outcome)


def _outcome(explanation: Explanation, readings: dict[str, str]) -> str:
    if "keeps the gain" in readings.values():
        return explanation.kept
    if not set(explanation.needed) <= set(readings) or "can't be told" in readings.values():
        return "cannot tell"
    if "keeps a part" in readings.values():
        return "in part"
    return {"supported": "not supported", "not supported": "supported"}[explanation.kept]


def _reading(arm: str, better: _Better, deciding: int) -> tuple[str, str]:
    """What a control does to the gain, and the numbers that say so."""
    over_conv, first = better("conv", arm, 0.95)
    strictly, _ = better("conv", arm, 1 - 0.05 / deciding)
    below_ss, second = better(arm, "ss", 0.95)
    text = f"it over conv {first}, ss over it {second}"
    if below_ss:
        return ("keeps a part" if over_conv else "loses the gain"), text
    return ("keeps the gain" if strictly else "can't be told"), text


def _count(group: Group, arm: str) -> str:
    if "distance" not in group.labels:
        return ""
    k, n = group.solved(arm)
    return f" ({k} of {n} solved)"


def _setting(group: Group) -> str:
    labels = group.labels
    where = f"{readable.model_text(labels['model'])}, α = {readable.alpha_text(labels['alpha'])}, {labels['source']}"
    return f"{where}, distance {labels['distance']}" if "distance" in labels else where


def _has_less_error(group: Group) -> _Better:
    """Whether the second arm has less error than the first, by the interval of the paired difference."""

    def better(first: str, second: str, level: float) -> tuple[bool, str]:
        measured = group.paired(first, second, level)
        if measured is None or measured.degenerate:
            return False, f"no interval ({measured.degenerate if measured else 'no seed in common'})"
        text = f"{measured.mean:.2f} points ({measured.low:.2f} to {measured.high:.2f}, n = {measured.n})"
        return measured.low > 0, text.replace("-", "−")

    return better


def _solves_more(group: Group) -> _Better:
    """Whether the second arm solves the task more often, by Fisher's exact test."""

    def better(first: str, second: str, level: float) -> tuple[bool, str]:
        (k1, n1), (k2, n2) = (group.solved(arm) for arm in (first, second))
        p = stats.fisher(k1, n1, k2, n2)
        return k2 / n2 > k1 / n1 and p < 1 - level, f"p = {p:.2g}"

    return better
