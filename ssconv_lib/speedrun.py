"""The description of one measurement of speed: what is timed, on which machine, and the hash that names its record."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from .fields import check_at_least, check_types, digest, expect, from_mapping, without_defaults
from .shuffle import check_alpha

NETWORKS = ("resnet50", "densenet121", "resnext50_32x4d", "seresnet50", "wrn16_4")
LAYERS = ("conv3x3", "conv1x1")
ARMS = ("conv", "listing", "ss")
SE_ARMS = ("se", "se_listing", "se_ss")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")
MACHINE = ("device", "torch", "threads")
PREFIX = "speed-"  # of the names of records


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeedRun:
    """One measurement: plain convolution and its rivals in one process, in turn.

    As with `Run`, a record is found by the hash of the fields that differ from their defaults. `rounds` is no part of
    it: more rounds measure the same thing better. A profile describes a measurement without the machine, which
    `on` fills in; each device, torch and number of threads has a record of its own.

    Attributes:
        network: One of `NETWORKS`, with random weights, or a single layer, one of `LAYERS`.
        channels: Of a single layer, in and out; None for networks.
        mode: "inference", or "training": forward, backward and a step of SGD with momentum.
        precision: "fp32" or "bf16": the whole model at inference, autocast in training.
        memory_format: "nchw" or "channels_last".
        compile: A mode of `torch.compile`; None is eager.
        alpha: α of the arms that shuffle.
        batch: Images a step.
        pixels: Height and width of an image, or of a single layer's input.
        arms: "conv", and what is compared with it: "listing" (Listing 1), "ss" (`SSConv2d`), and beside resnet50 "se"
            (seresnet50), "se_listing", "se_ss".
        rounds: How often each arm is timed.
        device: The processor's or GPU's model; None until it is measured, as the two that follow.
        torch: The version.
        threads: Of torch on the CPU.
        native: Whether the compiled form of the fast path was built (`native`), which is for the CPU.
        protocol: Version of the measuring code.
    """

    network: str
    batch: int
    pixels: int
    channels: int | None = None
    mode: Literal["inference", "training"] = "inference"
    precision: Literal["fp32", "bf16"] = "fp32"
    memory_format: Literal["nchw", "channels_last"] = "nchw"
    compile: str | None = None
    alpha: float = 0.04
    arms: tuple[str, ...] = ARMS
    rounds: int = 15
    device: str | None = None
    torch: str | None = None
    threads: int | None = None
    native: bool = False
    protocol: int = 1

    def __post_init__(self) -> None:
        """Refuse what can't be measured, naming field, value and expectation."""
        check_types(self)
        check_alpha(self.alpha)
        check_at_least(self, batch=1, pixels=1, rounds=1, protocol=1)
        single, known = self.network in LAYERS, (*NETWORKS, *LAYERS)
        expect(self, "network", self.network in known, f"one of {', '.join(known)}")
        expect(self, "channels", (self.channels is not None) == single, "a number for a single layer, and only there")
        expect(self, "channels", self.channels is None or self.channels >= 1, "at least 1")
        expect(self, "mode", self.mode == "inference" or not single, "inference, since a layer alone has no loss")
        expect(self, "alpha", self.alpha > 0, "above 0: without shuffling there is nothing to compare")
        expect(self, "compile", self.compile in (None, *COMPILE_MODES), f"one of {', '.join(COMPILE_MODES)}")
        arms = (*ARMS, *SE_ARMS) if self.network == "resnet50" else ARMS
        words = all(isinstance(arm, str) for arm in self.arms)
        known = words and "conv" in self.arms and {*self.arms} <= {*arms}
        expect(self, "arms", known, f"conv, and others of {', '.join(arms)}")
        expect(self, "arms", len({*self.arms}) == len(self.arms), "each arm once")
        there = sum(getattr(self, name) is not None for name in MACHINE)
        expect(self, "device", there in (0, len(MACHINE)), "device, torch and threads together, or none of them")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "SpeedRun":
        """Build one from plain JSON or TOML values; an unknown field or a wrong type is quoted in a ValueError."""
        return from_mapping(cls, fields)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values: `from_dict(to_dict(run)) == run`."""
        return {**{field.name: getattr(self, field.name) for field in dataclasses.fields(self)}, "arms": [*self.arms]}

    def identity(self) -> dict[str, Any]:
        """The fields that differ from their defaults, but for `rounds`."""
        fields = without_defaults(self, keep=("network", "batch", "pixels"))
        fields.pop("rounds", None)
        return fields

    def on(self, device: str, torch: str, threads: int, native: bool = False) -> "SpeedRun":
        """Return this measurement on a machine."""
        return dataclasses.replace(self, device=device, torch=torch, threads=threads, native=native)

    @property
    def plan(self) -> "SpeedRun":
        """This measurement on no machine yet, as a profile describes it."""
        return dataclasses.replace(self, device=None, torch=None, threads=None, native=False)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of the canonical JSON of `identity`."""
        return digest(self.identity())

    @property
    def title(self) -> str:
        """A readable name without the machine: network, mode, precision, layout, and what else is of interest."""
        words = [self.network, self.mode, self.precision, self.memory_format, f"b{self.batch}", f"{self.pixels}px"]
        if self.channels is not None:
            words[1:1] = [f"c{self.channels}", f"a{self.alpha:g}"]
        return "-".join([*words, "compiled"] if self.compile else words)

    @property
    def label(self) -> str:
        """The stem of the record's file."""
        return f"{PREFIX}{self.title}-{self.hash}"
