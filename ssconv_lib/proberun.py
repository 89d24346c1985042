"""The description of one probe: which trained network, asked what, on how many images, and the hash that names it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from .fields import check_at_least, check_types, digest, expect, from_mapping, without_defaults
from .run import Run

PREFIX = "probe-"  # of the names of records

# what can be asked, by name: where the function is that asks it, which is imported no sooner than it is needed
PROBES = {
    "ablation": "probes:ablation",
    "wiring": "usage:wiring",
    "shift": "usage:shift",
    "sizes": "usage:sizes",
    "corruptions": "usage:corruptions",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeRun:
    """What one trained network answers under the conditions of one probe.

    As with `Run`, a record is found by the hash of the fields that differ from their defaults.

    Attributes:
        network: The training run whose network is asked; its data give the images.
        probe: Which conditions, one of `PROBES`.
        images: How many of the test images; None is all. See `probes.choose_images` for which.
        draws: How often what is drawn in a condition (another π, other channels) is drawn.
        seed: Of the training images and of what the conditions draw.
        protocol: Version of the probes' code.
    """

    network: Run
    probe: str
    images: int | None = None
    draws: int = 3
    seed: int = 0
    protocol: int = 1

    def __post_init__(self) -> None:
        """Refuse what can't be asked, naming field, value and expectation."""
        check_types(self)
        check_at_least(self, draws=1, seed=0, protocol=1)
        expect(self, "probe", self.probe in PROBES, f"one of {', '.join(PROBES)}")
        expect(self, "images", self.images is None or self.images >= 1, "1 or more, or nothing for all test images")
        expect(self, "seed", self.seed < 2**63, "below 2**63")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "ProbeRun":
        """Build one from plain JSON or TOML values; an unknown field or a wrong type is quoted in a ValueError."""
        if not isinstance(network := fields.get("network"), Mapping):
            raise ValueError(f"network is {network!r}: expected a table of the fields of a training run")
        return from_mapping(cls, {**fields, "network": Run.from_dict(network)})

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values: `from_dict(to_dict(run)) == run`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "network": self.network.to_dict()}

    def identity(self) -> dict[str, Any]:
        """The fields that differ from their defaults; the network by its own identity."""
        return {**without_defaults(self, keep=("probe",)), "network": self.network.identity()}

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of the canonical JSON of `identity`."""
        return digest(self.identity())

    @property
    def label(self) -> str:
        """A readable name, the stem of the record's file: probe, network, its control and seed, and the hash."""
        network = self.network
        control = network.control if "control" in network.identity() else ""
        words = [self.probe, network.model, f"a{network.alpha:g}", control, f"s{network.seed}", self.hash]
        return PREFIX + "-".join(word for word in words if word)
