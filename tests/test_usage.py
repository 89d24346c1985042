"""The probes of chapter 7, on networks whose answers are known, and on toy networks."""

import copy
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ssconv_lib import cifar10, probes, usage
from ssconv_lib.ablation import ask, blocks, treated
from ssconv_lib.conv import SSConv2d
from ssconv_lib.corruptions import corrupt, pixel_scale
from ssconv_lib.data import Cifar10, Data, LongRange, Split, load
from ssconv_lib.effective import settle
from ssconv_lib.longrange import COLOURS
from ssconv_lib.proberun import ProbeRun
from ssconv_lib.run import Run
from ssconv_lib.training import build_model

TASK = LongRange(train=32, test=40)


@pytest.fixture(scope="module")
def images() -> Data:
    return load(TASK)


def subject_of(
    data: Data, probe: str, alpha: float = 0.25, model: nn.Module | None = None, **options
) -> probes.Subject:
    """A toy network as it starts, with batch norm statistics of the images, unless a network is given."""
    run = Run(data=TASK, model="long_range_cnn", alpha=alpha, control=options.pop("control", "none"))
    if model is None:
        model = settle(build_model(run, 2, (3, 24, 24)), [data.train.images])
        weight = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
        model.head.load_state_dict({"weight": weight, "bias": -weight @ _pooled(model, data)})  # both answers occur
    return probes.Subject(ProbeRun(network=run, probe=probe, **options), model.eval(), data)


def _pooled(model: nn.Module, data: Data) -> torch.Tensor:
    found = []
    handle = model.head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].detach()))
    with torch.no_grad():
        model.eval()(data.train.images)
    handle.remove()
    return found[0].mean(0)


class Brightest(nn.Module):
    """Answers by the column that the brightest pixel is in: 0 in the left half of the picture, else 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        column = x.sum(1).amax(1).argmax(1)  # (N,)
        return F.one_hot((column >= x.shape[-1] // 2).long(), 2).float()


def dots(places: list[tuple[int, int]]) -> Data:
    """Black images with a bright dot each, and the half that it is in as the label."""
    pictures = torch.zeros(len(places), 3, 24, 24)
    for picture, (row, column) in zip(pictures, places, strict=True):
        picture[:, row, column] = 1
    split = Split(pictures, torch.tensor([int(column >= 12) for _, column in places]))
    return Data(split, split, 2, (3, 24, 24))


def test_moving_goes_where_it_says_and_mirrors_what_comes_in():
    x = torch.arange(25.0).view(1, 1, 5, 5)
    down = usage.moved_by(x, 1, 0)
    assert torch.equal(down[..., 1:, :], x[..., :-1, :])
    assert torch.equal(down[..., 0, :], x[..., 1, :])
    right = usage.moved_by(x, 0, 2)
    assert torch.equal(right[..., 2:], x[..., :-2])
    assert torch.equal(right[..., :2], x[..., [2, 1]])
    assert torch.equal(usage.moved_by(down, -1, 0)[..., :-1, :], x[..., :-1, :])


def test_the_shift_probe_counts_the_answers_that_change_apart_from_those_that_are_wrong():
    data = dots([(10, 10), (10, 13), (10, 3), (10, 20)])
    found = list(usage.shift(subject_of(data, "shift", alpha=0, model=Brightest())))
    of = {(o.condition["shift"], o.condition["direction"], o.condition["measure"]): o.wrong.tolist() for o in found}
    assert of[0, "none", "error"] == [False] * 4
    assert of[1, "right", "changed"] == [False] * 4
    assert of[2, "right", "changed"] == [True, False, False, False]  # 10 becomes 12, in the other half
    assert of[2, "left", "changed"] == [False, True, False, False]
    assert of[8, "down", "changed"] == [False] * 4
    assert of[2, "right", "error"] == of[2, "right", "changed"]  # all were right before
    assert len(of) == 1 + 4 * 4 * 2


def test_wiring_treats_all_layers_at_once_and_leaves_the_network_alone(images):
    subject = subject_of(images, "wiring", draws=2)
    before = copy.deepcopy(subject.model.state_dict())
    found = list(usage.wiring(subject))
    conditions = [(o.condition["treatment"], o.condition["draw"]) for o in found]
    assert conditions[0] == ("intact", 0)
    assert Counter(how for how, _ in conditions) == {
        "intact": 1,
        "other_pi": 2,
        "fresh": 2,
        "unshuffled": 1,
        "mean": 1,
        "zeroed": 1,
    }
    layers = [name for names in blocks(subject.model).values() for name in names]
    assert len(layers) == 3
    for outcome in found:
        if outcome.condition["treatment"] in ("unshuffled", "mean", "zeroed"):
            with treated(subject.model, layers, outcome.condition["treatment"]):
                assert torch.equal(outcome.wrong, ask(subject.model, subject.test_batches())[1])
    assert torch.equal(found[0].wrong, ask(subject.model, subject.test_batches())[1])
    assert torch.equal(found[0].wrong, found[0].answers != images.test.labels)
    assert all(torch.equal(value, before[name]) for name, value in subject.model.state_dict().items())


def test_other_draws_and_other_seeds_are_other_wirings_and_the_same_ones_are_the_same(images):
    def answers(seed: int) -> list[list[bool]]:
        found = usage.wiring(subject_of(images, "wiring", draws=2, seed=seed))
        return [o.wrong.tolist() for o in found if o.condition["treatment"] == "other_pi"]

    first = answers(0)
    assert first == answers(0)
    assert first[0] != first[1]
    assert first != answers(1)


@pytest.mark.parametrize(("alpha", "control"), [(0, "none"), (0.25, "mean"), (0.25, "fresh")])
def test_without_a_wiring_there_is_only_the_network_as_it_is(images, alpha, control):
    found = list(usage.wiring(subject_of(images, "wiring", alpha=alpha, control=control)))
    assert [o.condition for o in found] == [{"treatment": "intact", "draw": 0}]


def test_a_network_that_draws_each_forward_answers_alike_in_whatever_order_it_is_asked(images):
    subject, seen = subject_of(images, "corruptions", control="fresh"), []
    before = copy.deepcopy(subject.model.state_dict())
    subject.model.head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    asked = usage._Asked(subject)
    for number in range(3):
        asked.outcome({"condition": number})
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])
    assert all(torch.equal(value, before[name]) for name, value in subject.model.state_dict().items())
    with torch.no_grad():
        subject.model(images.test.images)
    assert not torch.equal(seen[0], seen[3]), "the π of another forward"


def test_a_plain_network_takes_other_sizes_as_they_are_and_resized_back(images):
    subject = subject_of(images, "sizes", alpha=0)
    found = {(o.condition["size"], o.condition["way"]): o for o in usage.sizes(subject)}
    assert set(found) == {(size, way) for size in (18, 21, 30, 36) for way in ("as is", "resized back")} | {
        (24, "as is")
    }
    with torch.no_grad():
        small = usage.resized(images.test.images, (18, 18))
        assert small.shape == (40, 3, 18, 18)
        assert torch.equal(found[18, "as is"].answers, subject.model(small).argmax(1))
        assert torch.equal(found[18, "resized back"].answers, subject.model(usage.resized(small, (24, 24))).argmax(1))
        assert torch.equal(found[24, "as is"].answers, subject.model(images.test.images).argmax(1))


def test_a_network_that_shuffles_takes_other_sizes_in_three_ways(images):
    subject = subject_of(images, "sizes", draws=2)
    found = list(usage.sizes(subject))
    ways = Counter((o.condition["size"], o.condition["way"]) for o in found)
    assert ways == {
        (size, way): 2 if way == "new π" else 1
        for size in (18, 21, 24, 30, 36)
        for way in ("as is" if size == 24 else "resized back", "new π", "unshuffled")
    }
    layers = [name for names in blocks(subject.model).values() for name in names]
    with treated(subject.model, layers, "unshuffled"):
        wrong = ask(subject.model, subject.test_batches())[1]
    native = next(o for o in found if o.condition["way"] == "unshuffled" and o.condition["size"] == 24)
    assert torch.equal(native.wrong, wrong)


def test_a_network_of_another_size_has_the_weights_and_a_wiring_of_its_own(images):
    subject = subject_of(images, "sizes")
    other, again, next_draw = (usage.at_size(subject, (30, 30), draw) for draw in (0, 0, 1))
    own, state = subject.model.state_dict(), other.state_dict()
    assert state.keys() == own.keys()
    for name, value in state.items():
        if name.endswith("permutation"):
            assert value.shape == (8 * 15 * 15,)
            assert torch.equal(value.sort().values, torch.arange(1800))
            assert torch.equal(value, again.state_dict()[name])
            assert not torch.equal(value, next_draw.state_dict()[name])
        else:
            assert torch.equal(value, own[name])
    assert not other.training
    assert other(torch.zeros(1, 3, 30, 30)).shape == (1, 2)


def test_a_control_that_means_the_same_at_every_size_takes_it_as_it_is(images):
    found = usage.sizes(subject_of(images, "sizes", control="mean"))
    assert {(o.condition["size"], o.condition["way"]) for o in found} == {
        (size, way) for size in (18, 21, 30, 36) for way in ("as is", "resized back")
    } | {(24, "as is")}


def test_resizing_to_the_same_size_changes_no_bit(images):
    assert torch.equal(usage.resized(images.test.images, (24, 24)), images.test.images)


def test_a_larger_image_is_the_same_picture():
    data = dots([(10, 5), (10, 18)])
    found = list(usage.sizes(subject_of(data, "sizes", alpha=0, model=Brightest())))
    assert not any(o.wrong.any() for o in found)


def test_corruptions_are_those_of_the_corruptions_module_in_the_order_of_the_split(images):
    subject = subject_of(images, "corruptions")
    found = {(o.condition["corruption"], o.condition["severity"]): o for o in usage.corruptions(subject)}
    assert len(found) == 16
    assert torch.equal(found["none", 0].wrong, ask(subject.model, subject.test_batches())[1])
    scale = pixel_scale(images)
    with torch.no_grad():
        noisy = corrupt(images.test.images, "blur", 5, scale)
        assert torch.equal(found["blur", 5].answers, subject.model(noisy).argmax(1))


def test_networks_see_the_same_noise_whatever_the_batches(images, monkeypatch):
    def noisy() -> torch.Tensor:
        """What a network is shown at the severest noise."""
        shown = []
        subject = subject_of(images, "corruptions")
        handle = subject.model.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].clone()))
        for outcome in usage.corruptions(subject):
            if (outcome.condition["corruption"], outcome.condition["severity"]) == ("noise", 5):
                handle.remove()
                return torch.cat(shown)
            shown.clear()
        raise AssertionError("there was no such noise")

    whole = noisy()
    monkeypatch.setattr(probes, "EVALUATION_BATCH", 7)
    assert torch.equal(whole, noisy())


def test_every_probe_can_be_recorded_and_leaves_buffers_and_modes_as_they_were(images):
    from ssconv_lib.proberecord import encode_outcomes

    for name in ("wiring", "shift", "sizes", "corruptions"):
        subject = subject_of(images, name)
        before = copy.deepcopy(subject.model.state_dict())
        record = encode_outcomes(probes.find_probe(name)(subject))
        assert record["n_images"] == 40
        assert all(torch.equal(value, before[key]) for key, value in subject.model.state_dict().items())
        layers = [m for m in subject.model.modules() if isinstance(m, SSConv2d)]
        assert not any(layer._forward_pre_hooks for layer in layers)
        assert all(parameter.requires_grad for parameter in subject.model.parameters())


def test_cifar_images_normalised_one_by_one_cannot_be_corrupted():
    split = Split(torch.zeros(2, 32, 32, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    data = Data(split, split, 10, (3, 32, 32), "gcn", cifar10.MEAN, cifar10.STD)
    network = Run(data=Cifar10(normalise="gcn"), model="wrn10_1")
    subject = probes.Subject(
        ProbeRun(network=network, probe="corruptions"), build_model(network, 10, (3, 32, 32)), data
    )
    with pytest.raises(ValueError, match="'gcn'"):
        list(usage.corruptions(subject))


def test_colours_give_the_generated_task_its_unit():
    """Noise of .1 is a twentieth of a patch's colour there, give or take: not nothing, not all."""
    unit = 1 * pixel_scale(load(LongRange(train=200, test=1))).std[0]
    assert COLOURS.max() * unit == pytest.approx(1, abs=0.2)
