"""Image folders (ImageNet-1k, Imagenette, the user's own): their description, and lists of their files.

A folder of 1.3 million files is listed in seconds, and no file is opened or asked for its size: names are all that
is kept, relative to the folder, so that no record holds a path of one machine.
"""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .fields import check_at_least, check_types, expect
from .paths import OWN_VARIABLES, folder_variable
from .seeds import stream

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
SPLIT_SEED = 0  # of the held-out images; a split that moved would void every record on it
SHOWN = 8  # names in a message


@dataclass(frozen=True)
class Images:
    """An image folder, with ImageNet's usual preprocessing by default.

    The path is no part of the description: the folder is `$SSCONV_IMAGENET` (its name in capitals, with _ for all
    but letters and digits), or that of this name among the data sets.

    Attributes:
        folder: Its plain name, which says which images these are.
        pixels: Height and width of what the network gets.
        resize: The shorter side before the centre crop in evaluation; None is pixels · 256/224, rounded.
        min_area: The smallest share of an image's area that a training crop takes.
        evaluate: "test" fits all of train/ and reads val/, which the literature on ImageNet calls the test set;
            "validation" holds out a tenth of each class of train/, fits the rest, and leaves val/ alone.
        decode: "reduced" lets the JPEG decoder leave out resolution that the crop would lose anyway, "full" doesn't;
            what this gives and what it changes is measured in decode.py.
        corrupt: Whether an image that can't be read ends the run ("refuse"), or is left out of its batch ("skip"),
            whose gradient is then smaller by its part.
    """

    name: ClassVar[str] = "images"
    folder: str = "imagenet"
    pixels: int = 224
    resize: int | None = None
    min_area: float = 0.08
    evaluate: Literal["test", "validation"] = "test"
    decode: Literal["reduced", "full"] = "reduced"
    corrupt: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, pixels=1)
        plain = self.folder.isprintable() and not self.folder.startswith(".") and not {*"/\\"} & {*self.folder}
        expect(self, "folder", bool(self.folder) and plain, "a plain name, such as 'imagenet'; its path goes elsewhere")
        variable = folder_variable(self.folder)
        expect(self, "folder", variable not in OWN_VARIABLES, f"another name: {variable} means something else")
        expect(self, "resize", self.shorter_side >= self.pixels, f"at least pixels, {self.pixels}")
        expect(self, "min_area", 0 < self.min_area <= 1, "a share of the area, above 0 and at most 1")

    @property
    def shorter_side(self) -> int:
        """Pixels of the shorter side before the centre crop."""
        return round(self.pixels * 256 / 224) if self.resize is None else self.resize


@dataclass(frozen=True)
class FolderSplit:
    """Files and what they show.

    Attributes:
        root: The folder of the data set.
        names: Of the N files, below `root`: "train/n01440764/n01440764_10026.JPEG".
        labels: (N,) int64.
    """

    root: str
    names: list[str]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class FolderData:
    """An image folder whose files are still to be read.

    Attributes:
        train: What is fitted.
        test: What is read: val/, or what is held out of train/.
        classes: The names of the classes; labels are their places.
        spec: What is done to an image on its way into a batch.
    """

    train: FolderSplit
    test: FolderSplit
    classes: tuple[str, ...]
    spec: Images

    @property
    def num_classes(self) -> int:
        """Labels are 0 .. num_classes - 1."""
        return len(self.classes)

    @property
    def input_size(self) -> tuple[int, int, int]:
        """(C, H, W) of a batch."""
        return 3, self.spec.pixels, self.spec.pixels

    def to(self, device: torch.device | str) -> "FolderData":
        """The same: files stay where they are, and batches go to the device as they are made."""
        return self


def read_folder(spec: Images, root: Path) -> FolderData:
    """Lists the files of `root/{train,val}/<class>/`, sorted by class and name, without opening one.

    Raises:
        FileNotFoundError: there is no such folder, or no train/ or val/ in it.
        ValueError: a class without images, or other classes in val/ than in train/. Both say what is expected where,
            and what was found.
    """
    classes, files = _list_split(spec, root, "train")
    if spec.evaluate == "validation":
        held = [_held_out(root / "train" / name, names) for name, names in zip(classes, files, strict=True)]
        kept = [[name for name in names if name not in out] for names, out in zip(files, held, strict=True)]
        train = _split(root, "train", classes, kept)
        test = _split(root, "train", classes, [sorted(out) for out in held])
    else:
        others, read = _list_split(spec, root, "val")
        for here, there, lacking in (
            ("train", "val", {*classes} - {*others}),
            ("val", "train", {*others} - {*classes}),
        ):
            if lacking:
                raise ValueError(_message(spec, root, f"{_some(sorted(lacking))} in {here}/, but not in {there}/"))
        train, test = _split(root, "train", classes, files), _split(root, "val", others, read)
    return FolderData(train, test, tuple(classes), spec)


def _list_split(spec: Images, root: Path, which: str) -> tuple[list[str], list[list[str]]]:
    """The classes of one split, and the names of each one's images, all sorted."""
    folder = root / which
    if not folder.is_dir():
        raise FileNotFoundError(_message(spec, root, f"there is no {which}/" if root.is_dir() else "no such folder"))
    with os.scandir(folder) as entries:  # knows which are folders without asking for each, and follows links
        classes = sorted(entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry))
    files = [_list_images(folder / name) for name in classes]
    if not classes:
        raise ValueError(_message(spec, root, f"{which}/ holds no folder of a class"))
    if empty := [name for name, names in zip(classes, files, strict=True) if not names]:
        raise ValueError(_message(spec, root, f"no images ({', '.join(EXTENSIONS)}) in {which}/ for {_some(empty)}"))
    return classes, files


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether this is a folder or a link to one; a link that leads round in a circle is none."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False


def _list_images(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    return sorted(name for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith("."))


def _held_out(folder: Path, names: list[str]) -> set[str]:
    """A tenth of a class's images, at least one; which ones is fixed by the class's name and their sorted names."""
    if len(names) < 2:
        raise ValueError(f'{folder} holds one image: evaluate = "validation" needs two, one to fit and one to read')
    order = torch.randperm(len(names), generator=stream(SPLIT_SEED, "validation", folder.name))
    return {names[k] for k in order[: max(1, len(names) // 10)].tolist()}


def _split(root: Path, which: str, classes: Sequence[str], files: Sequence[Sequence[str]]) -> FolderSplit:
    names = [f"{which}/{label}/{name}" for label, found in zip(classes, files, strict=True) for name in found]
    counts = torch.tensor([len(found) for found in files])
    return FolderSplit(str(root), names, torch.arange(len(classes)).repeat_interleave(counts))


def _message(spec: Images, root: Path, problem: str) -> str:
    lines = [
        f"{root}: {problem}",
        "expected:",
        f"  {root / 'train'}/<class>/*.JPEG (or {', '.join(EXTENSIONS)})",
        f"  {root / 'val'}/<class>/*.JPEG, the same classes",
        f"found: {_found(root)}",
        f"if the images are elsewhere, set {folder_variable(spec.folder)} to their folder, or link it to {root}",
    ]
    return "\n".join(lines)


def _found(root: Path) -> str:
    """What is in the folder, with the number of folders and files of each folder."""
    if not root.is_dir():
        return f"of what is there, {root.parent} holds {_some(_folders(root.parent))}"
    parts = []
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            with os.scandir(entry) as entries:
                kinds = [_is_folder(inner) for inner in entries if not inner.name.startswith(".")]
            parts.append(f"{entry.name}/ ({sum(kinds)} folders, {len(kinds) - sum(kinds)} files)")
        elif not entry.name.startswith("."):
            parts.append(entry.name)
    return _some(parts)


def _folders(folder: Path) -> list[str]:
    return sorted(f"{path.name}/" for path in folder.glob("[!.]*/")) if folder.is_dir() else []


def _some(names: Sequence[str]) -> str:
    """The first names of a list that may be long."""
    if not names:
        return "nothing"
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
