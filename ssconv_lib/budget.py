"""What the paper's ImageNet runs would take on a device, from what it did on smaller ones."""

from collections.abc import Sequence

import pandas as pd
import torch

from .cost import cost
from .models import create_model
from .plan import Profile
from .run import Run

IMAGES = 1_281_167  # of ImageNet-1k's training set; Russakovsky et al. 2015
CLASSES = {"imagenet": 1000, "imagenette160": 10}
DAY = 86_400
PRICE = 2.0  # of a GPU, an hour: about what a cloud's data-centre GPU cost in 2026; put in your own
GPU = "GPU|NVIDIA|Instinct"  # in the name of a device that the price is for
BACKWARD = 2  # the backward takes about two forwards' multiply-accumulates


def macs(model: str, pixels: int, classes: int = CLASSES["imagenet"]) -> int:
    """Multiply-accumulates of a network's forward on one image of so many pixels a side."""
    with torch.device("meta"):
        return cost(create_model(model, num_classes=classes), (3, pixels, pixels))["macs"]


def measured_rates(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """How fast each device trained each network on ImageNet's images, or a part of them, as the records have it.

    Args:
        frames: From `study.frame`.

    Returns:
        A row for each device, number of processes, network and size: device, processes, model, pixels, precision, runs,
        images_per_second (of all processes together; the median over runs, loading included, several runs at once
        where they were) and GMAC_per_second, of forward and backward.
    """
    rows = []
    for frame in frames:
        measured = frame[["n_train", "pixels", "train_seconds"]].notna().all(axis=1)
        runs = frame[measured & frame["data"].isin(CLASSES)]
        keys = ["device", "processes", "data", "model", "pixels", "precision"]
        for key, group in runs.groupby(keys, sort=False):
            rate = (group["n_train"] * group["epochs"] / group["train_seconds"]).median()
            row = dict(zip(keys, key, strict=True))
            work = (1 + BACKWARD) * macs(row["model"], int(row["pixels"]), CLASSES[row.pop("data")])
            rows.append({**row, "runs": len(group), "images_per_second": rate, "GMAC_per_second": rate * work / 1e9})
    columns = ["device", "processes", "model", "pixels", "precision", "runs", "images_per_second", "GMAC_per_second"]
    return pd.DataFrame(rows, columns=columns)


def work(profile: Profile, studies: Sequence[str]) -> pd.DataFrame:
    """Count what a profile's runs on ImageNet-1k have to compute; one that two studies ask for counts once.

    Returns:
        A row for each study and network: study, model, runs, images (all epochs of all runs) and EMAC, 10¹⁸
        multiply-accumulates of forward and backward.
    """
    asked = {run.hash: (study, run) for study in reversed(studies) for run in profile.runs(study)}
    rows = []
    for study in studies:
        own = [run for asking, run in asked.values() if asking == study]
        for model in dict.fromkeys(run.model for run in own):
            runs = [run for run in own if run.model == model]
            images = sum(run.epochs * _fitted(run) for run in runs)
            work = images * (1 + BACKWARD) * macs(model, runs[0].data.pixels)
            rows.append({"study": study, "model": model, "runs": len(runs), "images": images, "EMAC": work / 1e18})
    return pd.DataFrame(rows)


def estimate(
    rates: pd.DataFrame, planned: pd.DataFrame, *, price: float, devices: Sequence[int] = (1, 8)
) -> pd.DataFrame:
    """Estimate the days and the money that the planned work takes on devices whose rate is known.

    What it assumes: that a device does as many multiply-accumulates a second on large images and networks as it did
    on the measured ones, in the precision of these, and that several devices share the work without loss.

    Args:
        rates: From `measured_rates`.
        planned: From `work`.
        price: Of one GPU, an hour.
        devices: For so many devices each.

    Returns:
        The rows of `rates`, with `days, 1 device`, `days, 8 devices`, … and, of GPUs, `money`: the same for any number.
    """
    of_one = rates["GMAC_per_second"] / rates["processes"]
    days = 1e9 * planned["EMAC"].sum() / of_one / DAY
    columns = {f"days, {n} device{'s' if n > 1 else ''}": days / n for n in devices}
    is_gpu = rates["device"].astype(str).str.contains(GPU)
    return rates.assign(**columns, money=(days * 24 * price).where(is_gpu))


def _fitted(run: Run) -> int:
    """ImageNet-1k's training images, less the tenth that is held out to choose α."""
    return IMAGES - IMAGES // 10 if run.data.evaluate == "validation" else IMAGES
