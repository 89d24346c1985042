"""Bad input that once did harm, as fuzzing found it or as somebody would think of it: each is one message, at once."""

import json
import re
import struct
import time
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from ssconv_lib import SSConv2d, cifar10
from ssconv_lib.__main__ import main
from ssconv_lib.data import LongRange
from ssconv_lib.imagefolder import Images, read_folder
from ssconv_lib.plan import load_profile
from ssconv_lib.records import read_record
from ssconv_lib.run import Run
from ssconv_lib.torchfile import load_checked
from ssconv_lib.train import Machine, fit
from ssconv_lib.weights import load_weights, save_weights, weights_path

ROOT = Path(__file__).parent.parent
HEAD = """title = "t"
hardware = "h"
[run]
data = { name = "longrange" }
model = "long_range_cnn"
[[runs]]
study = "s"
"""
MANY = ", ".join(map(str, range(3000)))
SPEED = '[[speeds]]\nstudy = "t"\nnetwork = "conv3x3"\nchannels = 4\nbatch = 1\npixels = 4\n'
RUN = Run(data=LongRange(size=8, distance=4, train=8, test=4), model="long_range_cnn", epochs=1, batch_size=4)


@pytest.fixture(autouse=True)
def at_once():
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 10


# ---- profiles


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 100_000, "nested too deeply"),
        (HEAD + f"[runs.sweep]\nseed = [{MANY}]\nepochs = [{MANY}]\n", "sweeps over 9000000 runs: expected 100000"),
        (HEAD + SPEED + 'arms = [["conv"], "ss"]\n', r"arms = \(\['conv'\], 'ss'\).*expected conv, and others"),
        (HEAD + "seed = " + "9" * 100_000, "limit"),
        (HEAD + "seed = 1979-05-27", "must be of type int"),
        (HEAD + 'milestones = ["1e-999999999"]', "increasing fractions"),  # would be worked out first, for hours
        (HEAD + 'milestones = ["٣/٤"]', "increasing fractions"),
        (HEAD + 'milestones = ["1/0"]', "increasing fractions"),
    ],
    ids=["brackets", "sweep", "arms", "digits", "date", "exponent", "other digits", "zero"],
)
def test_a_profile_that_no_run_can_follow(tmp_path, text, message):
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"^profile {re.escape(str(file))}: .*{message}"):
        load_profile(file)


@pytest.mark.parametrize("name", ["records", "weights", ".", "", "-x", "a\nb", "<b>"])
def test_a_profile_whose_results_would_lie_where_others_do(tmp_path, name):
    file = tmp_path / f"{name}.toml"
    file.write_text(HEAD)
    with pytest.raises(ValueError, match="can't name a folder of results.*rename it"):
        load_profile(file)


def test_a_task_larger_than_any_memory_is_one_message(tmp_path, capsys):
    file = tmp_path / "vast.toml"
    file.write_text(HEAD + '[runs.data]\nname = "longrange"\nsize = 10_000_000\ndistance = 4\n')
    assert main(["train", "--profile", str(file), "--workers", "1", "--records", str(tmp_path / "records")]) == 1
    assert "1 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (HEAD.replace('"t"', '"<script>alert(1)</script>"'), "title"),
        (HEAD.replace('"h"', '"a `b"'), "hardware"),
        (HEAD.replace('"s"', '"<img src=x onerror=alert(1)>"'), "study"),
    ],
)
def test_a_profile_puts_no_active_content_on_a_page(tmp_path, text, field):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"^profile {re.escape(str(file))}: {field} = .*expected"):
        load_profile(file)


# ---- records


def committed(kind):
    return json.loads(next((ROOT / "results" / "records" / "laptop").glob(kind)).read_text())


def test_a_record_without_the_seconds_that_tables_show(tmp_path):
    record = committed("wrn10_2-*.json")
    del record["seconds"]["train"]
    file = tmp_path / f"{Run.from_dict(record['run']).label}.json"
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"^damaged record {file.name}"):
        read_record(file)


@pytest.mark.parametrize(
    ("kind", "place", "message"),
    [
        ("wrn10_2-*.json", ("history", 0, "error", 101.0), "epoch 1: error = 101.0 is impossible"),
        ("wrn10_2-*.json", ("history", 1, "train_error", "low"), "epoch 2: train_error = 'low' is impossible"),
        ("wrn10_2-*.json", ("history", 2, "loss", []), "epoch 3: loss = [] is impossible"),
        ("wrn10_2-*.json", ("history", 0, "epoch", 2), "the history is not of epochs 1 to 12"),
        ("speed-*.json", ("arms", "conv", "saved_bytes", []), "is not a whole number"),
        ("speed-*.json", ("arms", "conv", "peak_bytes", 2**63), "is not a whole number"),
        ("wrn10_2-*.json", ("final", "best_epoch", 1.5), "is not a whole number"),
        ("wrn10_2-*.json", ("final", "n_images", True), "is not a whole number"),
        ("wrn10_2-*.json", ("final", "evaluated_on", None), "evaluated_on = None"),
        ("wrn10_2-*.json", ("seconds", "train", -1.0), "are not numbers"),
    ],
)
def test_a_record_that_says_something_impossible(tmp_path, kind, place, message):
    files = sorted((ROOT / "results" / "records" / "laptop").glob(kind))
    file = next(file for file in files if json.loads(file.read_text())["run"].get("mode") != "training")
    inner = record = json.loads(file.read_text())
    *path, last, value = place
    for part in path:
        inner = inner[part]
    inner[last] = value
    (tmp_path / file.name).write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"^damaged record {re.escape(file.name)} .*{re.escape(message)}"):
        read_record(tmp_path / file.name)


@pytest.mark.parametrize(
    ("origin", "message"),
    [({"device": []}, "device = [], expected str"), ({"processes": "8"}, "processes = '8', expected int")],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_a_record_whose_machine_is_no_word(tmp_path, origin, message, earlier):
    record = committed("wrn10_2-*.json")
    wrong = {**record["origin"], **origin}
    record |= {"earlier_origins": [wrong]} if earlier else {"origin": wrong}
    file = tmp_path / f"{Run.from_dict(record['run']).label}.json"
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"^damaged record {file.name} .*{re.escape(message)}"):
        read_record(file)


@pytest.mark.parametrize(
    ("kind", "part", "value"),
    [
        ("wrn10_2-*.json", ("run", "epochs"), 10**15),
        ("probe-ablation*.json", ("n_images",), 10**15),
        ("field-*.json", ("run", "network", "data"), {"name": "images", "pixels": 10**6}),
    ],
    ids=["epochs", "answers", "map"],
)
def test_a_record_of_more_than_memory_holds(tmp_path, kind, part, value):
    record = committed(kind)
    inner = record
    for name in part[:-1]:
        inner = inner[name]
    inner[part[-1]] = value
    if kind.startswith("field"):
        record["map"] = {"shape": [3, 10**6, 10**6], "values": "eJwDAAAAAAE="}
    file = tmp_path / "any.json"
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="^damaged record any.json"):
        read_record(file)


def test_brackets_without_end(tmp_path):
    file = tmp_path / "any.json"
    file.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="^damaged record any.json"):
        read_record(file)


# ---- weights


def spoiled(content, place):
    """The bytes with a bit of a stored tensor changed."""
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_torch_reads_a_weight_with_a_changed_bit_and_we_do_not(tmp_path):
    file = tmp_path / "one.pt"
    torch.save({"weight": torch.full((64,), 1.5)}, file)
    content = file.read_bytes()
    file.write_bytes(spoiled(content, content.index(struct.pack("<f", 1.5)) + 8))
    assert not torch.equal(torch.load(file, weights_only=True)["weight"], torch.full((64,), 1.5)), "then this can go"
    with pytest.raises(ValueError, match=r"one\.pt is damaged .*checksum of .*data/0"):
        load_checked(file)


def test_a_compressed_file_of_weights_is_not_unpacked(tmp_path):
    import zipfile

    file = tmp_path / "one.pt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("one/data.pkl", b"0" * 2**20)
    with pytest.raises(ValueError, match="compressed"):
        load_checked(file)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("num_classes", 10**9, "num_classes is 1000000000, expected as many as the last layer has"),
        ("num_classes", None, "num_classes is None"),
        ("input_size", [3, 10**9, 10**9], "input_size is .*, expected channels, height and width"),
        ("input_size", [], "input_size is"),
        ("model", {}, "num_classes is 2"),
        ("model", {"weight": torch.zeros(2)}, "Missing key"),
        ("model", [1], "no attribute"),
    ],
)
def test_weights_that_say_something_impossible(tmp_path, part, value, message):
    fit(RUN, keep=lambda model, data: save_weights(weights_path(RUN, "p", tmp_path), RUN, model, 2, (3, 8, 8)))
    path = weights_path(RUN, "p", tmp_path)
    torch.save({**torch.load(path, weights_only=True), part: value}, path)
    with pytest.raises(ValueError, match=f"(?s)^{re.escape(str(path))} does not fit .*{message}"):
        load_weights(RUN, "p", tmp_path)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("epoch", -1),
        ("epoch", 9),
        ("batch", 10**9),
        ("history", [{}]),
        ("origins", []),
        ("origins", [{"device": torch.ones(0)}]),
        ("seconds", {"train": 1.0}),
    ],
)
def test_a_checkpoint_that_says_something_impossible(tmp_path, part, value):
    file = tmp_path / "run.pt"
    assert fit(RUN, Machine(should_stop=lambda: True), checkpoint=file) is None
    torch.save({**torch.load(file, weights_only=True), part: value}, file)
    with pytest.raises(ValueError, match=r"checkpoint .*run\.pt is damaged; delete it"):
        fit(RUN, checkpoint=file)


# ---- images


def png(width, height):
    """A PNG that is vast by its header, and a few bytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 14_000, 2**31 - 1])
def test_an_image_of_cifar10_that_is_vast_is_not_decoded(tmp_path, side):
    file = tmp_path / "bomb.png"
    file.write_bytes(png(side, side))
    with pytest.raises(ValueError, match=r"bomb\.png is (damaged .*decompression bomb|RGB of 9000x9000 pixels)"):
        cifar10._decode(file)


def test_an_image_of_cifar10_in_another_format_is_not_read(tmp_path):
    file = tmp_path / "one.png"
    Image.new("RGB", (32, 32)).save(file, "EPS")  # Pillow would start another program
    with pytest.raises(ValueError, match=r"one\.png is damaged"):
        cifar10._decode(file)


def test_links_that_lead_round_in_a_circle_are_no_classes(tmp_path):
    root = tmp_path / "imagenet"
    for which in ("train", "val"):
        (root / which / "ant").mkdir(parents=True)
        (root / which / "ant" / "1.JPEG").touch()
        (root / which / "loop").symlink_to("loop")
    assert read_folder(Images(), root).classes == ("ant",)
    (root / "val" / "ant" / "1.JPEG").unlink()
    with pytest.raises(ValueError, match=r"no images .* in val/ for ant"):
        read_folder(Images(), root)


# ---- the layer


@pytest.mark.parametrize("size", [10**6, 2**40, (1, 2**62)])
def test_a_permutation_too_long_for_any_memory_is_refused(size):
    with pytest.raises(ValueError, match=r"spatial_size=.*(positions|below 2147483648)"):
        SSConv2d(64, 4, 3, alpha=0.5, spatial_size=size)


@pytest.mark.parametrize("size", [2**31, 2**63, (1, 2**63)])
def test_a_size_of_no_image_is_refused_where_nothing_is_shuffled_too(size):
    with pytest.raises(ValueError, match=r"spatial_size=.*below 2147483648"):
        SSConv2d(1, 4, 3, spatial_size=size)
