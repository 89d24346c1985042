"""The description of one optimised receptive field (Eq. 4): whose, of what, found how, and the hash that names it."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

from . import cifar10
from .cifar10 import Cifar10
from .fields import check_at_least, check_types, digest, expect, from_mapping, without_defaults
from .run import Run

PREFIX = "field-"  # of the names of records
# what an untrained network depends on
BUILT = ("data", "model", "alpha", "layout", "replace", "seed", "pi_seed", "control")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldRun:
    """One map R of Eq. 4, by default as the paper optimises it (Sec. 5.1).

    As with `Run`, a record is found by the hash of the fields that differ from their defaults; of an untrained
    network only what it is built of counts, not how it would be trained.

    Attributes:
        network: The training run whose network is looked at; its data give the images.
        trained: Whether it is the trained network, or the one that training starts from, with the batch norm statistics
            of its first 8 batches, without which batch norm would do nothing.
        layer: Qualified name of the module whose output is φ_l(x).
        box: Where M is 1: low and high in pixels of the image, half-open, for rows and columns alike.
        channel: The channel where M is 1, counted from 0; None is all of them, the layerwise field.
        beta: β, of the penalty; the paper has 1e-6 layerwise and 1e-12 channelwise.
        start: What each entry of R is at the start.
        eps: Adam's ε; with the default a β of 1e-12 moves nothing (erratum 27).
        lr: Adam's learning rate.
        iterations: Steps of Adam.
        batch: Images a step.
        fill: What is seen where σ(R) is 0: "mean", the data set's mean colour (σ(R) · x after normalisation), or
            "black" (before it).
        seed: Of the order of the images and of their augmentation.
        protocol: Version of the optimising code.
    """

    network: Run
    layer: str
    box: tuple[int, int]
    trained: bool = True
    channel: int | None = None
    beta: float = 1e-6
    start: float = 0.0
    eps: float = 1e-8
    lr: float = 0.1
    iterations: int = 10000
    batch: int = 32
    fill: Literal["mean", "black"] = "mean"
    seed: int = 0
    protocol: int = 1

    def __post_init__(self) -> None:
        """Refuse what can't be optimised, naming field, value and expectation."""
        check_types(self)
        object.__setattr__(self, "start", self.start + 0.0)  # there is one zero
        check_at_least(self, beta=0, iterations=1, batch=1, seed=0, protocol=1)
        dotted = re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", self.layer)
        expect(self, "layer", dotted is not None, 'the name of a module, as "stage1.0", of letters, digits and _')
        numbers = len(self.box) == 2 and all(type(end) is int for end in self.box)
        inside = numbers and 0 <= self.box[0] < self.box[1] <= self.input_size[1]
        expect(self, "box", inside, f"two whole numbers 0 <= low < high <= {self.input_size[1]}, in pixels")
        expect(self, "channel", self.channel is None or self.channel >= 0, "0 or more, or nothing for all channels")
        expect(self, "eps", self.eps > 0, "a positive number")
        expect(self, "lr", self.lr > 0, "a positive number")
        expect(self, "seed", self.seed < 2**63, "below 2**63")
        expect(self, "fill", self.fill == "mean" or self._black_is_one_value, f'"mean": {self._why_not_black}')

    @property
    def input_size(self) -> tuple[int, int, int]:
        """(C, H, W) of the images, and of the map."""
        data = self.network.data
        pixels = cifar10.SIZE if isinstance(data, Cifar10) else getattr(data, "pixels", None) or data.size
        return 3, pixels, pixels

    @property
    def _black_is_one_value(self) -> bool:
        data = self.network.data
        return data.name != "longrange" and getattr(data, "normalise", "dataset") == "dataset"

    @property
    def _why_not_black(self) -> str:
        if self.network.data.name == "longrange":
            return "the generated images need no normalisation, 0 is black and mean"
        return "each image is normalised by its own values, so black is another value in each"

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "FieldRun":
        """Build one from plain JSON or TOML values; an unknown field or a wrong type is quoted in a ValueError."""
        if not isinstance(network := fields.get("network"), Mapping):
            raise ValueError(f"network is {network!r}: expected a table of the fields of a training run")
        return from_mapping(cls, {**fields, "network": Run.from_dict(network)})

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values: `from_dict(to_dict(run)) == run`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "network": self.network.to_dict(), "box": [*self.box]}

    def identity(self) -> dict[str, Any]:
        """The fields that differ from their defaults; the network by its own identity."""
        fields = without_defaults(self, keep=("layer", "box"))
        return {**fields, "network": self.network_identity, "box": [*self.box]}

    @property
    def network_identity(self) -> dict[str, Any]:
        """What the network depends on: all that the run's identity has, or, untrained, what it is built of."""
        fields = self.network.identity()
        return fields if self.trained else {name: value for name, value in fields.items() if name in BUILT}

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of the canonical JSON of `identity`."""
        return digest(self.identity())

    @property
    def label(self) -> str:
        """A readable name, the stem of the record's file: network, layer, box, channel and the hash."""
        words = [f"{self.network.model}-a{self.network.alpha:g}", "" if self.trained else "untrained", self.layer]
        words += ["{}-{}".format(*self.box), "" if self.channel is None else f"c{self.channel}", self.hash]
        return PREFIX + "-".join(word for word in words if word)
