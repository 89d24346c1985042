"""The paper's ImageNet networks and small members of their families, as torchvision and timm define them.

All are untrained, and each keeps its package's names, so that the package's checkpoints load. Like torchvision's, all
start with γ = 1 in every batch norm. timm's default for the last one of each residual block is γ = 0: SEResNet50 would
then start elsewhere than the ResNet50 beside it in Table 3, and no output would depend on what is shuffled.
"""

from collections.abc import Sequence

from torch import nn

from ..packages import package_of
from .abn import AttentionBranchNetwork


def resnet(name: str, layers: Sequence[int], num_classes: int) -> nn.Module:
    """Build torchvision's ResNet of bottlenecks, stride in the 3x3 (He et al. 2016); `layers` counts them by stage."""
    family = package_of(name, "torchvision").models.resnet
    return family.ResNet(family.Bottleneck, list(layers), num_classes=num_classes)


def resnet_abn(name: str, layers: Sequence[int], num_classes: int) -> AttentionBranchNetwork:
    """Build `resnet`, from the same seed with the same weights, and an attention branch (Fukui et al. 2019)."""
    return AttentionBranchNetwork(resnet(name, layers, num_classes), num_classes)


def seresnet(name: str, layers: Sequence[int], num_classes: int) -> nn.Module:
    """Build timm's SEResNet (Hu et al. 2018): `resnet` and a gate at the end of each residual branch."""
    timm = package_of(name, "timm")
    # overriding the layers of its seresnet50 keeps all else of the family the same
    return timm.create_model(
        "seresnet50", pretrained=False, num_classes=num_classes, layers=tuple(layers), zero_init_last=False
    )


def from_torchvision(name: str, num_classes: int) -> nn.Module:
    """Build a network that `torchvision.models` has under this name."""
    return getattr(package_of(name, "torchvision").models, name)(weights=None, num_classes=num_classes)
