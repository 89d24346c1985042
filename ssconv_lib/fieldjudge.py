"""The claims of Sec. 5.1 against what was found: each gives a row with the claim, the evidence and the verdict.

`where` names the paper's figure, then what was looked at: the paper's networks are trained on ImageNet, most of these
are not trained at all.
"""

import math

import pandas as pd

from .fieldlocation import SAME
from .fieldnets import GATED, PLAIN, SHUFFLED
from .judge import verdict_row
from .readable import at_least, interval

WHOLE = 0.99  # of the image: what "covers the entire image" and "almost 1" are taken to mean
NEAR = 0.9  # of an overlap, and for a map that is called the receptive field
COVERS = {SHUFFLED: "Fig. 3, 7; untrained", GATED: "Fig. 3, 8; untrained"}  # where the paper shows it
SEEN = 0.5  # of a box's overlap with itself: below that, the images are too few
RULES = [
    f"**Reach.** “Entire” and “almost 1” mean {100 * WHOLE:g} % of the image.",
    f"**Location.** Two boxes see the same if they overlap by at least {NEAR:g} of what one does with itself; the 95 % "
    "interval over images must lie on one side of that. If one box overlaps with itself by less than "
    f"{SEEN:g}, nobody can tell.",
    f"**Eq. 4.** A map is the receptive field if they overlap by {NEAR:g} or more.",
    "**Use** is left open: an untrained network can't show it.",
]


def _row(claim: str, where: str, evidence: str, holds: bool | None) -> dict[str, str]:
    outcomes = {True: "reproduced", False: "not reproduced", None: "cannot tell"}
    return verdict_row(claim, where, evidence, outcomes[holds])


def growth_claim(table: pd.DataFrame) -> dict[str, str]:
    """The plain network's field grows with depth (Fig. 6), by `fieldtables.reach_table`."""
    share, first = table[PLAIN], table.iloc[0]
    whole = table.loc[share == 1, "layer"]
    grows = share.is_monotonic_increasing and table["size"].is_monotonic_increasing
    reached = f"from {whole.iloc[0]} on the box depends on the whole image" if len(whole) else "never the whole image"
    evidence = f"Exact reach: a unit of {first['layer']} sees {first['size']} pixels a side, and {reached}"
    return _row("The receptive field of ResNet50 grows with depth", "Fig. 3, 6; untrained", evidence, bool(grows))


def cover_claims(table: pd.DataFrame) -> list[dict[str, str]]:
    """With shuffling or gates it covers the image (Fig. 3, 7, 8), in every block (Fig. 5 a), where plain it doesn't."""
    blocks = table[table["layer"].str.contains("_")]
    opened = blocks[blocks[PLAIN] < WHOLE]
    rows = []
    for model, where in COVERS.items():
        low = opened[model].min()
        evidence = f"Exact reach: {at_least(low)} of the image in the blocks where the plain network sees less"
        claim = f"The receptive field of {model} covers the entire image"
        rows.append(_row(claim, where, evidence, bool(low >= WHOLE)))
    low, others = blocks[[SHUFFLED, GATED]].min().min(), table[~table.index.isin(blocks.index)]
    evidence = f"Exact reach: {at_least(low)} in every block, by the wiring alone"
    if len(others):
        before = _percent(others[[SHUFFLED, GATED]].min().min())
        evidence += f"; {before} in front of the blocks ({', '.join(others['layer'])})"
    claim = f"The receptive field's size is almost 1, the whole image, across all blocks of {SHUFFLED} and {GATED}"
    return [*rows, _row(claim, "Fig. 5 (a); untrained", evidence, bool(low >= WHOLE))]


def use_claims(mass: pd.DataFrame) -> list[dict[str, str]]:
    """Both use what is outside the classical field: untrained networks can't tell, whatever their gradients are."""
    rows = []
    for model in (SHUFFLED, GATED):
        of = mass[mass["model"] == model]
        shares = [
            f"{_percent(one['share'].min())} to {_percent(one['share'].max())} ({kind})"
            for kind, one in of[of["measure"] != "paths"].groupby("measure", sort=False)
        ]
        evidence = f"Untrained, the share of the gradient from outside is {' or '.join(shares)}; trained, see the text"
        claim = f"{model} uses what is outside the classical field"
        rows.append(_row(claim, "Sec. 5.1; untrained, on noise", evidence, None))
    return rows


def location_claims(location: pd.DataFrame) -> list[dict[str, str]]:
    """What ss sees outside depends on where the box is, what SE sees doesn't (Fig. 4), by `fieldtables.location`.

    Two boxes see the same if their fields overlap by at least `NEAR` of what one box's does with itself, and the
    interval of that ratio over the images must lie on one side of it. If a box's overlap with itself is below `SEEN`,
    the images are too few to tell.
    """
    rows = []
    table = location.set_index(["model", "compared"])
    for name, dependent in ((SHUFFLED, True), (GATED, False)):
        two, same = table.loc[(name, "two boxes")], table.loc[(name, SAME), "overlap"]
        evidence = (
            f"Fields outside overlap by {two['overlap']:.2f} of two boxes, by {same:.2f} of one seen twice; the ratio "
            f"is {two['of_same']:.2f} (95 % interval over images {interval(two['low'], two['high'])})"
        )
        apart, alike = two["high"] < NEAR, two["low"] >= NEAR  # neither, without an interval
        holds = (apart if dependent else alike) if same >= SEEN and (apart or alike) else None
        claim = f"What {name} sees outside {'depends' if dependent else 'does not depend'} on the location"
        where = f"Fig. 4; untrained, on noise, n = {two['n']:.0f} network{'s' if two['n'] > 1 else ''}"
        rows.append(_row(claim, where, evidence, None if holds is None else bool(holds)))
    return rows


def optimised_claims(summary: pd.DataFrame) -> list[dict[str, str]]:
    """Eq. 4 finds the receptive field: its maps against the exact reach, by `fieldviews.summary`, a row a source."""
    rows = []
    for source, of in summary.dropna(subset="iou").groupby("source", sort=False):
        low = of.loc[of["iou"].idxmin()]
        evidence = (
            f"Intersection over union with the exact reach {low['iou']:.2f} to {of['iou'].max():.2f} over {len(of)} "
            f"maps, with and without shuffling, lowest in {low['model']} at {low['layer']}"
        )
        networks = ", ".join(of["model"].str.removesuffix(" + ss").unique())
        where = f"Eq. 4; {networks}, {source}"
        rows.append(_row("The optimised map is the receptive field", where, evidence, bool(low["iou"] >= NEAR)))
    return rows


def _percent(share: float) -> str:
    """A share to two digits; from a tenth on to a tenth of a percent, rounded down, since 100 % means all."""
    return f"{math.floor(1000 * share) / 10:g} %" if share >= 0.1 else f"{100 * share:.2g} %"
