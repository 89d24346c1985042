"""What a probe gets: which images, in which order, and its function, imported when it is needed."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ssconv_lib.data import Data, Images, LongRange, Split, load
from ssconv_lib.loader import FolderBatches
from ssconv_lib.proberun import PROBES, ProbeRun
from ssconv_lib.probes import Outcome, Subject, ablation, choose_images, find_probe
from ssconv_lib.run import Run
from ssconv_lib.training import build_model

SPEC = LongRange(size=12, distance=6, train=64, test=32)
NETWORK = Run(data=SPEC, model="long_range_cnn", alpha=0.0625, batch_size=8)
RUN = ProbeRun(network=NETWORK, probe="ablation")


def subject(run=RUN, data=None):
    data = data or load(SPEC)
    return Subject(run, build_model(run.network, 2, (3, 12, 12)).eval(), data)


def read(batches):
    images, labels = (torch.cat(column) for column in zip(*batches.epoch(0), strict=True))
    return images, labels


def numbered(count=64, augment=False):
    """A data set in memory whose every image has a number for all values."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 12, 12, 3).contiguous()
    split = Split(images, torch.arange(count))
    return Data(split, split, num_classes=count, input_size=(3, 12, 12), augment=augment)


@pytest.fixture
def folder(tmp_path):
    """Three classes of four training and 5, 5 and 10 test images, each with its number for a colour."""
    for which, counts in (("train", (4, 4, 4)), ("val", (5, 5, 10))):
        for label, count in enumerate(counts):
            (tmp_path / which / f"class{label}").mkdir(parents=True)
            for k in range(count):
                pixels = np.full((12, 12, 3), 10 * label + k, dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / which / f"class{label}" / f"{k}.png")
    return tmp_path


@pytest.fixture
def files(folder, monkeypatch):
    monkeypatch.setenv("SSCONV_MINE", str(folder))
    return load(Images(folder="mine", pixels=12, resize=12))


def test_the_test_batches_are_the_test_images_in_order():
    asked, data = subject(), load(SPEC)
    for _ in range(2):
        images, labels = read(asked.test_batches())
        assert torch.equal(images, data.test.images)
        assert torch.equal(labels, data.test.labels)


def test_some_images_are_the_first_of_a_data_set_in_memory():
    data = choose_images(numbered(), 9)
    assert data.test.labels.tolist() == [*range(9)]
    assert data.test.images[:, 0, 0, 0].tolist() == [*range(9)]
    assert len(data.train) == 64
    assert choose_images(data, None) is data


def test_some_images_of_a_folder_are_of_all_classes_by_their_shares(files):
    part = choose_images(files, 8)
    assert part.test.labels.tolist() == [0, 0, 1, 1, 2, 2, 2, 2]
    assert [name.split("/")[1] for name in part.test.names] == [f"class{label}" for label in part.test.labels]
    assert len({*part.test.names}) == 8
    assert choose_images(files, 20).test.names == files.test.names
    assert len(part.train) == 12


def test_more_images_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="images = 33 of a probe: there are 32 test images; leave it out"):
        choose_images(load(SPEC), 33)


def test_the_training_batches_are_drawn_once_and_for_all():
    data = numbered(augment=True)
    batches = subject(data=data).train_batches(20)
    assert [len(labels) for _, labels in batches.epoch(0)] == [8, 8, 4], "the run's batches"
    images, labels = read(batches)
    assert torch.equal(images[:, 0, 5, 5].long(), labels)
    assert len({*labels.tolist()}) == 20, "without replacement"
    assert labels.tolist() != sorted(labels.tolist())
    assert torch.equal(read(subject(data=data).train_batches(20))[1], labels)
    other = subject(replace(RUN, seed=1), data=data).train_batches(20)
    assert not torch.equal(read(other)[1], labels), "its seed is the probe's"
    assert len(read(subject(data=data).train_batches())[1]) == 64, "at most all"


def test_training_batches_are_augmented_if_asked():
    data = numbered(augment=True)
    still, moved, again = (
        read(subject(data=data).train_batches(20, augment=augment)) for augment in (False, True, True)
    )
    assert torch.equal(moved[0], again[0])
    assert sorted(moved[1].tolist()) == sorted(still[1].tolist()), "the same images"
    assert (moved[0][:, 0] == 0).any((1, 2)).sum() > 10, "with the black border that came in"
    assert (still[0][still[1] > 0] > 0).all()


def test_a_forward_of_batch_norm_is_that_of_training():
    run = replace(RUN, network=replace(NETWORK, bn_batch=4))
    assert [len(labels) for _, labels in subject(run).train_batches(8).epoch(0)] == [4, 4]


def test_a_folders_batches_are_read_in_an_order_without_classes(files):
    run = replace(RUN, network=replace(NETWORK, data=files.spec))
    asked = subject(run, choose_images(files, 8))
    test, train = asked.test_batches(), asked.train_batches(9)
    assert isinstance(test, FolderBatches)
    assert read(test)[1].tolist() == [0, 0, 1, 1, 2, 2, 2, 2]
    labels = read(train)[1].tolist()
    assert len(labels) == 9
    assert labels != sorted(labels)


@pytest.mark.parametrize("name", PROBES)
def test_every_probe_is_there(name):
    assert callable(find_probe(name))


def test_a_probe_is_imported_when_it_is_needed():
    code = "import sys, ssconv_lib.probes; print({'ssconv_lib.ablation', 'ssconv_lib.usage'} & {*sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "set()\n"


def test_ablation_is_the_engines():
    asked = subject(replace(RUN, draws=1))
    before = {name: value.clone() for name, value in asked.model.state_dict().items()}
    outcomes = [*ablation(asked)]
    assert all(isinstance(outcome, Outcome) and outcome.wrong.shape == (32,) for outcome in outcomes)
    intact = next(one for one in outcomes if one.condition["treatment"] == "intact" and one.condition["bn"] == "kept")
    images, labels = read(asked.test_batches())
    with torch.no_grad():
        assert torch.equal(intact.wrong, asked.model(images).argmax(1) != labels)
    assert {outcome.condition["bn"] for outcome in outcomes} == {"kept", "re-estimated"}
    assert {outcome.condition["draw"] for outcome in outcomes} == {0}
    assert all(torch.equal(value, before[name]) for name, value in asked.model.state_dict().items())
