"""The generated long-range task: two coloured patches far apart on noise; do they have the same colour?

The cheapest experiment that decides whether information from outside the receptive field is used (the
question of the paper's Sec. 5.1). One patch alone tells nothing about the class. Nor does pooling help where
no feature sees both patches: the logit is then a sum h(c1) + h(c2) of terms of one patch each, and since
cross-entropy is convex and the colours are symmetric, it is smallest for a constant h. (An error of 25 % is in reach
all the same: with two colours such a sum can get one of the two same-coloured pairs right beside the mixed ones. So
only a much smaller one counts as solved.)
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .fields import check_at_least, check_types
from .seeds import mixed_seed

# red, green, blue, yellow, magenta, cyan: the corners of the RGB cube but for black and white
COLOURS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=np.float32)
COLOURS *= 2  # against noise of .5; at 1 a small network learns 4,000 images by heart and never finds the patches


@dataclass(frozen=True)
class LongRange:
    """The generated task.

    Attributes:
        size: Height and width of the canvas, in pixels.
        distance: The least Chebyshev distance between the patches' corners (or centres, the same), in pixels.
        patch: Height and width of a patch, in pixels.
        colours: How many colours the patches are drawn from, 2 to 6.
        noise: Standard deviation of the canvas; a colour's amplitude is 2.
        train: Number of training images.
        test: Number of test images.
        seed: Of the images; the two splits have streams of their own.
        exact: Whether `distance` is the distance, and not the least one.
    """

    name: ClassVar[str] = "longrange"
    size: int = 24
    distance: int = 12
    patch: int = 3
    colours: int = 2
    noise: float = 0.5
    train: int = 4000
    test: int = 2000
    seed: int = 0
    exact: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, size=1, patch=1, colours=2, noise=0, train=1, test=1, seed=0)
        if self.colours > len(COLOURS):
            raise ValueError(f"LongRange.colours is {self.colours}: there are {len(COLOURS)} to draw from")
        if not self.patch <= self.distance <= self.size - self.patch:
            raise ValueError(
                f"LongRange.distance is {self.distance}: patches of {self.patch} on a canvas of {self.size} must "
                f"be at least {self.patch} apart, so as not to overlap, and at most {self.size - self.patch}"
            )


def generate(spec: LongRange, which: str) -> tuple[np.ndarray, np.ndarray]:
    """Draws the images of one split, "train" or "test".

    Returns:
        Images (N, H, W, 3), float32, of mean 0 but for the patches, and labels (N,), int64: 1 where the
        patches have the same colour. The classes are balanced (to one image, where N is odd).
    """
    count = getattr(spec, which)
    rng = np.random.default_rng(mixed_seed(spec.seed, spec.name, which))
    labels = rng.permutation(np.arange(count) % 2)
    first = rng.integers(spec.colours, size=count)
    other = (first + rng.integers(1, spec.colours, size=count)) % spec.colours
    corners = draw_corners(spec, count, rng)  # (N, 2, 2)
    images = rng.standard_normal((count, spec.size, spec.size, 3), dtype=np.float32)
    images *= np.float32(spec.noise)
    within = np.arange(spec.patch)
    image = np.arange(count)[:, None, None]
    for patch, colour in enumerate((first, np.where(labels == 1, first, other))):
        rows, columns = (corners[:, patch, axis, None] + within for axis in (0, 1))  # (N, patch)
        images[image, rows[:, :, None], columns[:, None, :]] = COLOURS[colour][:, None, None, :]
    return images, labels


def draw_corners(spec: LongRange, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws pairs of patches, uniformly over all ordered pairs that are far enough apart.

    Returns:
        The upper left corners: (N, 2 patches, row and column), int64.
    """
    side = spec.size - spec.patch + 1  # a corner's rows and columns
    steps = np.arange(1 - side, side)
    step = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)  # first to second patch
    apart = np.abs(step).max(axis=1)
    step = step[apart == spec.distance if spec.exact else apart >= spec.distance]
    room = side - np.abs(step)  # rows and columns that the pair can stand at
    pairs = room.prod(axis=1)
    last = pairs.cumsum()
    drawn = rng.integers(last[-1], size=count)  # the number of a pair, when they are sorted by step
    k = np.searchsorted(last, drawn, side="right")
    row, column = np.divmod(drawn - (last[k] - pairs[k]), room[k, 1])
    first = np.stack([row, column], axis=1) + np.maximum(-step[k], 0)
    return np.stack([first, first + step[k]], axis=1)
