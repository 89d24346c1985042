"""Attention Branch Network (Fukui et al. 2019): a ResNet that weighs its features by a map of where it looks."""

import torch
from torch import Tensor, nn

from .cifar import conv1x1, conv3x3, init_he


class AttentionBranch(nn.Module):
    """A stage of its own, and from its class-wise responses both an attention map and logits.

    Args:
        stage: Maps the features to (N, channels, h, w), at their size.
        channels: That the stage gives out.
        num_classes: K.
    """

    def __init__(self, stage: nn.Module, channels: int, num_classes: int) -> None:
        super().__init__()
        self.stage = stage
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv = conv1x1(channels, num_classes)
        self.norm2 = nn.BatchNorm2d(num_classes)
        self.relu = nn.ReLU(inplace=True)
        self.logits = conv1x1(num_classes, num_classes)
        self.map = conv3x3(num_classes, 1)
        self.map_norm = nn.BatchNorm2d(1)
        init_he(self)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (N, C, h, w) to the attention map (N, 1, h, w) in (0, 1) and logits (N, num_classes)."""
        responses = self.norm1(self.stage(features))  # (N, channels, h, w)
        responses = self.relu(self.norm2(self.conv(responses)))  # (N, K, h, w)
        attention = torch.sigmoid(self.map_norm(self.map(responses)))  # (N, 1, h, w)
        return attention, self.logits(responses).mean((2, 3))


class AttentionBranchNetwork(nn.Module):
    """A ResNet that is cut after `layer3`, with an attention branch at the cut.

    The features up to the cut go through the branch, whose stage is a copy of `layer4` without its stride, so
    that the map has the features' size; and, weighted by the map, through `layer4` and the head: the perception
    branch. The ResNet's parts keep their names, so its checkpoints load with `strict=False`.

    Args:
        resnet: torchvision's ResNet; its parts become this network's.
        num_classes: K, the length of both logits.
    """

    def __init__(self, resnet: nn.Module, num_classes: int) -> None:
        super().__init__()
        layer4 = resnet.layer4
        resnet.inplanes = layer4[0].conv1.in_channels  # where _make_layer starts from
        stage = resnet._make_layer(type(layer4[0]), 512, len(layer4), stride=1)
        for name, part in resnet.named_children():
            self.add_module(name, part)
        self.attention_branch = AttentionBranch(stage, resnet.inplanes, num_classes)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images (N, 3, H, W) to the perception branch's logits (N, num_classes).

        In training mode both branches' logits come out, perception first: each has its cross-entropy in the loss.
        """
        features = self.features(images)
        # in eval mode too, where nobody reads these logits: a conversion finds the convolutions by such a forward
        attention, attention_logits = self.attention_branch(features)
        logits = self.perceive(features, attention)
        return (logits, attention_logits) if self.training else logits

    def features(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to what both branches share, (N, C, h, w); of ResNet50 (N, 1024, H/16, W/16)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (N, 64, H/4, W/4)
        return self.layer3(self.layer2(self.layer1(x)))

    def perceive(self, features: Tensor, attention: Tensor) -> Tensor:
        """Map features (N, C, h, w), weighted by a map (N, 1, h, w), to logits (N, num_classes).

        The weight is 1 + map (the paper's residual form), so that a map of zeros leaves the plain ResNet.
        """
        x = self.layer4(features * (1 + attention))  # (N, 2048, h/2, w/2)
        return self.fc(self.avgpool(x).flatten(1))

    def attention_map(self, images: Tensor) -> Tensor:
        """Return the attention map (N, 1, h, w), in (0, 1), of images (N, 3, H, W); meant for eval mode."""
        return self.attention_branch(self.features(images))[0]
