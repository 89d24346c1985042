"""Whatever a user or a damaged disk puts in: an answer, or a message of the project's own; quickly, in little memory.

Cases are made of what is valid by changing some of it. A test of a kind of input fails if anything but the error that
is promised for it comes out, or if it takes long or much memory. What was found so has tests of its own, in
test_bad_input.
"""

import io
import json
import re
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fuzzing import as_toml, changed, damaged, fuzzed, plain, texts
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ssconv_lib import SSConv2d, cifar10, paper, study
from ssconv_lib.controls import CONTROLS
from ssconv_lib.data import load
from ssconv_lib.imagefolder import Images, read_folder
from ssconv_lib.plan import PROFILES, Planned, Profile, load_profile
from ssconv_lib.records import KINDS, RecordStore, read_record, run_of
from ssconv_lib.run import Run
from ssconv_lib.shuffle import LAYOUTS
from ssconv_lib.training import Machine, Training
from ssconv_lib.weights import load_weights, save_weights

TESTS = Path(__file__).parent
ROOT = TESTS.parent
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,200}")  # a file's name that stays in its folder on every system
PLANS = [TESTS / "tiny.toml", *PROFILES.glob("*.toml")]


@pytest.fixture(autouse=True)
def calm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# ---- profiles


@fuzzed
@given(changed(st.sampled_from([tomllib.loads(path.read_text()) for path in PLANS])))
def test_a_profile_is_a_plan_or_one_message(tmp_path_factory, fields):
    file = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    lines = [f"{as_toml({name: value})[2:-2]}\n" for name, value in fields.items()]
    file.write_text("".join(lines), encoding="utf-8", errors="surrogatepass")
    check_profile(file)


@fuzzed
@given(damaged(st.sampled_from([path.read_bytes() for path in PLANS])))
def test_a_damaged_profile_is_one_message(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "damaged.toml"
    file.write_bytes(content)
    check_profile(file)


def check_profile(file):
    try:
        profile = load_profile(file)
    except ValueError as error:
        assert str(error).startswith(f"profile {file}: ")
        return
    runs = [*profile.runs(), *profile.speed_runs(), *profile.field_runs(), *profile.probe_runs()]
    assert all(SAFE.fullmatch(run.label) for run in runs)
    empty = RecordStore("fuzzed", file.parent / "none")
    assert {type(run) for run in study.missing(profile, store=empty)} == {Run}
    study.status(profile, empty)


# ---- records


def one_of_each_kind():
    found = {}
    for path in sorted((ROOT / "results" / "records" / "laptop").glob("*.json")):
        record = json.loads(path.read_text())
        found.setdefault(record.get("kind", "training"), record)
    assert found.keys() == KINDS.keys()
    return [*found.values()]


RECORDS = one_of_each_kind()
COLUMN = {Run: "planned", KINDS["speed"]: "timed", KINDS["field"]: "fielded", KINDS["probe"]: "probed"}
FRAMES = {
    Run: study.frame,
    KINDS["speed"]: study.speed_frame,
    KINDS["field"]: study.field_frame,
    KINDS["probe"]: study.probe_frame,
}


@fuzzed
@given(changed(st.sampled_from(RECORDS)))
def test_a_record_is_a_row_of_a_table_or_one_message(tmp_path_factory, record):
    try:
        label = run_of(record).label
        assert SAFE.fullmatch(label)
        content = json.dumps(record).encode()
    except (ValueError, LookupError, TypeError, AttributeError):  # nothing has such a name
        label, content = "any", json.dumps(record, default=str).encode()
    check_record(tmp_path_factory.getbasetemp() / "store" / "fuzzed" / f"{label}.json", content)


@fuzzed
@given(st.sampled_from(RECORDS), st.data())
def test_a_damaged_record_is_one_message(tmp_path_factory, record, data):
    content = data.draw(damaged(json.dumps(record).encode()))
    check_record(tmp_path_factory.getbasetemp() / "store" / "fuzzed" / f"{run_of(record).label}.json", content)


def check_record(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    try:
        record = read_record(path)
    except ValueError as error:
        assert str(error).startswith(f"damaged record {path.name} in {path.parent}: ")
    else:
        run = run_of(record)
        store = RecordStore("fuzzed", path.parent.parent)
        training = Run.from_dict({"data": {"name": "longrange"}, "model": "long_range_cnn"})
        plans = {
            "planned": (Planned("other", training),),
            COLUMN[type(run)]: (Planned("s", getattr(run, "plan", run)),),
        }
        profile = Profile(name="fuzzed", source="fuzzed", title="t", hardware="h", **plans)
        frame = FRAMES[type(run)](profile, "s", store)
        assert len(frame)
        assert isinstance(frame.to_string(), str)
        study.status(profile, store)
        if type(run) is Run:
            study.histories(profile, "s", store)
    finally:
        path.unlink()


# ---- the paper's numbers


@pytest.mark.parametrize("name", sorted(path.name for path in paper.PAPER.glob("*.csv")))
@fuzzed
@given(st.data())
def test_a_damaged_table_of_the_paper_is_one_message(tmp_path_factory, name, data):
    folder = tmp_path_factory.getbasetemp() / "paper"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data.draw(damaged((paper.PAPER / name).read_bytes())))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper, "PAPER", folder)
        try:
            frame = paper.claims() if name == "claims.csv" else paper.table(int(name[5]))
        except ValueError as error:
            assert str(error).startswith(str(folder / name))
        else:
            assert isinstance(frame, pd.DataFrame)
            assert len(frame)


# ---- checkpoints and weights

RUN = Run.from_dict(
    {
        "data": {"name": "longrange", "size": 8, "distance": 4, "train": 4, "test": 4},
        "model": "long_range_cnn",
        "alpha": 0.06,
        "epochs": 2,
        "batch_size": 2,
    }
)


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A checkpoint after one of two epochs, and the weights: their bytes and what they hold."""
    folder = tmp_path_factory.mktemp("half")
    training = Training(RUN, load(RUN.data), Machine())
    training.train_epoch(lambda: False)
    training.end_epoch()
    training.save(folder / "checkpoint.pt")
    weights = folder / "fuzzed" / f"{RUN.label}.pt"
    save_weights(weights, RUN, training.model, 2, (3, 8, 8))
    return {
        "checkpoint": (folder / "checkpoint.pt", (folder / "checkpoint.pt").read_bytes()),
        "weights": (weights, weights.read_bytes()),
        "data": training.data,
    }


def take_up(half, kind):
    path = half[kind][0]
    if kind == "weights":
        return load_weights(RUN, "fuzzed", path.parent.parent).state_dict()
    training = Training(RUN, half["data"], Machine())
    training.resume(path)
    return training.model.state_dict()


@pytest.mark.parametrize("kind", ["checkpoint", "weights"])
@fuzzed
@given(st.data())
def test_damage_to_a_file_of_weights_is_noticed(half, kind, data):
    """No bit of a weight can change unseen: what is taken up is what was saved."""
    path, valid = half[kind]
    path.write_bytes(valid)
    before = {name: value.clone() for name, value in take_up(half, kind).items()}
    path.write_bytes(data.draw(damaged(valid)))
    try:
        after = take_up(half, kind)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("kind", ["checkpoint", "weights"])
@fuzzed
@given(st.data())
def test_a_file_of_weights_with_other_parts_is_one_message(half, kind, data):
    path, valid = half[kind]
    values = st.one_of(plain, st.integers(0, 9).map(lambda n: torch.ones(n)))
    content = data.draw(changed(torch.load(io.BytesIO(valid), weights_only=True), values))
    torch.save(content, path)
    try:
        take_up(half, kind)
    except ValueError as error:
        assert str(path) in str(error)


# ---- images


def files_of(size):
    colours = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    for mode, kind in (("RGB", "JPEG"), ("CMYK", "JPEG"), ("L", "PNG"), ("RGBA", "PNG"), ("RGB", "WEBP"), ("P", "PNG")):
        file = io.BytesIO()
        Image.fromarray(colours).convert(mode).save(file, kind)
        yield file.getvalue()


@fuzzed
@given(damaged(st.sampled_from([*files_of((21, 30)), *files_of((1, 1))])), st.integers(0, 2**40))
def test_a_damaged_image_is_pixels_or_one_message(tmp_path_factory, content, seed):
    from ssconv_lib.decode import Unreadable, check, evaluation_view, training_view

    path = tmp_path_factory.getbasetemp() / "fuzzed.JPEG"
    path.write_bytes(content)
    spec = Images(pixels=12)
    for look in (check, lambda path: evaluation_view(path, spec), lambda path: training_view(path, spec, seed)):
        try:
            view = look(str(path))
        except Unreadable as error:
            assert str(error).startswith(str(path))
        else:
            assert view is None or (view.shape == (12, 12, 3) and view.dtype == np.uint8)


@fuzzed
@given(damaged(st.sampled_from([*files_of((32, 32)), *files_of((20, 32))])))
def test_a_damaged_image_of_cifar10_is_pixels_or_one_message(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.png"
    path.write_bytes(content)
    try:
        assert cifar10._decode(path).shape == (32, 32, 3)
    except ValueError as error:
        assert str(error).startswith(str(path))


# ---- folders of images

names = st.one_of(
    st.sampled_from(
        ["train", "val", "ant", "bee", "1.JPEG", "2.png", "<img src=x onerror=alert(1)>", ".hidden", "a\nb"]
    ),
    st.text(st.characters(exclude_characters="/\x00", codec="utf-8"), min_size=1, max_size=8),
    st.sampled_from(["ä".encode("latin1").decode("utf-8", "surrogateescape")]),
).filter(lambda name: name not in (".", ".."))
trees = st.recursive(
    st.sampled_from(["file", "loop", "nowhere"]), lambda inner: st.dictionaries(names, inner, max_size=4), max_leaves=12
)


def plant(tree, path):
    if isinstance(tree, dict):
        path.mkdir()
        for name, inner in tree.items():
            plant(inner, path / name)
    elif tree == "file":
        path.write_bytes(b"")
    else:
        path.symlink_to(path.name if tree == "loop" else "not there")


@fuzzed
@given(st.one_of(trees, st.fixed_dictionaries({"train": trees, "val": trees})), st.sampled_from(["test", "validation"]))
def test_any_folder_is_a_data_set_or_one_message(tmp_path_factory, tree, evaluate):
    root = tmp_path_factory.mktemp("tree") / "imagenet"
    plant(tree, root)
    try:
        data = read_folder(Images(evaluate=evaluate), root)
    except (ValueError, FileNotFoundError) as error:
        assert str(error).startswith(str(root))
    else:
        assert len(data.train) > 0
        assert len(data.test) > 0
        assert all((root / name).parent.is_dir() for name in (*data.train.names, *data.test.names))


# ---- the command line

WORDS = [
    *["train", "status", "merge", "verify", "fields", "probe", "data", "bench", "build", "reproduce", "site"],
    *["--profile", "--study", "--records", "--budget", "--workers", "--device", "--cluster", "--loaders", "--compile"],
    *["--folder", "--network", "--rounds", "--threads", "--replace", "--loop", "--chapter", "--force", "--output"],
    *[
        "--cell-timeout",
        "--repository",
        "--serve",
        "--port",
        "quick",
        "laptop",
        "tests/tiny.toml",
        "tests",
        "alpha_sweep",
    ],
    *["cpu", "cuda", "meta", "0", "1", "-1", "1e9", "nan", "inf", "07", "tcp://127.0.0.1:1", "imagenet"],
]


@fuzzed
@given(st.lists(st.one_of(st.sampled_from(WORDS), texts), max_size=7))
def test_any_command_line_is_understood_or_answered(tmp_path_factory, arguments):
    from ssconv_lib import __main__ as program

    results = tmp_path_factory.getbasetemp() / "commands"
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as environment:
        without_work(patch)
        environment.setenv("SSCONV_RESULTS", str(results))
        environment.setenv("SSCONV_DATA", str(results))
        environment.chdir(ROOT)
        patch.setattr("sys.stderr", told)
        try:
            code = program.main(arguments)
        except SystemExit as end:
            code = end.code
    assert code in (0, 1, 2)
    assert code == 0 or told.getvalue().strip(), "no word on what is wrong"
    assert "Traceback" not in told.getvalue()


def without_work(patch):
    """Leave out what the commands do once they have understood."""
    from ssconv_lib import __main__, bench, cluster, fields_command, probes_command, reproduce, train_command, verify
    from ssconv_lib.site import build
    from ssconv_lib.site import command as site
    from ssconv_lib.task import LookOutcome, Outcome

    patch.setattr(train_command, "train_missing", lambda *_, **__: Outcome())
    patch.setattr(cluster, "connected", lambda *_: (_ for _ in ()).throw(ValueError("no cluster here")))
    patch.setattr(fields_command, "make_missing", lambda *_, **__: LookOutcome())
    patch.setattr(probes_command, "ask_missing", lambda *_, **__: LookOutcome())
    patch.setattr(verify, "train_again", lambda *_: (_ for _ in ()).throw(ValueError("not again")))
    patch.setattr(bench, "measure", lambda *_, **__: (_ for _ in ()).throw(ValueError("no time")))
    patch.setattr(bench, "_loop", lambda *_: 0)
    patch.setattr(reproduce, "reproduce", lambda *_, **__: [])
    patch.setattr(build, "build", lambda *_: 0)
    patch.setattr(site, "serve", lambda *_: 0)
    patch.setattr(__main__, "load", lambda *_: (_ for _ in ()).throw(ValueError("no images here")))
    patch.setattr(__main__.native, "build", lambda: None)


# ---- the layer

anything = st.one_of(plain, st.none())
sizes = st.one_of(st.integers(-1, 9), st.tuples(st.integers(-1, 9), st.integers(1, 9)), anything)


@fuzzed
@given(
    channels=st.integers(1, 12),
    own=st.fixed_dictionaries(
        {},
        optional={
            "alpha": st.one_of(st.floats(0, 1), anything),
            "spatial_size": sizes,
            "layout": st.one_of(st.sampled_from(LAYOUTS), anything),
            "seed": anything,
            "control": st.one_of(st.sampled_from(CONTROLS), anything),
        },
    ),
    of_conv=st.fixed_dictionaries(
        {}, optional={"groups": st.integers(-1, 4), "stride": sizes, "padding": sizes, "padding_mode": anything}
    ),
)
def test_a_layer_is_made_or_says_what_is_wrong(channels, own, of_conv):
    """What is the layer's own raises ValueError; what is nn.Conv2d's raises what it raises there."""
    try:
        torch.nn.Conv2d(channels, 4, 3, **of_conv)
    except Exception as error:
        refused = type(error)
    else:
        refused = None
    try:
        layer = SSConv2d(channels, 4, 3, **of_conv, **own)
    except ValueError as error:
        assert str(error)
        return
    except Exception as error:
        assert type(error) is refused, error
        return
    assert refused is None
    assert sorted(layer.permutation.tolist()) == [*range(len(layer.permutation))]
