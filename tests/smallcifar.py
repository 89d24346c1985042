"""A CIFAR-10 of 60 images, as arrays and as torchvision's archive has them, for tests that need its files."""

import hashlib
import io
import pickle
import tarfile

import numpy as np
from torchvision.datasets import CIFAR10

from ssconv_lib import cifar10

PER_CLASS = {"train": 4, "test": 2}


def arrays():
    """{which: (images, labels)}, in no order, and the facts that `cifar10` would hold them to."""
    rng, splits = np.random.default_rng(0), {}
    for which, count in PER_CLASS.items():
        labels = rng.permutation(np.repeat(np.arange(10, dtype=np.uint8), count))
        splits[which] = rng.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8), labels
    marks = {which: cifar10.fingerprint(*cifar10.canonical(*split)) for which, split in splits.items()}
    return splits, cifar10.Facts(PER_CLASS, 10, marks)


def packed(splits, outside=()):
    """The archive's bytes, and what torchvision must hold for its checksums; `outside`: names of more members."""
    flat = {which: images.transpose(0, 3, 1, 2).reshape(-1, 3072) for which, (images, _) in splits.items()}
    labels = {which: labels.tolist() for which, (_, labels) in splits.items()}
    batches = {
        "data_batch_1": {"data": flat["train"][:25], "labels": labels["train"][:25]},
        "data_batch_2": {"data": flat["train"][25:], "labels": labels["train"][25:]},
        "test_batch": {"data": flat["test"], "labels": labels["test"]},
        "batches.meta": {"label_names": list(cifar10.CLASSES)},
    }
    members = {f"{CIFAR10.base_folder}/{name}": pickle.dumps(content) for name, content in batches.items()}
    sums = {name.rpartition("/")[2]: hashlib.md5(content).hexdigest() for name, content in members.items()}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in {**members, **dict.fromkeys(outside, b"harm")}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    known = {
        "train_list": [[name, sums[name]] for name in ("data_batch_1", "data_batch_2")],
        "test_list": [["test_batch", sums["test_batch"]]],
        "meta": {**CIFAR10.meta, "md5": sums["batches.meta"]},
        "tgz_md5": hashlib.md5(archive.getvalue()).hexdigest(),
    }
    return archive.getvalue(), known
