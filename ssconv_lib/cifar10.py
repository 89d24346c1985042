"""CIFAR-10: from an image folder or torchvision's archive into one canonical, checked pair of arrays.

Both sources hold the same images in different orders. Sorted by content they give the same bits, so a run's
record does not depend on where the images came from, and a fingerprint can say that they are CIFAR-10's.
The fingerprint guards the cache as well: what does not have it is never used.
"""

import functools
import hashlib
import shutil
import socket
import tarfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from .fields import check_types
from .files import sweep, temporary_name, write_whole
from .progress import bar

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIZE = 32
# of the 50,000 training images' red, green and blue values, scaled to [0, 1]
MEAN = (0.49139968, 0.48215841, 0.44653091)
STD = (0.24703223, 0.24348513, 0.26158784)
# the validation images are the first of a permutation of the canonical training order drawn with this seed
SPLIT_SEED = 0
PATIENCE = 60  # seconds without a byte, after which a download is given up

Arrays = tuple[np.ndarray, np.ndarray]  # images (N, 32, 32, 3) and labels (N,), both uint8


@dataclass(frozen=True)
class Facts:
    """What the data set is known to be: images a class, the validation set's size, fingerprints."""

    per_class: Mapping[str, int]
    validation: int
    fingerprint: Mapping[str, str]


FACTS = Facts(
    per_class={"train": 5000, "test": 1000},
    validation=5000,
    fingerprint={
        "train": "eae9cb1bbf475c84300a7ae0fe2e7e61d209fccaa87e3a7b9a846b5a80b39b7c",
        "test": "c9da746b9983ca32c6eafa6a621b1c784ff4c7e13e76e59134cf57c2b69654a7",
    },
)


@dataclass(frozen=True)
class Cifar10:
    """CIFAR-10, with the paper's preprocessing by default (Sec. 4.1).

    Attributes:
        normalise: By the data set's mean and sd of each colour ("dataset"), or every image by the mean and sd
            of all its own values ("gcn"); the paper's "global contrast normalization" can be read both ways.
        evaluate: "test" fits the 50,000 training images and reads the 10,000 test images, as the paper does;
            "validation" fits 45,000 and reads the other 5,000, and leaves the test set alone.
        augment: Whether training images are moved by up to 4 pixels and flipped.
    """

    name: ClassVar[str] = "cifar10"
    normalise: Literal["dataset", "gcn"] = "dataset"
    evaluate: Literal["test", "validation"] = "test"
    augment: bool = True

    def __post_init__(self) -> None:
        check_types(self)


def read(root: Path) -> dict[str, Arrays]:
    """Reads both splits in canonical order, from the cache under `root` when it is whole.

    Looks for `root/cache`, then `root/cifar10/{train,test}/<class>/*.png`, then torchvision's archive in
    `root`, which is downloaded when there is none of these.

    Raises:
        ValueError: naming the file or folder which is damaged or is not CIFAR-10's.
        FileNotFoundError: saying which file to put where, when nothing is there and the download fails.
    """
    cached = {which: _read_cache(root, which) for which in FACTS.per_class}
    if all(cached.values()):
        return cached
    folder = root / "cifar10"
    source = _read_folder(folder) if folder.is_dir() else _read_archive(root)
    splits = {which: canonical(*arrays) for which, arrays in source.items()}
    for which, arrays in splits.items():
        if (found := fingerprint(*arrays)) != FACTS.fingerprint[which]:
            raise ValueError(
                f"the {which} images in {folder if folder.is_dir() else root} can be read, but are not CIFAR-10's: "
                f"their fingerprint is {found}, and not {FACTS.fingerprint[which]}; bring them again, see "
                "data/README.md"
            )
    for which, arrays in splits.items():
        _write_cache(root, which, arrays)
    return splits


def canonical(images: np.ndarray, labels: np.ndarray) -> Arrays:
    """Sorts images by the SHA-1 of their pixels, then by label, whatever order they came in."""
    images = np.ascontiguousarray(images)  # the archive has colours first
    digests = [hashlib.sha1(image).digest() for image in images]
    order = sorted(range(len(images)), key=lambda k: (digests[k], labels[k]))
    return images[order], labels[order]


def fingerprint(images: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 over the types, shapes and bytes of both arrays."""
    total = hashlib.sha256()
    for array in (images, labels):
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()


def _cache_files(root: Path, which: str) -> list[Path]:
    return [root / "cache" / f"cifar10-{which}-{part}.npy" for part in ("images", "labels")]


def _read_cache(root: Path, which: str) -> Arrays | None:
    files = _cache_files(root, which)
    if not all(file.exists() for file in files):
        return None
    with suppress(Exception):  # np.load fails in many ways on a truncated or foreign file, all meaning the same
        images, labels = (np.load(file, allow_pickle=False) for file in files)
        if fingerprint(images, labels) == FACTS.fingerprint[which]:
            return images, labels
    warnings.warn(f"the cache {files[0]} (or its labels) is damaged and will be made again", stacklevel=4)
    return None


def _write_cache(root: Path, which: str, arrays: Arrays) -> None:
    sweep(root / "cache")
    for file, array in zip(_cache_files(root, which), arrays, strict=True):
        try:
            write_whole(file, functools.partial(np.save, arr=array, allow_pickle=False))
        except OSError as error:  # a full disk, a data folder that is read-only: slower, but no reason to stop
            warnings.warn(f"the cache {file} was not written: {error}", stacklevel=4)


def _read_folder(folder: Path) -> dict[str, Arrays]:
    """Decodes `folder/{train,test}/<class>/*.png`; the sorted class names give the labels, as in ImageFolder."""
    files = {which: _list_split(folder / which, count) for which, count in FACTS.per_class.items()}
    progress = bar(total=sum(map(len, files.values())), desc="CIFAR-10", unit=" images")
    splits = {}
    for which, names in files.items():
        images = np.empty((len(names), SIZE, SIZE, 3), dtype=np.uint8)
        labels = np.empty(len(names), dtype=np.uint8)
        for k, (label, file) in enumerate(names):
            images[k], labels[k] = _decode(file), label
            progress.update()
        splits[which] = images, labels
    return splits


def _list_split(folder: Path, count: int) -> list[tuple[int, Path]]:
    remedy = f"remove {folder.parent} and unpack the data set again, or remove it to read torchvision's archive"
    there = {path.name for path in folder.glob("*/")} if folder.is_dir() else set()
    for name in sorted(there ^ set(CLASSES)):
        state = "is missing" if name in CLASSES else "is no class of CIFAR-10"
        raise ValueError(f"the folder {folder / name} {state}: {remedy}")
    files = []
    for label, name in enumerate(CLASSES):
        found = sorted((folder / name).glob("*.png"))
        if len(found) != count:
            raise ValueError(f"{folder / name} holds {len(found)} images (*.png), and not {count}: {remedy}")
        files += [(label, file) for file in found]
    return files


def _decode(file: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(file, formats=("PNG",)) as image:
            found = f"{image.mode} of {image.width}x{image.height} pixels"
            if found == f"RGB of {SIZE}x{SIZE} pixels":  # by the header: a vast one is not decoded
                return np.asarray(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow has many complaints about a damaged PNG
        raise ValueError(f"{file} is damaged ({error}): replace it, or unpack the data set again") from error
    raise ValueError(
        f"{file} is {found}, and not RGB of {SIZE}x{SIZE} pixels: replace it, or unpack the data set again"
    )


def _read_archive(root: Path) -> dict[str, Arrays]:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    if (root / CIFAR10.base_folder).is_dir():
        return dict(_read_batches(root))
    root.mkdir(parents=True, exist_ok=True)
    archive = root / CIFAR10.filename
    sweep(root)
    scratch = temporary_name(archive)  # a place of its own: nothing half done stays, and two processes do not meet
    scratch.mkdir()
    try:
        if not archive.exists():
            _download(archive, scratch)
        elif not check_integrity(archive, CIFAR10.tgz_md5):
            raise ValueError(f"{archive} is damaged (its MD5 is not {CIFAR10.tgz_md5}): remove it and bring it again")
        _unpack(archive, scratch)
        return dict(_read_batches(scratch))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack into a folder, and nothing outside of it: torchvision's own leaves that to the Python that it runs on."""
    try:
        with tarfile.open(archive) as parts:
            parts.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise ValueError(f"{archive} is damaged ({error}): remove it and bring it again") from error


def _download(archive: Path, scratch: Path) -> None:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)  # torchvision would wait for ever
    try:
        download_url(CIFAR10.url, str(scratch), archive.name, CIFAR10.tgz_md5)
    except (OSError, RuntimeError, HTTPException) as error:  # no network; a file of another MD5
        raise FileNotFoundError(
            f"CIFAR-10 is not in {archive.parent} and {CIFAR10.url} can't be had ({error}): put that file there as "
            f"{archive}, or image folders as {archive.parent / 'cifar10'}/{{train,test}}/<class>/*.png, or run "
            "`make data` where there is a network"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    (scratch / archive.name).replace(archive)


def _read_batches(folder: Path) -> Iterator[tuple[str, Arrays]]:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    unpacked = folder / CIFAR10.base_folder
    listed = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
    for name, md5 in listed:  # they are pickles: read nothing before its checksum held
        if not check_integrity(unpacked / name, md5):
            raise ValueError(f"{unpacked / name} is missing or damaged: remove the folder {unpacked} and start again")
    for which in FACTS.per_class:
        batches = CIFAR10(str(folder), train=which == "train")
        yield which, (batches.data, np.asarray(batches.targets, dtype=np.uint8))
