"""From the description of a data set to batches on the device.

A data set that fits stays as it is on disk (CIFAR-10: uint8) and lives on the device; augmentation and normalisation
work on whole batches there. Nothing in a batch waits for the host. Image folders are read by `loader`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import cifar10, longrange, pathfinder, paths
from .cifar10 import Cifar10
from .fields import from_mapping
from .imagefolder import FolderData, Images, read_folder
from .longrange import LongRange
from .pathfinder import Pathfinder
from .seeds import stream

__all__ = ["Batches", "Cifar10", "Data", "DataSpec", "Images", "LongRange", "Pathfinder", "Split", "load", "parse_spec"]

DataSpec = LongRange | Pathfinder | Cifar10 | Images
KINDS: dict[str, type[DataSpec]] = {kind.name: kind for kind in (LongRange, Pathfinder, Cifar10, Images)}
GENERATED = {LongRange: longrange.generate, Pathfinder: pathfinder.generate}  # on the spot: there is nothing to read
SHIFT = 4  # augmentation moves an image by up to so many pixels, as in the paper (Sec. 4.1)


def parse_spec(fields: Mapping[str, Any]) -> DataSpec:
    """Makes a description of its fields, such as `{"name": "cifar10", "evaluate": "validation"}`.

    Raises:
        ValueError: quoting an unknown name or field, or a value that is not allowed.
    """
    if not isinstance(fields, Mapping):
        raise ValueError(f'the data set is {fields!r}: expected a table, such as {{ name = "cifar10" }}')
    name = fields.get("name")
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(f"the data set's name is {name!r}: choose one of {', '.join(map(repr, KINDS))}")
    return from_mapping(KINDS[name], {key: value for key, value in fields.items() if key != "name"})


@dataclass
class Split:
    """Images and what they show.

    Attributes:
        images: (N, H, W, C) uint8, or (N, C, H, W) float32 that need no normalisation.
        labels: (N,) int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Data:
    """A data set in memory.

    Attributes:
        train: What is fitted.
        test: What is read: the test set, or the validation set.
        num_classes: Labels are 0 .. num_classes - 1.
        input_size: (C, H, W) of a batch.
        normalise: "none", "dataset" (by `mean` and `std`) or "gcn" (every image by its own).
        mean: Of each channel, for values in [0, 1].
        std: Of each channel, for values in [0, 1].
        augment: Whether training batches are moved and flipped.
    """

    train: Split
    test: Split
    num_classes: int
    input_size: tuple[int, int, int]
    normalise: Literal["none", "dataset", "gcn"] = "none"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: bool = False

    def to(self, device: torch.device | str) -> "Data":
        """The same data set with its images and labels on `device`."""
        splits = {
            which: Split(split.images.to(device), split.labels.to(device))
            for which, split in (("train", self.train), ("test", self.test))
        }
        return replace(self, **splits)


def load(spec: DataSpec, root: Path | None = None) -> Data | FolderData:
    """Generates or reads a data set, on the CPU, or lists its files; `root` is `paths.data_dir()` unless it is given.

    Raises:
        ValueError: naming a file or folder that is damaged or holds something else.
        FileNotFoundError: saying what to put where, if CIFAR-10 or an image folder is not there nor to be had.
    """
    if isinstance(spec, Images):
        return read_folder(spec, paths.image_folder(spec.folder, root))
    if generate := GENERATED.get(type(spec)):
        train, test = (_float_split(*generate(spec, which)) for which in ("train", "test"))
        return Data(train, test, num_classes=2, input_size=(3, spec.size, spec.size))
    splits = cifar10.read(root or paths.data_dir())
    train, test = (_uint8_split(*splits[which]) for which in ("train", "test"))
    if spec.evaluate == "validation":
        train, test = _hold_out(train, cifar10.FACTS.validation)
    size = (3, cifar10.SIZE, cifar10.SIZE)
    return Data(train, test, 10, size, spec.normalise, cifar10.MEAN, cifar10.STD, spec.augment)


def _float_split(images: np.ndarray, labels: np.ndarray) -> Split:
    return Split(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels))


def _uint8_split(images: np.ndarray, labels: np.ndarray) -> Split:
    return Split(torch.from_numpy(images), torch.from_numpy(labels).long())


def _hold_out(split: Split, count: int) -> tuple[Split, Split]:
    order = torch.randperm(len(split), generator=stream(cifar10.SPLIT_SEED, "validation"))
    kept, held = order[count:].sort().values, order[:count].sort().values
    return tuple(Split(split.images[index], split.labels[index]) for index in (kept, held))


def choose_split(data: Data | FolderData, which: str, batch_size: int) -> Any:
    """One of a data set's splits; ValueError for an unknown one, or for a batch size below 1."""
    if which not in ("train", "test"):
        raise ValueError(f"which is {which!r}: choose 'train' or 'test'")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: it must be at least 1")
    return getattr(data, which)


def batch_numbers(count: int, start: int, rank: int, ranks: int) -> range:
    """Which of an epoch's batches `start` .. `count` - 1 are those of one rank; ValueError if there can't be such."""
    if not 0 <= start <= count:
        raise ValueError(f"start is {start}: an epoch has {count} batches")
    if not 0 <= rank < ranks:
        raise ValueError(f"rank is {rank}: of {ranks} ranks it must be one of 0 to {ranks - 1}")
    return range(start + (rank - start) % ranks, count, ranks)


class Batches:
    """The batches of one split, epoch after epoch.

    Batch k of epoch e is a function of (seed, e, k) alone, so a run that was stopped goes on with
    `epoch(e, start=k)` and the same bits. Order and augmentation have streams of their own, drawn on the CPU
    for a whole epoch: what happens to an image in an epoch does not depend on its place in the order.

    Args:
        data: The data set; moved to `device` unless it is there.
        which: Its split, "train" or "test".
        batch_size: Images a batch; the last one of an epoch may be smaller.
        seed: Of order and augmentation; without meaning unless `train`.
        train: Whether to shuffle, and to augment where the data set says so.
        device: Where the batches are made.

    Raises:
        ValueError: for an unknown split or a batch size below 1.
    """

    def __init__(
        self,
        data: Data,
        which: Literal["train", "test"],
        batch_size: int,
        *,
        seed: int = 0,
        train: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        split = choose_split(data, which, batch_size)
        images = split.images if split.images.dtype == torch.uint8 else split.images.permute(0, 2, 3, 1)
        self.images = images.to(device).contiguous()  # (N, H, W, C), so that batches are channels_last
        self.labels = split.labels.to(device)
        self.device = self.labels.device
        self.batch_size, self.seed, self.train = batch_size, seed, train
        self.augment = train and data.augment
        self.per_image = data.normalise == "gcn"
        self.scale, self.shift = _normalisation(data, self.images)
        height, width = self.images.shape[1:3]
        self._rows = torch.arange(height, device=device) * (width + 2 * SHIFT)

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches `start`, `start + 1`, … of an epoch, or of these every one whose number modulo `ranks` is `rank`.

        Yields:
            Images (N, C, H, W), float32 in channels_last, and labels (N,), int64, both on the device.

        Raises:
            ValueError: if the epoch has no batch `start`, nor ends there, or `rank` is not below `ranks`.
        """
        return self._epoch(epoch, batch_numbers(len(self), start, rank, ranks))

    def _epoch(self, epoch: int, numbers: range) -> Iterator[tuple[Tensor, Tensor]]:
        plan = self._plan(epoch)
        for k in numbers:
            part = slice(k * self.batch_size, (k + 1) * self.batch_size)
            if not self.train:
                yield self._normalise(self.images[part], part), self.labels[part]
                continue
            index, corner, flip = plan[:, part]
            images = self.images.index_select(0, index)  # (N, H, W, C)
            if self.augment:
                images = self._crop(images, corner, flip)
            yield self._normalise(images, index), self.labels.index_select(0, index)

    def _plan(self, epoch: int) -> Tensor | None:
        """All that is random in an epoch: (3, N), for each place the image, its window's corner, its flip."""
        if not self.train:
            return None
        count = len(self.labels)
        order = torch.randperm(count, generator=stream(self.seed, "order", epoch))
        places = 2 * SHIFT + 1
        draws = torch.randint(2 * places**2, (count,), generator=stream(self.seed, "augment", epoch))[order]
        flip, row, column = draws // places**2, draws // places % places, draws % places
        corner = row * (self.images.shape[2] + 2 * SHIFT) + column
        return torch.stack([order, corner, flip]).to(self.labels.device, non_blocking=True)

    def _crop(self, images: Tensor, corner: Tensor, flip: Tensor) -> Tensor:
        """Windows of the images or of their mirror images, with a black border of `SHIFT` pixels.

        A window's row is consecutive in memory, so that the batch is one copy of whole rows: `corner` and
        `_rows` count in pixels of the padded image.
        """
        count, _, width, channels = images.shape
        padded = F.pad(torch.stack([images, images.flip(2)]), (0, 0, SHIFT, SHIFT, SHIFT, SHIFT))
        number = torch.arange(count, device=images.device) + count * flip
        first = corner + number * padded[0, 0, :, :, 0].numel()
        runs = padded.flatten().unfold(0, width * channels, 1)  # every run of a row's length, without a copy
        starts = (first[:, None] + self._rows) * channels
        return runs.index_select(0, starts.flatten()).view_as(images)

    def _normalise(self, images: Tensor, index: Tensor | slice) -> Tensor:
        values = images.to(torch.float32, copy=True)  # (N, H, W, C)
        if self.scale is not None:
            scale, shift = self.scale, self.shift
            if self.per_image:
                scale, shift = scale[index], shift[index]
            flat = values.view(len(values), -1)
            torch.addcmul(shift, flat, scale, out=flat)
        return values.permute(0, 3, 1, 2)


def _normalisation(data: Data, images: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Scale and shift of a flattened image's values 0..255: (H·W·C,), or (N, 1) for "gcn"."""
    if data.normalise == "none":
        return None, None
    if data.normalise == "gcn":
        parts = [torch.std_mean(part.flatten(1).float(), 1, correction=0) for part in images.split(1000)]
        std, mean = (torch.cat(column)[:, None] for column in zip(*parts, strict=True))
        std = std.clamp_min(1.0)  # an image of one colour has none; 1 is a step of a value
        return 1 / std, -mean / std
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (data.mean, data.std))
    pixels = images[0, :, :, 0].numel()
    return tuple(values.float().repeat(pixels).to(images.device) for values in (1 / (255 * std), -mean / std))
