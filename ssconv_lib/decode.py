"""One file to one picture, (pixels, pixels, 3) uint8: what torchvision's reference transforms do, on PIL images.

A JPEG decoder can leave out resolution as it decodes, which saves most of its work. With `decode = "reduced"` it
gives 1/2, 1/4 or 1/8 of the height and width, as long as what is cut out keeps the pixels that are wanted. The
crop is chosen before, from the size in the file's header, so both settings cut out the same part of an image.

The parameters are torchvision's; cutting and scaling is PIL's `resize` with a box, since after a reduction the box
has fractions of a pixel, which torchvision's `resized_crop` would round. At full resolution both give the same bits.

What "reduced" gives and changes: images a second of one process, as a multiple of what "full" gives (medians of
interleaved rounds on a busy machine); then how far values of 0 to 255 are apart, on average, and in brackets at most:
the mean over images, and the largest.

                                        pixels   training           evaluation
    Imagenette, all images 160x160,     64       1.0  0.3 (4, 49)   1.4  2.3 (24, 50)
      200 of them                       96, 128  the same bits      the same bits
    150 of them enlarged to 500x375,    64       1.6  0.9 (12, 37)  2.4  1.2 (13, 21)
      about the size of ImageNet's      96       1.4  0.5 (7, 22)   1.8  0.6 (7, 10)
                                        128      1.3  0.3 (5, 19)   1.8  0.7 (8, 13)
                                        224      the same bits      the same bits

It pays where images are several times as large as what is wanted.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import ceil, floor

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torchvision.transforms.v2 import RandomResizedCrop

from .imagefolder import Images

FORMATS = ("JPEG", "PNG", "WEBP")  # by content: a PNG named .JPEG, of which ImageNet has one, is read too
REDUCTIONS = (8, 4, 2)

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


class Unreadable(ValueError):
    """A file that holds no whole image."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return (
            f"{self.path} can't be read ({self.reason}): bring it again, remove it, or leave what can't be read out "
            'with corrupt = "skip"; python -m ssconv_lib data --folder NAME names all such files'
        )


def training_view(path: str, spec: Images, seed: int) -> np.ndarray:
    """A random crop of an image, scaled to what the network gets, flipped half of the time; a function of the seed."""
    with _opened(path) as image:
        box, flip = draw_view(image.size, spec.min_area, seed)
        view = _cut_out(image, path, box, (spec.pixels, spec.pixels), spec.decode == "reduced")
    return np.asarray(view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else view)


def evaluation_view(path: str, spec: Images) -> np.ndarray:
    """The centre of an image, after its shorter side was scaled to `spec.shorter_side`."""
    with _opened(path) as image:
        size = scaled_size(image.size, spec.shorter_side)
        scaled = _cut_out(image, path, (0, 0, *image.size), size, spec.decode == "reduced")
    left, top = (round((side - spec.pixels) / 2) for side in size)
    return np.asarray(scaled.crop((left, top, left + spec.pixels, top + spec.pixels)))


def check(path: str) -> None:
    """Decodes a file in full, and raises Unreadable if that can't be done."""
    with _opened(path) as image:
        _load(image, path)


def draw_view(size: tuple[int, int], min_area: float, seed: int) -> tuple[Box, bool]:
    """Draws the box of a random resized crop of an image (width, height), and whether it is flipped.

    Torch's global generator is as it was afterwards.
    """
    width, height = size
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed seeds GPUs as well
        drawn = _cropper(min_area).make_params([torch.empty(1, height, width, device="meta")])
        flip = bool(torch.rand(1) < 0.5)
    left, top = drawn["left"], drawn["top"]
    return (left, top, left + drawn["width"], top + drawn["height"]), flip


@lru_cache(maxsize=8)
def _cropper(min_area: float) -> RandomResizedCrop:
    return RandomResizedCrop(1, scale=(min_area, 1.0))  # the size is without meaning for the crop


def scaled_size(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """Width and height after the shorter side was scaled to `shorter`; the other one is rounded down."""
    width, height = size
    return (shorter, shorter * height // width) if width <= height else (shorter * width // height, shorter)


def reduction(available: tuple[float, float], wanted: tuple[int, int]) -> int:
    """The largest reduction of a JPEG, 1 to 8, after which no side of what is cut out is below what is wanted."""
    return next((s for s in REDUCTIONS if all(a >= s * b for a, b in zip(available, wanted, strict=True))), 1)


def _cut_out(image: Image.Image, path: str, box: Box, wanted: tuple[int, int], reduce: bool) -> Image.Image:
    """The part of an image within the box, scaled to the width and height that are wanted, in RGB."""
    left, top, right, bottom = box
    factor = reduction((right - left, bottom - top), wanted) if reduce else 1
    if factor > 1:
        width, height = image.size
        if image.draft(None, (width // factor, height // factor)) is None:  # no JPEG
            factor = 1
    whole = _load(image, path)
    left, top, right, bottom = (side / factor for side in box)
    x, y = floor(left), floor(top)
    part = whole.crop((x, y, ceil(right), ceil(bottom)))  # or the filter would reach beyond the box
    return part.resize(wanted, Image.Resampling.BILINEAR, box=(left - x, top - y, right - x, bottom - y))


def _load(image: Image.Image, path: str) -> Image.Image:
    if image.mode[0] in "IF":  # PIL would clip the values at 255, and give a white picture
        raise Unreadable(path, f"mode {image.mode}, expected 8 bits a channel")
    with _complaints(path):
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")


@contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    """An image of which only the header has been read."""
    with _complaints(path):
        image = Image.open(path, formats=FORMATS)
    with image:
        yield image


@contextmanager
def _complaints(path: str) -> Iterator[None]:
    """Turns PIL's many complaints about a damaged file into one; those of the disk or the network stay what they are.

    Warnings are hidden (on metadata that nobody reads), but that an image is too large to be one is an error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise Unreadable(path, f"no image in {', '.join(FORMATS)} format") from error
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, zlib.error, …
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), path) from error
        raise Unreadable(path, str(error) or type(error).__name__) from error
