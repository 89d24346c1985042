"""The networks by name, plain or with spatial shuffling."""

import difflib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

from ..convert import convert_to_ssconv
from .cifar import DenseNetBC, ResNeXt29, WideResNet
from .imagenet import from_torchvision, resnet, resnet_abn, seresnet
from .peers import LongRangeDilated, LongRangeGCNet, wide_resnet_dilated, wide_resnet_gc, wide_resnet_se
from .toy import LongRangeCNN, LongRangeResNet, LongRangeResNeXt, LongRangeSENet

Size = tuple[int, int, int]


class Entry(NamedTuple):
    """A factory, called with `num_classes`, and the size (C, H, W) of the images it is made for."""

    factory: Callable[..., nn.Module]
    input_size: Size


CIFAR: Size = (3, 32, 32)
IMAGENET: Size = (3, 224, 224)
LONG_RANGE: Size = (3, 24, 24)

# A factory whose network comes from an optional package imports that package when it is called.
MODELS: dict[str, Entry] = {
    "wrn16_4": Entry(partial(WideResNet, 16, 4), CIFAR),
    "wrn16_1": Entry(partial(WideResNet, 16, 1), CIFAR),
    "wrn10_2": Entry(partial(WideResNet, 10, 2), CIFAR),
    "wrn10_1": Entry(partial(WideResNet, 10, 1), CIFAR),
    "densenet_bc_100_12": Entry(partial(DenseNetBC, 100, 12), CIFAR),
    "densenet_bc_40_12": Entry(partial(DenseNetBC, 40, 12), CIFAR),
    "resnext29_2x64d": Entry(partial(ResNeXt29, 2, 64), CIFAR),
    # 2x64d with every width divided by four: the same proportions, the same convolutions converted.
    "resnext29_2x16d": Entry(partial(ResNeXt29, 2, 16, stem_width=16, out_width=64), CIFAR),
    "resnet50": Entry(partial(resnet, "resnet50", (3, 4, 6, 3)), IMAGENET),
    "resnet50_abn": Entry(partial(resnet_abn, "resnet50_abn", (3, 4, 6, 3)), IMAGENET),
    "seresnet50": Entry(partial(seresnet, "seresnet50", (3, 4, 6, 3)), IMAGENET),
    "densenet121": Entry(partial(from_torchvision, "densenet121"), IMAGENET),
    "resnext50_32x4d": Entry(partial(from_torchvision, "resnext50_32x4d"), IMAGENET),
    # one bottleneck a stage: small members, for images of 64 to 96 pixels on a CPU
    "resnet14": Entry(partial(resnet, "resnet14", (1, 1, 1, 1)), IMAGENET),
    "resnet14_abn": Entry(partial(resnet_abn, "resnet14_abn", (1, 1, 1, 1)), IMAGENET),
    "seresnet14": Entry(partial(seresnet, "seresnet14", (1, 1, 1, 1)), IMAGENET),
    "long_range_cnn": Entry(LongRangeCNN, LONG_RANGE),
    "long_range_resnext": Entry(LongRangeResNeXt, LONG_RANGE),
    "long_range_senet": Entry(LongRangeSENet, LONG_RANGE),
    "long_range_resnet": Entry(LongRangeResNet, LONG_RANGE),
    # controls: without the channels that α would shuffle; with the depth to see as far as a shuffle does
    "wrn10_2_narrow06": Entry(partial(WideResNet, 10, 2, narrower=0.06), CIFAR),
    "wrn10_2_narrow25": Entry(partial(WideResNet, 10, 2, narrower=0.25), CIFAR),
    "long_range_narrow0625": Entry(partial(LongRangeCNN, narrower=0.0625), LONG_RANGE),
    "long_range_narrow25": Entry(partial(LongRangeCNN, narrower=0.25), LONG_RANGE),
    "long_range_cnn_d3": Entry(partial(LongRangeCNN, depth=3), LONG_RANGE),
    "long_range_cnn_d6": Entry(partial(LongRangeCNN, depth=6), LONG_RANGE),
    "long_range_cnn_d8": Entry(partial(LongRangeCNN, depth=8), LONG_RANGE),
    # peers: other ways to see the whole image
    "wrn10_2_se": Entry(partial(wide_resnet_se, 10, 2), CIFAR),
    "wrn10_2_gc": Entry(partial(wide_resnet_gc, 10, 2), CIFAR),
    "wrn10_2_dilated": Entry(partial(wide_resnet_dilated, 10, 2), CIFAR),
    "long_range_gcnet": Entry(LongRangeGCNet, LONG_RANGE),
    "long_range_dilated": Entry(LongRangeDilated, LONG_RANGE),
}


def model_names() -> list[str]:
    """Return the names that `create_model` knows."""
    return list(MODELS)


def create_model(
    name: str,
    *,
    num_classes: int,
    alpha: float = 0.0,
    input_size: Size | None = None,
    layout: str = "auto",
    replace: str | Callable[[str, nn.Conv2d], bool] = "paper",
    seed: int = 0,
    control: str = "none",
) -> nn.Module:
    """Build a network by name; with alpha > 0, its convolutions become `SSConv2d` (Sec. 4.1 of the paper).

    The initial weights come from torch's global generator, whatever alpha, layout, replace and seed are: after
    the same `torch.manual_seed`, the plain and the shuffling network start from the same weights.

    Args:
        name: one of `model_names()`.
        num_classes: length of the logits.
        alpha: part of the channels to shuffle, 0 to 1; 0 gives the plain network.
        input_size: (C, H, W) of the images; None takes that of the data set that the network is made for.
        layout: which channels are shuffled, see `SSConv2d`.
        replace: which convolutions are replaced, see `convert_to_ssconv`.
        seed: seed of the permutations π alone.
        control: what the layers do in place of the shuffle, see `SSConv2d`.

    Returns:
        The network in training mode; maps (N, C, H, W) to (N, num_classes). One with an attention branch gives two
        such logits in training mode, see `abn`.

    Raises:
        ValueError: an unknown name, or a value that `convert_to_ssconv` refuses.
        RuntimeError: the package that the network comes from can't be imported.
    """
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown model {name!r}, expected one of {', '.join(MODELS)}{hint}")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}, expected at least 1")
    factory, default_size = MODELS[name]
    model = factory(num_classes=num_classes)
    if alpha == 0:
        return model
    size = default_size if input_size is None else input_size
    options = {"layout": layout, "seed": seed, "replace": replace, "control": control}
    return convert_to_ssconv(model, alpha, input_size=size, **options)
