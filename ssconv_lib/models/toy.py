"""Small networks for the generated long-range task, with a short receptive field: it ends below `distance` 18.

All 3x3 convolutions but the stem follow the one pooling step. So without shuffling, a value before the global
average pool sees a square of 4·depth pixels a side: 16 at the default depth.

They keep torch's own initialisation: from He's larger weights, shuffling networks find the solution less often.
"""

from collections import OrderedDict
from numbers import Real

import torch.nn.functional as F
from torch import Tensor, nn

from ..packages import package_of
from .cifar import Bottleneck, kept_width


class ConvUnit(nn.Module):
    """Convolution that keeps the size, BN, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, groups: int = 1) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W)."""
        return F.relu(self.norm(self.conv(x)), inplace=True)


class _LongRange(nn.Module):
    """Stem, 2x2 max-pool, layers at one size, global average pool, linear."""

    def __init__(self, layers: list[nn.Module], width: int, num_classes: int) -> None:
        super().__init__()
        self.stem = ConvUnit(3, width)
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits (N, num_classes)."""
        x = F.max_pool2d(self.stem(x), 2)  # (N, width, H/2, W/2)
        return self.head(self.layers(x).mean((2, 3)))


class LongRangeCNN(_LongRange):
    """`depth` 3x3 convolutions of `width` channels, the first of them the stem.

    Args:
        num_classes: length of the logits.
        width: channels of every layer.
        depth: 3x3 convolutions, the stem counted. Deeper ones are the control that needs no shuffling to see far: of
            patches of 3 pixels on 24, no unit reaches both from distance 14 on at depth 3 (the field's side is 12),
            from 18 on at depth 4 (16); at depth 6 (24) and 8 (32) some unit reaches both at any distance.
        narrower: α of a control in which the channels that α would shuffle are not there: w - ⌊αw⌋ are left.
    """

    def __init__(self, num_classes: int, *, width: int = 32, depth: int = 4, narrower: Real = 0) -> None:
        width = kept_width(width, narrower)
        super().__init__([ConvUnit(width, width) for _ in range(_layers(depth))], width, num_classes)


class LongRangeResNeXt(_LongRange):
    """The same skeleton and receptive field, with 1x1, grouped 3x3, 1x1 for each 3x3 after the stem: for Table 1.

    Unlike ResNeXt's bottlenecks these have no identity beside them: as in `LongRangeCNN`, whatever reaches the
    output has gone through every convolution.

    While α <= 1 / groups, Eq. 2 shuffles in the first group of a 3x3 alone; Eq. 3 does in every group once
    α >= groups / width.

    Args:
        num_classes: length of the logits.
        width: channels of every layer; a multiple of `groups`.
        depth: 3x3 convolutions, the stem counted.
        groups: groups of the 3x3 convolutions after the stem.
    """

    def __init__(self, num_classes: int, *, width: int = 32, depth: int = 4, groups: int = 2) -> None:
        layers = [
            nn.Sequential(
                ConvUnit(width, width, kernel_size=1),
                ConvUnit(width, width, groups=groups),
                ConvUnit(width, width, kernel_size=1),
            )
            for _ in range(_layers(depth))
        ]
        super().__init__(layers, width, num_classes)


class LongRangeSENet(_LongRange):
    """`LongRangeCNN` with a squeeze-and-excitation gate (Hu et al. 2018, torchvision's) behind each 3x3 but the stem.

    A gate weighs whole channels by the mean of all positions: what is far away comes in, but not where it was.

    Args:
        num_classes: length of the logits.
        width: channels of every layer.
        depth: 3x3 convolutions, the stem counted.
        reduction: the gates' inner width is `width / reduction`.
    """

    def __init__(self, num_classes: int, *, width: int = 32, depth: int = 4, reduction: int = 4) -> None:
        gate = package_of("long_range_senet", "torchvision").ops.SqueezeExcitation
        units = [
            nn.Sequential(OrderedDict(unit=ConvUnit(width, width), se=gate(width, width // reduction)))
            for _ in range(_layers(depth))
        ]
        super().__init__(units, width, num_classes)


class LongRangeResNet(_LongRange):
    """The same skeleton and receptive field, with ResNet's bottlenecks for the 3x3s after the stem: for Table 3.

    It wants half the learning rate of its neighbours. With α = 1/16 at distance 18, 6 or 8 epochs solved
    the task with 8 of 8 seeds at lr = .05, 8 epochs with 5 of 6 at .1.

    Args:
        num_classes: length of the logits.
        width: channels of the stem and of every bottleneck's output.
        inner: channels of the bottlenecks' 3x3 convolutions.
        depth: 3x3 convolutions, the stem counted.
    """

    def __init__(self, num_classes: int, *, width: int = 32, inner: int = 16, depth: int = 4) -> None:
        layers = [Bottleneck(width, inner, width, groups=1) for _ in range(_layers(depth))]
        super().__init__(layers, width, num_classes)


def _layers(depth: int) -> int:
    if depth < 2:
        raise ValueError(f"depth is {depth}, expected at least 2: the stem and a layer to shuffle")
    return depth - 1
