"""The one verdict rule of the book: what a measured difference says about the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssconv_lib.stats import Difference


@dataclass(frozen=True)
class Verdict:
    """An outcome and the sentence for it.

    Attributes:
        outcome: "reproduced", "not reproduced" or "cannot tell".
        sentence: plain English for a chapter, with every number that it rests on.
        size: when reproduced, "smaller" or "larger" if the interval leaves out the paper's difference, else "".
        paper_low: the least that the paper's difference can have been before rounding.
        paper_high: the most that it can have been.
        detectable: the true difference that would have been seen with 80 % power; nan if the spread is unknown.
    """

    outcome: str
    sentence: str
    size: str
    paper_low: float
    paper_high: float
    detectable: float

    def __str__(self) -> str:
        return self.sentence


def verdict(
    difference: Difference,
    paper_difference: float,
    *,
    rounding: float | None = None,
    unit: str | None = None,
    name: str = "the difference",
    digits: int = 2,
    relative: bool = False,
) -> Verdict:
    """Judges a measured difference against the paper's, d, printed to within r = `rounding`.

    The paper's difference is the closed interval [d - r, d + r]; [low, high] is the measured one.

    1. "cannot tell" if the spread is unknown (n < 2, or runs that agree to the last digit).
    2. "reproduced" if [low, high] lies strictly on d's side of 0. Where it also misses all of [d - r, d + r], the
       sentence says that the effect is smaller, or larger, than the paper's.
    3. "not reproduced" if it misses all of [d - r, d + r], an effect in the other direction included. A `relative` of
       the paper's network need not have an effect of that size: there it takes the other direction.
    4. "cannot tell" otherwise. An end that touches excludes nothing.

    Args:
        difference: measured, in the paper's unit and with its sign.
        paper_difference: d.
        rounding: r; by default what `paper.difference` knows of it, and 0 for a plain number.
        unit: what the numbers are in; by default what `paper.difference` knows, and "points" for a plain number.
        name: what is compared, as the sentence's subject.
        digits: decimals of the measured numbers in the sentence.
        relative: measured on a smaller network, or with a shorter schedule, than the paper's.

    Raises:
        ValueError: for a d that is 0 or not finite, or an r that is negative or above d's size: it has no direction.
    """
    rounding = getattr(paper_difference, "rounding", 0.0) if rounding is None else rounding
    unit = getattr(paper_difference, "unit", "points") if unit is None else unit
    if not (abs(paper_difference) < float("inf") and 0 <= rounding <= abs(paper_difference) > 0):
        raise ValueError(
            f"the paper's difference {float(paper_difference):g} ± {rounding:g} has no direction: expected a finite "
            "number other than 0, and a rounding from 0 up to its size"
        )
    # round() takes 0.3 - 0.1 to 0.2
    paper_low, paper_high = (round(paper_difference + side * rounding, 12) for side in (-1, 1))
    below, above = difference.high < paper_low, difference.low > paper_high
    outcome, size = _judge(difference, paper_difference > 0, below, above, relative)
    sentence = _sentence(
        difference, outcome, size, below or above, float(paper_difference), rounding, unit, name, digits
    )
    return Verdict(outcome, sentence, size, paper_low, paper_high, difference.detectable())


def _judge(difference: Difference, positive: bool, below: bool, above: bool, relative: bool) -> tuple[str, str]:
    if difference.degenerate:
        return "cannot tell", ""
    if (difference.low > 0) if positive else (difference.high < 0):
        size = "smaller" if (below if positive else above) else "larger" if below or above else ""
        return "reproduced", size
    opposite = difference.high < 0 if positive else difference.low > 0
    return ("not reproduced" if opposite or ((below or above) and not relative) else "cannot tell"), ""


def _sentence(
    difference: Difference,
    outcome: str,
    size: str,
    excluded: bool,
    paper: float,
    rounding: float,
    unit: str,
    name: str,
    digits: int,
) -> str:
    def number(value: float) -> str:
        text = f"{round(value, 9):.{digits}f}"  # a mean of .275 may be .27499999999999997, and tables say .28
        if value and not float(text):
            text = f"{value:.1g}"  # 0.004 must not read 0.00 beside "excludes 0"
        return text.replace("-", "−")

    printed = f"the paper's {paper:g} {unit}".replace("-", "−")
    if rounding:
        ends = " to ".join(f"{paper + side * rounding:.6g}" for side in (-1, 1)).replace("-", "−")
        printed += f" ({ends} before rounding)"
    evidence = (
        f"{outcome.capitalize()}: over {_runs(difference)}, {name} is {number(difference.mean)} {unit} on average"
    )
    if difference.degenerate:
        return f"{evidence}, beside {printed}; {difference.degenerate}, and more seeds are needed."
    evidence += (
        f" ({difference.level * 100:g} % interval {number(difference.low)} to {number(difference.high)}; "
        f"{difference.test})"
    )
    other_side = difference.high < 0 if paper > 0 else difference.low > 0
    finding = {
        "reproduced": f", on the same side of 0 as {printed}",
        "not reproduced": f", which excludes {printed} and "
        + ("lies on the other side of 0" if other_side else "includes 0"),
        "cannot tell": f", which includes 0 and excludes {printed}, but this is a relative of the paper's network"
        if excluded
        else f", which excludes neither 0 nor {printed}",
    }[outcome]
    sized = f" The size differs: the effect is {size} than the paper's." if size else ""
    seen = " So few runs don't know their own spread well enough to say what could have been seen."
    if difference.knows_spread:
        least = number(difference.detectable())
        seen = f" With this spread, a true difference of {least} {unit} would have been seen with 80 % power."
    return evidence + finding + "." + sized + seen


def _runs(difference: Difference) -> str:
    counts = difference.counts
    if len(counts) == 1:
        text = f"{counts[0]} pair{'s' if counts[0] != 1 else ''} of runs"
    elif counts[0] == counts[1]:
        text = f"{counts[0]} run{'s' if counts[0] != 1 else ''} an arm"
    else:
        text = f"{counts[0]} against {counts[1]} runs"
    if difference.unmatched:
        text += f" ({difference.unmatched} without a partner left out)"
    return text
