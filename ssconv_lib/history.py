"""The history of a run, an entry an epoch: what a record or a checkpoint says of it must be possible."""

from collections.abc import Mapping, Sequence
from typing import Any

NAMES = ("train_loss", "train_error", "loss", "error")  # of every entry; losses are null where a run diverged


def check_history(history: Sequence[Mapping[str, Any]], epochs: int) -> None:
    """Hold a history to so many epochs and to numbers, errors in percent.

    Raises:
        ValueError: it has other epochs, or an entry of it is not a number.
        LookupError, TypeError, AttributeError: it isn't even a list of entries.
    """
    if len(history) != epochs or [entry["epoch"] for entry in history] != [*range(1, epochs + 1)]:
        raise ValueError(f"the history is not of epochs 1 to {epochs}")
    for entry in history:
        for name, value in {**{name: entry[name] for name in NAMES}, **entry}.items():
            if name.endswith("error"):
                possible = type(value) is float and 0 <= value <= 100
            elif name.endswith("loss"):
                possible = value is None or (type(value) is float and abs(value) < float("inf"))
            else:
                possible = type(value) is int
            if not possible:
                raise ValueError(f"epoch {entry['epoch']}: {name} = {value!r} is impossible")
