"""Image folders: their description, the listing of their files, held-out images. No image is opened here."""

import re
import shutil
import time
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssconv_lib import paths
from ssconv_lib.data import load, parse_spec
from ssconv_lib.imagefolder import Images
from ssconv_lib.run import Run

SIZES = {"ant": 2, "bee": 9, "cat": 10, "dog": 25, "eel": 130}


def make_folder(root, counts, splits=("train", "val")):
    """Empty files: a listing must not open them."""
    for which in splits:
        for label, count in counts.items():
            folder = root / which / label
            folder.mkdir(parents=True)
            for k in range(count):
                (folder / f"{label}_{k}.JPEG").touch()
    return root


# ---- description


def test_a_profile_describes_a_folder_by_its_name():
    spec = parse_spec({"name": "images", "folder": "imagenette160", "pixels": 64, "min_area": 1})
    assert spec == Images(folder="imagenette160", pixels=64, min_area=1.0)
    assert Run(data=Images(), model="wrn10_1").identity()["data"] == {"name": "images"}
    run = Run(data=spec, model="wrn10_1")
    assert Run.from_dict(run.to_dict()) == run


def test_the_shorter_side_is_in_the_proportion_of_256_to_224_unless_it_is_given():
    sides = {pixels: Images(pixels=pixels).shorter_side for pixels in (224, 128, 96, 64)}
    assert sides == {224: 256, 128: 146, 96: 110, 64: 73}
    assert Images(pixels=64, resize=64).shorter_side == 64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"folder": "../imagenet"}, "folder = '../imagenet'.*plain name"),
        ({"folder": "a/b"}, "folder = 'a/b'.*plain name"),
        ({"folder": "a\\b"}, "plain name"),
        ({"folder": ""}, "folder = ''.*plain name"),
        ({"folder": ".."}, "folder = '..'.*plain name"),
        ({"folder": ".hidden"}, "plain name"),
        ({"folder": "a\nb"}, "plain name"),
        ({"folder": "data"}, "folder = 'data'.*SSCONV_DATA means something else"),
        ({"folder": "Results"}, "SSCONV_RESULTS"),
        ({"folder": 1}, "folder is 1.*str"),
        ({"pixels": 0}, "pixels is 0.*at least 1"),
        ({"pixels": 64.0}, r"pixels is 64\.0.*int"),
        ({"pixels": 64, "resize": 63}, "resize = 63.*at least pixels, 64"),
        ({"resize": "256"}, "resize is '256'"),
        ({"min_area": 0}, r"min_area = 0\.0.*above 0 and at most 1"),
        ({"min_area": 1.5}, "min_area = 1.5.*at most 1"),
        ({"evaluate": "val"}, "evaluate is 'val'.*'validation'"),
        ({"decode": "half"}, "decode is 'half'.*'full'"),
        ({"corrupt": "ignore"}, "corrupt is 'ignore'.*'skip'"),
        ({"path": "/data"}, "'path'.*folder"),
    ],
)
def test_what_can_not_be_meant_is_refused_and_quoted(fields, message):
    with pytest.raises(ValueError, match=message):
        parse_spec({"name": "images", **fields})


# ---- where the folder is


def test_the_folder_is_among_the_data_sets_or_where_its_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("SSCONV_DATA", str(tmp_path / "all"))
    make_folder(tmp_path / "all" / "my-flowers.2", {"ant": 1})
    make_folder(tmp_path / "elsewhere", {"bee": 1})
    spec = Images(folder="my-flowers.2")
    assert load(spec).classes == ("ant",)
    monkeypatch.setenv("SSCONV_MY_FLOWERS_2", str(tmp_path / "elsewhere"))
    assert load(spec).classes == ("bee",)


def test_every_variable_of_the_project_is_kept_from_image_folders():
    source = "".join(path.read_text() for path in (paths.ROOT / "ssconv_lib").rglob("*.py"))
    used = set(re.findall(r'"(SSCONV_\w+)"', source))
    assert {"SSCONV_DATA", "SSCONV_RESULTS", "SSCONV_NATIVE"} <= used <= set(paths.OWN_VARIABLES)


# ---- listing


def test_classes_are_sorted_folder_names_and_files_are_sorted_in_them(tmp_path):
    for name in ("b/2.JPEG", "b/10.jpg", "a/x.PnG", "a/y.webp", "a/Z.JPEG", "B/1.jpeg"):
        for which in ("train", "val"):
            (tmp_path / "d" / which / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "d" / which / name).touch()
    for name in ("a/.hidden.jpg", "a/notes.txt", "a/list.jpg.csv", "loose.jpg", ".trash/x.jpg"):
        (tmp_path / "d" / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / "train" / name).touch()
    data = load(Images(folder="d", pixels=64), tmp_path)
    assert data.classes == ("B", "a", "b")
    expected = ["B/1.jpeg", "a/Z.JPEG", "a/x.PnG", "a/y.webp", "b/10.jpg", "b/2.JPEG"]
    assert data.train.names == [f"train/{name}" for name in expected]
    assert data.test.names == [f"val/{name}" for name in expected]
    assert data.train.root == str(tmp_path / "d")
    assert data.train.labels.tolist() == [0, 1, 1, 1, 2, 2]
    assert data.train.labels.dtype == torch.int64
    assert (len(data.train), data.num_classes, data.input_size) == (6, 3, (3, 64, 64))
    assert data.to("cpu") is data


def test_links_to_folders_are_followed(tmp_path):
    real = make_folder(tmp_path / "real", {"ant": 2, "bee": 1})
    (real / "train" / "bee").rename(tmp_path / "bee")
    (real / "train" / "bee").symlink_to(tmp_path / "bee")
    (tmp_path / "linked").symlink_to(real)
    data = load(Images(folder="linked"), tmp_path)
    assert data.train.names == ["train/ant/ant_0.JPEG", "train/ant/ant_1.JPEG", "train/bee/bee_0.JPEG"]


def test_many_files_are_listed_in_no_time_and_not_one_is_asked_for_anything(tmp_path):
    folder = make_folder(tmp_path / "d", {f"c{k}": 2 for k in range(10)}) / "train"
    for k in range(20_000):  # links to nowhere: a stat of one fails
        (folder / f"c{k % 10}" / f"{k}.jpg").symlink_to("nowhere")
    started = time.process_time()
    data = load(Images(folder="d"), tmp_path)
    assert time.process_time() - started < 1  # 0.03 s when nothing else runs; ImageNet has 64 times as many
    assert len(data.train) == 20_020
    assert data.train.names == sorted(data.train.names)


# ---- held-out images


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("data") / "d", SIZES, ("train",)).parent


def test_a_tenth_of_each_class_is_held_out_and_val_is_not_needed(sizes):
    data = load(Images(folder="d", evaluate="validation"), sizes)
    assert not {*data.train.names} & {*data.test.names}
    assert sorted(data.train.names + data.test.names) == sorted(
        p.relative_to(sizes / "d").as_posix() for p in files(sizes)
    )
    held = Counter(name.split("/")[1] for name in data.test.names)
    assert held == {"ant": 1, "bee": 1, "cat": 1, "dog": 2, "eel": 13}
    for split in (data.train, data.test):
        assert [data.classes[label] for label in split.labels] == [name.split("/")[1] for name in split.names]


def files(root):
    return (root / "d" / "train").glob("*/*")


def test_the_held_out_images_never_change(sizes):
    names = load(Images(folder="d", evaluate="validation"), sizes).test.names
    assert names[:5] == GOLDEN  # a split that moved would void every record on it
    assert names == load(Images(folder="d", evaluate="validation", pixels=64), sizes).test.names


GOLDEN = [f"train/{name}.JPEG" for name in ("ant/ant_0", "bee/bee_4", "cat/cat_2", "dog/dog_19", "dog/dog_5")]


def test_the_images_held_out_of_a_class_do_not_depend_on_the_other_classes(sizes, tmp_path):
    make_folder(tmp_path / "d", {"dog": 25, "fox": 12}, ("train",))
    some = load(Images(folder="d", evaluate="validation"), tmp_path).test.names
    all_of_them = load(Images(folder="d", evaluate="validation"), sizes).test.names
    assert [name for name in some if "dog" in name] == [name for name in all_of_them if "dog" in name]


def test_held_out_images_are_spread_over_a_class(sizes):
    names = load(Images(folder="d", evaluate="validation"), sizes).test.names
    numbers = [int(name.rpartition("_")[2].removesuffix(".JPEG")) for name in names if "eel" in name]
    assert min(numbers) < 40
    assert max(numbers) > 90


# ---- errors


def remove(path):
    shutil.rmtree(path)


def flatten_val(root):
    remove(root / "val")
    (root / "val").mkdir()
    for k in range(3):
        (root / "val" / f"{k}.JPEG").touch()


def empty_class(root):
    for file in (root / "val" / "bee").iterdir():
        file.rename(file.with_suffix(".bmp"))


@pytest.mark.parametrize(
    ("harm", "error", "message", "found"),
    [
        (remove, FileNotFoundError, "no such folder", r"\S+ holds other/"),
        (lambda root: remove(root / "train"), FileNotFoundError, "no train/", r"val/ \(2 folders, 0 files\)"),
        (lambda root: remove(root / "val"), FileNotFoundError, "no val/", r"train/ \(2 folders, 0 files\)"),
        (flatten_val, ValueError, "val/ holds no folder of a class", r"val/ \(0 folders, 3 files\)"),
        (empty_class, ValueError, r"no images \(\.jpg.*in val/ for bee", "train/"),
        (lambda root: remove(root / "val" / "bee"), ValueError, "bee in train/, but not in val/", "train/"),
        (lambda root: remove(root / "train" / "ant"), ValueError, "ant in val/, but not in train/", "train/"),
    ],
)
def test_a_wrong_folder_is_shown_beside_the_right_one(tmp_path, harm, error, message, found):
    make_folder(tmp_path / "flowers", {"ant": 2, "bee": 2})
    (tmp_path / "other").mkdir()
    harm(tmp_path / "flowers")
    with pytest.raises(error, match=message) as caught:
        load(Images(folder="flowers"), tmp_path)
    problem, *tree, last, remedy = str(caught.value).splitlines()
    assert problem.startswith(str(tmp_path / "flowers"))
    assert tree[1].strip().startswith(f"{tmp_path / 'flowers' / 'train'}/<class>/*.JPEG")
    assert tree[2].strip().startswith(f"{tmp_path / 'flowers' / 'val'}/<class>/*.JPEG")
    assert re.search(f"found: .*{found}", last)
    assert "SSCONV_FLOWERS" in remedy


def test_many_names_in_a_message_are_cut_short(tmp_path):
    make_folder(tmp_path / "d", {f"c{k}": 1 for k in range(30)})
    for k in range(20):
        remove(tmp_path / "d" / "val" / f"c{k}")
    with pytest.raises(ValueError, match=r"c0, c1, c10, .* and 12 more in train/, but not in val/"):
        load(Images(folder="d"), tmp_path)


def test_a_class_of_one_image_can_not_be_split(tmp_path):
    make_folder(tmp_path / "d", {"ant": 2, "bee": 1})
    with pytest.raises(ValueError, match="bee holds one image.*needs two"):
        load(Images(folder="d", evaluate="validation"), tmp_path)
    assert len(load(Images(folder="d"), tmp_path).train) == 3


@given(st.text(max_size=12))
def test_a_name_that_is_accepted_stays_within_the_folder_of_the_data_sets(name):
    try:
        spec = Images(folder=name)
    except ValueError:
        return
    root = paths.ROOT / "somewhere"
    assert (root / spec.folder).resolve().parent == root.resolve()
    assert paths.folder_variable(name).removeprefix("SSCONV_").replace("_", "A").isalnum()


IMAGENETTE = paths.image_folder("imagenette160")


@pytest.mark.skipif(not (IMAGENETTE / "val").is_dir(), reason="Imagenette is not here (data/README.md)")
def test_the_real_imagenette_is_listed_whole():
    data = load(Images(folder="imagenette160"))
    assert (len(data.train), len(data.test), data.num_classes) == (9469, 3925, 10)
    held = load(Images(folder="imagenette160", evaluate="validation"))
    assert len(held.train) + len(held.test) == 9469
    assert set(held.train.names) | set(held.test.names) == set(data.train.names)
