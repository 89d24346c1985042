"""How a record keeps what a network answered: a bit an image and condition; and what such a record is held to."""

import base64
import binascii
import hashlib
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from .proberun import ProbeRun
from .probes import Condition, Outcome

MOST = 10**8  # images of a probe
# the other columns of `probestudy.probe_frame`, so no condition can have them
SOURCE_COLUMNS = ("profile", "model", "alpha", "layout", "control", "seed", "data", "network", "probe")
ANSWER_COLUMNS = ("error", "n_images", "wrong", "hash")


def encode_outcomes(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return what a record has of the outcomes of a probe: `n_images` and `conditions`.

    Raises:
        ValueError: they are not of equally many images, or their conditions can't be told apart or stored.
    """
    outcomes = list(outcomes)
    counts = sorted({len(outcome.wrong) for outcome in outcomes})
    if len(counts) != 1:
        raise ValueError(f"the outcomes of a probe are of {counts or 'no'} images: expected one number for all")
    conditions = [outcome.condition for outcome in outcomes]
    _check_conditions(conditions)
    wrongs = [outcome.wrong.cpu().numpy() for outcome in outcomes]
    if strange := [wrong for wrong in wrongs if wrong.dtype != bool or wrong.ndim != 1]:
        raise ValueError(f"wrong is {strange[0].dtype} of shape {strange[0].shape}: expected bool of shape (N,)")
    rows = [
        {"condition": condition, "error": _error(wrong), "wrong": pack(wrong)}
        for condition, wrong in zip(conditions, wrongs, strict=True)
    ]
    return {"n_images": counts[0], "conditions": rows}


def pack(wrong: np.ndarray) -> str:
    """Return bools, shape (N,), as text: eight to a byte, compressed, in base64."""
    return base64.b64encode(zlib.compress(np.packbits(wrong).tobytes(), 9)).decode("ascii")


def unpack(text: str, count: int) -> np.ndarray:
    """Return the bools that `pack` made text of; more than `count` of them are never unpacked.

    Raises:
        ValueError: the text is damaged, or not of `count` bools.
    """
    size, unpacker = -(-count // 8), zlib.decompressobj()
    try:
        values = unpacker.decompress(base64.b64decode(text, validate=True), size + 1)
    except (zlib.error, binascii.Error) as error:
        raise ValueError(f"the answers can't be unpacked: {error}") from error
    if len(values) != size or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"the answers do not unpack to {size} bytes")
    bits = np.unpackbits(np.frombuffer(values, dtype=np.uint8)).astype(bool)
    if bits[count:].any():
        raise ValueError(f"the answers are of more than {count} images")
    return bits[:count]


def check_probe(record: Mapping[str, Any], run: ProbeRun) -> None:
    """Hold a record to its run, and the errors to the answers.

    Raises:
        ValueError: they do not fit.
    """
    count, conditions = record["n_images"], record["conditions"]
    if type(count) is not int or not 1 <= count <= MOST or run.images not in (None, count):
        raise ValueError(f"n_images = {count!r}, expected {run.images or f'a whole number from 1 to {MOST}'}")
    if not conditions:
        raise ValueError("there is no condition")
    _check_conditions([one["condition"] for one in conditions])
    for one in conditions:
        if type(one["error"]) is not float or one["error"] != _error(unpack(one["wrong"], count)):
            raise ValueError(f"the error of {one['condition']} is not that of the answers")
    if not re.fullmatch("[0-9a-f]{64}", record["weights"]):
        raise ValueError(f"weights = {record['weights']!r}, expected the SHA-256 of the network's state")
    seconds = record["seconds"]
    if type(seconds) is not float or not 0 <= seconds < math.inf:
        raise ValueError(f"seconds = {seconds!r}, expected a number from 0 on")
    record["origin"]["device"], record["origin"]["torch"]


def state_digest(model: nn.Module) -> str:
    """Return the SHA-256 of a network's state: names, types, shapes and values, wherever it is and however laid out."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = _values(tensor)
        total.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        total.update(values)
    return total.hexdigest()


def _values(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy()).reshape(tuple(tensor.shape))


def _error(wrong: np.ndarray) -> float:
    return 100 * int(wrong.sum()) / len(wrong)


def _check_conditions(conditions: list[Condition]) -> None:
    """Hold conditions to what a table has room for: a plain value a column, and no row twice."""
    seen = set()
    for condition in conditions:
        for name, value in condition.items():
            if not isinstance(name, str) or name in (*SOURCE_COLUMNS, *ANSWER_COLUMNS):
                raise ValueError(f"{name!r} can't name a part of a condition: a table of probes has it already")
            plain = value is None or type(value) in (str, int, bool)
            if not plain and not (type(value) is float and math.isfinite(value)):
                raise ValueError(f"{name} = {value!r} of a condition: expected text, a finite number, a bool or None")
        key = tuple(sorted((name, type(value).__name__, value) for name, value in condition.items()))
        if key in seen:
            raise ValueError(f"two outcomes of a probe have the condition {condition}")
        seen.add(key)
