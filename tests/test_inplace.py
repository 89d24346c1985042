"""The fast path: the functional form's results bit for bit, and an input that nobody sees changed."""

import functools
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, jvp, vmap
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from ssconv_lib import SSConv2d, compiled, convert_to_ssconv, inplace
from ssconv_lib.listing import ListingConv2d

UNLINKED = " " in torch.__file__ and torch.__version__ < (2, 14)


def layer(channels=16, out=8, kernel=3, **options):
    options = {"alpha": 0.3, "spatial_size": 6, "seed": 3, "padding": 1, **options}
    return SSConv2d(channels, out, kernel, **options)


def draw(*shape, seed=0, **options):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(**options)


@pytest.fixture
def writes(monkeypatch):
    """The inputs that the fast path wrote to are counted: a test that means to use it, or not to, says so."""
    counted = []
    original = inplace.Moves.find

    def find(self, x):
        found = original(self, x)
        if found is not None:
            counted.append(tuple(x.shape))
        return found

    monkeypatch.setattr(inplace.Moves, "find", find)
    return counted


def both(ours, x, run):
    """What `run` returns with the fast path and without."""
    results = []
    for ours.fast in (True, False):
        results.append(run(ours, x))
    ours.fast = True
    return results


def train(ours, x):
    """Outputs and all gradients; x comes from an operation that saved its own output for its backward."""
    ours.zero_grad(set_to_none=True)
    source = x.clone().requires_grad_()
    hidden = source.exp()
    output = ours(hidden)
    weights = draw(*output.shape, seed=9, dtype=output.dtype)
    (output * weights + output**2).sum().backward()
    return output.detach(), source.grad, *(parameter.grad for parameter in ours.parameters())


CASES = st.fixed_dictionaries(
    {
        "channels": st.sampled_from([4, 8, 12]),
        "groups": st.sampled_from([1, 2, 4]),
        "size": st.tuples(st.integers(1, 6), st.integers(1, 6)),
        "n": st.integers(0, 3),
        "alpha": st.sampled_from([0.1, 0.25, 0.3, 0.5, 1.0]),
        "layout": st.sampled_from(["leading", "interleaved", "listing", "matched"]),
        "stride": st.sampled_from([1, 2, (2, 1)]),
        "padding": st.sampled_from([1, (1, 2), "same"]),
        "dilation": st.sampled_from([1, 2]),
        "padding_mode": st.sampled_from(["zeros", "reflect", "circular"]),
        "kernel": st.sampled_from([1, 2, 3, (3, 1)]),
        "bias": st.booleans(),
        "dtype": st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
        "channels_last": st.booleans(),
    }
)


def built(case):
    """A layer and an input of a case; what torch itself refuses is made possible."""
    case = dict(case)
    n, size, dtype = case.pop("n"), case.pop("size"), case.pop("dtype")
    memory_format = torch.channels_last if case.pop("channels_last") else torch.contiguous_format
    channels, kernel = case.pop("channels"), case.pop("kernel")
    if case["padding"] == "same":
        case["stride"] = 1
    elif case["padding_mode"] != "zeros" or case["dilation"] == 2:
        case["padding_mode"], case["padding"] = "zeros", 2
    if case["padding_mode"] != "zeros":
        case["padding_mode"], size = "circular", (6, 6)
    if case["padding"] == 1 or case["padding"] == (1, 2):
        size = tuple(max(side, 3) for side in size)
    ours = SSConv2d(channels, 8, kernel, spatial_size=size, seed=1, **case).to(dtype)
    return ours, draw(n, channels, *size, dtype=dtype).to(memory_format=memory_format)


@settings(max_examples=150, deadline=None)
@given(CASES)
@pytest.mark.filterwarnings("ignore:alpha=")
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_outputs_and_gradients_are_those_of_the_functional_form_bit_for_bit(case):
    ours, x = built(case)
    kept, version = x.clone(), x._version
    with torch.no_grad():
        fast, functional = both(ours, x, lambda ours, x: ours(x))
    assert torch.equal(fast, functional)
    assert fast.stride() == functional.stride()
    assert torch.equal(x, kept)
    assert x._version == version
    with torch.inference_mode():
        assert torch.equal(ours(x), functional)
        assert torch.equal(ours(x.clone()), functional)
    assert x._version == version
    for one, other in zip(*both(ours, x, train), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("options", [{}, {"groups": 4}, {"layout": "listing"}, {"padding": "same"}, {"bias": False}])
def test_the_usual_calls_take_the_fast_path(writes, channels_last, options):
    ours = layer(**options)
    x = draw(2, 16, 6, 6).to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            ours(x)
    assert len(writes) == 2
    train(ours, x)
    assert len(writes) == 5, "forward, and in the backward x and its gradient"


def test_gradcheck():
    ours = layer(channels=5, out=3, alpha=0.5, spatial_size=(3, 4), stride=2, dtype=torch.float64)

    def function(x, weight, bias):
        return functional_call(ours, {"weight": weight, "bias": bias}, (x * 2,))

    inputs = [draw(2, 5, 3, 4, dtype=torch.float64), *(p.detach().clone() for p in ours.parameters())]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(function, inputs, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("grad_mode", [True, False])
def test_the_input_is_restored_when_the_convolution_raises(grad_mode):
    ours, x = layer(), draw(2, 16, 6, 6)
    ours.weight = nn.Parameter(ours.weight.detach().double())
    kept = x.clone()
    with torch.set_grad_enabled(grad_mode), pytest.raises(RuntimeError, match="type"):
        ours(x)
    assert torch.equal(x, kept)
    assert x._version == 0


def test_the_input_is_restored_when_the_backward_raises(monkeypatch):
    ours, x = layer(), draw(2, 16, 6, 6)
    kept, output = x.clone(), ours(x)
    monkeypatch.setattr(inplace, "convolution_backward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        output.sum().backward()
    assert torch.equal(x, kept)


@pytest.mark.parametrize("error", [KeyboardInterrupt, IndexError])
def test_the_input_is_restored_when_the_write_itself_is_cut_off(monkeypatch, error):
    """As Ctrl-C does, and an index outside, which torch finds when some values are written."""
    ours, x = layer(), draw(2, 16, 6, 6)
    kept, gather = x.clone(), torch.gather

    def cut_off(*args, **options):
        gather(*args, **options)
        raise error

    monkeypatch.setattr(torch, "gather", cut_off)
    with torch.no_grad(), pytest.raises(error):
        ours(x)
    assert torch.equal(x, kept)


def test_an_operation_that_saved_the_input_for_its_backward_sees_nothing(writes):
    """ReLU, exp and a plain convolution keep the very tensor; autograd would raise if its version moved."""
    ours, plain = layer(), nn.Conv2d(16, 8, 3, padding=1)
    source = draw(2, 16, 6, 6).requires_grad_()
    hidden = source.exp()
    (plain(hidden) + ours(hidden)).sum().backward()
    got, source.grad = source.grad, None
    writes_then = len(writes)
    hidden = source.exp()
    (plain(hidden) + ours._conv_forward(ours.shuffle(hidden), ours.weight, ours.bias)).sum().backward()
    assert torch.allclose(got, source.grad, atol=1e-6)
    assert writes_then == 3


def test_a_write_to_the_input_between_forward_and_backward_is_found():
    ours = layer()
    hidden = draw(2, 16, 6, 6).requires_grad_() * 2
    output = ours(hidden)
    with torch.no_grad():
        hidden.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_another_permutation_between_forward_and_backward_is_found():
    ours = layer()
    output = ours(draw(2, 16, 6, 6))
    ours.load_state_dict(layer(seed=4).state_dict())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_a_loaded_or_replaced_permutation_is_used_at_once():
    x = draw(2, 16, 6, 6).to(memory_format=torch.channels_last)
    ours, other = layer(seed=1), layer(seed=2)
    with torch.no_grad():
        ours(x)
        ours.load_state_dict(other.state_dict())
        assert torch.equal(ours(x), other(x))
        ours.permutation = layer(seed=5).permutation
        fast, functional = both(ours, x, lambda ours, x: ours(x))
        assert torch.equal(fast, functional)


class Own(torch.Tensor):
    """A subclass, which may mean anything by its operations."""


def _overlapping():
    return draw(1, 16, 6, 6).expand(2, -1, -1, -1)


def _made_in_inference_mode():
    with torch.inference_mode():
        return draw(2, 16, 6, 6)


UNSAFE = {
    "overlapping": _overlapping,
    "leaf that requires grad": lambda: draw(2, 16, 6, 6).requires_grad_(),
    "made in inference mode": _made_in_inference_mode,
    "neither memory format": lambda: draw(2, 16, 6, 12)[..., ::2],
    "transposed": lambda: draw(2, 16, 6, 6).transpose(2, 3),
    "subclass": lambda: draw(2, 16, 6, 6).as_subclass(Own),
    "complex": lambda: draw(2, 16, 6, 6, dtype=torch.complex64),
    "no batch": lambda: draw(16, 6, 6),
}


@pytest.mark.parametrize("kind", UNSAFE)
def test_inputs_that_are_not_safe_to_write_take_the_functional_form(writes, kind):
    x = UNSAFE[kind]()
    ours, kept = layer(dtype=x.dtype), x.detach().clone()
    with torch.no_grad():
        fast, functional = both(ours, x, lambda ours, x: ours(x))
    assert writes == []
    assert torch.equal(fast, functional)
    assert torch.equal(x.detach(), kept)


def test_an_input_that_shares_memory_with_the_weight_is_not_written(writes):
    ours = layer(channels=16, out=2, kernel=6, spatial_size=6, padding=0)
    with torch.no_grad():
        fast, functional = both(ours, ours.weight.detach(), lambda ours, x: ours(x))
    assert writes == []
    assert torch.equal(fast, functional)


def test_an_input_that_shares_memory_with_the_bias_is_not_written(writes):
    ours = SSConv2d(8, 8, 1, alpha=1.0, spatial_size=1, seed=1)
    with torch.no_grad():
        x = ours.bias.detach().view(1, 8, 1, 1)
        fast, functional = both(ours, x, lambda ours, x: ours(x))
        args = (ours.permutation, 0, 1, [1, 1], [0, 0], [1, 1], 1)
        operator = torch.ops.ssconv.conv2d(x, ours.weight, ours.bias, *args)
    assert writes == []
    assert torch.equal(fast, functional)
    assert torch.equal(operator, functional)


def test_transforms_modes_and_traces_take_the_functional_form(writes):
    ours, x = layer(), draw(2, 16, 6, 6)
    parameters = dict(ours.named_parameters())
    with torch.no_grad():
        expected = both(ours, x, lambda ours, x: ours(x))[1]
        writes.clear()
        assert torch.allclose(vmap(ours)(x[:, None])[:, 0], expected, atol=1e-6)
        jvp(ours, (x,), (x,))
        with FlopCounterMode(display=False):
            ours(x)
        with torch.autograd.forward_ad.dual_level():
            ours(x)
    grad(lambda weights: functional_call(ours, weights, (x,)).sum())(parameters)
    with pytest.warns(torch.jit.TracerWarning), torch.no_grad():
        traced = torch.jit.trace(ours, x, check_trace=False)
    assert torch.equal(traced(x), expected)
    exported = torch.export.export(ours, (x,))
    assert torch.equal(exported.module()(x), expected)
    assert not [node for node in exported.graph.nodes if "ssconv" in str(node.target)]
    assert writes == []


def test_the_switch(writes):
    ours = layer(fast=False)
    with torch.no_grad():
        ours(draw(2, 16, 6, 6))
        assert writes == []
        ours.fast = True
        ours(draw(2, 16, 6, 6))
        assert len(writes) == 1
    assert "fast=False" in repr(layer(fast=False))
    assert "fast" not in repr(layer())
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 8, 1))
    assert convert_to_ssconv(model, 0.3, input_size=(3, 6, 6), fast=False)[1].fast is False


def test_a_read_only_input_is_served_with_the_switch_off(tmp_path):
    """With the switch on it would end the process: torch can't know that memory is mapped read-only."""
    np.save(tmp_path / "images.npy", draw(2, 16, 6, 6).numpy())
    with pytest.warns(UserWarning, match="not writable"):
        x = torch.from_numpy(np.load(tmp_path / "images.npy", mmap_mode="r"))
    ours = layer(fast=False)
    with torch.no_grad():
        assert torch.equal(ours(x), ours(x.clone()))


def wrong_in_threads(model, inputs, expected):
    """The numbers of the threads, one an input, whose hundred forwards did not all give what was expected."""
    wrong = []

    def work(number):
        with torch.no_grad():
            wrong.extend(number for _ in range(100) if not torch.equal(model(inputs[number]), expected[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def test_threads_with_inputs_of_their_own_do_not_disturb_each_other():
    model = nn.Sequential(layer(), nn.ReLU(), layer(8, 8, alpha=0.5), nn.ReLU(), layer(8, 4, groups=2))
    inputs = [
        draw(1 + number % 3, 16, 6, 6, seed=number).to(
            memory_format=torch.channels_last if number % 2 else torch.contiguous_format
        )
        for number in range(4)
    ]
    with torch.no_grad():
        expected = [model(x) for x in inputs]
    assert wrong_in_threads(model, inputs, expected) == []


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("layout", ["leading", "interleaved", "listing"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_complex_inputs_train_as_their_real_and_imaginary_parts_do(dtype, layout, channels_last):
    """P moves both alike; so outputs, and the gradients of the input and the weight, are a plain convolution's."""
    ours, plain = (make(16, 8, 3, padding=1, groups=2, dtype=dtype) for make in (_complex_layer(layout), nn.Conv2d))
    plain.load_state_dict({key: ours.state_dict()[key] for key in ("weight", "bias")})
    x = draw(2, 16, 6, 6, dtype=dtype) * (1 - 0.5j)
    x = x.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    def run(convolution, shuffle):
        source = x.clone().requires_grad_()
        output = convolution(shuffle(source * 2))
        output.abs().sum().backward()
        return output.detach(), source.grad, *(parameter.grad for parameter in convolution.parameters())

    def by_parts(source):
        return torch.complex(ours.shuffle(source.real), ours.shuffle(source.imag))

    for one, other in zip(run(ours, lambda source: source), run(plain, by_parts), strict=True):
        torch.testing.assert_close(one, other)


def _complex_layer(layout):
    return functools.partial(SSConv2d, alpha=0.3, spatial_size=6, seed=3, layout=layout)


def test_a_hundred_forwards_are_the_same():
    ours, x = layer(), draw(2, 16, 6, 6)
    with torch.no_grad():
        first = ours(x)
        assert all(torch.equal(ours(x), first) for _ in range(100))


def test_what_is_saved_for_the_backward_is_what_the_convolution_saves():
    x = draw(4, 64, 6, 6, seed=1).requires_grad_() * 1
    ours, listing = layer(64, 64), ListingConv2d(64, 64, alpha=0.3)
    plain = nn.Conv2d(64, 64, 3, padding=1)

    def saved(module):
        seen = {}
        buffers = {buffer.untyped_storage().data_ptr() for buffer in module.buffers()}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in buffers:
                seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = module(x)
        assert output.requires_grad
        return sum(seen.values())

    assert saved(ours) == saved(plain)
    listing(x)
    assert saved(listing) == saved(plain), "it saves its own copy in place of x; the copy is what costs"


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing(reentrant):
    ours, x = layer(), draw(2, 16, 6, 6)

    def run(ours, x):
        ours.zero_grad(set_to_none=True)
        source = x.clone().requires_grad_()
        checkpoint(lambda x: ours(x.exp()), source, use_reentrant=reentrant).pow(2).sum().backward()
        return source.grad, ours.weight.grad

    for one, other in zip(*both(ours, x, run), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("cache", [True, False])
def test_autocast_gives_what_the_functional_form_gives(cache):
    ours, x = layer(), draw(2, 16, 6, 6)

    def run(ours, x):
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=cache):
            output, *gradients = train(ours, x)
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            return [output, ours(x), *gradients]

    fast, functional = both(ours, x, run)
    assert fast[0].dtype == torch.bfloat16
    for one, other in zip(fast, functional, strict=True):
        assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("channels_last", [False, True])
def test_compile_keeps_the_operator_whole_and_gives_the_same(groups, channels_last):
    torch._dynamo.reset()
    ours = layer(groups=groups)
    x = draw(2, 16, 6, 6).to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    targets = []

    def backend(graph, inputs):
        targets.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    with torch.no_grad():
        assert torch.equal(torch.compile(ours, backend=backend, fullgraph=True)(x), ours(x))
    assert any("ssconv.conv2d" in target for target in targets)
    torch._dynamo.reset()
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    for one, other in zip(train(compiled, x), train(ours, x), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(UNLINKED, reason="PyTorch 2.11's compiler can't link from a folder with a blank; 2.14's can")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_compiler_hands_the_operator_feature_maps_in_channels_last(monkeypatch, channels_last):
    """Between convolutions, which it turns to channels_last, an operator that wants NCHW costs two copies a layer."""
    torch._dynamo.reset()
    assert compiled.teach_compiler()
    find, handed = compiled._find, []
    monkeypatch.setattr(compiled, "_find", lambda x, *rest: handed.append(x) or find(x, *rest))
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), layer(16, 16), nn.ReLU(), nn.Conv2d(16, 4, 1))
    x = draw(2, 3, 6, 6).to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    compiled_model = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        output, expected = compiled_model(x), model(x)
    assert torch.allclose(output, expected, atol=1e-5)
    assert output.stride() == expected.stride()
    assert len(handed) == 1
    for one, other in zip(train(compiled_model, x), train(model, x), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)
    assert len(handed) == 4, "in training: x forward, and in the backward x and its gradient"
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in handed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_transforms_inside_a_compiled_function_give_what_they_give_outside(backend):
    torch._dynamo.reset()
    ours, x = layer(), draw(2, 16, 6, 6)

    def slope(x):
        return jvp(ours, (x,), (2 * x,))[1]

    def gradient(x):
        return grad(lambda x: ours(x).square().sum())(x)

    for function in (slope, gradient):
        expected = function(x)
        assert expected.abs().max() > 0.1
        got = torch.compile(function, backend=backend, fullgraph=True)(x)
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_layer_can_be_differentiated_twice():
    """Only backend="eager" allows it; there the operator's gradient is recorded as it is computed."""
    torch._dynamo.reset()
    ours = layer()

    def penalty(run):
        x = draw(2, 16, 6, 6).requires_grad_()
        hidden = x.exp()
        (first,) = torch.autograd.grad(run(hidden).square().sum(), hidden, create_graph=True)
        return torch.autograd.grad(first.square().sum(), (x, ours.weight, ours.bias))

    compiled_layer = torch.compile(ours, backend="eager", fullgraph=True)
    for got, expected in zip(penalty(compiled_layer), penalty(ours), strict=True):
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-3)


def test_an_input_without_a_batch_is_compiled_in_the_functional_form():
    torch._dynamo.reset()
    ours, x = layer(), draw(16, 6, 6)
    assert torch.allclose(torch.compile(ours, backend="aot_eager", fullgraph=True)(x), ours(x), atol=1e-6)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_operator_is_what_torch_expects_of_one(channels_last):
    """opcheck: the schema is true, the fake says shapes and strides, the gradient is registered and traceable."""
    ours = layer()
    x = draw(2, 16, 6, 6).to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    shuffle = (ours.permutation, 0, 1)
    weight, bias = ours.weight.detach().requires_grad_(), ours.bias.detach().requires_grad_()
    geometry = ([1, 1], [1, 1], [1, 1], 1)
    args = (x.requires_grad_(), weight, bias, *shuffle, *geometry)
    torch.library.opcheck(torch.ops.ssconv.conv2d.default, args)
    y = ours(x).detach()
    args = (y, x.detach(), weight.detach(), True, *shuffle, *geometry, [True, False, True])
    torch.library.opcheck(torch.ops.ssconv.conv2d_backward.default, args)


def test_memory_order_counts_in_the_order_of_channels_last():
    permutation = torch.randperm(3 * 20)
    values = draw(60)
    moved = values[permutation].view(3, 4, 5)
    turned = values.view(3, 4, 5).permute(1, 2, 0).reshape(-1)
    assert torch.equal(turned[inplace.memory_order(permutation, (4, 5))], moved.permute(1, 2, 0).reshape(-1))
