"""The controls of the shuffle: each takes away what it says, keeps what it should, and is drawn the same again."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from ssconv_lib import SSConv2d
from ssconv_lib.controls import CONTROLS, FORMS, WINDOW, draw_control
from ssconv_lib.convert import convert_to_ssconv
from ssconv_lib.data import LongRange
from ssconv_lib.models import create_model
from ssconv_lib.run import Run
from ssconv_lib.shuffle import draw_permutation, is_permutation

PERMUTATIONS = [control for control in CONTROLS if control not in FORMS]
shapes = st.tuples(st.integers(1, 5), st.integers(1, 10), st.integers(1, 10))


def places(permutation, shape):
    """Channel, row and column that each of (c, h, w) takes its value from, and its own."""
    c, h, w = shape
    own = torch.arange(c * h * w)
    return [(k // (h * w), k // w % h, k % w) for k in (permutation, own)]


def layer_with(control, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SSConv2d(8, 4, 3, padding=1, alpha=0.5, spatial_size=(8, 6), seed=3, control=control, **options)


@settings(deadline=None, max_examples=40)
@given(shapes, st.sampled_from(PERMUTATIONS), st.integers(0, 2**40))
def test_each_pattern_is_a_permutation_of_all_values(shape, control, seed):
    c, h, w = shape
    assert is_permutation(draw_control(control, c, (h, w), seed), c * h * w)


def test_without_a_control_the_permutation_is_the_papers_as_before():
    assert draw_control("none", 2, (3, 2), 2026).equal(draw_permutation(12, 2026))
    assert layer_with("none").permutation.equal(SSConv2d(8, 4, 3, alpha=0.5, spatial_size=(8, 6), seed=3).permutation)


def test_patterns_are_these_on_every_machine():
    drawn = {control: draw_control(control, 2, (4, 5), seed=7)[::3].tolist() for control in PERMUTATIONS}
    assert drawn == GOLDEN


@settings(deadline=None, max_examples=20)
@given(shapes, st.integers(0, 2**40))
def test_per_channel_moves_no_value_to_another_channel_but_differs_between_them(shape, seed):
    (source, *_), (own, *_) = places(draw_control("per_channel", shape[0], shape[1:], seed), shape)
    assert source.equal(own)
    one, two = draw_control("per_channel", 2, (8, 8), seed).view(2, 64)
    assert not one.equal(two - 64)


@settings(deadline=None, max_examples=20)
@given(shapes, st.integers(0, 2**40))
def test_windows_keep_each_value_in_its_window_and_mix_the_channels(shape, seed):
    (_, rows, columns), (_, own_rows, own_columns) = places(draw_control("windows", shape[0], shape[1:], seed), shape)
    assert (rows // WINDOW).equal(own_rows // WINDOW)
    assert (columns // WINDOW).equal(own_columns // WINDOW)
    (channels, *_), (own, *_) = places(draw_control("windows", 4, (8, 8), seed), (4, 8, 8))
    assert not channels.equal(own)


def test_roll_brings_each_value_from_half_the_map_away():
    x = torch.randn(2, 8, 8, 6)
    shuffled = layer_with("roll").shuffle(x)
    assert shuffled[:, :4].equal(x[:, :4].roll((4, 3), (2, 3)))
    assert shuffled[:, 4:].equal(x[:, 4:])


def test_shift_moves_channels_by_one_pixel_the_directions_in_turn_and_zeros_come_in():
    x = torch.randn(2, 8, 8, 6)
    shuffled = layer_with("shift").shuffle(x)
    assert shuffled[:, 0, 1:].equal(x[:, 0, :-1]) and (shuffled[:, 0, 0] == 0).all()
    assert shuffled[:, 1, :-1].equal(x[:, 1, 1:]) and (shuffled[:, 1, -1] == 0).all()
    assert shuffled[:, 2, :, 1:].equal(x[:, 2, :, :-1]) and (shuffled[:, 2, :, 0] == 0).all()
    assert shuffled[:, 3, :, :-1].equal(x[:, 3, :, 1:]) and (shuffled[:, 3, :, -1] == 0).all()
    assert shuffled[:, 4:].equal(x[:, 4:])


def test_zeroed_leaves_nothing_of_the_chosen_channels_and_the_rest_alone():
    x = torch.randn(2, 8, 8, 6)
    shuffled = layer_with("zeroed").shuffle(x)
    assert (shuffled[:, :4] == 0).all()
    assert shuffled[:, 4:].equal(x[:, 4:])


def test_mean_broadcasts_each_channels_own_mean():
    x = torch.randn(2, 8, 8, 6)
    shuffled = layer_with("mean").shuffle(x)
    torch.testing.assert_close(shuffled[:, :4], x[:, :4].mean((2, 3), keepdim=True).expand(-1, -1, 8, 6))
    assert shuffled[:, 4:].equal(x[:, 4:])


def test_fresh_is_another_permutation_in_each_forward_and_goes_on_from_a_state():
    x = torch.arange(8.0 * 48).view(1, 8, 8, 6)
    layer = layer_with("fresh")
    one, two = layer.shuffle(x), layer.shuffle(x)
    assert not one.equal(two)
    assert one[:, :4].flatten().sort().values.equal(x[:, :4].flatten())
    again = layer_with("fresh")
    again.load_state_dict(layer.state_dict())
    assert again.shuffle(x).equal(layer.shuffle(x)), "the third drawn is a function of seed and count"
    assert layer_with("fresh").shuffle(x).equal(one)


def test_evaluating_a_fresh_network_changes_nothing_and_gives_the_same_again():
    x = torch.arange(8.0 * 48).view(1, 8, 8, 6)
    layer, other = layer_with("fresh"), layer_with("fresh")
    assert layer.shuffle(x).equal(other.shuffle(x))
    layer.eval()
    evaluated = [layer.shuffle(x) for _ in range(3)]
    assert not evaluated[0].equal(evaluated[1])
    layer.eval()
    assert all(layer.shuffle(x).equal(one) for one in evaluated)
    assert layer.train().shuffle(x).equal(other.shuffle(x)), "training goes on as if nothing had been evaluated"


@pytest.mark.parametrize("control", CONTROLS)
def test_every_control_is_linear_and_trains_the_same_parameters(control):
    layer, x = layer_with(control), torch.randn(2, 8, 8, 6)
    layer(x).square().sum().backward()
    assert sum(p.numel() for p in layer.parameters()) == 8 * 4 * 9 + 4
    dead = control == "zeroed"
    assert ((layer.weight.grad[:, :4] == 0).all() == dead).item()
    assert (layer.weight.grad[:, 4:] != 0).any()
    if control != "fresh":
        torch.testing.assert_close(layer.shuffle(2 * x + 1), 2 * layer.shuffle(x) + layer.shuffle(torch.ones_like(x)))


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.filterwarnings("ignore:Casting complex")
def test_every_control_trains_with_complex_numbers_too(control):
    layer, real = layer_with(control, dtype=torch.complex64), layer_with(control)
    x = torch.randn(2, 8, 8, 6)
    shuffled = layer.shuffle(torch.complex(x, 2 * x))
    expected = real.shuffle(x)
    torch.testing.assert_close(shuffled, torch.complex(expected, 2 * expected))
    source = torch.complex(x, 2 * x).requires_grad_()
    layer(source).abs().sum().backward()
    assert source.grad.isfinite().all() and (source.grad[:, 4:] != 0).any()


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_fresh_refuses_to_be_run_again_by_a_backward(training, reentrant):
    """Activation checkpointing would get gradients of another permutation than the forward had."""
    layer, x = layer_with("fresh").train(training), torch.randn(2, 8, 8, 6).requires_grad_()
    output = checkpoint(layer, x, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match="control='fresh' under activation checkpointing"):
        output.sum().backward()
    layer(x).sum().backward()
    other = layer_with("roll")
    checkpoint(other, x, use_reentrant=reentrant).sum().backward()


@pytest.mark.parametrize("control", CONTROLS)
def test_the_fast_path_gives_what_the_functional_form_gives(control):
    fast, slow = layer_with(control), layer_with(control, fast=False)
    x = torch.randn(2, 8, 8, 6)
    for _ in range(2):
        assert fast(x).equal(slow(x))


@pytest.mark.parametrize("control", CONTROLS)
def test_a_plain_state_dict_loads_and_another_of_the_same_control(control):
    plain = torch.nn.Conv2d(8, 4, 3, padding=1)
    layer = layer_with(control)
    layer.load_state_dict(plain.state_dict())
    assert layer.weight.equal(plain.weight)
    layer_with(control).load_state_dict(layer.state_dict())


def test_all_layers_of_a_model_take_the_control_and_say_so():
    model = create_model("long_range_cnn", num_classes=2, alpha=0.25, control="roll")
    layers = [module for module in model.modules() if isinstance(module, SSConv2d)]
    assert len(layers) == 3
    assert {layer.control for layer in layers} == {"roll"}
    assert "control=roll" in repr(layers[0])
    assert "control" not in repr(layer_with("none"))


def test_an_unknown_control_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="control='zero': expected one of 'none', 'per_channel'"):
        layer_with("zero")
    with pytest.raises(ValueError, match="control='zero'"):
        convert_to_ssconv(torch.nn.Sequential(), 0.0, input_size=(3, 8, 8), control="zero")
    with pytest.raises(ValueError, match="control"):
        Run(data=LongRange(), model="long_range_cnn", control="zero")


def test_a_run_without_control_keeps_its_name_and_one_with_alpha_0_has_none():
    run = Run(data=LongRange(), model="long_range_cnn", alpha=0.0625)
    assert run.hash == Run(data=LongRange(), model="long_range_cnn", alpha=0.0625, control="none").hash
    assert "control" not in run.identity()
    assert dataclasses.replace(run, control="fresh").label.startswith("long_range_cnn-a0.0625-fresh-s0-")
    assert dataclasses.replace(run, control="fresh", alpha=0.0).label.startswith("long_range_cnn-a0-s0-")
    assert Run(data=LongRange(), model="long_range_cnn", alpha=0.0625, control="fresh").hash != run.hash
    plain = Run(data=LongRange(), model="long_range_cnn")
    assert Run(data=LongRange(), model="long_range_cnn", control="fresh").hash == plain.hash


def test_convolutions_that_shuffle_nothing_stay_plain_under_any_control():
    x = torch.randn(1, 8, 5, 5)
    for control in CONTROLS:
        layer = SSConv2d(8, 4, 3, alpha=0.1, control=control, seed=0)
        assert layer(x).equal(torch.nn.functional.conv2d(x, layer.weight, layer.bias))


GOLDEN = {
    "none": [15, 6, 7, 13, 28, 20, 11, 21, 0, 9, 31, 10, 22, 29],
    "per_channel": [3, 15, 6, 7, 4, 17, 19, 20, 33, 25, 26, 22, 24, 23],
    "windows": [22, 36, 37, 34, 26, 12, 6, 8, 29, 0, 33, 17, 7, 14],
    "roll": [13, 11, 19, 17, 0, 8, 6, 34, 32, 35, 23, 21, 29, 27],
}
