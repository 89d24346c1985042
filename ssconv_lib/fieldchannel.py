"""Channelwise receptive fields (Fig. 4): maps of one channel from two boxes, sorted for its figure, and in numbers.

Frames are those of `fieldstudy.field_frame`; maps are σ(R) by the records' hashes, Tensor[C, H, W].
"""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
from torch import Tensor

from .cut import Box
from .fieldrun import FieldRun
from .fieldstudy import field_maps
from .fieldviews import has_gates, network_text
from .plan import Profile
from .receptive_field import iou, reach, share
from .training import build_model

CHANNELWISE = 0.1  # Fig. 4's threshold
LETTERS = ("ab", "cd", "")  # Fig. 4's panels, of two boxes each: shuffling, gates, and what isn't in it


def threshold(channel: float | None) -> float:
    """From which value on a pixel counts as seen: .5 as in Fig. 5 (a), and .1 of a single channel, as in Fig. 4."""
    return 0.5 if pd.isna(channel) else CHANNELWISE


def by_box(
    frame: pd.DataFrame, maps: Mapping[str, Tensor]
) -> tuple[list[list[Tensor]], list[Box], list[str], list[str]] | None:
    """Sort channelwise maps as Fig. 4: networks that shuffle, then those with gates, then others, which it hasn't.

    Returns:
        The maps, of each network those of the boxes; boxes; names; and of each network the letters of its panels in
        the paper, "" if it has none. None if no network has maps of all boxes.
    """
    boxes = sorted({(row.box_low, row.box_high) for row in frame.itertuples()})
    found: dict[tuple[int, str], dict[Box, Tensor]] = {}
    for row in frame.itertuples():
        kind = 0 if row.alpha else 1 if has_gates(row.model) else 2
        of = found.setdefault((kind, network_text(row.model, row.alpha)), {})
        of[row.box_low, row.box_high] = maps[row.hash].mean(0)
    whole = sorted((key for key, of in found.items() if len(of) == len(boxes)), key=lambda key: key[0])
    letters = [LETTERS[kind] if len(boxes) == len(LETTERS[kind]) else "" for kind, _ in whole]
    drawn = [[found[key][box] for box in boxes] for key in whole]
    return (drawn, boxes, [name for _, name in whole], letters) if whole else None


def channelwise_table(profile: Profile, study: str) -> pd.DataFrame:
    """Fig. 4 in numbers: how much of the exact reach each map has found, and what two boxes' maps have in common.

    Returns:
        Columns: model, box, exact (the reach's share of the image), found (the map's, at `CHANNELWISE`), iou (of the
        two); for a network that shuffles also `outside`, the iou of the first box's map and this one outside both
        classical fields, and `by_chance`, what independent maps of these sizes would have.
    """
    maps, first, rows = field_maps(profile, study) if study in profile.field_studies else {}, {}, []
    for run in (run for run in profile.field_runs(study) if run.hash in maps) if maps else ():
        name = network_text(run.network.model, run.network.alpha)
        found, seen, plain = maps[run.hash].mean(0) >= CHANNELWISE, _reach(run), _reach(run, alpha=0.0)
        sizes = {"exact": share(seen), "found": share(found), "iou": iou(found, seen)}
        row = {"model": name, "box": "{}–{}".format(*run.box), **sizes}
        if name in first and run.network.alpha:
            outside = ~(plain | first[name][1])
            both = [one[outside] for one in (first[name][0], found)]
            p, q = (one.float().mean().item() for one in both)
            row |= {"outside": iou(*both), "by_chance": p * q / (p + q - p * q) if p + q else None}
        first.setdefault(name, (found, plain))
        rows.append(row)
    return pd.DataFrame(rows, columns=["model", "box", "exact", "found", "iou", "outside", "by_chance"])


def _reach(run: FieldRun, **changes: float) -> Tensor:
    model = build_model(replace(run.network, **changes), 10, run.input_size)
    return reach(model, [run.layer], run.input_size, box=run.box, channel=run.channel)[run.layer]
