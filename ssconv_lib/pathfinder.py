"""Pathfinder (Linsley et al. 2018), generated: two dashed contours and two dots; are the dots on the same contour?

The field's test of horizontal connections: contours are followed by passing on, from dash to dash, what is near.

No view of one dot tells the class. One dot is at the start of either contour, the other at the end of either, and the
class is whether these are the same contour: an exclusive or. Each scene, contours and distractors, is shown four
times, once with each pair, so each of the four ends has its dot as often in one class as in the other. The argument
of `longrange` holds here too: where no feature sees both dots, the logit is a sum of terms of one dot each, and its
smallest cross-entropy is that of chance. Nor does the distance between the dots tell: a scene is taken only if the
distances of its two pairs in one class are, but for `TOLERANCE`, those of the other class.

What tells is not the whole contour: by the angles of the first three dashes at both dots, against the line between
them, 98 % of the images can be told, by those of the first one 73 %. But for that, both dots must be seen.

The same images on every machine: headings are taken from a table of rounded numbers, and all else is done by
operations that IEEE 754 defines to the last bit.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .fields import check_at_least, check_types
from .seeds import mixed_seed

HEADINGS = 256  # of a full turn
ANGLES = [2 * math.pi * k / HEADINGS for k in range(HEADINGS)]
DIRECTIONS = np.array([[round(4096 * math.sin(a)) / 4096, round(4096 * math.cos(a)) / 4096] for a in ANGLES])
TURN = 40  # headings, 56 degrees: the most that a contour turns from dash to dash
# In pixels. A dash is a line of 2.5 with round ends of radius .6: 3.7 long, with 1.3 to the next one of its contour.
DASH, GAP, THICK, DOT = 2.5, 2.5, 0.6, 1.75
CLEAR, MARGIN = 3.5, 2.0  # from line to line, but for a contour's neighbours; from the outermost pixels to any line
TOLERANCE, NEAR = 0.75, 5  # pixels
BLOCK, TRIES = 10_000, 20  # pairs of contours drawn at once; places tried for the second one, or for a distractor


@dataclass(frozen=True)
class Pathfinder:
    """The generated task.

    Attributes:
        size: Height and width of the image, in pixels.
        dashes: Of each of the two contours.
        shortest: Training images have contours of so many dashes up to `dashes`, as many of each: a network that is
            shown no short ones finds nothing to begin with. All test images have `dashes`.
        distractors: Dashes that belong to no contour.
        distance: The least Chebyshev distance between the dots' centres, in pixels. Dots reach 2.25 pixels around
            their centres: from 20 on, no window of 16 touches both. Of shorter contours it is `NEAR`.
        train: Number of training images.
        test: Number of test images.
        seed: Of the images; the two splits have streams of their own.
    """

    name: ClassVar[str] = "pathfinder"
    size: int = 32
    dashes: int = 6
    shortest: int = 2
    distractors: int = 2
    distance: int = 20
    train: int = 20_000
    test: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, size=1, dashes=2, shortest=2, distractors=0, distance=1, train=1, test=1, seed=0)
        if self.shortest > self.dashes:
            raise ValueError(f"Pathfinder.shortest is {self.shortest}: it must be at most dashes = {self.dashes}")
        longest = self.dashes * (DASH + GAP) - GAP
        if self.distance > min(longest, self.size - 1 - 2 * MARGIN):
            raise ValueError(
                f"Pathfinder.distance is {self.distance}: the ends of {self.dashes} dashes on an image of {self.size} "
                f"pixels are at most {min(longest, self.size - 1 - 2 * MARGIN):g} apart; take more dashes or pixels"
            )


def generate(spec: Pathfinder, which: str) -> tuple[np.ndarray, np.ndarray]:
    """Draws the images of one split, "train" or "test".

    Returns:
        Images (N, H, W, 3), float32: white dashes and red dots on black, from 0 to 1. Labels (N,), int64: 1 where
        the dots are on the same contour. Where 4 divides N the classes are balanced exactly, scene by scene.

    Raises:
        ValueError: hardly a scene has room for that many dashes.
    """
    count = getattr(spec, which)
    rng = np.random.default_rng(mixed_seed(spec.seed, spec.name, which))
    scenes = -(-count // 4)
    shown = rng.permutation(4 * scenes)[:count]  # scene and pair of ends of each image
    scene, start, end = shown // 4, shown // 2 % 2, shown % 2
    contours, distractors = draw_lengths(spec, scenes, spec.shortest if which == "train" else spec.dashes, rng)
    dots = np.stack([contours[scene, start, 0, 0], contours[scene, end, -1, 1]], axis=1)  # (N, 2, row and column)
    dashes = np.concatenate([contours.reshape(len(contours), -1, 2, 2), distractors], axis=1)
    return render(spec.size, dashes[scene], dots), (start == end).astype(np.int64)


def draw_lengths(
    spec: Pathfinder, count: int, shortest: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws scenes with contours of `shortest` dashes and more, as many of each; their last dash fills the places left.

    Returns:
        As `draw_scenes`, in order of length, the longest first.
    """
    parts = []
    kinds = spec.dashes + 1 - shortest
    for k in range(min(kinds, count)):
        of = replace(spec, dashes=spec.dashes - k, shortest=2, distance=NEAR) if k else spec
        contours, distractors = draw_scenes(of, len(range(k, count, kinds)), rng)
        parts.append((np.concatenate([contours, *[contours[:, :, -1:]] * k], axis=2), distractors))
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def draw_scenes(spec: Pathfinder, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws scenes, each of which could show either class.

    Returns:
        Dashes of the contours (N, 2 contours, dashes, 2 ends, row and column), and the distractors (N, distractors,
        2 ends, row and column); float64, in pixels.

    Raises:
        ValueError: hardly a scene has room for that many dashes.
    """
    found, have = [], 0
    while have < count:
        contours = draw_contours(spec, BLOCK, rng)
        distractors, kept = draw_distractors(spec, contours.reshape(len(contours), 2 * spec.dashes, 2, 2), rng)
        found.append((contours[kept], distractors[kept]))
        have += kept.sum()
        if len(found) == 8 and have < 8:
            raise ValueError(f"{spec}: hardly a scene has room for all that; take fewer dashes, or a larger size")
    return tuple(np.concatenate(parts)[:count] for parts in zip(*found, strict=True))


def draw_contours(spec: Pathfinder, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws pairs of contours, and gives those of the `count` that make a scene.

    Returns:
        Dashes (N, contour, dashes, 2 ends, row and column).
    """
    turns = rng.integers(-TURN, TURN + 1, size=(count, 2, spec.dashes))
    turns[:, :, 0] = rng.integers(HEADINGS, size=(count, 2))
    contours = follow(turns.cumsum(2).reshape(2 * count, -1)).reshape(count, 2, -1, 2, 2)
    contours -= contours[:, :, :1, :1]  # both start at the origin
    span = contours[:, :, -1, 1]
    long = (np.abs(span).max(2) >= spec.distance).all(1)
    contours, span = contours[long], span[long]
    # From the one start to the other, at a right angle to the way from end to end (so on a circle, Thales): then the
    # squared distances of the four pairs of ends have the same sum in both classes.
    across = (span[:, 0] - span[:, 1])[:, None] / 2
    aside = across + length(across)[..., None] * DIRECTIONS[rng.integers(HEADINGS, size=(len(span), TRIES))]
    pair, place = np.nonzero(match(span, aside, spec.distance))
    contours = contours[pair]
    contours[:, 1] += aside[pair, place][:, None, None]
    low, high = contours.min((1, 2, 3)), contours.max((1, 2, 3))
    room = spec.size - 1 - 2 * MARGIN - (high - low)  # (N, 2)
    contours += (MARGIN - low + room * rng.random(room.shape))[:, None, None, None]
    good = np.flatnonzero((room >= 0).all(1))
    good = good[is_clear(contours[good])]
    _, first = np.unique(pair[good], return_index=True)  # one place of each pair, so that all scenes are different
    return contours[good[first]]


def match(span: np.ndarray, aside: np.ndarray, distance: float) -> np.ndarray:
    """Tells for which places of the second contour's start the dots would be equally far apart in both classes.

    Args:
        span: (N, 2 contours, row and column), from a contour's start to its end.
        aside: (N, places, row and column), from the first contour's start to the second's.
        distance: The least Chebyshev distance of a start and an end of different contours.

    Returns:
        bool (N, places).
    """
    ends = aside + (span[:, 1] - span[:, 0])[:, None]  # from the one end to the other
    fits = (length(aside) >= CLEAR) & (length(ends) >= CLEAR)
    n, place = np.nonzero(fits)
    same, aside = span[n], aside[n, place]
    crossed = np.stack([same[:, 1] + aside, same[:, 0] - aside], axis=1)
    unlike = np.abs(np.sort(length(same), axis=1) - np.sort(length(crossed), axis=1)).max(1)
    fits[n, place] = (np.abs(crossed).max(2).min(1) >= distance) & (unlike <= TOLERANCE)
    return fits


def follow(headings: np.ndarray) -> np.ndarray:
    """The dashes (N, dashes, 2 ends, row and column) of contours with these headings (N, dashes), from the origin."""
    heading = DIRECTIONS[headings % HEADINGS]  # (N, dashes, 2)
    behind = (heading * (DASH + GAP)).cumsum(1)
    before = behind - heading * (DASH + GAP)
    return np.stack([before + heading * (GAP / 2), behind - heading * (GAP / 2)], axis=2)


def draw_distractors(spec: Pathfinder, dashes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws dashes one by one, each clear of those (N, S, 2, 2) that are there.

    Returns:
        The new dashes (N, distractors, 2, 2), and which scenes had room for them, bool (N,).
    """
    drawn = dashes[:, :0]
    kept, scene = np.ones(len(dashes), dtype=bool), np.arange(len(dashes))
    for _ in range(spec.distractors):
        half = DIRECTIONS[rng.integers(HEADINGS, size=(len(dashes), TRIES))] * (DASH / 2)
        edge = MARGIN + DASH / 2
        centre = edge + (spec.size - 1 - 2 * edge) * rng.random(half.shape)
        tried = np.stack([centre - half, centre + half], axis=2)  # (N, TRIES, 2, 2)
        free = (squared_gaps(tried, np.concatenate([dashes, drawn], axis=1)) >= CLEAR**2).all(2)
        kept &= free.any(1)
        drawn = np.concatenate([drawn, tried[scene, free.argmax(1)][:, None]], axis=1)
    return drawn, kept


def is_clear(contours: np.ndarray) -> np.ndarray:
    """Tells which pairs of contours (N, 2, dashes, 2, 2) keep clear of each other and of themselves: bool (N,)."""
    first, other = contours[:, 0], contours[:, 1]
    count = first.shape[1]
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) >= 2  # neighbours have a gap between them
    clear = squared_gaps(first, other).min((1, 2)) >= CLEAR**2
    for contour in (first, other):
        clear &= (squared_gaps(contour, contour)[:, apart] >= CLEAR**2).all(1)
    return clear


def squared_gaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Squared distances between dashes (N, a, 2, 2) and (N, b, 2, 2), by their ends and middles: (N, a, b)."""
    one, other = (np.stack([d[:, :, 0], (d[:, :, 0] + d[:, :, 1]) / 2, d[:, :, 1]], axis=2) for d in (one, other))
    step = one[:, :, None, :, None] - other[:, None, :, None]  # (N, a, b, 3, 3, 2)
    return (step[..., 0] * step[..., 0] + step[..., 1] * step[..., 1]).min((3, 4))


def length(step: np.ndarray) -> np.ndarray:
    """Length of vectors (..., 2): written out, so that no library adds in another order."""
    return np.sqrt(step[..., 0] * step[..., 0] + step[..., 1] * step[..., 1])


def render(size: int, dashes: np.ndarray, dots: np.ndarray) -> np.ndarray:
    """Draws dashes (N, S, 2, 2) in white and dots (N, 2, 2) over them in red: (N, size, size, 3), float32.

    A pixel's value is the share that is covered, but for the corners: its edge is one pixel wide.
    """
    white = _draw(size, dashes, THICK)
    red = _draw(size, np.stack([dots, dots], axis=2), DOT)
    return np.stack([np.maximum(white, red), white * (1 - red), white * (1 - red)], axis=-1)


def _draw(size: int, segments: np.ndarray, radius: float) -> np.ndarray:
    """Draws what is within `radius` of segments (N, S, 2 ends, 2): (N, size, size), float32, from 0 to 1."""
    reach = math.ceil((DASH + 1) / 2 + radius)  # of a window that holds a segment
    count = len(segments)
    canvas = np.zeros((count, size + 2 * reach, size + 2 * reach), dtype=np.float32)
    within, image = np.arange(2 * reach + 1), np.arange(count)[:, None, None]
    for start, end in segments.transpose(1, 2, 0, 3):  # (N, 2) each
        corner = np.rint((start + end) / 2).astype(int)  # in the canvas, whose border is `reach` wide
        rows, columns = corner[:, 0, None] + within, corner[:, 1, None] + within  # (N, window)
        y, x = rows[:, :, None] - reach, columns[:, None] - reach
        (y0, x0), (dy, dx) = start.T[..., None, None], (end - start).T[..., None, None]
        squared = np.maximum(dy * dy + dx * dx, 1e-9)  # a dot is a segment without a length
        along = np.clip(((y - y0) * dy + (x - x0) * dx) / squared, 0, 1)
        off_y, off_x = y - y0 - along * dy, x - x0 - along * dx
        value = np.clip(radius + 0.5 - np.sqrt(off_y * off_y + off_x * off_x), 0, 1)
        place = image, rows[:, :, None], columns[:, None]
        canvas[place] = np.maximum(canvas[place], value)
    return canvas[:, reach:-reach, reach:-reach]
