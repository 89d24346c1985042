"""Does what a channel sees outside its classical field depend on where one looks from (Fig. 4)? By effective fields."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd
import torch.nn.functional as F
from torch import Tensor, nn

from .effective import effective_field
from .fieldnets import BOX, CHANNEL, OTHER_BOX
from .jackknife import jackknife
from .models import IMAGENET
from .receptive_field import iou, reach

CELL = 8  # pixels; effective fields are compared in squares of this side, where noise is less than their differences
SAME = "the same box, other images"
Views = Mapping[tuple, tuple[Tensor, Tensor]]  # of (network, box): cells outside, image by image; exact reach there


def location(models: Mapping[str, Sequence[nn.Module]], plain: nn.Module, images: Tensor, layer: str) -> pd.DataFrame:
    """Does what is seen outside the classical field depend on where one looks from? For one channel of a layer.

    Effective fields of two boxes, less the classical field of both, are compared by `iou`, each scaled to a sum of 1.
    To tell a difference from the noise of few images, every comparison is between different halves of the images, and
    one is of a box with itself.

    Args:
        models: Of each kind of network some that differ in the permutations, or one.
        plain: The network without shuffling, whose reach is the classical field.
        images: Tensor[N, 3, 224, 224].
        layer: Qualified name.

    Returns:
        Columns: model, compared, n (comparisons), overlap (mean `iou` of effective fields), exact (mean `iou` of the
        exact reach), of_same (overlap over that of the same box), low and high (its 95 % interval over the images, by
        `jackknife`; these networks are all there are).
    """
    inside = _reach(plain, layer, BOX) | _reach(plain, layer, OTHER_BOX)
    rows = []
    for name, networks in models.items():
        seen = {
            (k, box): (_cells(network, layer, images, box, inside), _reach(network, layer, box) & ~inside)
            for k, network in enumerate(networks)
            for box in (OTHER_BOX, BOX)
        }
        rows += [{"model": name, **row} for row in _compared(seen, len(images) // 2)]
    return pd.DataFrame(rows)


def _compared(seen: Views, half: int) -> list[dict[str, object]]:
    """A row for each kind of comparison; image k of the first half is left out together with k of the second."""
    pairs = {SAME: [(key, key) for key in seen]}
    for first, second in combinations(seen, 2):
        if first[0] == second[0]:
            pairs.setdefault("two boxes", []).append((first, second))
        elif first[1] == second[1]:
            pairs.setdefault("the same box, two π", []).append((first, second))

    def overlap(what: str, kept: list[int]) -> float:
        first, second = kept, [half + image for image in kept]
        found = [iou(_mean(seen[a][0][first]), _mean(seen[b][0][second])) for a, b in pairs[what]]
        return sum(found) / len(found)

    rows = []
    for what, keys in pairs.items():
        exact = [iou(seen[a][1], seen[b][1]) for a, b in keys]
        row = {"compared": what, "n": len(keys), "overlap": overlap(what, [*range(half)])}
        row |= {"exact": sum(exact) / len(exact)}
        if what != SAME:
            one = jackknife(lambda kept, what=what: overlap(what, kept) / overlap(SAME, kept), half)
            row |= {"of_same": one.mean, "low": one.low, "high": one.high}
        rows.append(row)
    return rows


def _reach(network: nn.Module, layer: str, box: tuple[int, int]) -> Tensor:
    return reach(network, [layer], IMAGENET, box=box, channel=CHANNEL)[layer]


def _cells(network: nn.Module, layer: str, images: Tensor, box: tuple[int, int], inside: Tensor) -> Tensor:
    """What each image's map has outside a region, in squares of `CELL` pixels: Tensor[N, h, w]."""
    field = effective_field(network, [layer], images, box=box, channel=CHANNEL)[layer]
    return F.avg_pool2d((field.double() * ~inside)[:, None], CELL)[:, 0]


def _mean(cells: Tensor) -> Tensor:
    """The mean over images, scaled to a sum of 1."""
    return cells.mean(0) / cells.mean(0).sum()
