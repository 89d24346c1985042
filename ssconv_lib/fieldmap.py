"""How a record keeps a map σ(R): a byte a value, compressed; and what a record of a map is held to."""

import base64
import binascii
import math
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .fieldrun import FieldRun

MOST = 2**26  # values of a map: of an image of 4,730 pixels a side
HALF, LEVELS = 128, 256  # a byte holds floor(256 · σ), so σ >= .5 is exactly a byte >= 128


def field_sizes(sigma: Tensor) -> dict[str, float]:
    """Return the size of a receptive field, by three thresholds, as shares of all values.

    Args:
        sigma: σ(R), Tensor[C, H, W] or any shape.

    Returns:
        `at_least_half`, the paper's (Fig. 5a), which counts a value that never left a start of 0; `above_half`, which
        doesn't; `at_least_tenth`, the threshold of Fig. 4.
    """
    counts = torch.stack([(sigma >= 0.5).sum(), (sigma > 0.5).sum(), (sigma >= 0.1).sum()]).tolist()
    names = ("at_least_half", "above_half", "at_least_tenth")
    return {name: count / sigma.numel() for name, count in zip(names, counts, strict=True)}


def encode_map(sigma: Tensor) -> dict[str, Any]:
    """Return σ(R), Tensor[C, H, W] from 0 to 1, as a record has it: `shape` and `values`."""
    levels = (LEVELS * sigma.detach().cpu()).floor().clamp(0, LEVELS - 1).to(torch.uint8)
    packed = zlib.compress(levels.contiguous().numpy().tobytes(), 9)
    return {"shape": [*sigma.shape], "values": base64.b64encode(packed).decode("ascii")}


def decode_map(record: Mapping[str, Any]) -> Tensor:
    """Return a record's σ(R): float Tensor[C, H, W], in steps of 1/256 from 0 to 255/256, rounded down.

    Raises:
        ValueError: the values are damaged, or not as many as the run inside says.
    """
    return _levels(record, FieldRun.from_dict(record["run"]).input_size).to(torch.float32) / LEVELS


def check_field(record: Mapping[str, Any], run: FieldRun) -> None:
    """Hold a record to its run: the map to the images, the sizes to the map, the loss to the iterations.

    Raises:
        ValueError: they do not fit.
    """
    levels, sizes = _levels(record, run.input_size), record["sizes"]
    if not all(isinstance(size, float) and 0 <= size <= 1 for size in sizes.values()):
        raise ValueError("a size is not a number from 0 to 1")
    if sizes["at_least_half"] != _share(levels, HALF):
        raise ValueError("the size at_least_half is not that of the map")
    if not _share(levels, HALF + 1) <= sizes["above_half"] <= _share(levels, HALF):
        raise ValueError("the size above_half is not that of the map")
    if not _share(levels, 26) <= sizes["at_least_tenth"] <= _share(levels, 25):  # .1 · 256 = 25.6
        raise ValueError("the size at_least_tenth is not that of the map")
    _check_loss(record["loss"], run.iterations)
    naive, fast = record["cost"]["naive"], record["cost"]["fast"]
    if not naive or len(naive) != len(fast) or not all(_is_number(one) and one > 0 for one in (*naive, *fast)):
        raise ValueError("the cost is not as many positive seconds of the naive as of the fast iteration")
    if not _is_number(record["seconds"]) or record["seconds"] < 0:
        raise ValueError(f"seconds = {record['seconds']!r}, expected a number from 0 on")
    record["origin"]["device"], record["origin"]["torch"]


def _check_loss(loss: Mapping[str, Any], iterations: int) -> None:
    marks, curves = loss["iteration"], (loss["perceptual"], loss["penalty"])
    rising = all(type(mark) is int for mark in marks) and sorted({*marks}) == marks
    if not marks or not rising or marks[0] < 1 or marks[-1] != iterations:
        raise ValueError(f"the loss is not of rising iterations up to {iterations}: the run inside is not finished")
    for curve in curves:
        if len(curve) != len(marks) or not all(one is None or (_is_number(one) and one >= 0) for one in curve):
            raise ValueError("a part of the loss is not a number from 0 on for each of its iterations")


def _is_number(value: Any) -> bool:
    return type(value) is float and math.isfinite(value)


def _share(levels: Tensor, least: int) -> float:
    return (levels >= least).sum().item() / levels.numel()


def _levels(record: Mapping[str, Any], shape: tuple[int, int, int]) -> Tensor:
    """Unpack a map's bytes; more than the run's images have values are never unpacked."""
    if record["map"]["shape"] != [*shape]:
        raise ValueError(f"the map has the shape {record['map']['shape']}, expected the images', {[*shape]}")
    count, unpacker = math.prod(shape), zlib.decompressobj()
    if count > MOST:
        raise ValueError(f"a map of {count} values: expected {MOST} at most")
    try:
        values = unpacker.decompress(base64.b64decode(record["map"]["values"], validate=True), count + 1)
    except (zlib.error, binascii.Error) as error:
        raise ValueError(f"the map's values can't be unpacked: {error}") from error
    if len(values) != count or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"the map's values do not unpack to {count} bytes")
    return torch.frombuffer(bytearray(values), dtype=torch.uint8).view(shape)
