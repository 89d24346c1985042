"""The arms of the control experiments: what stands in place of the shuffle, and which runs are compared."""

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from . import stats
from .tables import by_seed, solved, source

# every arm by name, in the order of tables and figures
CONTROL_TEXT = {
    "conv": "plain convolution",
    "ss": "ss convolution, the paper's π",
    "fresh": "fresh π each forward",
    "windows": "π within windows of 4×4",
    "shift": "shift by a pixel",
    "roll": "roll by half the map",
    "per_channel": "π per channel",
    "mean": "mean broadcast",
    "zeroed": "channels zeroed",
    "narrower": "a network narrower by α",
    "se": "squeeze-and-excitation",
    "gc": "global context",
    "dilated": "dilated convolution",
}
# a network that is an arm by itself: which, and the network that it is compared with
PEERS = {
    "wrn10_2_narrow06": ("narrower", "wrn10_2"),
    "wrn10_2_narrow25": ("narrower", "wrn10_2"),
    "wrn10_2_se": ("se", "wrn10_2"),
    "wrn10_2_gc": ("gc", "wrn10_2"),
    "wrn10_2_dilated": ("dilated", "wrn10_2"),
    "long_range_narrow0625": ("narrower", "long_range_cnn"),
    "long_range_narrow25": ("narrower", "long_range_cnn"),
    "long_range_senet": ("se", "long_range_cnn"),
    "long_range_gcnet": ("gc", "long_range_cnn"),
    "long_range_dilated": ("dilated", "long_range_cnn"),
}
NARROWER_BY = {  # α, of the networks in which the channels that it would shuffle are not there
    "wrn10_2_narrow06": 0.06,
    "wrn10_2_narrow25": 0.25,
    "long_range_narrow0625": 0.0625,
    "long_range_narrow25": 0.25,
}
_SETTING = ["profile", "data", "size", "distance", "base"]


class Group(NamedTuple):
    """Runs to be compared with one another.

    Attributes:
        labels: source, model (the plain network), alpha, and of generated data size and distance.
        arms: The runs of each arm, in the order of `CONTROL_TEXT`.
        pooled_sd: Of the paired differences to conv, over all arms and α of this network on this data; nan if no arm
            has two pairs.
    """

    labels: dict[str, object]
    arms: dict[str, pd.DataFrame]
    pooled_sd: float = float("nan")

    def solved(self, arm: str) -> tuple[int, int]:
        """How many of an arm's runs solved the generated task, of how many."""
        return solved(self.arms[arm]["error"])

    def paired(self, first: str, second: str, level: float = 0.95) -> stats.Difference | None:
        """First minus second, by seed; None if they share no seed."""
        errors = [by_seed(self.arms[arm]) for arm in (first, second)]
        shared = errors[0].index.intersection(errors[1].index)
        return stats.paired_difference(errors[0][shared], errors[1][shared], level) if len(shared) else None

    def detectable(self, measured: stats.Difference) -> float:
        """The true difference that so many pairs see with 80 % power; by the pooled sd, if they don't know their own.

        nan where neither is known.
        """
        if measured.degenerate or measured.knows_spread or self.pooled_sd != self.pooled_sd:
            return measured.detectable()
        return stats.detectable(self.pooled_sd, measured.n, level=measured.level)


def arm_of(model: str, alpha: float, control: str) -> str:
    """The arm of a run: a name of `CONTROL_TEXT`; of a peer that shuffles besides, two, such as "se+ss"."""
    peer = PEERS[model][0] if model in PEERS else ""
    shuffle = "" if alpha == 0 else "ss" if control == "none" else control
    return "+".join(filter(None, (peer, shuffle))) or "conv"


def arm_text(arm: str) -> str:
    """An arm's name for readers."""
    return " and ".join(CONTROL_TEXT[part] for part in arm.split("+"))


def groups(frame: pd.DataFrame) -> Iterator[Group]:
    """Sort records into groups of one setting and α; what doesn't shuffle stands in the group of every α.

    A narrower network stands in the group of the α that it is narrower by.

    Args:
        frame: Records (see `study.frame`), of several profiles, networks and α if need be.

    Raises:
        ValueError: a setting in which arms differ in their number of epochs.
    """
    arms = [arm_of(*run) for run in zip(frame["model"], frame["alpha"], frame["control"], strict=True)]
    base = [PEERS.get(model, ("", model))[1] for model in frame["model"]]
    own = [NARROWER_BY.get(model, alpha) for model, alpha in zip(frame["model"], frame["alpha"], strict=True)]
    frame = frame.assign(arm=arms, base=base, own=own)
    for setting, of_setting in frame.groupby(_SETTING, dropna=False, sort=False):
        if len(lengths := sorted(of_setting["epochs"].unique().tolist())) > 1:
            raise ValueError(f"the runs of {setting[-1]} have {lengths} epochs: compare arms of one schedule")
        _, data, size, distance, model = setting
        sd = _pooled_sd(of_setting)
        for alpha in [a for a in sorted(of_setting["own"].unique()) if a > 0] or [0.0]:
            runs = of_setting[of_setting["own"].isin([0.0, alpha])]
            labels = {"source": source(runs), "model": model, "alpha": float(alpha)}
            if data == "longrange":
                labels |= {"size": int(size), "distance": int(distance)}
            there = sorted(runs["arm"].unique(), key=_place)
            yield Group(labels, {arm: runs[runs["arm"] == arm] for arm in there}, sd)


def _pooled_sd(of_setting: pd.DataFrame) -> float:
    """The sd of the differences to conv within arms, each arm at each α weighed by its degrees of freedom."""
    plain = of_setting["arm"] == "conv"
    conv, squares, df = by_seed(of_setting[plain]), 0.0, 0
    for _, runs in of_setting[~plain].groupby(["arm", "own"]):
        differences = (conv - by_seed(runs)).dropna()
        if len(differences) > 1:
            squares += float(((differences - differences.mean()) ** 2).sum())
            df += len(differences) - 1
    return (squares / df) ** 0.5 if df else float("nan")


def _place(arm: str) -> list[int]:
    return [[*CONTROL_TEXT].index(part) for part in arm.split("+")]
