"""Is the wiring used? Verdicts on trained networks, in the form of the paper's claims, none of which asks this."""

import numpy as np
import pandas as pd

from . import paper, readable
from .bootstrap import ImageDifference, over_images_and_draws, paired_bootstrap_mean
from .judge import verdict_row
from .usagetables import control_text, networks, pairs

# Points; what costs less is not what the gain comes from. No share of what zeroing costs: chapter 6 shows that most of
# that is the shock to batch norm, so a tenth of it may be half of what the channels are worth.
SLIGHT = float(paper.difference(2, "wrn16_4"))
POOR = 100 / 3  # percent of error; the answers of a network that is wrong more often change for any reason
RULES = (
    f"A treatment of the wiring **costs little** if it costs less than {SLIGHT:g} points, the gain of WRN-16-4 in Table"
    " 2. (No share of what zeroing costs, which is mostly the shock to batch norm: chapter 6.)",
    "That a network **needs** what a treatment takes away is supported if the 95 % interval of its cost over images,"
    " and over draws where there are several, lies above 0, but only in part if the mean is little; not supported if"
    " the interval holds 0 and ends below what is little; else nobody can tell.",
    "That **moving the image** changes answers more often is supported if the interval of the difference to plain"
    " convolution lies above 0, not supported if it lies below, and else nobody can tell, as also where one of the two"
    f" networks is wrong about more than {POOR:.0f} % of the unmoved images.",
)
# what a network needs if a treatment of all its ss convolutions costs, and the treatment at the start of a sentence
NEEDS = {
    "zeroed": ("The network needs its shuffled channels", "Zeroing them"),
    "unshuffled": ("The network needs its shuffled channels to be shuffled", "Un-shuffling"),
    "other_pi": ("The network needs the very wiring that it was trained with", "Another π"),
    "mean": ("The network needs more of a shuffled channel than its mean", "The mean in its place"),
}
WHERE = "Not in the paper"


def verdict_rows(frame: pd.DataFrame) -> list[dict[str, str]]:
    """The wiring's verdicts, then those on shifts; without records there are none."""
    return [*wiring_verdicts(frame), *shift_verdicts(frame)]


def wiring_verdicts(frame: pd.DataFrame) -> list[dict[str, str]]:
    """For each network that shuffles, what it needs: a row for each of `NEEDS`.

    If the 95 % interval over images and draws lies above 0, supported, or in part if the mean is below `SLIGHT`; if it
    doesn't, not supported if it ends below that; else nobody can tell. `RULES` say so to readers.

    Args:
        frame: From `probestudy.probe_frame`.
    """
    rows = []
    for at, answers in networks(frame, "wiring", ["treatment"]):
        for treatment in [how for how in NEEDS if (how,) in answers]:
            claim, subject = NEEDS[treatment]
            cost = over_images_and_draws(answers["intact",], answers[treatment,])
            low, high = _ends(cost)
            before, after = (100 * answers[how,].mean() for how in ("intact", treatment))
            evidence = (
                f"{subject} takes the error from {before:.2f} to {after:.2f} %, by {_points(cost.mean, low, high)}"
                f" points{_images(cost, len(answers[treatment,]))}; less than {SLIGHT:g} is little"
            )
            rows.append(verdict_row(claim, _where(at), evidence, _need(cost.mean, low, high, SLIGHT)))
    return rows


def shift_verdicts(frame: pd.DataFrame) -> list[dict[str, str]]:
    """A shuffle doesn't commute with moving the image: do answers change more often than without? A row for each pair.

    Judged over all shifts and directions together, by the 95 % interval over images: supported above 0, not supported
    below; nobody can tell of a network that is wrong about more than `POOR` percent of the unmoved images.

    Args:
        frame: From `probestudy.probe_frame`.
    """
    rows = []
    for at, conv, ss in pairs(frame, "shift", ["measure", "shift"]):
        still = max(100 * of["error", 0].mean() for of in (conv, ss))
        moved = [key for key in ss if key[0] == "changed"]
        more = paired_bootstrap_mean(*(np.concatenate([of[key] for key in moved]) for of in (conv, ss)))
        low, high = _ends(more)
        outcome = "supported" if low > 0 else "not supported" if high < 0 else "cannot tell"
        shares = [f"{100 * ss[k].mean():.1f} against {100 * conv[k].mean():.1f} % ({int(k[1])})" for k in moved]
        evidence = f"Answers changed with shuffling against without, by pixels moved: {', '.join(shares)}; "
        evidence += f"all together {_points(more.mean, low, high)} points more with it{_images(more)}"
        if still > POOR:
            outcome, evidence = "cannot tell", f"{evidence}; but one of the two is wrong about {still:.0f} % unmoved"
        claim = "With shuffling, moving the image changes answers more often"
        rows.append(verdict_row(claim, _where(at), evidence, outcome))
    return rows


def _need(mean: float, low: float, high: float, slight: float) -> str:
    if low > 0:
        return "supported" if mean >= slight else "in part"
    return "not supported" if high < slight else "cannot tell"


def _where(at: dict) -> str:
    control = f", control: {text}" if (text := control_text(at["control"])) else ""
    alpha = readable.alpha_text(at["alpha"])
    return f"{WHERE}; {readable.model_text(at['model'])}, α = {alpha}{control}, seed {at['seed']}; {at['source']}"


def _ends(one: ImageDifference) -> tuple[float, float]:
    """The interval; where no image is answered differently, what 97.5 % confidence in either direction leaves open."""
    if not one.degenerate:
        return one.low, one.high
    most = 100 * (1 - ((1 - one.level) / 2) ** (1 / one.n))  # Clopper and Pearson's, of 0 in n
    return -most, most


def _images(one: ImageDifference, draws: int = 1) -> str:
    """How many images there were, and draws if several, and what could have been seen on them."""
    over = f", over {one.n:,} images" + (f" and {draws} draws" if draws > 1 else "")
    if one.degenerate:
        return f"{over}, none of which is answered differently"
    return f"{over}, where {one.detectable:.2f} points could have been seen (80 % power)"


def _points(mean: float, low: float, high: float) -> str:
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]".replace("-", "−")
