"""The paper's networks for `torch.hub`, plain or shuffling, without trained weights.

A checkout serves itself: `torch.hub.load("<folder>", "wrn16_4", source="local", num_classes=10, alpha=0.06)`. All
take what `ssconv_lib.models.create_model` takes behind its first argument. The CIFAR networks need torch alone; those
for ImageNet come from torchvision or timm, imported when such a network is built, and named when it is missing.
"""

from typing import Any as _Any  # what can be called and has no underscore would be listed as a network

from torch import nn as _nn

from ssconv_lib.models import create_model as _create_model

dependencies = ["torch"]


def wrn16_4(num_classes: int = 10, **options: _Any) -> _nn.Module:
    """WRN-16-4 for images of 32 pixels (Tables 1 and 2; the paper shuffles with alpha=0.06).

    Args:
        num_classes: length of the logits.
        options: `alpha`, the part of the channels to shuffle, by default 0, the plain network; `input_size`, the
            images' (C, H, W), if not the network's own; `layout`, `replace`, `seed` and `control`, see `create_model`.
    """
    return _create_model("wrn16_4", num_classes=num_classes, **options)


def densenet_bc_100_12(num_classes: int = 10, **options: _Any) -> _nn.Module:
    """DenseNet-BC-100-12 for images of 32 pixels (Table 2, alpha=0.06); arguments as of `wrn16_4`."""
    return _create_model("densenet_bc_100_12", num_classes=num_classes, **options)


def resnext29_2x64d(num_classes: int = 10, **options: _Any) -> _nn.Module:
    """ResNeXt-29 (2x64d) for images of 32 pixels (Table 2, alpha=0.06); arguments as of `wrn16_4`."""
    return _create_model("resnext29_2x64d", num_classes=num_classes, **options)


def resnet50(num_classes: int = 1000, **options: _Any) -> _nn.Module:
    """ResNet50 for images of 224 pixels (Table 3, alpha=0.04), torchvision's; arguments as of `wrn16_4`."""
    return _create_model("resnet50", num_classes=num_classes, **options)


def resnet50_abn(num_classes: int = 1000, **options: _Any) -> _nn.Module:
    """ResNet50 with an attention branch (Table 3); gives two logits in training mode; arguments as of `wrn16_4`."""
    return _create_model("resnet50_abn", num_classes=num_classes, **options)


def seresnet50(num_classes: int = 1000, **options: _Any) -> _nn.Module:
    """SEResNet50 for images of 224 pixels (Table 3, alpha=0.04), timm's; arguments as of `wrn16_4`."""
    return _create_model("seresnet50", num_classes=num_classes, **options)


def densenet121(num_classes: int = 1000, **options: _Any) -> _nn.Module:
    """DenseNet121 for images of 224 pixels (Table 3, alpha=0.04), torchvision's; arguments as of `wrn16_4`."""
    return _create_model("densenet121", num_classes=num_classes, **options)


def resnext50_32x4d(num_classes: int = 1000, **options: _Any) -> _nn.Module:
    """ResNeXt-50 (32x4d) for images of 224 pixels (Table 3, alpha=0.04), torchvision's; arguments as of `wrn16_4`."""
    return _create_model("resnext50_32x4d", num_classes=num_classes, **options)
