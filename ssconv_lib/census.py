"""What the paper's ImageNet networks are, counted on the networks themselves: parameters, convolutions, stages.

All on the meta device: shapes without values, a fraction of a second a network.
"""

import pandas as pd
import torch
from torch import Tensor, nn

from . import paper
from .convert import READINGS, shuffle_summary
from .cost import cost
from .models import create_model

NETWORKS = ("resnet50", "resnet50_abn", "seresnet50", "densenet121", "resnext50_32x4d")  # Table 3's, in its order
IMAGE = (3, 224, 224)
CLASSES = 1000


def networks(alpha: float, layout: str = "auto") -> pd.DataFrame:
    """Count parameters, multiply-accumulates and what is shuffled at α, in each network of Table 3.

    Returns:
        A row for each: model, parameters, GMAC (of one image of 224×224), convs, converted, active (those that shuffle
        at least one channel), channels (shuffled, in all), moved (values an image).
    """
    rows = []
    for name in NETWORKS:
        with torch.device("meta"):
            counts = cost(_shuffling(name, alpha, layout=layout), IMAGE)
        counts["GMAC"] = counts["macs"] / 1e9
        kept = ("parameters", "GMAC", "convs", "converted", "active", "channels", "moved")
        rows.append({"model": name, **{column: counts[column] for column in kept}})
    return pd.DataFrame(rows)


def readings(alpha: float) -> pd.DataFrame:
    """Count what each reading of "except for downsampling layers" (Sec. 4.1) converts, in each network of Table 3.

    Returns:
        A row for each network and reading: model, reading, convs, converted, channels and moved, as in `networks`.
    """
    rows = []
    for name in NETWORKS:
        for reading in READINGS:
            with torch.device("meta"):
                counts = shuffle_summary(_shuffling(name, alpha, replace=reading))
            counts["moved"] = counts.pop("positions")
            rows.append({"model": name, "reading": reading, **counts})
    return pd.DataFrame(rows)[["model", "reading", "convs", "converted", "channels", "moved"]]


def stages() -> pd.DataFrame:
    """Table 5 from the network: the size of each stage's output, and what the box of 32×32 pixels is there.

    Returns:
        A row for each stage: layer, channels, height, width, box (pixels a side: 32 over the stage's stride), the
        paper's height, width and box, and whether all agree.
    """
    with torch.device("meta"), torch.no_grad():
        model = create_model("resnet50", num_classes=CLASSES).eval()
        shapes = _shapes(model, ["conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"])
    printed = paper.table(5)
    printed = printed[printed["box_height"].notna() & (printed["layer"] != "input")]
    rows = []
    for shape, row in zip(shapes, printed.to_dict("records"), strict=True):
        _, channels, height, width = shape
        ours = (height, width, 32 * height // IMAGE[1])
        theirs = tuple(int(row[name]) for name in ("output_height", "output_width", "box_height"))
        names = ("height", "width", "box")
        columns = dict(zip(names, ours, strict=True)) | dict(zip((f"paper {n}" for n in names), theirs, strict=True))
        rows.append({"layer": row["layer"] or "pool", "channels": channels, **columns, "agrees": ours == theirs})
    return pd.DataFrame(rows)


def _shuffling(name: str, alpha: float, *, layout: str = "auto", replace: str = "paper") -> nn.Module:
    return create_model(name, num_classes=CLASSES, alpha=alpha, input_size=IMAGE, layout=layout, replace=replace)


def _shapes(model: nn.Module, layers: list[str]) -> list[tuple[int, ...]]:
    """The output shapes of some layers for one image."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> None:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            shapes[name] = tuple(output.shape)

        model.get_submodule(name).register_forward_hook(hook)

    for name in layers:
        note(name)
    model(torch.zeros(1, *IMAGE))
    return [shapes[name] for name in layers]
