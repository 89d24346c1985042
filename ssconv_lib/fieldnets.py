"""The three networks of Fig. 3 before any training, with images of noise to look through them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .effective import settle
from .imagefolder import Images
from .models import IMAGENET, Size
from .receptive_field import reach
from .run import Run
from .seeds import stream
from .training import build_model

BOX, OTHER_BOX = (96, 128), (64, 96)  # Sec. 5.1's two blue boxes, in pixels of 224
PLAIN, SHUFFLED, GATED = "ResNet50", "ResNet50 + ss", "SEResNet50"  # the rows of Fig. 3
CHANNEL = 64  # of Fig. 4, counted from 0
STAGES = {1: 3, 2: 4, 3: 6, 4: 3}  # Table 5
LAYERS = ["conv1", "maxpool", *[f"layer{stage}.{block}" for stage, n in STAGES.items() for block in range(n)]]


def noise(count: int, size: Size = IMAGENET) -> Tensor:
    """Draw images from N(0, 1), Tensor[count, C, H, W]: no place in them is special."""
    return torch.randn(count, *size, generator=stream(0, "noise images"))


def untrained(name: str, alpha: float, images: Tensor, pi_seed: int = 0) -> nn.Module:
    """Build an ImageNet network as a run starts from it, with the batch norm statistics of the first 8 images.

    Args:
        name: For `create_model`.
        alpha: α; 0 is the plain network.
        images: Tensor[N, 3, 224, 224].
        pi_seed: Of the permutations.
    """
    run = Run(data=Images(folder="imagenet"), model=name, alpha=alpha, pi_seed=pi_seed)
    return settle(build_model(run, 1000, IMAGENET), [images[:8]])


def trio(alpha: float, images: Tensor) -> dict[str, nn.Module]:
    """Build the three networks of Fig. 3, named as the paper's rows."""
    plain, gated = (untrained(name, 0, images) for name in ("resnet50", "seresnet50"))
    return {PLAIN: plain, SHUFFLED: untrained("resnet50", alpha, images), GATED: gated}


def reaches(models: Mapping[str, nn.Module], layers: Sequence[str] = LAYERS) -> dict[str, dict[str, Tensor]]:
    """Return each model's `reach` of the box [96, 128), layer by layer."""
    return {name: reach(model, layers, IMAGENET, box=BOX) for name, model in models.items()}


def classical_chain(model: nn.Module) -> dict[str, list[tuple[int, int]]]:
    """List, for each of `LAYERS`, (kernel, stride) of what lies on the longest way to it in torchvision's ResNet50."""
    chain, upto = [], {}
    for name in LAYERS:
        module = model.get_submodule(name)
        spatial = getattr(module, "conv2", module)  # of a bottleneck the 3x3; its 1x1s see one position
        kernel, stride = spatial.kernel_size, spatial.stride
        chain.append((kernel, stride) if isinstance(kernel, int) else (kernel[0], stride[0]))
        upto[name] = [*chain]
    return upto
