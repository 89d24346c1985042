"""The claims of Sec. 5.1 against what was found: each gives a row with the claim, the evidence and the verdict."""

import math

import pandas as pd

from .fieldnets import GATED, PLAIN, SHUFFLED
from .judge import verdict_row

WHOLE = 0.99  # of the image: what "covers the entire image" and "almost 1" are taken to mean
NEAR = 0.9  # of an overlap, and for a map that is called the receptive field
SEEN = 0.5  # of a box's overlap with itself: below that, the images are too few


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
    return _row("The receptive field of ResNet50 grows with depth", "Fig. 3, 6", evidence, bool(grows))


def cover_claims(table: pd.DataFrame) -> list[dict[str, str]]:
    """With shuffling or gates it covers the image (Fig. 3, 7, 8), in every block (Fig. 5 a), where plain it doesn't."""
    blocks = table[table["layer"].str.contains("_")]
    opened = blocks[blocks[PLAIN] < WHOLE]
    rows = []
    for model in (SHUFFLED, GATED):
        low = opened[model].min()
        evidence = f"Exact reach: at least {_percent(low)} of the image in the blocks where the plain network sees less"
        rows.append(
            _row(
                f"The receptive field of {model} covers the entire image",
                "Fig. 3, 7, 8",
                evidence,
                bool(low >= WHOLE),
            )
        )
    low, others = blocks[[SHUFFLED, GATED]].min().min(), table[~table.index.isin(blocks.index)]
    evidence = f"Exact reach: at least {_percent(low)} in every block, by the wiring alone"
    if len(others):
        evidence += (
            f"; {_percent(others[[SHUFFLED, GATED]].min().min())} in front of the blocks ({', '.join(others['layer'])})"
        )
    return [
        *rows,
        _row("Its size is almost 1 across all blocks", "Fig. 5 (a)", evidence, bool(low >= WHOLE)),
    ]


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
        rows.append(_row(f"{model} uses what is outside the classical field", "Sec. 5.1", evidence, None))
    return rows


def location_claims(location: pd.DataFrame) -> list[dict[str, str]]:
    """What ss sees outside depends on where the box is, what SE sees doesn't (Fig. 4), by `fieldtables.location`.

    Two boxes see the same if their fields overlap by at least `NEAR` of what one box's does with itself. If that is
    below `SEEN`, the images are too few to tell.
    """
    rows = []
    table = location.set_index(["model", "compared"])
    for name, dependent in ((SHUFFLED, True), (GATED, False)):
        two, same = (table["overlap"][name, compared] for compared in ("two boxes", "the same box, other images"))
        n = table["n"][name, "two boxes"]
        evidence = (
            f"Untrained: fields outside overlap by {two:.2f} of two boxes (n = {n}), by {same:.2f} of one seen twice"
        )
        holds = None if same < SEEN else bool((two < NEAR * same) == dependent)
        claim = f"What {name} sees outside {'depends' if dependent else 'does not depend'} on the location"
        rows.append(_row(claim, "Fig. 4", evidence, holds))
    return rows


def optimised_claims(summary: pd.DataFrame) -> list[dict[str, str]]:
    """Eq. 4 finds the receptive field: its maps against the exact reach, by `fieldviews.summary`, a row a source."""
    rows = []
    for source, of in summary.dropna(subset="iou").groupby("source", sort=False):
        low = of.loc[of["iou"].idxmin()]
        evidence = (
            f"{source}: intersection over union with the exact reach {low['iou']:.2f} to {of['iou'].max():.2f} over "
            f"{len(of)} maps, lowest in {low['model']} at {low['layer']}"
        )
        rows.append(_row("The optimised map is the receptive field", "Eq. 4", evidence, bool(low["iou"] >= NEAR)))
    return rows


def _percent(share: float) -> str:
    """A share to two digits; from a tenth on to a tenth of a percent, rounded down, since 100 % means all."""
    return f"{math.floor(1000 * share) / 10:g} %" if share >= 0.1 else f"{100 * share:.2g} %"
