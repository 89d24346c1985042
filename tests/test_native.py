"""The compiled form of the fast path: built here, if the machine has a compiler, and held to the functional form."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from test_inplace import CASES, UNSAFE, both, built, draw, layer, train, wrong_in_threads
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, vmap
from torch.overrides import TorchFunctionMode
from torch.utils import cpp_extension
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts
from torch.utils.flop_counter import FlopCounterMode

from ssconv_lib import SSConv2d, native
from ssconv_lib.__main__ import main

pytestmark = pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler here")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """The built module, in a cache of its own; torch is in a folder with a blank."""
    folder = tmp_path_factory.mktemp("a folder")
    (folder / "lib").symlink_to(cpp_extension.TORCH_LIB_PATH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("a cache")))
        patch.setattr(cpp_extension, "TORCH_LIB_PATH", str(folder / "lib"))
        target = native.build()
        before = target.stat().st_mtime_ns
        assert native.build().stat().st_mtime_ns == before, "what is there is not built again"
        yield native.open_module()


@pytest.fixture
def calls(kernel, monkeypatch):
    """Layers use the module; the list says of each call whether it took the input."""
    taken = []

    class Kernel:
        @staticmethod
        def conv2d(*args):
            output = kernel.conv2d(*args)
            taken.append(output is not None)
            return output

    monkeypatch.setattr(native, "load", lambda: Kernel)
    return taken


def functional(ours, x):
    return ours._conv_forward(ours.shuffle(x), ours.weight, ours.bias)


@settings(max_examples=150, deadline=None)
@given(case=CASES)
@pytest.mark.filterwarnings("ignore:alpha=")
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_outputs_and_gradients_are_those_of_the_functional_form_bit_for_bit(kernel, case):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "load", lambda: kernel)
        ours, x = built(case)
        kept, version = x.clone(), x._version
        with torch.no_grad():
            expected = functional(ours, x)
            first, second = ours(x), ours(x)  # the first looks at π, the second is the compiled form's
        assert torch.equal(first, expected)
        assert torch.equal(second, expected)
        assert second.stride() == expected.stride()
        assert torch.equal(x, kept)
        assert x._version == version
        with torch.inference_mode():
            assert torch.equal(ours(x.clone()), expected)
        for one, other in zip(*both(ours, x, train), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("options", [{}, {"groups": 4}, {"layout": "listing"}, {"bias": False}, {"stride": 2}])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_usual_calls_take_it(calls, channels_last, options, context):
    ours = layer(**options)
    x = draw(2, 16, 6, 6).to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    with context():
        ours(x)
        assert torch.equal(ours(x), functional(ours, x))
    assert calls == [True]


@pytest.mark.parametrize("kind", UNSAFE)
def test_inputs_that_are_not_safe_to_write_are_left_alone(calls, kind):
    x = UNSAFE[kind]()
    ours = layer(dtype=x.dtype)
    with torch.no_grad():
        ours(draw(2, 16, 6, 6, dtype=x.dtype))
        kept, output = x.detach().clone(), ours(x)
        assert torch.equal(output, functional(ours, x))
    assert not any(calls)
    assert torch.equal(x.detach(), kept)


def test_transforms_modes_and_weights_of_other_kinds_are_left_alone(calls):
    ours, x = layer(), draw(2, 16, 6, 6)
    ours.eval()
    with torch.no_grad():
        ours(x)
        expected = functional(ours, x)
        calls.clear()
        assert torch.allclose(vmap(ours)(x[:, None])[:, 0], expected, atol=1e-6)
        with FlopCounterMode(display=False):
            ours(x)
        with forward_ad.dual_level():
            ours(x)
        assert torch.equal(torch.jit.trace(ours, x, check_trace=False)(x), expected)
        shared = ours.weight.detach()[:, :, :1, :1].expand(-1, -1, 6, 6)
        ours(shared)
    functional_call(ours, {"weight": ours.weight * 2}, (x,))
    assert not any(calls)


def test_the_input_is_restored_when_the_convolution_raises(calls):
    ours, x = layer(), draw(2, 16, 6, 6)
    kept = x.clone()
    with torch.no_grad():
        ours(x)
        ours.weight = nn.Parameter(ours.weight.detach().double())
        with pytest.raises(RuntimeError, match="type"):
            ours(x)
    assert torch.equal(x, kept)


def test_another_permutation_is_used_at_once_and_a_wrong_one_refused(calls):
    ours, other, x = layer(seed=1), layer(seed=2), draw(2, 16, 6, 6)
    with torch.no_grad():
        ours(x)
        ours.load_state_dict(other.state_dict())
        assert torch.equal(ours(x), functional(other, x))
        ours.permutation[0] = 10**9
        with pytest.raises(ValueError, match="not a permutation"):
            ours(x)


def test_an_index_outside_is_refused_and_the_input_restored(kernel):
    """Where nobody looks at π, as in a compiled graph, memory outside is still not read."""
    ours, x = layer(), draw(2, 16, 6, 6)
    kept, order = x.clone(), ours.permutation.clone()
    order[5] = -1
    geometry = (1, 1), (1, 1), (1, 1), 1
    with pytest.raises(IndexError, match="outside 0"):
        kernel.conv2d(x, ours.weight.detach(), None, order, order._version, order, 16, 6, 6, 0, 1, *geometry)
    assert torch.equal(x, kept)


def test_what_the_operators_are_called_with_is_checked(kernel):
    """An input of another shape than π is for would be written to outside its memory."""
    x, weight = draw(2, 16, 6, 6), draw(8, 16, 3, 3)
    geometry = (1, 1), (1, 1), (1, 1), 1
    for m, start, step in ((35, 0, 1), (72, 15, 1), (72, 0, 16), (72, -1, 1), (72, 0, 0)):
        with pytest.raises(ValueError, match="another shape"):
            torch.ops.ssconv.conv2d(x, weight, None, torch.randperm(m), start, step, *geometry)
    assert torch.equal(x, draw(2, 16, 6, 6))


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_backward_that_raises_leaves_the_input_as_it_was(calls, channels_last):
    ours, x = layer(), draw(2, 16, 6, 6)
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    ours(x)
    hidden = x.requires_grad_() * 1
    output = ours(hidden)
    kept, version = hidden.detach().clone(), hidden._version
    refused = torch.ones_like(output)  # a gradient of another type is what the convolution's backward refuses
    node = output.grad_fn
    with pytest.raises(RuntimeError, match="type|Double"):
        node(refused.double())
    assert torch.equal(hidden, kept)
    assert hidden._version == version
    output.sum().backward()
    assert calls == [True]


def test_what_autograd_guards_is_guarded(calls):
    """A write to the input or to π between forward and backward, and a second backward, are errors as elsewhere."""
    ours, x = layer(), draw(2, 16, 6, 6)
    ours(x)
    hidden = x.requires_grad_() * 1
    output = ours(hidden)
    with torch.no_grad():
        hidden.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()
    output = ours(x * 1)
    output.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        output.sum().backward()
    output = ours(x * 1)
    ours.load_state_dict(layer(seed=4).state_dict())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()
    assert calls == [True] * 3


@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_are_right_twice_and_in_batches(calls, channels_last):
    ours = SSConv2d(4, 4, 3, padding=1, groups=2, alpha=0.5, spatial_size=3, seed=2).double()
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    x = draw(2, 4, 3, 3, dtype=torch.float64).requires_grad_()
    ours(x)

    def run(x, *_):
        return ours((x * 1).to(memory_format=memory_format))

    assert torch.autograd.gradcheck(run, (x, *ours.parameters()), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(run, (x, *ours.parameters()))
    assert all(calls)


def test_a_checkpoint_whose_forward_ran_in_python_is_recomputed(calls):
    """The first call after train() looks at π, in Python; the recomputation of the checkpoint does not."""
    model = nn.Sequential(layer(16, 16), nn.ReLU(), layer(16, 16))

    def gradient(run):
        x = draw(2, 16, 6, 6).requires_grad_()
        run(x.exp()).square().sum().backward()
        return x.grad

    got = gradient(lambda hidden: checkpoint(model.train(), hidden, use_reentrant=False))
    assert any(calls), "in the recomputation"
    assert torch.equal(got, gradient(model))


def test_selective_checkpointing_goes_on_when_only_one_pass_looks_at_pi(calls):
    """What the compiled form needs to know of π must not be worked out under a mode that keeps what is computed."""
    net = nn.Sequential(nn.Conv2d(16, 16, 1), layer(16, 16), nn.ReLU())
    save = [torch.ops.aten.convolution.default]

    def gradient(run):
        net.zero_grad()
        run(draw(2, 16, 6, 6)).square().sum().backward()
        return net[0].weight.grad

    def selectively(x):
        return checkpoint(net, x, use_reentrant=False, context_fn=lambda: create_selective_checkpoint_contexts(save))

    for _ in range(2):
        net.train()
        first, second = gradient(selectively), gradient(selectively)
        assert torch.equal(first, second)
        assert torch.equal(first, gradient(net))
    assert calls == [True, True], "without checkpointing"


def test_a_dual_gradient_keeps_its_tangent(calls):
    ours = layer()
    ours(draw(2, 16, 6, 6))
    hidden = draw(2, 16, 6, 6).requires_grad_() * 1
    output = ours(hidden)
    gradient, tangent = draw(*output.shape, seed=1), draw(*output.shape, seed=2)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(gradient, tangent)
        (dx,) = torch.autograd.grad(output, hidden, dual, retain_graph=True)
        got = forward_ad.unpack_dual(dx)
    assert calls == [True]
    for one, of in ((got.primal, gradient), (got.tangent, tangent)):
        (expected,) = torch.autograd.grad(output, hidden, of, retain_graph=True)
        assert torch.allclose(one, expected, atol=1e-5)


def test_an_input_that_shares_memory_with_the_bias_is_left_alone(calls):
    ours = SSConv2d(8, 8, 1, alpha=1.0, spatial_size=1, seed=1)
    x = ours.bias.detach().view(1, 8, 1, 1)
    with torch.no_grad():
        ours(draw(1, 8, 1, 1))
        assert torch.equal(ours(x), functional(ours, x))
        args = (ours.permutation, 0, 1, [1, 1], [0, 0], [1, 1], 1)
        assert torch.equal(torch.ops.ssconv.conv2d(x, ours.weight, ours.bias, *args), functional(ours, x))
    assert calls == [False]


def test_a_mode_that_looks_at_functions_sees_the_convolution(calls):
    names = []

    class Seen(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            names.append(getattr(function, "__name__", ""))
            return function(*args, **(kwargs or {}))

    ours, x = layer(), draw(2, 16, 6, 6)
    with torch.no_grad():
        ours(x)
        with Seen():
            ours(x)
    assert "conv2d" in names
    assert calls == []


def test_it_keeps_for_the_backward_what_the_convolution_keeps(calls):
    ours, kept = layer(bias=False), []
    hidden = draw(2, 16, 6, 6).requires_grad_() * 1
    ours(hidden.detach())
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        ours(hidden)
    assert calls == [True]
    assert {tensor.data_ptr() for tensor in kept if tensor.is_floating_point()} == {
        hidden.data_ptr(),
        ours.weight.data_ptr(),
    }


def test_autocast_gives_what_the_functional_form_gives(calls):
    ours, x = layer(), draw(2, 16, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            ours(x)
            assert torch.equal(ours(x), functional(ours, x))
        for one, other in zip(*both(ours, x, train), strict=True):
            assert torch.equal(one, other)
    assert ours(x).dtype == torch.float32
    assert calls == [True] * 3


@pytest.mark.parametrize("channels_last", [False, True])
def test_images_shared_out_over_threads_give_the_same(calls, channels_last):
    x = draw(32, 16, 24, 24).to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    ours = layer(alpha=0.5, spatial_size=24)
    torch.set_num_threads(2)
    try:
        ours(x)
        for one, other in zip(*both(ours, x, train), strict=True):
            assert torch.equal(one, other)
    finally:
        torch.set_num_threads(1)
    assert calls == [True]


@pytest.mark.skipif(sys.platform != "linux", reason="built with OpenMP on Linux alone")
def test_it_has_the_threads_of_torch_and_no_others(kernel):
    """A second OpenMP would spin beside the first: the library must not ask for one, but use torch's."""
    assert b"GOMP_parallel" in Path(kernel.__file__).read_bytes(), "else it runs on one thread"
    needed = subprocess.run(["ldd", kernel.__file__], capture_output=True, text=True, check=False).stdout
    found = {line.split()[2] for line in needed.splitlines() if "omp" in line and "=>" in line}
    assert len(found) <= 1, needed
    assert all("torch" in path for path in found), needed


def test_threads_do_not_disturb_each_other(calls):
    model = nn.Sequential(layer(), nn.ReLU(), layer(8, 8, alpha=0.5), nn.ReLU(), layer(8, 4, groups=2))
    inputs = [draw(2, 16, 6, 6, seed=number) for number in range(4)]
    with torch.no_grad():
        expected = [model(x) for x in inputs]
    assert wrong_in_threads(model, inputs, expected) == []
    assert all(calls)


def test_the_operator_of_compiled_graphs_is_its_own(kernel):
    """In a fresh process, since an operator has one implementation in each."""
    code = """
import torch
from ssconv_lib import SSConv2d, inplace, native
assert native.load() is not None
for memory_format in (torch.contiguous_format, torch.channels_last):
    ours = SSConv2d(16, 8, 3, padding=1, alpha=.3, spatial_size=6)
    x = torch.randn(2, 16, 6, 6).to(memory_format=memory_format)
    order = ours.permutation
    with torch.no_grad():
        args = order, 0, 1, (1, 1), (1, 1), (1, 1), 1
        for form in (x, x.contiguous(), x.expand(2, -1, -1, -1)):
            output = torch.ops.ssconv.conv2d(form, ours.weight, ours.bias, *args)
            assert torch.allclose(output, ours._conv_forward(ours.shuffle(x), ours.weight, ours.bias), atol=1e-6)
        try:
            torch.ops.ssconv.conv2d(x, ours.weight, ours.bias, order + 1, *args[1:])
        except IndexError:
            print("done")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=_environment(), check=False
    )
    assert done.stdout == "done\ndone\n", done.stderr


def _environment():
    import os

    return {**os.environ, "SSCONV_NATIVE": "1"}


def test_without_a_compiler_the_command_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["build"]) == 1
    assert "could not be built" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "nothing half is left"


def test_what_cannot_be_loaded_is_reported_and_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.path().parent.mkdir(parents=True)
    native.path().write_bytes(b"not a library")
    with pytest.warns(UserWarning, match="can't be loaded"):
        assert native.open_module() is None
    assert SSConv2d(16, 8, 1, alpha=0.3, spatial_size=2)(draw(1, 16, 2, 2)).shape == (1, 8, 2, 2)
