"""From files to batches: pictures, their randomness, loader processes, images that can't be read."""

import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from ssconv_lib import decode, paths, readers
from ssconv_lib.data import Batches, Data, Split, batch_numbers, load
from ssconv_lib.decode import Unreadable, draw_view, evaluation_view, reduction, training_view
from ssconv_lib.imagefolder import Images
from ssconv_lib.loader import MEAN, STD, FolderBatches, make_batches
from ssconv_lib.readers import unreadable
from ssconv_lib.run import Run
from ssconv_lib.seeds import mixed_seed, stream
from ssconv_lib.train import Machine, fit

PIXELS = 32
COUNTS = {"train": 13, "val": 5}  # of each of two classes


def picture(k, width, height):
    """Something smooth, as photographs are: reducing its resolution keeps most of it."""
    rng = np.random.default_rng(k)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def make_images(root, counts=COUNTS, classes=("ant", "bee")):
    for which, count in counts.items():
        for label in classes:
            (root / which / label).mkdir(parents=True)
            for k in range(count):
                size = (80 + 23 * (k % 5), 150 - 17 * (k % 4))
                picture(k, *size).save(root / which / label / f"{k:02d}.JPEG", quality=95)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("data") / "flowers").parent


@pytest.fixture(scope="module")
def data(root):
    return load(SPEC, root)


SPEC = Images(folder="flowers", pixels=PIXELS)


@pytest.fixture(scope="module")
def two(data):
    """Training batches of two loader processes, which many tests share."""
    batches = make_batches(data, "train", 4, seed=3, train=True, loaders=2)
    yield batches
    batches.close()


def processes():
    return {child.pid for child in multiprocessing.active_children()}


def same(one, other):
    one, other = list(one), list(other)
    return len(one) == len(other) and all(
        torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


def by_number(batches, order):
    images = torch.cat([images for images, _ in batches])
    return dict(zip(order, images, strict=True))


# ---- one file


def reference(file, transform, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return np.asarray(transform(Image.open(file).convert("RGB")))


@settings(max_examples=40, deadline=None)
@given(st.integers(10, 90), st.integers(10, 90), st.integers(1, 24), st.integers(0, 20), st.integers(0, 2**62))
def test_at_full_resolution_pictures_are_torchvisions_bit_for_bit(tmp_path_factory, width, height, pixels, more, seed):
    file = tmp_path_factory.getbasetemp() / "one.png"
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    spec = Images(pixels=pixels, resize=pixels + more, min_area=0.2, decode="full")
    centre = v2.Compose([v2.Resize(spec.shorter_side), v2.CenterCrop(pixels)])
    assert np.array_equal(evaluation_view(str(file), spec), reference(file, centre))
    crop = v2.Compose([v2.RandomResizedCrop(pixels, scale=(0.2, 1)), v2.RandomHorizontalFlip()])
    assert np.array_equal(training_view(str(file), spec, seed), reference(file, crop, seed))


@given(st.floats(1, 5000), st.floats(1, 5000), st.integers(1, 600), st.integers(1, 600))
def test_a_reduction_is_the_largest_that_keeps_the_pixels_that_are_wanted(width, height, wide, high):
    factor = reduction((width, height), (wide, high))
    keeping = [s for s in (2, 4, 8) if width / s >= wide and height / s >= high]
    assert factor == max(keeping, default=1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 60), st.integers(0, 99))
def test_jpegs_are_decoded_as_small_as_that_and_no_smaller(tmp_path_factory, width, height, pixels, seed):
    file = str(tmp_path_factory.getbasetemp() / "one.jpg")
    Image.new("RGB", (width, height), "red").save(file)
    sizes, load_image = [], decode._load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "_load", lambda image, path: sizes.append(image.size) or load_image(image, path))
        spec = Images(pixels=pixels)
        views = evaluation_view(file, spec), training_view(file, spec, seed)
    (left, top, right, bottom), _ = draw_view((width, height), 0.08, seed)
    factors = (
        reduction((width, height), decode.scaled_size((width, height), spec.shorter_side)),
        reduction((right - left, bottom - top), (pixels, pixels)),
    )
    assert sizes == [(-(-width // s), -(-height // s)) for s in factors]
    assert [view.shape for view in views] == [(pixels, pixels, 3)] * 2
    assert all(abs(view.astype(int) - (254, 0, 0)).max() <= 1 for view in views)


@pytest.mark.parametrize("size", [(500, 375), (331, 501)])
def test_a_reduced_picture_is_nearly_the_full_one(tmp_path, size):
    file = str(tmp_path / "one.jpg")
    picture(0, *size).save(file, quality=95)
    full, reduced = Images(pixels=64, decode="full"), Images(pixels=64)
    for view, draws in ((evaluation_view, [()]), (training_view, [(seed,) for seed in range(30)])):
        for drawn in draws:
            one, other = (view(file, spec, *drawn).astype(int) for spec in (full, reduced))
            assert one.shape == other.shape == (64, 64, 3)
            # cutting out a place that is off by half a pixel of the reduced image changes the mean by 3
            assert abs(one - other).mean() < 0.8
            assert abs(one - other).max() < 8


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 2000), st.floats(0.01, 1), st.integers(0, 2**63 - 1))
def test_a_crop_lies_within_the_image(width, height, min_area, seed):
    (left, top, right, bottom), flip = draw_view((width, height), min_area, seed)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert type(flip) is bool
    assert draw_view((width, height), min_area, seed) == ((left, top, right, bottom), flip)


@pytest.mark.parametrize("min_area", [0.08, 0.5])
def test_crops_have_the_shares_and_shapes_that_are_asked_for_and_half_are_flipped(min_area):
    drawn = [draw_view((500, 375), min_area, mixed_seed("test", k)) for k in range(2000)]
    boxes = np.array([box for box, _ in drawn])
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    share = width * height / (500 * 375)
    assert share.min() >= min_area - 0.003  # sides are whole pixels
    assert share.min() < min_area + 0.02
    assert share.max() > 0.95
    small = share[share < 0.56]  # fit at every ratio of sides; what does not fit is drawn again
    middle, sd = (min_area + 0.56) / 2, (0.56 - min_area) / np.sqrt(12)
    assert abs(small.mean() - middle) < 5 * sd / np.sqrt(len(small))
    assert (width / height).min() >= 0.74
    assert (width / height).max() <= 1.35
    assert abs(sum(flip for _, flip in drawn) - 1000) < 5 * np.sqrt(500)


def test_golden_views():
    drawn = [draw_view((500, 375), 0.08, mixed_seed(0, "augment", 0, k)) for k in range(3)]
    assert drawn == GOLDEN_VIEWS  # what every record on image folders rests on


GOLDEN_VIEWS = [((13, 4, 405, 350), False), ((100, 20, 489, 366), True), ((133, 141, 278, 330), False)]


COLOUR = (200, 100, 50)


def in_mode(mode):
    rgb = Image.new("RGB", (40, 48), COLOUR)
    return rgb.convert("P", palette=Image.Palette.ADAPTIVE) if mode == "P" else rgb.convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix", "options"),
    [
        ("RGB", "jpg", {}),
        ("L", "jpg", {}),
        ("CMYK", "jpg", {}),
        ("L", "png", {}),
        ("LA", "png", {}),
        ("P", "png", {}),
        ("P", "png", {"transparency": bytes([40] * 256)}),
        ("RGBA", "png", {}),
        ("1", "png", {}),
        ("RGB", "webp", {"lossless": True}),
        ("RGBA", "webp", {"lossless": True}),
    ],
)
def test_every_kind_of_image_becomes_rgb(tmp_path, mode, suffix, options):
    file = tmp_path / f"one.{suffix}"
    image = in_mode(mode)
    if mode == "RGBA":
        image.putalpha(40)
    image.save(file, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        views = evaluation_view(str(file), Images(pixels=16)), training_view(str(file), Images(pixels=16), 0)
    for view in views:
        assert view.shape == (16, 16, 3)
        assert view.dtype == np.uint8
        if mode == "1":
            assert set(view[..., 0].flat) != {0}
            assert (view == view[..., :1]).all()
        else:
            grey = round(np.dot(COLOUR, (0.299, 0.587, 0.114)))
            expected = (grey,) * 3 if mode in ("L", "LA") else COLOUR
            assert abs(view.astype(int) - expected).max() <= 3


def test_the_content_says_what_a_file_is_and_not_its_name(tmp_path):
    file = tmp_path / "one.JPEG"
    Image.new("RGB", (40, 40), COLOUR).save(file, "PNG")  # ImageNet has such a file
    assert (evaluation_view(str(file), Images(pixels=16)) == COLOUR).all()
    Image.new("RGB", (40, 40)).save(file, "EPS")  # PIL would start another program
    with pytest.raises(Unreadable, match="one.JPEG can't be read .no image in JPEG, PNG, WEBP format"):
        decode.check(str(file))


# ---- images that can't be read


def cut(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def vast(file):
    Image.new("1", (10_000, 9_000)).save(file, "PNG")


def sixteen_bits(file):
    Image.fromarray(np.full((40, 40), 40_000, dtype=np.uint16)).save(file, "PNG")


DAMAGE = {
    "truncated": cut,
    "no image in JPEG": lambda file: file.write_text("no image"),
    "no image in": lambda file: file.write_bytes(b""),
    "exceeds limit": vast,
    "mode I;16, expected 8 bits": sixteen_bits,
}


@pytest.mark.parametrize(("reason", "damage"), DAMAGE.items(), ids=DAMAGE)
def test_damage_is_named_with_its_file_and_the_remedy(tmp_path, reason, damage):
    file = tmp_path / "one.jpg"
    picture(0, 60, 50).save(file)
    decode.check(str(file))
    damage(file)
    for read in (
        decode.check,
        lambda path: evaluation_view(path, Images(pixels=16)),
        lambda path: training_view(path, Images(pixels=16), 0),
    ):
        with pytest.raises(ValueError, match=rf"{re.escape(str(file))} can't be read .*{reason}.*corrupt = \"skip\""):
            read(str(file))


@pytest.fixture
def damaged(tmp_path):
    """A folder of which three images can't be read; its training images, and the labels of the whole ones."""
    folder = make_images(tmp_path / "flowers", {"train": 5, "val": 2})
    for name, damage in (("ant/01", cut), ("ant/04", lambda file: file.write_bytes(b"")), ("bee/02", sixteen_bits)):
        damage(folder / "train" / f"{name}.JPEG")
    return folder


BAD = ["train/ant/01.JPEG", "train/ant/04.JPEG", "train/bee/02.JPEG"]


@pytest.mark.parametrize("loaders", [0, 1])
def test_an_image_that_can_not_be_read_ends_the_epoch_in_one_clear_message(damaged, loaders):
    data = load(SPEC, damaged.parent)
    batches = make_batches(data, "train", 2, train=False, loaders=loaders)
    before = processes()
    with pytest.raises(ValueError) as caught:
        list(batches.epoch(0))
    message = str(caught.value)
    assert message.startswith(f"{damaged}/train/ant/01.JPEG can't be read (image file is truncated")
    assert 'corrupt = "skip"' in message
    assert "\n" not in message
    assert processes() == before


@pytest.mark.parametrize("loaders", [0, 1])
def test_images_that_can_not_be_read_are_left_out_and_named_once(damaged, loaders):
    whole = load(replace(SPEC, corrupt="skip"), damaged.parent)
    batches = make_batches(whole, "train", 4, train=False, loaders=loaders)
    assert batches.skipped == []
    with pytest.warns(UserWarning, match="is left out") as warned:
        first = list(batches.epoch(0))
    assert batches.skipped == BAD
    named = sorted(re.search(r"flowers/(\S+) can't be read", str(warning.message))[1] for warning in warned)
    assert named == BAD
    assert {warning.filename for warning in warned} == {__file__}
    assert [len(labels) for _, labels in first] == [3, 2, 2]
    assert torch.cat([labels for _, labels in first]).tolist() == [0] * 3 + [1] * 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(first, batches.epoch(1))
    for name in BAD:  # what is left is what it was
        (damaged / name).unlink()
    kept = make_batches(load(SPEC, damaged.parent), "train", 4, train=False)
    assert torch.equal(torch.cat([images for images, _ in first]), torch.cat([images for images, _ in kept.epoch(0)]))
    batches.close()


@pytest.mark.parametrize("loaders", [0, 1])
def test_a_batch_of_which_nothing_is_left_is_an_error(damaged, loaders):
    data = load(replace(SPEC, corrupt="skip"), damaged.parent)
    batches = make_batches(data, "train", 1, train=False, loaders=loaders)
    with pytest.raises(ValueError, match=r"nothing is left of a batch.*1 images.*train/ant/01.JPEG \(image file is tr"):
        list(batches.epoch(0))


@pytest.mark.parametrize("loaders", [0, 1])
def test_a_file_that_is_gone_is_no_damaged_image_and_never_skipped(damaged, loaders):
    data = load(replace(SPEC, corrupt="skip"), damaged.parent)
    (damaged / "train" / "ant" / "00.JPEG").unlink()
    with pytest.raises(FileNotFoundError, match=r"^\[Errno 2\] No such file or directory: '\S+/ant/00.JPEG'$"):
        list(make_batches(data, "train", 4, train=False, loaders=loaders).epoch(0))


# ---- batches


@pytest.mark.parametrize("train", [True, False])
def test_batches_have_the_promised_form_and_hold_every_image_once(data, train):
    batches = make_batches(data, "train", 4, train=train)
    found = list(batches.epoch(0))
    assert isinstance(batches, FolderBatches)
    assert len(batches) == len(found) == 7
    assert batches.batch_size == 4
    assert batches.device == batches.labels.device == torch.device("cpu")
    assert torch.equal(batches.labels, data.train.labels)
    assert [len(labels) for _, labels in found] == [4] * 6 + [2]
    for images, labels in found:
        assert images.dtype == torch.float32
        assert images.shape[1:] == data.input_size
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert labels.dtype == torch.int64
    labels = torch.cat([labels for _, labels in found])
    assert torch.equal(labels if not train else labels.sort().values, data.train.labels)


def test_pictures_are_normalised_by_the_mean_and_sd_of_imagenet(data):
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    images = torch.cat([images for images, _ in make_batches(data, "test", 4, train=False).epoch(0)])
    for image, name in zip(images, data.test.names, strict=True):
        values = torch.from_numpy(evaluation_view(f"{data.test.root}/{name}", SPEC).copy()).permute(2, 0, 1) / 255
        torch.testing.assert_close(image, (values - mean) / std, rtol=1e-5, atol=1e-5)


def test_an_image_is_changed_by_its_seed_epoch_and_number_alone(data, monkeypatch):
    orders = {0: torch.randperm(26, generator=stream(3, "order", 0)).tolist()}
    plain = by_number(make_batches(data, "train", 4, seed=3, train=True).epoch(0), orders[0])
    for number in (0, 7, 25):
        seed = mixed_seed(3, "augment", 0, number)
        values = torch.from_numpy(training_view(f"{data.train.root}/{data.train.names[number]}", SPEC, seed).copy())
        pixels = (plain[number] * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]) * 255
        torch.testing.assert_close(pixels, values.permute(2, 0, 1).float(), rtol=0, atol=1e-3)

    monkeypatch.setattr("ssconv_lib.loader.stream", lambda seed, what, epoch: stream(seed, "other", epoch))
    orders[1] = torch.randperm(26, generator=stream(3, "other", 0)).tolist()
    moved = by_number(make_batches(data, "train", 9, seed=3, train=True).epoch(0), orders[1])
    assert orders[0] != orders[1]
    assert all(torch.equal(plain[number], moved[number]) for number in range(26))


def test_the_order_is_that_of_data_in_memory(data):
    images = torch.zeros(26, 2, 2, 3, dtype=torch.uint8)
    memory = Data(Split(images, data.train.labels), Split(images, data.train.labels), 2, (3, 2, 2))
    one, other = (make_batches(part, "train", 4, seed=3, train=True) for part in (memory, data))
    assert isinstance(one, Batches)
    for epoch in (0, 1):
        labels = [[labels.tolist() for _, labels in batches.epoch(epoch)] for batches in (one, other)]
        assert labels[0] == labels[1]


def test_epochs_and_seeds_differ_in_order_and_views(data):
    views, orders = set(), set()
    for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        order = torch.randperm(26, generator=stream(seed, "order", epoch)).tolist()
        found = by_number(make_batches(data, "train", 26, seed=seed, train=True).epoch(epoch), order)
        views.add(found[5].contiguous().numpy().tobytes())
        orders.add(tuple(order))
    assert len(views) == len(orders) == 4


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 60), st.data())
def test_the_batches_of_all_ranks_are_those_of_one_and_none_twice(count, drawn):
    start, ranks = drawn.draw(st.integers(0, count)), drawn.draw(st.integers(1, 9))
    parts = [list(batch_numbers(count, start, rank, ranks)) for rank in range(ranks)]
    assert sorted(k for part in parts for k in part) == list(range(start, count))
    assert all(k % ranks == rank for rank, part in enumerate(parts) for k in part)
    assert all(part == sorted(part) for part in parts)
    assert list(batch_numbers(count, start, 0, 1)) == list(range(start, count))


def memory_data():
    images = torch.randint(256, (26, 6, 5, 3), generator=stream("images"), dtype=torch.uint8)
    split = Split(images, torch.arange(26))
    return Data(split, split, 26, (3, 6, 5), "dataset", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), augment=True)


@pytest.mark.parametrize("kind", ["memory", "folder"])
@pytest.mark.parametrize("train", [True, False])
def test_a_rank_gets_its_batches_and_the_ranks_together_every_image_once(data, kind, train):
    batches = make_batches(memory_data() if kind == "memory" else data, "train", 4, seed=3, train=train)
    whole = list(batches.epoch(2))
    for start in (0, 2):
        parts = [list(batches.epoch(2, start, rank, 3)) for rank in range(3)]
        for rank, part in enumerate(parts):
            assert same(part, [whole[k] for k in range(start, len(whole)) if k % 3 == rank])
        assert sum(len(labels) for part in parts for _, labels in part) == 26 - 4 * start


def test_bad_calls_are_refused(data, monkeypatch):
    for call, message in (
        (lambda: make_batches(data, "val", 4, train=False), "'val'"),
        (lambda: make_batches(data, "train", 0, train=False), "batch_size is 0"),
        (lambda: make_batches(data, "train", 4, train=False, loaders=-1), "loaders is -1.*at least 0"),
        (lambda: make_batches(data, "train", 4, train=True).epoch(0, start=8), "start is 8.*7 batches"),
        (lambda: make_batches(data, "train", 4, train=True).epoch(0, rank=2, ranks=2), "rank is 2.*0 to 1"),
        (lambda: Batches(memory_data(), "train", 4, train=True).epoch(0, rank=-1, ranks=2), "rank is -1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert list(make_batches(data, "train", 4, train=True).epoch(0, start=7)) == []
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(daemon=True))
    with pytest.raises(ValueError, match="loaders is 2: this process is a daemon.*take 0"):
        make_batches(data, "train", 4, train=True, loaders=2)
    make_batches(data, "train", 4, train=True)


def test_no_batch_asks_for_a_value_of_a_tensor_on_the_device(data):
    # on the meta device there are no values: an .item() or a boolean index, which would wait for a GPU, raises
    batches = make_batches(data, "train", 9, train=True, device="meta")
    shapes = [(images.shape, labels.shape) for images, labels in batches.epoch(0)]
    assert shapes == [((n, 3, PIXELS, PIXELS), (n,)) for n in (9, 9, 8)]
    assert batches.device.type == batches.labels.device.type == "meta"


# ---- loader processes


def test_batches_are_the_same_with_processes_wherever_an_epoch_is_begun(data, two):
    alone = make_batches(data, "train", 4, seed=3, train=True)
    for epoch in (0, 1):
        assert same(alone.epoch(epoch), two.epoch(epoch))
    assert same(islice(alone.epoch(5), 3, None), two.epoch(5, start=3))
    assert same(list(alone.epoch(5))[4::3], two.epoch(5, start=2, rank=1, ranks=3))


def test_processes_stay_from_epoch_to_epoch_and_end_when_one_is_left_early(data, two):
    before = processes()
    two.close()
    others = processes()
    first = list(two.epoch(0))
    mine = processes() - others
    assert len(mine) == 2
    assert not mine & before
    epoch = two.epoch(1)
    for _ in range(len(two)):  # as training does: it takes the batches that it knows are there
        next(epoch)
    epoch.close()
    assert mine <= processes()
    epoch = two.epoch(2)
    next(epoch)
    assert mine <= processes()
    epoch.close()
    assert not mine & processes()
    assert same(first, two.epoch(0))


def test_processes_end_with_the_batches(data):
    before = processes()
    batches = make_batches(data, "train", 4, train=True, loaders=1)
    next(batches.epoch(0))
    batches.close()
    batches = make_batches(data, "train", 4, train=True, loaders=1)
    list(batches.epoch(0))
    assert len(processes() - before) == 1
    del batches
    assert processes() == before


def test_with_processes_one_epoch_is_read_at_a_time(data, two):
    alone = make_batches(data, "train", 4, seed=3, train=True)
    one, other = alone.epoch(0), alone.epoch(1)
    mixed = [next(epoch) for _ in range(3) for epoch in (one, other)]
    assert same(mixed[::2], islice(alone.epoch(0), 3))
    assert same(mixed[1::2], islice(alone.epoch(1), 3))

    one, other = two.epoch(0), two.epoch(1)
    next(one)
    begun = [next(other)]
    with pytest.raises(RuntimeError, match="another epoch"):
        next(one)
    assert same(begun + list(other), alone.epoch(1))


@pytest.mark.parametrize("loaders", [0, 2])
def test_the_global_generators_are_left_alone(data, two, loaders):
    batches = two if loaders else make_batches(data, "train", 4, seed=3, train=True)
    batches.close()  # so that processes start as well
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    list(batches.epoch(0))
    list(batches.epoch(1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def read_forever(data, sender):
    """Run in a process of its own, which has a loader of its own."""
    batches = make_batches(data, "train", 4, seed=3, train=True, loaders=1)
    while True:
        labels = [labels.tolist() for _, labels in batches.epoch(0)]
        sender.send((labels, processes()))


def test_a_process_that_trains_can_have_loaders_which_do_not_survive_it(data):
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=read_forever, args=(data, sender))
    process.start()
    labels, loaders = receiver.recv()
    assert labels == [labels.tolist() for _, labels in make_batches(data, "train", 4, seed=3, train=True).epoch(0)]
    assert len(loaders) == 1
    assert all(is_alive(pid) for pid in loaders)
    process.kill()
    assert wait_until(lambda: not any(is_alive(pid) for pid in loaders))


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_loaders_go_on_when_all_processes_are_told_to_end_and_leave_that_to_the_one_that_trains(data):
    batches = make_batches(data, "train", 2, seed=3, train=True, loaders=1)
    before = processes()
    epoch = batches.epoch(0)
    found = [next(epoch)]
    (loader,) = processes() - before
    os.kill(loader, signal.SIGINT)  # Ctrl-C
    os.kill(loader, signal.SIGTERM)  # a batch system
    time.sleep(0.1)
    found += list(epoch)
    assert same(found, make_batches(data, "train", 2, seed=3, train=True).epoch(0))
    batches.close()
    assert processes() == before


SCRIPT = """
import multiprocessing, sys, time
from pathlib import Path
from ssconv_lib.data import load
from ssconv_lib.imagefolder import Images
from ssconv_lib.loader import make_batches

if __name__ == "__main__":
    data = load(Images(folder="flowers", pixels=32), Path(sys.argv[1]))
    batches = make_batches(data, "train", 1, train=True, loaders=2)
    epoch = batches.epoch(0)
    next(epoch)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""


def test_an_interrupt_ends_the_program_at_once_and_leaves_no_process(root, tmp_path):
    script = tmp_path / "read.py"
    script.write_text(SCRIPT)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen([sys.executable, str(script), str(root)], **options)
    try:
        loaders = [int(pid) for pid in process.stdout.readline().split()]
        assert len(loaders) == 2
        assert all(is_alive(pid) for pid in loaders)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal: all processes hear it
        _, errors = process.communicate(timeout=readers.GRACE * 0.8)
        assert errors.count("Traceback") == 1
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert wait_until(lambda: not any(is_alive(pid) for pid in loaders))
    finally:
        process.kill()
        process.communicate()


# ---- the check of a folder


def test_the_check_names_what_can_not_be_read(damaged):
    cut(damaged / "val" / "bee" / "00.JPEG")
    data = load(SPEC, damaged.parent)
    found = unreadable(data, loaders=0)
    assert [name for name, _ in found] == [*BAD, "val/bee/00.JPEG"]
    assert found[0][1].startswith("image file is truncated")
    (damaged / "val" / "ant" / "00.JPEG").unlink()
    with pytest.raises(FileNotFoundError, match=r"val/ant/00\.JPEG"):
        unreadable(data, loaders=0)


def test_the_check_reads_files_in_any_number_of_processes(damaged, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK", 3)
    data = load(SPEC, damaged.parent)
    before = processes()
    assert [name for name, _ in unreadable(data, loaders=2)] == BAD
    assert processes() == before


def command(*arguments):
    from ssconv_lib.__main__ import main  # imports much, which the processes of these tests don't need

    return main(list(arguments))


def test_the_command_counts_and_names_what_can_not_be_read(damaged, monkeypatch, capsys):
    monkeypatch.setenv("SSCONV_FLOWERS", str(damaged))
    monkeypatch.setattr(readers, "processors", lambda: 1)
    assert command("data", "--folder", "flowers") == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"flowers: 10 training and 4 validation images of 2 classes at {damaged}"
    assert out.splitlines()[1] == "3 can't be read"
    assert [line.split(": ")[1] for line in err.splitlines()] == [f"{damaged}/{name}" for name in BAD]
    for name in BAD:
        (damaged / name).unlink()
    assert command("data", "--folder", "flowers") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"flowers: 7 training and 4 validation images of 2 classes at {damaged}"
    assert out.splitlines()[1] == "all can be read"
    assert not err


def test_the_command_says_what_is_wrong_with_the_call(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SSCONV_DATA", str(tmp_path))
    assert command("data", "--folder", "a/b") == 2
    assert command("data", "--folder", "flowers") == 1
    (tmp_path / "flowers" / "train").mkdir(parents=True)
    assert command("data", "--folder", "flowers") == 2
    err = capsys.readouterr().err
    assert "plain name" in err
    assert "set SSCONV_FLOWERS to their folder" in err
    assert "Traceback" not in err


IMAGENETTE = paths.image_folder("imagenette160")


@pytest.mark.skipif(not (IMAGENETTE / "val").is_dir(), reason="Imagenette is not here (data/README.md)")
def test_batches_of_the_real_imagenette():
    data = load(Images(folder="imagenette160", pixels=64))
    images, labels = next(make_batches(data, "train", 256, train=True).epoch(0))
    assert images.shape == (256, 3, 64, 64)
    assert set(labels.tolist()) == set(range(10))
    assert images.mean((0, 2, 3)).abs().max() < 0.3
    assert images.std((0, 2, 3)).sub(1).abs().max() < 0.3


def test_a_run_trains_on_what_can_be_read_and_its_record_counts_the_rest(damaged, tmp_path):
    """7 of 10 training and 3 of 4 other images; stopped in the midst of an epoch and taken up by a loader."""
    cut(damaged / "val" / "bee" / "00.JPEG")
    spec = Images(folder="flowers", pixels=16, corrupt="skip")
    run = Run(data=spec, model="wrn10_1", alpha=0.25, epochs=2, batch_size=4, bn_batch=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = fit(run, data_root=damaged.parent)
        checkpoint = tmp_path / "run.pt"
        steps = iter([False, True])
        assert (
            fit(run, Machine(should_stop=lambda: next(steps)), checkpoint=checkpoint, data_root=damaged.parent) is None
        )
        again = fit(run, Machine(loaders=1), checkpoint=checkpoint, data_root=damaged.parent)
    final = record["final"]
    assert (record["n_train"], final["n_images"], final["skipped_images"]) == (10, 3, 4)
    assert final["error"] in [pytest.approx(100 * wrong / 3) for wrong in range(4)]
    assert final["top5_error"] == 0, "there are two classes"
    assert (again["history"], again["final"]) == (record["history"], final)
    with pytest.raises(ValueError, match=r"train/.* can't be read"):
        fit(replace(run, data=replace(spec, corrupt="refuse")), data_root=damaged.parent)
