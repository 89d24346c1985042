"""The description of one run: everything that determines its result, and the hash that names it."""

import dataclasses
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

from .controls import CONTROLS
from .convert import READINGS
from .data import DataSpec, parse_spec
from .fields import check_at_least, check_types, digest, expect, from_mapping, without_defaults
from .models import model_names
from .shuffle import LAYOUTS, check_alpha


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One training run, by default after the paper's CIFAR-10 protocol (Sec. 4.1).

    A record is found by the hash of the fields that differ from their defaults. So a default never changes, a new
    field's default means what was done before it came, and `protocol` is raised when a change of the code alters
    the numbers of runs described as before.

    Attributes:
        data: The data set, with its options.
        model: A name for `create_model`.
        alpha: α; 0 is the plain network, whatever the fields on shuffling say.
        layout: Of the shuffled channels, see `SSConv2d`.
        replace: Which convolutions are converted, see `convert_to_ssconv`.
        seed: Of the initial weights, the order of the data and its augmentation, each in a stream of its own.
        pi_seed: Of the permutations; None takes `seed`.
        epochs: Length of the schedule.
        batch_size: Images a step.
        lr: Learning rate at the start; divided by 10 at each milestone.
        milestones: Fractions of the schedule, as text ("5/6"): the paper's 150 and 250 of 300 epochs.
        momentum: Of SGD.
        weight_decay: Of all parameters.
        nesterov: Whether momentum is Nesterov's.
        precision: Of the training step, "fp32", or "bf16" or "fp16" by autocast (the latter with loss scaling).
            Evaluation is in fp32 always.
        bn_batch: Images a forward, over which batch norm takes its statistics; a step adds up the gradients of
            `batch_size / bn_batch` forwards, in one process or spread over several. None is a step of one forward.
        control: "none", or what the layers do in place of the shuffle, see `controls`.
        protocol: Version of the training code.
    """

    data: DataSpec
    model: str
    alpha: float = 0.0
    layout: str = "auto"
    replace: str = "paper"
    seed: int = 0
    pi_seed: int | None = None
    epochs: int = 300
    batch_size: int = 64
    lr: float = 0.1
    milestones: tuple[str, ...] = ("1/2", "5/6")
    momentum: float = 0.9
    weight_decay: float = 1e-4
    nesterov: bool = False
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    bn_batch: int | None = None
    control: str = "none"
    protocol: int = 1

    def __post_init__(self) -> None:
        """Refuse what can't be trained, naming field, value and expectation."""
        check_types(self)
        object.__setattr__(self, "alpha", self.alpha + 0.0)  # there is one zero
        check_alpha(self.alpha)
        check_at_least(self, seed=0, epochs=1, batch_size=1, momentum=0, weight_decay=0, protocol=1)
        expect(self, "model", self.model in model_names(), f"one of {', '.join(model_names())}")
        expect(self, "layout", self.layout in LAYOUTS, f"one of {', '.join(LAYOUTS)}")
        expect(self, "control", self.control in CONTROLS, f"one of {', '.join(CONTROLS)}")
        expect(self, "replace", self.replace in READINGS, f"one of {', '.join(READINGS)}")
        expect(self, "seed", self.seed < 2**63, "below 2**63")
        expect(self, "pi_seed", self.pi_seed is None or 0 <= self.pi_seed < 2**63, "0 or more, below 2**63")
        divides = self.bn_batch is None or (self.bn_batch >= 1 and self.batch_size % self.bn_batch == 0)
        expect(self, "bn_batch", divides, f"a divisor of batch_size = {self.batch_size}, or nothing")
        expect(self, "lr", self.lr > 0, "a positive number")
        expect(self, "momentum", self.momentum < 1, "below 1")
        expect(self, "nesterov", not self.nesterov or self.momentum > 0, "false where momentum is 0")
        expect(self, "milestones", _increasing_fractions(self.milestones), 'increasing fractions, as "1/2", "5/6"')
        object.__setattr__(self, "milestones", tuple(str(Fraction(milestone)) for milestone in self.milestones))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Run":
        """Build a run from plain JSON or TOML values; an unknown field or a wrong type is quoted in a ValueError."""
        if missing := [name for name in ("data", "model") if name not in fields]:
            raise ValueError(f"a run needs the field {missing[0]!r}; there are {', '.join(fields) or 'none'}")
        return from_mapping(cls, {**fields, "data": parse_spec(fields["data"])})

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values: `from_dict(to_dict(run)) == run`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data = {"name": self.data.name, **dataclasses.asdict(self.data)}
        return {**fields, "data": data, "milestones": list(self.milestones)}

    def identity(self) -> dict[str, Any]:
        """The fields that differ from their defaults; α = 0 makes those on shuffling meaningless."""
        fields = without_defaults(self, keep=("model",))
        fields["data"] = {"name": self.data.name, **without_defaults(self.data)}
        if self.pi_seed == self.seed:
            fields.pop("pi_seed", None)
        if self.bn_batch == self.batch_size:
            fields.pop("bn_batch", None)
        if self.alpha == 0:
            fields = {name: v for name, v in fields.items() if name not in ("layout", "replace", "pi_seed", "control")}
        return fields

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of the canonical JSON of `identity`."""
        return digest(self.identity())

    @property
    def label(self) -> str:
        """A readable name, the stem of the record's file, of model, α, control, seed and the hash."""
        control = f"-{self.control}" if "control" in self.identity() else ""
        return f"{self.model}-a{self.alpha:g}{control}-s{self.seed}-{self.hash}"

    @property
    def forwards(self) -> int:
        """Forwards of a whole step."""
        return self.batch_size // (self.bn_batch or self.batch_size)

    def lr_at(self, progress: Fraction) -> float:
        """The learning rate after this fraction of the schedule."""
        return self.lr * 0.1 ** sum(progress >= Fraction(milestone) for milestone in self.milestones)


def _increasing_fractions(milestones: tuple[str, ...]) -> bool:
    if not all(isinstance(m, str) and re.fullmatch("[0-9./]{1,30}", m) for m in milestones):  # 1e-999999999 takes hours
        return False
    try:
        fractions = [Fraction(milestone) for milestone in milestones]
    except (ValueError, ZeroDivisionError):
        return False
    return all(low < high for low, high in zip([0, *fractions], [*fractions, 1], strict=True))
