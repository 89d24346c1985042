"""The paper's CIFAR-10 networks: WRN-d-k, DenseNet-BC and ResNeXt-29, in plain convolutions.

Shuffling is added afterwards by `convert_to_ssconv`, whose "paper" reading knows the downsampling layers by
their names here: `shortcut` and `transition1`, `transition2`. The stem is the first convolution reached.
"""

from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..shuffle import channel_slice


def init_he(model: nn.Module) -> None:
    """Draw the convolutions from N(0, 2 / fan_out) and zero the biases of linear layers (He et al. 2015).

    fan_out is out_channels·k·k, not divided by the groups, as in the authors' codes of all three networks.
    Batch norm (γ = 1, β = 0) and the weights of linear layers keep torch's own initialization.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Bias-free 3x3 convolution that keeps the size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, groups=groups, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Bias-free 1x1 convolution."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


def kept_width(width: int, alpha: Real) -> int:
    """Return the width of a control that is narrower by α: w - ⌊αw⌋, which is (1 - α)·w rounded up.

    That is a network in which the channels that α would shuffle are not there, in any layer: what the rest can do.
    """
    return width - channel_slice(width, alpha).stop


def blocks_per_stage(network: str, depth: int) -> int:
    """Return n of depth = 6n + 4: three stages of n blocks of two convolutions, and four layers around them.

    Raises:
        ValueError: no n >= 1 gives this depth.
    """
    n, rest = divmod(depth - 4, 6)
    if rest or n < 1:
        raise ValueError(f"{network}: depth is {depth}, expected 6n + 4 with n >= 1, such as 10 or 16")
    return n


class PreActBlock(nn.Module):
    """BN-ReLU-conv twice beside an identity or, where shapes change, a 1x1 of the first activation.

    `behind` is for a module that ends the branch, in front of the sum; a plain block has none.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = None if same else conv1x1(in_channels, out_channels, stride)
        self.behind: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        out = F.relu(self.norm1(x), inplace=True)
        identity = x if self.shortcut is None else self.shortcut(out)
        out = self.conv1(out)
        out = self.conv2(F.relu(self.norm2(out), inplace=True))
        if self.behind is not None:
            out = self.behind(out)
        return out + identity


class WideResNet(nn.Module):
    """WRN-depth-widen (Zagoruyko & Komodakis 2016) without dropout.

    Args:
        depth: 6n + 4, for n blocks in each of the three stages.
        widen: k; the stages have 16k, 32k and 64k channels.
        num_classes: length of the logits.
        narrower: α of a control in which the channels that α would shuffle are not there: every width w, the stem's
            and the head's too, is w - ⌊αw⌋.

    Raises:
        ValueError: depth is not 6n + 4, or `narrower` no number from 0 to 1.
    """

    def __init__(self, depth: int, widen: int, num_classes: int, *, narrower: Real = 0) -> None:
        super().__init__()
        n = blocks_per_stage("WideResNet", depth)
        stem, *widths = (kept_width(w, narrower) for w in (16, 16 * widen, 32 * widen, 64 * widen))
        self.stem = conv3x3(3, stem)
        self.stage1 = self._stage(n, stem, widths[0], stride=1)
        self.stage2 = self._stage(n, widths[0], widths[1], stride=2)
        self.stage3 = self._stage(n, widths[1], widths[2], stride=2)
        self.norm = nn.BatchNorm2d(widths[2])
        self.head = nn.Linear(widths[2], num_classes)
        init_he(self)

    @staticmethod
    def _stage(n: int, in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
        first = PreActBlock(in_channels, out_channels, stride)
        return nn.Sequential(first, *(PreActBlock(out_channels, out_channels, 1) for _ in range(n - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits (N, num_classes)."""
        x = self.stem(x)  # (N, 16, H, W)
        x = self.stage3(self.stage2(self.stage1(x)))  # (N, 64k, H/4, W/4)
        x = F.relu(self.norm(x), inplace=True)
        return self.head(x.mean((2, 3)))


class DenseLayer(nn.Module):
    """BN-ReLU-1x1 to 4k channels, BN-ReLU-3x3 to k channels, appended to the input."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv1x1(in_channels, 4 * growth)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = conv3x3(4 * growth, growth)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + k, H, W)."""
        new = self.conv1(F.relu(self.norm1(x), inplace=True))
        new = self.conv2(F.relu(self.norm2(new), inplace=True))
        return torch.cat((x, new), 1)


class Transition(nn.Module):
    """BN-ReLU-1x1 and 2x2 average pooling between two dense blocks."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = conv1x1(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H/2, W/2)."""
        return F.avg_pool2d(self.conv(F.relu(self.norm(x), inplace=True)), 2)


class DenseNetBC(nn.Module):
    """DenseNet-BC (Huang et al. 2017) with three dense blocks, bottlenecks of 4k and a stem of 2k channels.

    Args:
        depth: 6n + 4, for n layers in each dense block.
        growth: k, the channels that a layer appends.
        num_classes: length of the logits.
        compression: θ, the part of the channels that a transition keeps.

    Raises:
        ValueError: depth is not 6n + 4.
    """

    def __init__(self, depth: int, growth: int, num_classes: int, compression: float = 0.5) -> None:
        super().__init__()
        n = blocks_per_stage("DenseNetBC", depth)
        width = 2 * growth
        self.stem = conv3x3(3, width)
        for block in (1, 2, 3):
            layers = [DenseLayer(width + i * growth, growth) for i in range(n)]
            self.add_module(f"block{block}", nn.Sequential(*layers))
            width += n * growth
            if block < 3:
                kept = int(width * compression)
                self.add_module(f"transition{block}", Transition(width, kept))
                width = kept
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits (N, num_classes)."""
        x = self.stem(x)  # (N, 2k, H, W)
        x = self.transition1(self.block1(x))  # (N, C1, H/2, W/2)
        x = self.transition2(self.block2(x))  # (N, C2, H/4, W/4)
        x = F.relu(self.norm(self.block3(x)), inplace=True)
        return self.head(x.mean((2, 3)))


class Bottleneck(nn.Module):
    """1x1, grouped 3x3, 1x1, each with BN, around an identity or a 1x1 projection, ReLU after the sum."""

    def __init__(self, in_channels: int, width: int, out_channels: int, groups: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv1x1(in_channels, width)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride, groups)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, out_channels)
        self.norm3 = nn.BatchNorm2d(out_channels)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            projection = conv1x1(in_channels, out_channels, stride)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        out = F.relu(self.norm1(self.conv1(x)), inplace=True)
        out = F.relu(self.norm2(self.conv2(out)), inplace=True)
        out = self.norm3(self.conv3(out))
        identity = x if self.shortcut is None else self.shortcut(x)
        return F.relu(out + identity, inplace=True)


class ResNeXt29(nn.Module):
    """ResNeXt-29 (Xie et al. 2017): a 3x3 stem and three stages of three bottlenecks.

    Args:
        cardinality: groups of the 3x3 convolutions.
        base_width: channels of one group in the first stage; doubles with each stage.
        num_classes: length of the logits.
        stem_width: channels of the stem.
        out_width: channels that the first stage gives out; doubles with each stage.
    """

    def __init__(
        self, cardinality: int, base_width: int, num_classes: int, *, stem_width: int = 64, out_width: int = 256
    ) -> None:
        super().__init__()
        self.stem = conv3x3(3, stem_width)
        self.norm = nn.BatchNorm2d(stem_width)
        in_channels = stem_width
        for stage, scale in enumerate((1, 2, 4), start=1):
            width, out_channels = cardinality * base_width * scale, out_width * scale
            first = Bottleneck(in_channels, width, out_channels, cardinality, stride=1 if stage == 1 else 2)
            rest = (Bottleneck(out_channels, width, out_channels, cardinality) for _ in range(2))
            self.add_module(f"stage{stage}", nn.Sequential(first, *rest))
            in_channels = out_channels
        self.head = nn.Linear(in_channels, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits (N, num_classes)."""
        x = F.relu(self.norm(self.stem(x)), inplace=True)
        x = self.stage3(self.stage2(self.stage1(x)))  # (N, 4 * out_width, H/4, W/4)
        return self.head(x.mean((2, 3)))
