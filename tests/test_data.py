"""Data: the generated task, CIFAR-10 from both its sources, batches."""

import hashlib
import pickle
import shutil
import tarfile
import threading
import time
import urllib.error
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import smallcifar
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import CIFAR10

from ssconv_lib import cifar10, paths
from ssconv_lib.data import SHIFT, Batches, Cifar10, Data, LongRange, Split, load, parse_spec
from ssconv_lib.longrange import COLOURS, draw_corners, generate
from ssconv_lib.seeds import mixed_seed, stream

# ---- descriptions


def test_parse_spec_reads_fields_and_defaults():
    assert parse_spec({"name": "cifar10", "evaluate": "validation"}) == Cifar10(evaluate="validation")
    assert parse_spec({"name": "longrange", "size": 16, "distance": 8}) == LongRange(size=16, distance=8)
    spec = parse_spec({"name": "longrange", "noise": 1})
    assert type(spec.noise) is float  # so that 1 and 1.0 are one run


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "None"),
        ({"name": "cifar100"}, "'cifar100'"),
        ({"name": ["cifar10"]}, "cifar10"),
        ({"name": "cifar10", "evalute": "test"}, "'evalute'.*evaluate"),
        ({"name": "cifar10", "evaluate": "train"}, "evaluate is 'train'.*'validation'"),
        ({"name": "cifar10", "normalise": 1}, "normalise is 1"),
        ({"name": "cifar10", "augment": 1}, "augment is 1.*bool"),
        ({"name": "longrange", "size": "24"}, "size is '24'.*int"),
        ({"name": "longrange", "size": 24.0}, r"size is 24\.0.*int"),
        ({"name": "longrange", "train": True}, "train is True.*int"),
        ({"name": "longrange", "noise": float("nan")}, "noise is nan"),
        ({"name": "longrange", "noise": False}, "noise is False"),
        ({"name": "longrange", "noise": -0.1}, "noise is -0.1.*at least 0"),
        ({"name": "longrange", "colours": 1}, "colours is 1.*at least 2"),
        ({"name": "longrange", "colours": 7}, "colours is 7.*6"),
        ({"name": "longrange", "test": 0}, "test is 0"),
        ({"name": "longrange", "distance": 22}, "distance is 22.*at most 21"),
        ({"name": "longrange", "distance": 2}, "distance is 2.*at least 3"),
    ],
)
def test_parse_spec_refuses_and_quotes(fields, message):
    with pytest.raises(ValueError, match=message):
        parse_spec(fields)


def test_streams_are_fixed_and_differ_by_every_part_of_the_key():
    assert mixed_seed(0, "order", 0) == 7082549803942908686
    held_out = torch.randperm(50_000, generator=stream(cifar10.SPLIT_SEED, "validation"))
    assert held_out[:4].tolist() == [28386, 4902, 40231, 22225]  # a split that moved would void every record on it
    keys = [(s, what, e) for s in range(3) for what in ("order", "augment") for e in range(3)]
    assert len({torch.randint(2**62, (1,), generator=stream(*key)).item() for key in keys}) == len(keys)


# ---- the generated task


@st.composite
def geometries(draw):
    patch = draw(st.integers(1, 4))
    size = draw(st.integers(2 * patch, 20))
    return LongRange(
        size=size,
        patch=patch,
        distance=draw(st.integers(patch, size - patch)),
        colours=draw(st.integers(2, 6)),
        noise=0,
        train=draw(st.integers(1, 40)),
        seed=draw(st.integers(0, 5)),
        exact=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(geometries())
def test_the_noiseless_image_tells_patches_distance_and_class(spec):
    images, labels = generate(spec, "train")
    assert abs((labels == 1).sum() - (labels == 0).sum()) <= 1
    for image, label in zip(images, labels, strict=True):
        rows, columns = np.nonzero(image.any(axis=2))
        assert len(rows) == 2 * spec.patch**2  # both patches whole, inside, and apart
        reach = max(np.ptp(rows), np.ptp(columns)) - (spec.patch - 1)
        assert reach == spec.distance if spec.exact else reach >= spec.distance
        seen = {tuple(image[i, j]) for i, j in zip(rows, columns, strict=True)}
        assert seen <= {tuple(colour) for colour in COLOURS[: spec.colours]}
        assert len(seen) == (1 if label else 2)


def test_corners_are_uniform_over_all_pairs_far_enough_apart():
    spec = LongRange(size=6, patch=2, distance=3)
    side = range(5)
    allowed = {(a, b, c, d) for a in side for b in side for c in side for d in side if max(abs(a - c), abs(b - d)) >= 3}
    drawn = draw_corners(spec, 200 * len(allowed), np.random.default_rng(0)).reshape(-1, 4)
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    assert {tuple(row) for row in found} == allowed
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200)


@pytest.mark.parametrize("colours", [2, 3])
def test_one_patch_alone_does_not_tell_the_class(colours):
    images, labels = generate(LongRange(noise=0, colours=colours, train=6000), "train")
    for label in (0, 1):
        first = images[labels == label].reshape(-1, 24 * 24, 3)
        first = first[np.arange(len(first)), first.any(axis=2).argmax(axis=1)]  # of the patch met first
        share = (first[:, None] == COLOURS[:colours]).all(axis=2).mean(axis=0)
        assert np.abs(share - 1 / colours).max() < 0.04


def test_the_canvas_is_noise_of_the_given_sd():
    images, _ = generate(LongRange(noise=0.7, train=500), "train")
    clean, _ = generate(LongRange(noise=0, train=500), "train")
    canvas = images[~clean.any(axis=3)]
    assert abs(canvas.mean()) < 0.005
    assert abs(canvas.std() - 0.7) < 0.005


def test_the_task_is_a_function_of_its_description_and_the_splits_differ():
    spec = LongRange(train=64, test=64)
    data, again = load(spec), load(spec)
    assert torch.equal(data.train.images, again.train.images)
    assert torch.equal(data.train.labels, again.train.labels)
    assert not torch.equal(data.train.images, data.test.images)
    assert not torch.equal(data.train.images, load(replace(spec, seed=1)).train.images)
    assert (data.num_classes, data.input_size) == (2, (3, 24, 24))
    assert data.train.images.shape == (64, 3, 24, 24)
    assert data.train.images.dtype == torch.float32
    assert data.train.labels.dtype == torch.int64


def test_golden_task():
    images, labels = generate(LongRange(noise=0, train=100), "train")
    assert hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()[:16] == "99199724588400a9"


def test_ten_thousand_images_take_no_time():
    started = time.process_time()
    generate(LongRange(train=10_000), "train")
    assert time.process_time() - started < 3  # 0.2 s when nothing else runs


# ---- CIFAR-10


@pytest.fixture
def fake(monkeypatch):
    """A CIFAR-10 of 60 images, in no order: {which: (images, labels)}, with `FACTS` to match."""
    splits, facts = smallcifar.arrays()
    monkeypatch.setattr(cifar10, "FACTS", facts)
    return splits


def write_folder(root, splits):
    for which, (images, labels) in splits.items():
        for k, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = root / "cifar10" / which / cifar10.CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{k:04d}.png")
    return root / "cifar10"


@pytest.fixture
def folder(tmp_path, fake):
    return write_folder(tmp_path, fake)


@pytest.fixture
def archive(tmp_path, fake, monkeypatch):
    """The same images as torchvision's archive has them, with the checksums of this one in torchvision."""
    return put_archive(tmp_path, monkeypatch, *smallcifar.packed(fake))


def put_archive(folder, monkeypatch, content, known):
    for name, value in known.items():
        monkeypatch.setattr(CIFAR10, name, value)
    (folder / CIFAR10.filename).write_bytes(content)
    return folder / CIFAR10.filename


def same(one, other):
    return all(
        torch.equal(getattr(one, which).images, getattr(other, which).images)
        and torch.equal(getattr(one, which).labels, getattr(other, which).labels)
        for which in ("train", "test")
    )


def no_source(*_):
    raise AssertionError("the source was read, though the cache is whole")


def test_folder_gives_every_image_its_own_label(folder, fake):
    data = load(Cifar10(), folder.parent)
    assert (data.num_classes, data.input_size) == (10, (3, 32, 32))
    assert data.train.images.shape == (40, 32, 32, 3)
    assert data.train.images.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    for which, (images, labels) in fake.items():
        split = getattr(data, which)
        found = {image.numpy().tobytes(): int(label) for image, label in zip(split.images, split.labels, strict=True)}
        assert found == {image.tobytes(): label for image, label in zip(images, labels, strict=True)}


def test_both_sources_give_the_same_bits(folder, archive, tmp_path):
    from_folder = load(Cifar10(), tmp_path)
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "cache")
    from_archive = load(Cifar10(), tmp_path)
    assert same(from_folder, from_archive)
    assert {path.name for path in tmp_path.iterdir()} == {archive.name, "cache"}  # no leftovers
    shutil.rmtree(tmp_path / "cache")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    archive.unlink()
    assert same(from_folder, load(Cifar10(), tmp_path))  # as torchvision itself leaves it


def test_the_cache_is_enough(folder, monkeypatch):
    data = load(Cifar10(), folder.parent)
    shutil.rmtree(folder)
    monkeypatch.setattr(cifar10, "_read_archive", no_source)
    assert same(data, load(Cifar10(), folder.parent))


def truncated(content):
    return content[: len(content) // 2]


def one_bit_off(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [truncated, one_bit_off, lambda _: b"", lambda _: b"no array"])
@pytest.mark.parametrize("part", ["train-images", "test-labels"])
def test_a_damaged_cache_is_noticed_and_made_again(folder, monkeypatch, damage, part):
    data = load(Cifar10(), folder.parent)
    file = folder.parent / "cache" / f"cifar10-{part}.npy"
    content = file.read_bytes()
    file.write_bytes(damage(content))
    with pytest.warns(UserWarning, match=f"cifar10-{part[:4]}.* damaged"):
        assert same(data, load(Cifar10(), folder.parent))
    assert file.read_bytes() == content
    monkeypatch.setattr(cifar10, "_read_folder", no_source)
    assert same(data, load(Cifar10(), folder.parent))


def test_a_pickle_in_the_cache_is_not_read(folder):
    class Trap:
        def __reduce__(self):
            return exec, ("raise SystemExit('the pickle ran')",)

    data = load(Cifar10(), folder.parent)
    file = folder.parent / "cache" / "cifar10-test-labels.npy"
    np.save(file, np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.warns(UserWarning, match="damaged"):
        assert same(data, load(Cifar10(), folder.parent))


def test_a_cache_that_cannot_be_written_only_warns(folder):
    (folder.parent / "cache").write_text("in the way")
    with pytest.warns(UserWarning, match="not written"):
        assert len(load(Cifar10(), folder.parent).train) == 40


def test_two_at_once_do_not_disturb_each_other(folder, monkeypatch):
    decode, met = cifar10._decode, threading.Barrier(2, timeout=30)
    results = []

    def read():
        results.append(load(Cifar10(), folder.parent))

    def decode_together(file):  # both have found no cache before either writes one
        if file.name == "0000.png":
            met.wait()
        return decode(file)

    monkeypatch.setattr(cifar10, "_decode", decode_together)
    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same(*results)
    assert same(results[0], load(Cifar10(), folder.parent))
    assert len(list((folder.parent / "cache").iterdir())) == 4


def first_png(folder):
    return min((folder / "train" / "cat").glob("*.png"))


def cut(folder):
    file = first_png(folder)
    file.write_bytes(truncated(file.read_bytes()))


def flip_byte(folder):
    file = first_png(folder)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def resize(folder):
    Image.new("RGB", (31, 32)).save(first_png(folder))


def make_grey(folder):
    Image.new("L", (32, 32)).save(first_png(folder))


def remove(folder):
    first_png(folder).unlink()


def rename_class(folder):
    (folder / "train" / "cat").rename(folder / "train" / "kitten")


def remove_split(folder):
    shutil.rmtree(folder / "test")


def add_class(folder):
    (folder / "test" / "zebra").mkdir()


def repaint(folder):
    Image.new("RGB", (32, 32)).save(first_png(folder))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (cut, r"train/cat/00\d\d\.png is damaged"),
        (flip_byte, r"train/cat/00\d\d\.png is damaged"),
        (resize, r"train/cat/00\d\d\.png is RGB of 31x32 pixels, and not RGB of 32x32"),
        (make_grey, r"train/cat/00\d\d\.png is L of 32x32 pixels"),
        (remove, "train/cat holds 3 images .*not 4.*unpack"),
        (rename_class, "train/cat is missing"),
        (remove_split, "test/airplane is missing"),
        (add_class, "test/zebra is no class"),
        (repaint, "train images in .*/cifar10 can be read, but are not CIFAR-10's"),
    ],
)
def test_a_wrong_folder_is_named_and_nothing_is_kept(folder, harm, message):
    harm(folder)
    with pytest.raises(ValueError, match=message):
        load(Cifar10(), folder.parent)
    assert not list(folder.parent.glob("cache/*"))


def test_a_damaged_archive_is_named_and_not_unpickled(archive, tmp_path):
    archive.write_bytes(truncated(archive.read_bytes()))
    with pytest.raises(ValueError, match=rf"{archive.name} is damaged"):
        load(Cifar10(), tmp_path)


@pytest.mark.parametrize("outside", ["../../harm", "cifar-10-batches-py/../../../harm"])
def test_an_archive_that_reaches_outside_its_folder_is_refused(fake, tmp_path, monkeypatch, outside):
    """Even one whose checksum is right."""
    data = tmp_path / "data"
    data.mkdir()
    archive = put_archive(data, monkeypatch, *smallcifar.packed(fake, [outside]))
    with pytest.raises(ValueError, match=rf"{archive.name} is damaged .*outside the destination.*bring it again"):
        load(Cifar10(), data)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert [path.name for path in data.iterdir()] == [archive.name]


def test_an_absolute_name_in_an_archive_is_taken_as_one_inside(fake, tmp_path, monkeypatch):
    (data := tmp_path / "data").mkdir()
    archive = put_archive(data, monkeypatch, *smallcifar.packed(fake, [str(tmp_path / "harm")]))
    assert len(load(Cifar10(), data).train) == 40
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert {path.name for path in data.iterdir()} == {archive.name, "cache"}


def test_a_damaged_batch_is_named_and_not_unpickled(archive, tmp_path, monkeypatch):
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    batch.write_bytes(one_bit_off(batch.read_bytes()))
    monkeypatch.setattr(pickle, "load", no_source)
    with pytest.raises(ValueError, match="data_batch_2 is missing or damaged"):
        load(Cifar10(), tmp_path)
    batch.unlink()
    with pytest.raises(ValueError, match="data_batch_2 is missing or damaged"):
        load(Cifar10(), tmp_path)


def test_without_a_network_the_error_says_what_to_put_where(tmp_path, fake, monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(FileNotFoundError, match="no route to host") as caught:
        load(Cifar10(), tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "cifar-10-python.tar.gz") in message
    assert str(tmp_path / "cifar10") in message
    assert "make data" in message
    assert not list(tmp_path.iterdir())


def test_the_archive_is_downloaded_only_when_nothing_is_there(archive, tmp_path, monkeypatch):
    import torchvision.datasets.utils as utils

    root, asked = tmp_path / "empty", []

    def download_url(url, folder, filename, md5):
        asked.append(url)
        shutil.copy(archive, f"{folder}/{filename}")

    monkeypatch.setattr(utils, "download_url", download_url)
    data = load(Cifar10(), root)
    assert (root / archive.name).exists()
    shutil.rmtree(root / "cache")
    assert same(data, load(Cifar10(), root))
    assert len(asked) == 1


def test_the_validation_set_is_held_out_of_the_training_set(folder):
    whole, split = load(Cifar10(), folder.parent), load(Cifar10(evaluate="validation"), folder.parent)
    assert (len(split.train), len(split.test)) == (30, 10)

    def contents(part):
        return {(image.numpy().tobytes(), int(y)) for image, y in zip(part.images, part.labels, strict=True)}

    assert contents(split.train) | contents(split.test) == contents(whole.train)
    assert not contents(split.train) & contents(split.test)
    assert not contents(split.test) & contents(whole.test)
    assert same(split, load(Cifar10(evaluate="validation"), folder.parent))


def test_nothing_is_drawn_when_stderr_is_no_terminal(folder, capsys):
    load(Cifar10(), folder.parent)
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(
    not (paths.data_dir() / "cache" / "cifar10-train-images.npy").exists(),
    reason="the real CIFAR-10 is not here (make data)",
)
def test_the_real_images_have_the_mean_and_sd_that_normalise_them():
    started = time.process_time()
    data = load(Cifar10())
    assert time.process_time() - started < 2
    assert (len(data.train), len(data.test)) == (50_000, 10_000)
    assert data.train.labels.bincount().tolist() == [5000] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    pixels = data.train.images.numpy().reshape(-1, 3)
    values = np.arange(256) / 255
    for channel in range(3):
        share = np.bincount(pixels[:, channel], minlength=256) / len(pixels)
        mean = share @ values
        assert mean == pytest.approx(cifar10.MEAN[channel], abs=1e-7)
        assert np.sqrt(share @ (values - mean) ** 2) == pytest.approx(cifar10.STD[channel], abs=1e-7)


# ---- batches


def random_data(count=10, height=6, width=5, normalise="none", augment=True):
    images = torch.randint(256, (count, height, width, 3), generator=stream("images"), dtype=torch.uint8)
    split = Split(images, torch.arange(count))
    numbers = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    return Data(split, split, count, (3, height, width), normalise, *numbers, augment)


def epoch_of(data, epoch=0, start=0, batch_size=4, seed=0, train=True):
    return list(Batches(data, "train", batch_size, seed=seed, train=train).epoch(epoch, start))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("data", [random_data(), load(LongRange(train=10, test=6))], ids=["uint8", "float32"])
def test_batches_have_the_promised_form_and_hold_every_image_once(data, train):
    batches = Batches(data, "train", 4, train=train)
    found = list(batches.epoch(0))
    assert len(batches) == len(found) == 3
    assert [len(labels) for _, labels in found] == [4, 4, 2]
    for images, labels in found:
        assert images.dtype == torch.float32
        assert images.shape[1:] == data.input_size
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert labels.dtype == torch.int64
    labels = torch.cat([labels for _, labels in found])
    assert torch.equal(labels.sort().values, data.train.labels.sort().values)
    if not train:
        assert torch.equal(labels, data.train.labels)


def test_float_images_come_as_they_are_and_belong_to_the_caller():
    data = load(LongRange(train=10, test=6))
    batches = Batches(data, "test", 4, train=False)
    images, labels = next(batches.epoch(0))
    assert torch.equal(images, data.test.images[:4])
    assert torch.equal(labels, data.test.labels[:4])
    images.zero_()
    assert data.test.images[:4].any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**40), st.integers(0, 400), st.integers(0, 3), st.integers(1, 12))
def test_an_epoch_goes_on_where_it_was_left(seed, epoch, start, batch_size):
    data = random_data(normalise="dataset")
    batches = Batches(data, "train", batch_size, seed=seed, train=True)
    start = min(start, len(batches))
    rest = list(Batches(data, "train", batch_size, seed=seed, train=True).epoch(epoch, start))
    whole = list(batches.epoch(epoch))
    assert len(rest) == len(whole) - start
    for one, other in zip(whole[start:], rest, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_epochs_and_seeds_differ_and_leave_the_global_generator_alone():
    data = random_data(count=40)
    state = torch.get_rng_state()
    orders = {
        tuple(epoch_of(data, epoch, batch_size=40, seed=seed)[0][1].tolist())
        for epoch, seed in [(0, 0), (1, 0), (0, 1), (1, 1)]
    }
    assert len(orders) == 4
    assert torch.equal(torch.get_rng_state(), state)


def by_label(batches):
    return {int(label): image for images, labels in batches for image, label in zip(images, labels, strict=True)}


def test_what_happens_to_an_image_does_not_depend_on_its_place(monkeypatch):
    data = random_data(count=40)
    plain = epoch_of(data, batch_size=7)

    def other_order(seed, what, epoch):
        return stream(seed + 1 if what == "order" else seed, what, epoch)

    monkeypatch.setattr("ssconv_lib.data.stream", other_order)
    moved = epoch_of(data, batch_size=9)
    assert torch.cat([labels for _, labels in plain]).tolist() != torch.cat([labels for _, labels in moved]).tolist()
    one, other = by_label(plain), by_label(moved)
    assert all(torch.equal(one[label], other[label]) for label in range(40))


def test_augmentation_gives_every_one_of_the_162_views_equally_often():
    data = random_data(count=1)
    image = data.train.images[0].permute(2, 0, 1).float()  # (C, H, W)
    _, height, width = image.shape
    places = 2 * SHIFT + 1
    views = {}
    for flip in (0, 1):
        padded = F.pad(image.flip(2) if flip else image, (SHIFT,) * 4)
        for row in range(places):
            for column in range(places):
                window = padded[:, row : row + height, column : column + width]
                views.setdefault(window.numpy().tobytes(), []).append((flip, row, column))
    many = Split(data.train.images.expand(32_400, -1, -1, -1), torch.zeros(32_400, dtype=torch.int64))
    counts = dict.fromkeys(views, 0)
    for images, _ in Batches(replace(data, train=many), "train", 5000, train=True).epoch(3):
        for seen in images.contiguous().numpy():
            counts[seen.tobytes()] += 1  # a KeyError is a view that must not be
    for view, places_of_view in views.items():  # views of a border alone are alike
        expected = 200 * len(places_of_view)
        assert abs(counts[view] - expected) < 5 * np.sqrt(expected)


def test_only_training_batches_of_a_data_set_that_asks_for_it_are_augmented():
    data = random_data()
    for batches in (epoch_of(replace(data, augment=False)), epoch_of(data, train=False)):
        for label, image in by_label(batches).items():
            assert torch.equal(image, data.train.images[label].permute(2, 0, 1).float())


def test_normalisation_by_the_data_set():
    data = random_data(normalise="dataset", augment=False)
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    for batches in (epoch_of(data), epoch_of(data, train=False)):
        for label, image in by_label(batches).items():
            expected = (data.train.images[label].permute(2, 0, 1) / 255 - mean) / std
            torch.testing.assert_close(image, expected, rtol=1e-5, atol=1e-5)


def test_normalisation_by_the_image():
    data = random_data(count=10, normalise="gcn")
    data.train.images[3] = 77  # has no sd
    for image in by_label(epoch_of(replace(data, augment=False))).values():
        assert abs(image.mean()) < 1e-5
        assert image.isfinite().all()
    for label, image in by_label(epoch_of(data, train=False)).items():
        assert image.std(correction=0) == pytest.approx(0 if label == 3 else 1, abs=1e-5)


@pytest.mark.parametrize("normalise", ["dataset", "gcn"])
def test_the_border_is_black_before_normalisation(normalise):
    raw, data = random_data(), random_data(normalise=normalise)
    values = data.train.images.float().flatten(1)
    for (plain, labels), (images, _) in zip(epoch_of(raw), epoch_of(data), strict=True):
        if normalise == "gcn":  # every crop is a window of one normalised image
            std, mean = torch.std_mean(values[labels], 1, correction=0)
            expected = (plain - mean[:, None, None, None]) / std[:, None, None, None]
        else:
            mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (data.mean, data.std))
            expected = (plain / 255 - mean) / std
        torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalise", ["none", "dataset", "gcn"])
@pytest.mark.parametrize("train", [True, False])
def test_no_batch_asks_for_a_value_of_a_tensor(normalise, train):
    # on the meta device there are no values: an .item() or a boolean index, which would wait for a GPU, raises
    batches = Batches(random_data(normalise=normalise), "train", 4, train=train, device="meta")
    shapes = [(images.shape, labels.shape) for images, labels in batches.epoch(0)]
    assert shapes == [((n, 3, 6, 5), (n,)) for n in (4, 4, 2)]


def test_data_moves_to_a_device():
    data = random_data(normalise="dataset").to("meta")
    assert data.train.images.device.type == data.test.labels.device.type == "meta"
    assert data.mean == (0.4, 0.5, 0.6)


def test_bad_calls_are_refused():
    data = random_data()
    with pytest.raises(ValueError, match="'valid'"):
        Batches(data, "valid", 4, train=False)
    with pytest.raises(ValueError, match="batch_size is 0"):
        Batches(data, "train", 0, train=True)
    with pytest.raises(ValueError, match=r"start is 4.*3 batches"):
        Batches(data, "train", 4, train=True).epoch(0, start=4)
    assert list(islice(Batches(data, "train", 4, train=True).epoch(0, start=3), 1)) == []


def test_augmentation_costs_little():
    split = random_data(count=1280, height=32, width=32, normalise="dataset")
    batches = Batches(split, "train", 128, train=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        for _ in range(3):
            started = time.process_time()
            for _ in batches.epoch(0):
                pass
            seconds.append(time.process_time() - started)
    finally:
        torch.set_num_threads(threads)
    assert min(seconds) / len(batches) < 0.01  # 0.0005 s when nothing else runs
