"""What a measurement of speed compares: one network in plain convolutions, in Listing 1's and in ours."""

import copy
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .conv import SSConv2d
from .convert import convert_to_ssconv
from .listing import ListingConv2d
from .models import create_model
from .speedrun import LAYERS, SpeedRun

CLASSES = {"wrn16_4": 10}  # all others: ImageNet's
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}  # of the largest output


class Arm:
    """A network, ready to do the step that is timed, on inputs that stay the same.

    Args:
        run: Says what a step is.
        model: On its device, in its memory format; the arm keeps it.
        images: Tensor[N, C, H, W].
        labels: LongTensor of shape (N,).
    """

    def __init__(self, run: SpeedRun, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        self.run, self.images, self.labels = run, images, labels
        self.model = model.train(run.mode == "training")
        self.forward = torch.compile(model, mode=run.compile) if run.compile else model
        self.optimizer = None
        if run.mode == "training":
            self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def output(self) -> Tensor:
        """Return what the network makes of the images; in training it can be differentiated."""
        training = self.run.mode == "training"
        with self._precision(), nullcontext() if training else torch.inference_mode():
            return self.forward(self.images)

    def step(self) -> None:
        """Do one step; on a GPU it may still be under way when this returns."""
        output = self.output()
        if self.optimizer is not None:
            self.optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(output.float(), self.labels).backward()
            self.optimizer.step()

    def _precision(self) -> AbstractContextManager:
        autocast = self.run.mode == "training" and self.run.precision == "bf16"
        return torch.autocast(self.images.device.type, torch.bfloat16) if autocast else nullcontext()


def build_arms(run: SpeedRun, device: str = "cpu") -> dict[str, Arm]:
    """Build a run's arms, with the same weights in all that have the same network; each has done a first forward.

    Raises:
        RuntimeError: a package that a network comes from is missing; or two arms disagree that must agree, or don't
            differ though one shuffles.
    """
    if run.compile:
        torch._dynamo.reset()  # or the graphs of earlier measurements count against its limit
    arms = {}
    for network, names in _families(run).items():
        plain = build_network(network, run.channels)
        models = {name: _variant(plain, name.split("_")[-1], run) for name in names}
        family = {name: _arm(run, model, device) for name, model in models.items()}
        _check_outputs(run, family)
        arms |= family
    return {name: arms[name] for name in run.arms}


def build_network(name: str, channels: int | None = None) -> nn.Module:
    """Build a network, or a layer, of plain convolutions with random weights, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name in LAYERS:
            kernel = 3 if name == "conv3x3" else 1
            return nn.Sequential(nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False))
        return create_model(name, num_classes=CLASSES.get(name, 1000))


def convert(model: nn.Module, run: SpeedRun) -> nn.Module:
    """Return a copy with ss convolutions, as the paper places them; of a single layer, with just that."""
    single = run.network in LAYERS
    return convert_to_ssconv(
        copy.deepcopy(model),
        run.alpha,
        input_size=(run.channels or 3, run.pixels, run.pixels),
        replace=(lambda name, conv: True) if single else "paper",
    )


def to_listing(model: nn.Module) -> nn.Module:
    """Replace the ss convolutions that shuffle by Listing 1 with the same parameters, in place."""
    for parent in [*model.modules()]:
        for name, child in parent.named_children():
            if isinstance(child, SSConv2d) and child.num_shuffled:
                setattr(parent, name, ListingConv2d.from_ssconv(child))
    return model


def _families(run: SpeedRun) -> dict[str, list[str]]:
    """The networks that a run needs, each with the arms that are made of it, the plain one included or not."""
    families: dict[str, list[str]] = {}
    for name in run.arms:
        families.setdefault("seresnet50" if name.startswith("se") else run.network, []).append(name)
    return families


def _variant(plain: nn.Module, kind: str, run: SpeedRun) -> nn.Module:
    """`kind` is the last part of an arm's name: conv or se, listing, ss."""
    if kind == "listing":
        return to_listing(convert(plain, run))
    return convert(plain, run) if kind == "ss" else copy.deepcopy(plain)


def _arm(run: SpeedRun, model: nn.Module, device: str) -> Arm:
    layout = torch.channels_last if run.memory_format == "channels_last" else torch.contiguous_format
    pure = torch.bfloat16 if run.precision == "bf16" and run.mode == "inference" else torch.float32
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(run.batch, run.channels or 3, run.pixels, run.pixels, generator=generator)
    labels = torch.arange(run.batch) % CLASSES.get(run.network, 1000)
    with torch.inference_mode(run.mode == "inference"):  # so that a single layer sees what it would inside a network
        images = images.to(device, pure).contiguous(memory_format=layout)
    model = model.to(device, pure, memory_format=layout)
    return Arm(run, model, images, labels.to(device))


def _check_outputs(run: SpeedRun, family: dict[str, Arm]) -> None:
    """Hold the arms to what they must have in common before anything is timed; this is also their first forward."""
    outputs = {name: arm.output().detach().float() for name, arm in family.items()}
    kinds = {name.split("_")[-1]: output for name, output in outputs.items()}
    plain = kinds.get("conv", kinds.get("se"))
    limit = TOLERANCE[run.precision]
    if {"listing", "ss"} <= kinds.keys() and all(_is_comparable(arm) for arm in family.values()):
        difference = _distance(kinds["listing"], kinds["ss"])
        if not difference <= limit:
            raise RuntimeError(f"{run.label}: Listing 1 and SSConv2d differ by {difference:.2g}, expected {limit}")
    if "ss" in kinds and plain is not None and _shuffles(family) and _distance(plain, kinds["ss"]) == 0:
        raise RuntimeError(f"{run.label}: the shuffling network gives what the plain one gives; expected otherwise")


def _is_comparable(arm: Arm) -> bool:
    """Tell whether every layer that shuffles has Eq. 2's channels and the π that both share."""
    return all(
        not isinstance(layer, SSConv2d | ListingConv2d)
        or (layer.groups == 1 and getattr(layer, "layout", "leading") == "leading")
        for layer in arm.model.modules()
    )


def _shuffles(family: dict[str, Arm]) -> bool:
    layers = [layer for arm in family.values() for layer in arm.model.modules()]
    return any(isinstance(layer, SSConv2d) and layer.num_shuffled > 0 for layer in layers)


def _distance(one: Tensor, other: Tensor) -> float:
    return ((one - other).abs().max() / one.abs().max()).item()
