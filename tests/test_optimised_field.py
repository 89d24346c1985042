"""Eq. 4's engine: the gradient is the naive loop's, the field is where it must be, and stopping changes no bit."""

import dataclasses
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from test_loader import make_images
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ssconv_lib.data import Cifar10, Data, Images, LongRange, Split, load
from ssconv_lib.fieldrun import FieldRun
from ssconv_lib.fieldstep import OptimisedField, black_of, clean_parts, held, hide
from ssconv_lib.loader import MEAN, STD, make_batches
from ssconv_lib.naive_field import iteration_cost, naive_step
from ssconv_lib.optimised_field import batch_stream, optimise
from ssconv_lib.run import Run
from ssconv_lib.training import build_model

DATA = LongRange(size=12, distance=6, train=43, test=2)
NETWORK = Run(data=DATA, model="long_range_cnn", alpha=0.125)
RUN = FieldRun(network=NETWORK, layer="layers.0", box=(4, 8), iterations=9, batch=8, trained=False)
OTHERS = [
    dataclasses.replace(RUN, layer="layers.1", iterations=5),
    dataclasses.replace(RUN, layer="layers.1", channel=3, beta=1e-12, start=-3),
    dataclasses.replace(RUN, layer="layers.1", beta=1e-4),
    dataclasses.replace(RUN, layer="stem", box=(2, 6), eps=1e-30, lr=0.2),
]


@pytest.fixture(scope="module")
def data():
    return load(DATA)


@pytest.fixture
def network(data):
    return build_model(NETWORK, 2, data.input_size)


def batches(data, run=RUN):
    return make_batches(data, "train", run.batch, seed=run.seed, train=True)


def found(network, data, runs, **options):
    return optimise(network, batches(data), runs, compare=False, **options)


def same(one, other):
    return torch.equal(one.map, other.map) and one.loss == other.loss and one.sizes == other.sizes


def cifar_run(model, alpha, **fields):
    return FieldRun(network=Run(data=Cifar10(), model=model, alpha=alpha), trained=False, **fields)


GRADIENTS = {
    "a layer": cifar_run("wrn10_2", 0, layer="stage1.0", box=(8, 16)),
    "a strided layer of a shuffling network": cifar_run("wrn10_2", 0.25, layer="stage3.0", box=(8, 16)),
    "a channel": cifar_run("wrn10_2", 0.25, layer="stage2.0", box=(12, 20), channel=5, beta=1e-2),
    "black": cifar_run("resnext29_2x16d", 0.25, layer="stem", box=(0, 32), fill="black", start=1.5),
}


@pytest.mark.parametrize("run", GRADIENTS.values(), ids=[*GRADIENTS])
def test_the_gradient_is_the_naive_loops(run):
    torch.manual_seed(0)
    network = build_model(run.network, 10, (3, 32, 32)).double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.double).to(memory_format=torch.channels_last)
    black = torch.tensor([-2.0, -1.9, -1.7])
    ours, naive = OptimisedField(network, run, black), OptimisedField(network, run, black)
    for _ in range(2):  # the second one from an R that is not the same everywhere
        with held(network):
            parts = ours.step(x, clean_parts(network, [ours.part], x)[ours.part])
        with held(network, gradients=True):
            expected = naive_step(network, run, naive.field, naive.optimizer, x, naive.black)
            assert any(parameter.grad is not None for parameter in network.parameters()), "as first written"
        torch.testing.assert_close(ours.field.grad, naive.field.grad, rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(parts, expected, rtol=1e-9, atol=1e-13)
        assert ours.field.grad.abs().max() > 1e-6
    torch.testing.assert_close(ours.field, naive.field, rtol=1e-7, atol=1e-9)


def test_both_parts_of_the_loss_are_eq_4s(network, data):
    """The squared error summed over channels and positions, its mean over the batch; the sum of σ(R)."""
    run = dataclasses.replace(RUN, channel=2, beta=0.5, start=-1)
    x = next(batch_stream(batches(data), 0))
    sigma = 1 / (1 + torch.e)
    with held(network):
        with torch.no_grad():
            outputs = [network.layers[0](F.max_pool2d(network.stem(images), 2)) for images in (x, sigma * x)]
        clean, masked = (y[:, 2, 2:4, 2:4] for y in outputs)  # 12 pixels are 6 units here
        field = OptimisedField(network, run)
        perceptual, penalty = field.step(x, clean_parts(network, [field.part], x)[field.part])
    assert perceptual.item() == pytest.approx(((masked - clean) ** 2).sum().item() / 8, rel=1e-5)
    assert penalty.item() == pytest.approx(0.5 * sigma * 3 * 144, rel=1e-5)


@pytest.fixture
def two_convs():
    """Two 3×3 convolutions, where box [4, 8) sees [2, 10) and no more."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))


def outside():
    pixels = torch.ones(12, 12, dtype=torch.bool)
    pixels[2:10, 2:10] = False
    return pixels


def test_a_pixel_outside_the_field_goes_to_0(two_convs, data):
    run = dataclasses.replace(RUN, layer="2", iterations=300)
    result = found(two_convs, data, [run])[run.hash]
    assert result.map[:, outside()].max() < 0.01
    assert result.map[:, ~outside()].min() > 0.5
    assert result.sizes == {"at_least_half": 64 / 144, "above_half": 64 / 144, "at_least_tenth": 64 / 144}


def test_a_penalty_far_below_epsilon_leaves_the_outside_where_it_began(two_convs, data):
    run = dataclasses.replace(RUN, layer="2", iterations=100, beta=1e-12, start=1.0)
    bare = dataclasses.replace(run, eps=1e-30)
    results = found(two_convs, data, [run, bare])
    stuck, moved = (results[one.hash].map[:, outside()].logit() - 1 for one in (run, bare))
    assert stuck.abs().max() < 0.03 * run.iterations / 10_000, "of .03 in the paper's 10,000 iterations"
    assert moved.max() < -5


def test_a_run_that_was_stopped_goes_on_with_the_same_bits(network, data, tmp_path):
    runs = [RUN, *OTHERS]
    straight = found(network, data, runs)
    first = found(network, data, runs, checkpoints=tmp_path, should_stop=Countdown(3))
    assert first == {}
    second = found(network, data, runs, checkpoints=tmp_path, should_stop=Countdown(3))
    assert [*second] == [OTHERS[0].hash], "of 5 iterations"
    steps = []
    last = found(network, data, runs, checkpoints=tmp_path, report=steps.append)
    assert sum(steps) == sum(run.iterations for run in runs)
    assert {*last} == {run.hash for run in runs}
    assert all(same(last[run.hash], straight[run.hash]) for run in runs)
    assert straight[RUN.hash].loss["iteration"] == [*range(1, 10)]


class Countdown:
    """Stops after so many iterations."""

    def __init__(self, iterations):
        self.left = iterations + 1

    def __call__(self):
        self.left -= 1
        return self.left <= 0


def test_runs_that_are_stopped_at_different_places_meet_again(network, data, tmp_path):
    straight = found(network, data, [RUN, *OTHERS])
    found(network, data, [RUN], checkpoints=tmp_path, should_stop=Countdown(7))
    found(network, data, [OTHERS[0]], checkpoints=tmp_path)
    again = found(network, data, [RUN, *OTHERS], checkpoints=tmp_path)
    assert all(same(again[run.hash], straight[run.hash]) for run in (RUN, *OTHERS))


def test_together_is_the_same_as_one_by_one(network, data):
    together = found(network, data, [RUN, *OTHERS])
    for run in (RUN, *OTHERS):
        assert same(found(network, data, [run])[run.hash], together[run.hash])


def test_comparing_the_cost_changes_nothing_and_is_done_once(network, data, tmp_path, monkeypatch):
    plain = found(network, data, [RUN, OTHERS[0]])
    options = {"checkpoints": tmp_path}
    optimise(network, batches(data), [RUN, OTHERS[0]], should_stop=Countdown(2), **options)
    monkeypatch.setattr("ssconv_lib.optimised_field.iteration_cost", lambda *_: pytest.fail("it is known"))
    measured = optimise(network, batches(data), [RUN, OTHERS[0]], **options)
    for run in (RUN, OTHERS[0]):
        assert same(measured[run.hash], plain[run.hash])
        assert [*measured[run.hash].cost] == ["naive", "fast"]
        assert all(len(rounds) == 7 and min(rounds) > 0 for rounds in measured[run.hash].cost.values())
    assert plain[RUN.hash].cost == {}


def test_checkpoints_are_written_in_time_and_held_to_their_run(network, data, tmp_path):
    class Killed(Exception):
        pass

    def kill(iterations):
        steps.append(iterations)
        if sum(steps) == 4:
            raise Killed

    steps = []
    with pytest.raises(Killed):
        found(network, data, [RUN], checkpoints=tmp_path, checkpoint_every=0, report=kill)
    (path,) = tmp_path.iterdir()
    assert path.name == f"{RUN.label}.pt"
    assert torch.load(path, weights_only=True)["iteration"] == 3
    other = dataclasses.replace(RUN, beta=1)
    path.rename(tmp_path / f"{other.label}.pt")
    with pytest.raises(ValueError, match=f"belongs to run {RUN.hash}, not to {other.label}; delete it"):
        found(network, data, [other], checkpoints=tmp_path)
    for content in (b"", b"nonsense"):
        (tmp_path / f"{other.label}.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"is damaged; delete it to start"):
            found(network, data, [other], checkpoints=tmp_path)


def snapshot(network):
    modes = [module.training for module in network.modules()]
    grads = [None if p.grad is None else p.grad.clone() for p in network.parameters()]
    return modes, [p.requires_grad for p in network.parameters()], grads


@pytest.mark.parametrize("fault", [{}, {"layer": "nowhere"}, {"box": (3, 8)}])
def test_the_network_is_as_before_also_after_an_error(network, data, fault):
    network.train()
    network.layers[1].eval()
    network.head.weight.requires_grad_(False)
    network.stem.conv.weight.grad = torch.ones_like(network.stem.conv.weight)
    before, state = snapshot(network), {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match="|".join(fault)) if fault else nullcontext():
        optimise(network, batches(data), [dataclasses.replace(RUN, **fault)])
    modes, required, grads = snapshot(network)
    assert (modes, required) == before[:2]
    assert [grad is None for grad in grads] == [grad is None for grad in before[2]]
    assert all(torch.equal(a, b) for a, b in zip(grads, before[2], strict=True) if a is not None)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_no_gradient_of_a_parameter_is_formed_and_nothing_behind_the_layer_runs(network, data):
    x = next(batch_stream(batches(data), 0))
    network.layers[1].register_forward_hook(lambda *_: pytest.fail("it lies behind"))
    with held(network):
        field = OptimisedField(network, RUN)
        field.step(x, clean_parts(network, [field.part], x)[field.part])
        assert all(parameter.grad is None for parameter in network.parameters())


def test_black_is_what_masking_before_normalisation_gives():
    images = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    split = Split(images, torch.zeros(4, dtype=torch.int64))
    data = Data(split, split, 2, (3, 8, 8), "dataset", mean, std)
    (x, _), *_ = make_batches(data, "train", 4, train=False).epoch(0)
    sigma = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    raw = sigma * images.permute(0, 3, 1, 2) / 255
    expected = (raw - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    black = black_of(data).float().view(1, 3, 1, 1)
    torch.testing.assert_close(hide(x, sigma, black), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hide(x, sigma), sigma * x)
    assert black_of(dataclasses.replace(data, normalise="gcn")) is None
    with pytest.raises(ValueError, match='fill = "black".*black_of'):
        OptimisedField(nn.Conv2d(3, 1, 1), GRADIENTS["black"])


def test_images_from_files_are_the_same_to_it(tmp_path):
    folder = Images(folder="flowers", pixels=32)
    make_images(tmp_path / "flowers", {"train": 5, "val": 2})
    data = load(folder, tmp_path)
    torch.testing.assert_close(black_of(data), -torch.tensor(MEAN).double() / torch.tensor(STD).double())
    network = Run(data=folder, model="wrn10_1", alpha=0.25)
    run = FieldRun(network=network, trained=False, layer="stem", box=(8, 16), batch=4, iterations=6, fill="black")
    model, options = (
        build_model(network, data.num_classes, data.input_size),
        {"black": black_of(data), "compare": False},
    )
    full = len(data.train) // 4
    assert full * 4 < len(data.train), "there is a short batch to be left out"
    assert full < 6, "and a second epoch"
    straight = optimise(model, batches(data, run), [run], **options)
    optimise(model, batches(data, run), [run], checkpoints=tmp_path, should_stop=Countdown(4), **options)
    again = optimise(model, batches(data, run), [run], checkpoints=tmp_path, **options)
    assert same(again[run.hash], straight[run.hash])


def test_batch_t_is_the_same_wherever_one_begins_and_short_ones_are_left_out(data):
    stream = batch_stream(batches(data), 0)  # 43 images: five batches of 8 an epoch
    first = [next(stream) for _ in range(12)]
    assert {len(x) for x in first} == {8}
    expected = [x for epoch in (0, 1) for x, _ in batches(data).epoch(epoch) if len(x) == 8]
    assert all(torch.equal(x, other) for x, other in zip(first, expected, strict=False))
    assert not torch.equal(first[0], first[5])
    for start in (3, 5, 9):
        assert torch.equal(next(batch_stream(batches(data), start)), first[start])


def test_the_loss_is_thinned(network, data):
    run = dataclasses.replace(RUN, layer="stem", iterations=130)
    loss = found(network, data, [run])[run.hash].loss
    assert loss["iteration"][:3] == [1, 3, 6]
    assert loss["iteration"][-1] == 130
    assert {len(part) for part in loss.values()} == {51}
    assert loss["perceptual"][-1] < loss["perceptual"][0] / 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 9}, "batch = 9; expected those of the batches, 0 and 8"),
        ({"seed": 1}, "seed = 1, "),
        ({"layer": "nowhere"}, "layer 'nowhere'"),
        ({"channel": 32}, "channel = 32"),
        ({"box": (3, 8)}, "stride"),
    ],
)
def test_what_does_not_fit_is_quoted(network, data, change, message):
    with pytest.raises(ValueError, match=message):
        found(network, data, [dataclasses.replace(RUN, **change)])


def test_fewer_images_than_a_batch_are_refused(network, data):
    run = dataclasses.replace(RUN, batch=44)
    with pytest.raises(ValueError, match="43 images in training batches of 44"):
        optimise(network, batches(data, run), [run])


def test_the_naive_iteration_costs_more(data):
    """By the count of operators, not by the clock: the cost is only measured."""
    network = build_model(NETWORK, 2, data.input_size)
    x = next(batch_stream(batches(data), 0))
    cost = iteration_cost(network, RUN, x, rounds=2)
    assert {name: len(rounds) for name, rounds in cost.items()} == {"naive": 2, "fast": 2}
    with FlopCounterMode(display=False) as naive, held(network, gradients=True):
        rival = OptimisedField(network, RUN)
        naive_step(network, RUN, rival.field, rival.optimizer, x)
    with FlopCounterMode(display=False) as fast, held(network):
        ours = OptimisedField(network, RUN)
        ours.step(x, clean_parts(network, [ours.part], x)[ours.part])
    assert fast.get_total_flops() < 0.7 * naive.get_total_flops()
