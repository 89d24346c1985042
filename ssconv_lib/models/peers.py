"""Peers of shuffling: other ways to let a network see the whole image, each added to the same plain network.

What is added is drawn last, so that a peer starts from the plain network's weights wherever the two are alike, as the
network with ss convolutions does (but for `LongRangeSENet`, which is older and in `toy`).
"""

from collections import OrderedDict
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from ..packages import package_of
from .cifar import PreActBlock, WideResNet
from .toy import LongRangeCNN


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the last dimension, in operations that the exact reach (`wiring`) has rules for."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each row of a Tensor[N, C]."""
        x = x - x.mean(-1, keepdim=True)
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight + self.bias


class GlobalContext(nn.Module):
    """Global context block (Cao et al. 2019, GCNet): one context of the image, transformed, added at all positions.

    The context is a mean of the features over positions, weighted by a softmax of a 1x1 convolution; the transform is
    a bottleneck. Its last layer starts at zero, as in the authors' code: so the block starts as an identity.

    The 1x1 convolutions are linear layers, so that `convert_to_ssconv` leaves the block alone, as it does a gate.

    Args:
        channels: C, of input and output.
        reduction: the bottleneck's width is `channels // reduction`.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        inner = channels // reduction
        self.attend = nn.Linear(channels, 1, bias=False)  # a bias would change nothing: softmax takes it out
        self.down = nn.Linear(channels, inner)
        self.norm = ChannelNorm(inner)
        self.up = nn.Linear(inner, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        logits = self.attend(x.movedim(1, -1)).movedim(-1, 1)  # (N, 1, H, W)
        weights = (logits - F.adaptive_max_pool2d(logits, 1)).exp()  # a softmax in parts that `wiring` has rules for
        context = (x * weights).sum((2, 3)) / weights.sum((2, 3))  # (N, C)
        change = self.up(F.relu(self.norm(self.down(context))))
        return x + change[:, :, None, None]


def wide_resnet_se(depth: int, widen: int, num_classes: int, reduction: int = 8) -> WideResNet:
    """Build WRN-depth-widen with a squeeze-and-excitation gate (Hu et al. 2018) behind each residual branch.

    The peer that the paper compares with: a gate knows the mean of each channel over the whole image, but not where
    anything was. As in the original, it ends the branch, in front of the sum.
    """
    gate = package_of("wrn10_2_se", "torchvision").ops.SqueezeExcitation
    return _behind_branches(
        WideResNet(depth, widen, num_classes), lambda c: nn.Sequential(OrderedDict(se=gate(c, c // reduction)))
    )


def wide_resnet_gc(depth: int, widen: int, num_classes: int, reduction: int = 8) -> WideResNet:
    """Build WRN-depth-widen with a global context block (Cao et al. 2019) behind each residual branch.

    The peer that chooses which positions count: in the same places as the gates of `wide_resnet_se`.
    """
    return _behind_branches(WideResNet(depth, widen, num_classes), lambda c: GlobalContext(c, reduction))


def wide_resnet_dilated(depth: int, widen: int, num_classes: int) -> WideResNet:
    """Build WRN-depth-widen with dilation 2 in the convolutions that ss convolutions would replace.

    The peer of the paper's Sec. 2.1: a larger field with the same parameters and operations. The field of WRN-10-2's
    last units grows from 25 to 41 pixels a side: in the middle they see all of a 32-pixel image.
    """
    model = WideResNet(depth, widen, num_classes)
    for block in _blocks(model):
        for conv in (block.conv1, block.conv2):
            if conv.stride == (1, 1):
                _dilate(conv, 2)
    return model


class LongRangeGCNet(LongRangeCNN):
    """`LongRangeCNN` with a global context block behind each 3x3 but the stem, where `LongRangeSENet` has its gates.

    Args:
        num_classes: length of the logits.
        width: channels of every layer.
        depth: 3x3 convolutions, the stem counted.
        reduction: the blocks' inner width is `width / reduction`.
    """

    def __init__(self, num_classes: int, *, width: int = 32, depth: int = 4, reduction: int = 4) -> None:
        super().__init__(num_classes, width=width, depth=depth)
        for k, unit in enumerate(self.layers):
            self.layers[k] = nn.Sequential(OrderedDict(unit=unit, gc=GlobalContext(width, reduction)))


class LongRangeDilated(LongRangeCNN):
    """`LongRangeCNN` with dilations 1, 2, 4, … behind the stem: its parameters and operations, a larger field.

    At depth 4 the last units see 32 pixels a side, without holes, instead of 16: in the middle all of the 24-pixel
    image. The arguments are those of `LongRangeCNN`.
    """

    def __init__(self, num_classes: int, *, width: int = 32, depth: int = 4) -> None:
        super().__init__(num_classes, width=width, depth=depth)
        for k, unit in enumerate(self.layers):
            _dilate(unit.conv, 2**k)


def _blocks(model: WideResNet) -> list[PreActBlock]:
    return [module for module in model.modules() if isinstance(module, PreActBlock)]


def _behind_branches(model: WideResNet, make: Callable[[int], nn.Module]) -> WideResNet:
    for block in _blocks(model):
        block.behind = make(block.conv2.out_channels)
    return model


def _dilate(conv: nn.Conv2d, dilation: int) -> None:
    """Spread a 3x3 convolution's window, at the same size of the output."""
    conv.dilation = conv.padding = (dilation, dilation)
