"""What a probe gets and gives: a trained network with images, and its answers under one condition after another.

A probe is a function of a `Subject` that yields `Outcome`s, in an order of its own, and leaves the network as it was.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .data import Batches, Data, Split
from .imagefolder import FolderData, FolderSplit
from .loader import FolderBatches, make_batches
from .proberun import PROBES, ProbeRun
from .seeds import stream
from .training import EVALUATION_BATCH

Condition = dict[str, str | int | float | bool | None]
TRAINING_IMAGES = 2048  # that batch norm statistics are estimated on anew: 32 steps of the paper's CIFAR-10 runs


@dataclass(frozen=True)
class Outcome:
    """What a network answered under one condition.

    Attributes:
        condition: What was done, and with what; no two outcomes of a probe have the same. A number that was found,
            such as a share of answers that agree, can stand here too.
        wrong: bool Tensor[N], whether the first answer is wrong (or what `condition` says it means), in the order of
            `Subject.test_batches`.
        answers: int64 Tensor[N], the first answers, for who looks at them; no record has them.
    """

    condition: Condition
    wrong: Tensor
    answers: Tensor | None = None


@dataclass(frozen=True)
class Subject:
    """A trained network, and the images that it is asked about.

    Attributes:
        run: The probe; `run.network` is the training run, `run.draws` and `run.seed` are for what is drawn.
        model: The network in evaluation mode, on the device; a probe leaves it as it was.
        data: Its data set; `data.test` has only the images that the probe asks about, see `choose_images`.
        device: Where the network is, "cpu" or "cuda".
        loaders: Processes that decode the images of a folder.
    """

    run: ProbeRun
    model: nn.Module
    data: Data | FolderData
    device: torch.device | str = "cpu"
    loaders: int = 0

    def test_batches(self) -> Batches | FolderBatches:
        """The images that are asked about, always the same in the same order: `for images, labels in ….epoch(0)`.

        Of an image folder, with loaders, each call starts processes of its own: keep what it returns.
        """
        return self._batches(self.data, "test", EVALUATION_BATCH, train=False)

    def train_batches(self, images: int = TRAINING_IMAGES, *, augment: bool = False) -> Batches | FolderBatches:
        """So many training images in batches as in training, in a random order; the same for the same `run.seed`.

        Args:
            images: Drawn without replacement from the training set, at most all.
            augment: Whether they are augmented as in training.
        """
        count = len(self.data.train)
        index = torch.randperm(count, generator=stream(self.run.seed, "probe"))[:images]
        part = replace(self.data, train=_some(self.data.train, index))
        network = self.run.network
        return self._batches(part, "train", network.bn_batch or network.batch_size, train=augment)

    def _batches(self, data: Data | FolderData, which: str, size: int, *, train: bool) -> Batches | FolderBatches:
        loaders = self.loaders if isinstance(data, FolderData) else 0
        return make_batches(data, which, size, seed=self.run.seed, train=train, device=self.device, loaders=loaders)


def choose_images(data: Data | FolderData, images: int | None) -> Data | FolderData:
    """Return the data set with so many of its test images; None is all of them.

    They are the first, in the order that a data set in memory has, which is as good as random; a folder's files are
    sorted by class, and are taken at even distances, so that each class has its share.

    Raises:
        ValueError: there are not so many.
    """
    if images is None:
        return data
    count = len(data.test)
    if images > count:
        raise ValueError(f"images = {images} of a probe: there are {count} test images; leave it out for all of them")
    index = torch.arange(images)
    if isinstance(data, FolderData):
        index = index * count // images
    return replace(data, test=_some(data.test, index))


def find_probe(name: str) -> Callable[[Subject], Iterator[Outcome]]:
    """Return the function of a probe, from the module that `PROBES` names."""
    module, function = PROBES[name].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), function)


def ablation(subject: Subject) -> Iterator[Outcome]:
    """The shuffle of block after block taken out (Eq. 5) and replaced by controls, see `ablation.ablate`."""
    from .ablation import ablate

    test, train = subject.test_batches(), subject.train_batches(augment=True)
    for condition, wrong in ablate(subject.model, test, train, draws=subject.run.draws, seed=subject.run.seed):
        yield Outcome(condition, wrong)


def _some(split: Split | FolderSplit, index: Tensor) -> Split | FolderSplit:
    if isinstance(split, FolderSplit):
        return replace(split, names=[split.names[k] for k in index.tolist()], labels=split.labels[index])
    index = index.to(split.labels.device)
    return Split(split.images[index], split.labels[index])
