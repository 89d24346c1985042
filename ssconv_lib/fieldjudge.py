"""The claims of Sec. 5.1 against what was found: each gives a row with the claim, the evidence and the verdict."""

import pandas as pd

from .judge import COLUMNS

WHOLE = 0.99  # of the image: what "covers the entire image" and "almost 1" are taken to mean
NEAR = 0.9
PLAIN, SHUFFLED, GATED = "ResNet50", "ResNet50 + ss", "SEResNet50"


def _row(claim: str, where: str, evidence: str, holds: bool | None) -> dict[str, str]:
    outcome = {True: "reproduced", False: "not reproduced", None: "cannot tell"}[holds]
    return dict(zip(COLUMNS, (claim, where, evidence, outcome), strict=True))


def growth_claim(table: pd.DataFrame) -> dict[str, str]:
    """The plain network's field grows with depth (Fig. 6), by `fieldtables.reach_table`."""
    share, first = table[PLAIN], table.iloc[0]
    whole = table.loc[share == 1, "layer"]
    grows = share.is_monotonic_increasing and table["size"].is_monotonic_increasing
    reached = f"from {whole.iloc[0]} on the box depends on the whole image" if len(whole) else "never the whole image"
    evidence = f"Exact reach: a unit of {first['layer']} sees {first['size']} pixels a side, and {reached}"
    return _row("The receptive field of ResNet50 grows with depth", "Fig. 3, 6", evidence, bool(grows))


def cover_claims(table: pd.DataFrame) -> list[dict[str, str]]:
    """With shuffling or gates it covers the image (Fig. 3, 7, 8), and does at every layer (Fig. 5 a)."""
    rows = []
    for model in (SHUFFLED, GATED):
        open_ = table[model] >= WHOLE
        layers = table.loc[open_, "layer"]
        covers = bool(len(layers)) and bool(open_.iloc[open_.argmax() :].all())
        of = f"at least {WHOLE:.0%} of the image from {layers.iloc[0]} on" if covers else "not the image"
        evidence = f"Exact reach: {of}, by the wiring alone, before any training"
        rows.append(_row(f"The receptive field of {model} covers the entire image", "Fig. 3, 7, 8", evidence, covers))
    shut = table[(table[SHUFFLED] < WHOLE) | (table[GATED] < WHOLE)]
    names = " and ".join(shut["layer"])
    low = shut[[SHUFFLED, GATED]].min().min() if len(shut) else 1.0
    evidence = (
        f"Not at {names}, with {low:.1%} of the image: they lie in front of the first layer that shuffles or has a gate"
        if len(shut)
        else "Exact reach: at every layer"
    )
    return [*rows, _row("Its size is almost 1 across all layers", "Fig. 5 (a)", evidence, not len(shut))]


def use_claims(mass: pd.DataFrame) -> list[dict[str, str]]:
    """Both use what is outside the classical field: the effective field's share there, by `mass_outside`."""
    rows = []
    for model in (SHUFFLED, GATED):
        of = mass[mass["model"] == model]
        low, high = of.loc[of["share"].idxmin()], of.loc[of["share"].idxmax()]
        evidence = (
            f"Effective field, untrained: {_percent(low['share'])} of its mass is outside at {low['layer']}, "
            f"{_percent(high['share'])} at {high['layer']} ({low['n']} images)"
        )
        rows.append(
            _row(f"{model} uses what is outside the classical field", "Sec. 5.1", evidence, bool((of["low"] > 0).all()))
        )
    return rows


def location_claims(location: pd.DataFrame) -> list[dict[str, str]]:
    """What ss sees outside depends on where the box is, what SE sees doesn't (Fig. 4), by `fieldtables.location`.

    Two boxes see the same if their fields overlap by at least `NEAR` of what one box's does with itself.
    """
    rows = []
    table = location.set_index(["model", "compared"])["overlap"]
    for model, name, dependent in (("ss", SHUFFLED, True), ("SE", GATED, False)):
        two, same = table[model, "two boxes"], table[model, "the same box, other images"]
        evidence = f"Fields outside overlap by {two:.2f} between two boxes, by {same:.2f} for one box seen twice"
        differs = two < NEAR * same
        claim = f"What {name} sees outside {'depends' if dependent else 'does not depend'} on the location"
        rows.append(_row(claim, "Fig. 4", evidence, bool(differs == dependent)))
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
    return f"{100 * share:.2g} %"
