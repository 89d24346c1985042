"""SSConv2d: the plain convolution's parameters and keys, Listing 1's results, and every way torch runs a module."""

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
from test_inplace import UNLINKED
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim.swa_utils import AveragedModel

from ssconv_lib import SSConv2d


def layer(**options):
    options = {"alpha": 0.1, "spatial_size": 6, "seed": 3, "padding": 1, **options}
    return SSConv2d(32, 8, 3, **options)


@pytest.fixture
def x():
    return torch.randn(2, 32, 6, 6, generator=torch.Generator().manual_seed(0))


class Listing1(nn.Module):
    """The paper's Listing 1, for comparison: its arithmetic and its keys."""

    def __init__(self, in_planes, out_planes, kernel_size=3, padding=1, bias=True, groups=1, alpha=0.04):
        super().__init__()
        self.conv = nn.Conv2d(in_planes, out_planes, kernel_size, padding=padding, groups=groups, bias=bias)
        self.alpha, self.groups = alpha, groups

    def forward(self, x):
        n, channels, height, width = x.shape
        s = int(channels * self.alpha)
        if not hasattr(self, "random_indices"):
            self.register_buffer("random_indices", torch.randperm(s * height * width))
        shuffled = x[:, :s].reshape(n, -1).index_select(1, self.random_indices).view(n, s, height, width)
        rest = x[:, s:]
        if self.groups >= 2:
            length, residue = divmod(rest.shape[1], s)
            blocks = torch.cat((shuffled.unsqueeze(1), rest[:, residue:].reshape(n, length, s, height, width)), 1)
            return self.conv(torch.cat((blocks.view(n, channels - residue, height, width), rest[:, :residue]), 1))
        return self.conv(torch.cat((shuffled, rest), 1))


def test_a_seed_starts_conv_and_ss_conv_from_the_same_weights():
    torch.manual_seed(5)
    plain, then = nn.Conv2d(32, 8, 3), torch.rand(1)
    torch.manual_seed(5)
    ours, then_ours = SSConv2d(32, 8, 3, alpha=0.5, spatial_size=6), torch.rand(1)
    assert torch.equal(plain.weight, ours.weight)
    assert torch.equal(plain.bias, ours.bias)
    assert torch.equal(then, then_ours), "drawing π moved the global generator"


@pytest.mark.parametrize("alpha", [0, 0.03])
def test_without_shuffled_channels_it_is_the_convolution_bit_for_bit(x, alpha):
    ours = SSConv2d(32, 8, 3, alpha=alpha, stride=2, padding_mode="reflect", padding=1)
    plain = nn.Conv2d(32, 8, 3, stride=2, padding_mode="reflect", padding=1)
    plain.load_state_dict({k: v for k, v in ours.state_dict().items() if k != "permutation"})
    assert torch.equal(ours(x), plain(x))
    assert ours.permutation.shape == (0,)
    assert ours(torch.randn(1, 32, 9, 11)).shape == (1, 8, 5, 6), "any size will do"


def test_pi_is_a_persistent_int64_buffer_of_length_m():
    ours = layer(alpha=0.25)
    assert ours.permutation.dtype == torch.int64
    assert ours.permutation.sort().values.tolist() == list(range(8 * 36))
    assert "permutation" in ours.state_dict()
    assert [name for name, _ in ours.named_parameters()] == ["weight", "bias"]


def test_seeds_determine_pi_and_layers_without_a_seed_differ():
    assert torch.equal(layer(seed=1).permutation, layer(seed=1).permutation)
    assert not torch.equal(layer(seed=1).permutation, layer(seed=2).permutation)
    assert not torch.equal(layer(seed=None).permutation, layer(seed=None).permutation)


def test_layers_without_a_seed_follow_the_global_seed():
    """In a fresh process the counter starts anew, so manual_seed makes π repeatable."""
    code = (
        "import torch; torch.manual_seed({}); from ssconv_lib import SSConv2d\n"
        "print(SSConv2d(32, 8, 3, alpha=.1, spatial_size=6).permutation[:9].tolist())"
    )
    first, again, other = (
        subprocess.run([sys.executable, "-c", code.format(seed)], capture_output=True, text=True, check=True).stdout
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.3])
def test_listing_layout_equals_listing_1_and_loads_its_keys(x, groups, alpha):
    theirs = Listing1(32, 8, groups=groups, alpha=alpha)
    expected = theirs(x)
    ours = layer(groups=groups, alpha=alpha, layout="listing")
    assert str(ours.load_state_dict(theirs.state_dict(), strict=True)) == "<All keys matched successfully>"
    assert torch.equal(ours(x), expected)


def test_listing_keys_of_a_grouped_layer_load_into_listing_only(x):
    theirs = Listing1(32, 8, groups=2, alpha=0.1)
    theirs(x)
    with pytest.raises(ValueError, match=r"'0'.*groups=2.*layout='listing'"):
        nn.Sequential(layer(groups=2)).load_state_dict({f"0.{k}": v for k, v in theirs.state_dict().items()})


def test_eq_2_is_listing_1_without_groups_and_eq_3_is_not_with(x):
    theirs = Listing1(32, 8, alpha=0.2)
    expected = theirs(x)
    ours = layer(alpha=0.2)
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours(x), expected)
    interleaved = layer(alpha=0.2, groups=2)
    interleaved.load_state_dict(layer(alpha=0.2, groups=2, layout="listing").state_dict(), strict=True)
    listing = layer(alpha=0.2, groups=2, layout="listing")
    listing.load_state_dict(interleaved.state_dict())
    assert not torch.allclose(interleaved(x), listing(x))


def test_state_dicts_of_a_plain_convolution_load_and_pi_stays(x):
    ours, plain = layer(), nn.Conv2d(32, 8, 3, padding=1)
    pi = ours.permutation.clone()
    result = ours.load_state_dict(plain.state_dict(), strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys
    assert torch.equal(ours.permutation, pi)
    assert torch.equal(ours.weight, plain.weight)
    with pytest.raises(RuntimeError, match="Missing key.*weight"):
        ours.load_state_dict({"bias": plain.bias}, strict=True)


@pytest.mark.parametrize("assign", [False, True])
def test_a_round_trip_through_weights_only_gives_the_same_outputs(x, assign):
    first, second = layer(seed=1), layer(seed=2)
    assert not torch.allclose(first(x), second(x))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True), assign=assign)
    assert torch.equal(first(x), second(x))


def _average_over_buffers(model):
    other = copy.deepcopy(model)
    other.permutation.copy_(torch.randperm(len(model.permutation)))
    average = AveragedModel(model, use_buffers=True)
    average.update_parameters(model)
    average.update_parameters(other)
    return average.module


BROKEN = {
    "written in place": lambda m: m.permutation.__setitem__(0, m.permutation[1].item()) or m,
    "replaced": lambda m: setattr(m, "permutation", torch.zeros_like(m.permutation)) or m,
    "of another length": lambda m: setattr(m, "permutation", m.permutation[:-1]) or m,
    "of another type": lambda m: setattr(m, "permutation", m.permutation.float()) or m,
    "averaged": _average_over_buffers,
    "averaged in a copy": lambda m: _average_over_buffers(copy.deepcopy(m)),
    "as a parameter": lambda m: _as_parameter(m),
    "through .data": lambda m: m.permutation.data.zero_() is not None and m.eval(),
    "through NumPy": lambda m: m.permutation.numpy().fill(1) or m.eval(),
    "of an inference tensor": lambda m: _in_inference_mode(m),
}


def _as_parameter(model):
    del model.permutation
    model.permutation = nn.Parameter(torch.zeros(108, dtype=torch.int64), requires_grad=False)
    return model


def _in_inference_mode(model):
    with torch.inference_mode():
        model.permutation = model.permutation.clone()
        model(torch.randn(1, 32, 6, 6))
        model.permutation[0] = model.permutation[1]
    return model


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("after_a_forward", [False, True])
def test_what_is_no_permutation_never_stays_unnoticed(x, how, after_a_forward):
    model = layer()
    model.name = "stage1.conv2"
    if after_a_forward:
        model(x)
    broken = BROKEN[how](model)
    for _ in range(2):  # not only the first time
        with pytest.raises(ValueError, match=r"'stage1.conv2'.*not a permutation of 108"):
            broken(x)


def test_a_permutation_written_in_place_is_used(x):
    model = layer()
    before = model(x)
    model.permutation.copy_(layer(seed=9).permutation)
    assert not torch.allclose(model(x), before)
    other = layer(seed=9)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(x), other(x))


@pytest.mark.parametrize("bad", [torch.zeros(108, dtype=torch.int64), torch.arange(107), torch.arange(108.0)])
def test_a_checkpoint_that_holds_no_permutation_is_refused_by_name(bad):
    model = nn.Sequential(nn.Identity(), layer())
    with pytest.raises(ValueError, match=r"'1'.*not a permutation of 108"):
        model.load_state_dict({**model.state_dict(), "1.permutation": bad})


def test_a_checkpoint_of_another_alpha_is_refused(x):
    with pytest.raises(ValueError, match="checkpoint of this alpha"):
        layer(alpha=0.1).load_state_dict(layer(alpha=0.2).state_dict())


def test_copies_and_pickles_work(x):
    model = layer()
    expected = model(x)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(again(x), expected)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("layout", ["leading", "interleaved", "listing", "matched"])
def test_unbatched_and_channels_last_agree_with_batched(x, groups, layout):
    model = layer(groups=groups, layout=layout)
    expected = model(x)
    torch.testing.assert_close(model(x[0]), expected[0])
    out = model(x.to(memory_format=torch.channels_last))
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, expected)


def test_bf16_autocast(x):
    model = layer()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), model(x), atol=0.05, rtol=0.05)


def test_vmap_over_inputs_and_over_models(x):
    model, other = layer(seed=1), layer(seed=2)
    torch.testing.assert_close(vmap(model)(x), model(x))
    state = stack_module_state([model, other])
    both = vmap(lambda params, buffers: functional_call(model, (params, buffers), (x,)))(*state)
    torch.testing.assert_close(both, torch.stack([model(x), other(x)]))


@pytest.mark.parametrize("layout", ["leading", "interleaved", "listing"])
@pytest.mark.filterwarnings("ignore")
def test_compile_keeps_one_graph_with_the_same_gradients(x, layout):
    model = layer(layout=layout, groups=2)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    model(x).square().sum().backward()
    expected, model.weight.grad = model.weight.grad, None
    compiled(x).square().sum().backward()
    torch.testing.assert_close(model.weight.grad, expected)


@pytest.mark.skipif(UNLINKED, reason="PyTorch 2.11's compiler can't link from a folder with a blank; 2.14's can")
@pytest.mark.filterwarnings("ignore")
def test_compile_with_inductor(x):
    grouped = layer(groups=2)
    model = nn.Sequential(grouped, nn.ReLU(), SSConv2d(8, 4, 1, alpha=0.5, spatial_size=6))
    model(x).square().sum().backward()
    expected, grouped.weight.grad = grouped.weight.grad, None
    out = torch.compile(model)(x)
    torch.testing.assert_close(out, model(x))
    out.square().sum().backward()
    torch.testing.assert_close(grouped.weight.grad, expected)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_export_with_a_dynamic_batch(x, strict):
    model = layer().eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (x,), dynamic_shapes={"input": {0: batch}}, strict=strict)
    more = torch.randn(5, 32, 6, 6)
    torch.testing.assert_close(program.module()(more), model(more))


@pytest.mark.parametrize("options", [{}, {"groups": 2}, {"groups": 2, "layout": "listing"}])
@pytest.mark.filterwarnings("ignore")
def test_onnx_export_gives_the_same_outputs(x, tmp_path, options):
    import onnxruntime

    model = layer(**options).eval()
    dynamic = {"input": {0: torch.export.Dim("batch", min=1, max=64)}}
    torch.onnx.export(model, (x,), dynamo=True, dynamic_shapes=dynamic, verbose=False).save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    more = torch.randn(5, 32, 6, 6)
    (out,) = session.run(None, {session.get_inputs()[0].name: more.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), model(more), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_jit_trace(x):
    model = layer()
    more = torch.randn(5, 32, 6, 6)
    torch.testing.assert_close(torch.jit.trace(model, x)(more), model(more))


def test_inference_mode(x):
    with torch.inference_mode():
        model = layer()
        assert torch.equal(model(x), layer_like(model)(x))


def layer_like(model):
    other = layer(seed=99)
    other.load_state_dict(model.state_dict())
    return other


def test_meta_device_then_a_checkpoint(x):
    source = layer()
    model = layer(device="meta").to_empty(device="cpu")
    with pytest.raises(ValueError, match="not a permutation"):
        model.permutation.zero_()
        model(x)
    model.load_state_dict(source.state_dict())
    assert torch.equal(model(x), source(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, r"alpha=1.5: expected a number in \[0, 1\]"),
        ({"alpha": float("nan")}, r"alpha=nan"),
        ({"layout": "diagonal"}, r"layout='diagonal': expected one of"),
        ({"spatial_size": None}, r"spatial_size=None: 3 of 32 channels are shuffled.*\(height, width\)"),
        ({"spatial_size": 0}, r"spatial_size=0: expected positive"),
        ({"spatial_size": (6, -1)}, r"spatial_size=\(6, -1\): expected positive"),
        ({"spatial_size": (6, 6, 6)}, r"spatial_size=\(6, 6, 6\): expected"),
        ({"spatial_size": 6.5}, r"spatial_size=6.5: expected"),
        ({"spatial_size": "6"}, r"spatial_size='6': expected"),
        ({"seed": 1.5}, r"seed=1.5: expected an integer"),
        ({"seed": -1}, r"seed=-1: expected an integer"),
        ({"seed": 2**63}, r"seed=9223372036854775808: expected an integer"),
    ],
)
def test_impossible_layers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        layer(**options)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 32, 7, 6), r"\(7, 6\).*drawn for \(6, 6\).*resize the input"),
        ((2, 31, 6, 6), r"\(2, 31, 6, 6\).*C = 32"),
        ((32, 6), r"\(32, 6\).*\(N, C, H, W\)"),
    ],
)
def test_wrong_inputs_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        layer()(torch.randn(shape))


def test_repr_tells_the_shuffle():
    assert "alpha=0.1, layout=leading, shuffled=3/32, spatial_size=6x6" in repr(layer())


def test_from_conv_shares_parameters_hooks_and_flags(x):
    conv = nn.Conv2d(32, 8, 3, padding=1).eval()
    seen = []
    conv.register_forward_hook(lambda *_: seen.append(1))
    conv.weight.requires_grad_(False)
    ours = SSConv2d.from_conv(conv, alpha=0.1, spatial_size=6, seed=3)
    assert ours.weight is conv.weight
    assert not ours.training
    ours(x)
    assert seen == [1]
    assert "permutation" not in conv.state_dict(), "the plain convolution stays plain"


def test_from_conv_leaves_the_plain_convolution_alone(x):
    conv = nn.Conv2d(32, 8, 3, padding=1)
    conv.compile(backend="eager")
    expected = conv(x)
    ours = SSConv2d.from_conv(conv, alpha=0.5, spatial_size=6, seed=3)
    assert not torch.allclose(ours(x), expected), "a compiled call must not be taken over: it does not shuffle"
    ours.weight = nn.Parameter(torch.zeros_like(ours.weight))
    ours.register_forward_hook(lambda *_: pytest.fail("a hook of the other layer"))
    assert torch.equal(conv(x), expected)
    conv.forward = lambda x: x
    with pytest.raises(ValueError, match="'stem' has a forward of its own"):
        SSConv2d.from_conv(conv, alpha=0.5, spatial_size=6, name="stem")


def test_a_copy_of_a_compiled_layer_is_a_layer_of_its_own(x):
    model = layer()
    model.compile(backend="eager")
    expected = model(x)
    again = copy.deepcopy(model)
    with torch.no_grad():
        again.weight.zero_()
        again.bias.zero_()
    assert not again(x).any()
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)


def test_the_layer_needs_torch_alone():
    """Everything else that could be imported is blocked, also what torch would take if it were there."""
    code = """
import sys
import importlib.metadata as metadata
allowed = {"torch", "ssconv_lib"} | set(sys.stdlib_module_names)
needed_by_torch = {"typing_extensions", "filelock", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec"}
class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
others = {top for top in metadata.packages_distributions() if top.isidentifier()}
BLOCKED = {t for t in others - allowed - needed_by_torch if t not in ("torchgen", "functorch", "triton", "cuda")
           and not t.startswith(("nvidia", "_"))}
assert {"numpy", "pandas", "torchvision", "tqdm", "scipy", "matplotlib"} <= BLOCKED
sys.meta_path.insert(0, Block())
import torch, ssconv_lib
model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3))
ssconv_lib.convert_to_ssconv(model, .5, input_size=(3, 8, 8))
print(type(model[1]).__name__, model(torch.zeros(1, 3, 8, 8)).shape)
assert "torch._inductor.lowering" not in sys.modules and "torch._dynamo" not in sys.modules, "seconds of imports"
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "SSConv2d torch.Size([1, 8, 4, 4])", result.stderr
