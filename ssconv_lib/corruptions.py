"""Noise, blur and contrast (Hendrycks & Dietterich 2019), at the five severities of their CIFAR-10-C.

They are defined on pixel values in [0, 1], so a normalised batch is taken back to these, changed, clipped to [0, 1] and
normalised again. Unlike CIFAR-10-C's files, values are not rounded to bytes. Which noise an image gets depends on its
number in the split alone: two networks see the same, whatever the batch size; a severity only scales it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import Data
from .imagefolder import FolderData
from .loader import MEAN, STD
from .seeds import stream

# what a severity means: the noise's sd, the blur's sd in pixels of an image of 32, the share of contrast that is left
LEVELS = {
    "noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
}
SEVERITIES = (1, 2, 3, 4, 5)
SIDE = 32  # of CIFAR-10-C's images; larger ones are blurred by as many more pixels
REACH = 4  # standard deviations, after which the blur's kernel ends
UNIT = 4  # standard deviations of generated images to a unit: CIFAR-10's are 0.25 of its range


@dataclass(frozen=True)
class PixelScale:
    """How to get from a batch's values to pixel values: value · std + mean, of each channel or one for all.

    Attributes:
        mean: Of each channel, in pixel values.
        std: Of each channel, in pixel values.
        bounded: Whether pixel values end at 0 and 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bounded: bool = True


def pixel_scale(data: Data | FolderData) -> PixelScale:
    """Return the scale of a data set's batches. Generated images have no range: a unit is `UNIT` sd of training images.

    Raises:
        ValueError: every image is normalised by its own mean and sd, which a batch doesn't tell.
    """
    if isinstance(data, FolderData):
        return PixelScale(MEAN, STD)
    if data.normalise == "gcn":
        raise ValueError(
            "normalise is 'gcn': pixel values can't be had back from a batch, so it can't be corrupted; expected a"
            " network trained with normalise='dataset'"
        )
    if data.normalise == "none":
        return PixelScale((0.0,), (1 / (UNIT * data.train.images.double().std().item()),), bounded=False)
    return PixelScale(data.mean, data.std)


def corrupt(images: Tensor, kind: str, severity: int, scale: PixelScale, first: int = 0) -> Tensor:
    """Corrupt a normalised batch.

    Args:
        images: Tensor[N, C, H, W].
        kind: A key of `LEVELS`.
        severity: 1 to 5.
        scale: Of the data set, from `pixel_scale`.
        first: Number of the batch's first image in its split, from 0.

    Returns:
        A new Tensor[N, C, H, W], normalised as the images are.

    Raises:
        ValueError: an unknown kind or severity.
    """
    if kind not in LEVELS:
        raise ValueError(f"corruption {kind!r}: expected one of {', '.join(map(repr, LEVELS))}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity={severity!r}: expected one of {', '.join(map(str, SEVERITIES))}")
    level = LEVELS[kind][severity - 1]
    mean, std = (torch.tensor(of, device=images.device)[:, None, None] for of in (scale.mean, scale.std))
    pixels = images * std + mean
    if kind == "noise":
        drawn = [torch.randn(images.shape[1:], generator=stream(first + i, "noise")) for i in range(len(images))]
        pixels = pixels + level * torch.stack(drawn).to(images.device)
    elif kind == "blur":
        pixels = _blurred(pixels, level * max(images.shape[-2:]) / SIDE)
    else:
        middle = pixels.mean((-2, -1), keepdim=True)
        pixels = (pixels - middle) * level + middle
    if scale.bounded:
        pixels = pixels.clamp(0, 1)
    return (pixels - mean) / std


def _blurred(pixels: Tensor, sigma: float) -> Tensor:
    """Convolve with a Gaussian; beyond an edge its pixels are repeated."""
    radius = max(1, math.floor(REACH * sigma + 0.5))
    places = torch.arange(-radius, radius + 1, device=pixels.device, dtype=pixels.dtype)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(pixels, (radius,) * 4, mode="replicate")
    channels = pixels.shape[1]
    down = F.conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(down, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
