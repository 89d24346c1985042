"""Tools that take a model apart, trace it or look on: where they take nn.Conv2d, they take the layer."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from ssconv_lib import SSConv2d, convert_to_ssconv


def layer(**options):
    return SSConv2d(8, 8, 3, **{"alpha": 0.5, "spatial_size": 6, "seed": 3, "padding": 1, **options})


@pytest.fixture
def x():
    return torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))


OPTIONS = [{}, {"fast": False}, {"groups": 4}, {"control": "mean"}]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_symbolic_trace_has_the_layer_as_one_node_which_still_checks_its_input(x, options):
    net = nn.Sequential(nn.Sequential(layer(**options)), nn.ReLU())
    traced = torch.fx.symbolic_trace(net)
    targets = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert targets == ["0.0", "1"]
    assert torch.equal(traced(x), net(x))
    traced.get_submodule("0.0").load_state_dict(layer(seed=9, **options).state_dict())
    assert torch.equal(traced(x), net(x)), "the very layer, of which nothing was copied"
    with pytest.raises(ValueError, match=r"drawn for \(6, 6\)"):
        traced(torch.randn(2, 8, 7, 7))


def test_the_layer_itself_is_no_graph():
    with pytest.raises(ValueError, match="one node for torch.fx: trace a module that holds it"):
        torch.fx.symbolic_trace(layer())


def test_torchvision_finds_features_in_a_converted_network():
    from torchvision.models import resnet18
    from torchvision.models.feature_extraction import create_feature_extractor

    model = convert_to_ssconv(resnet18(), 0.25, input_size=(3, 32, 32)).eval()
    images = torch.randn(1, 3, 32, 32)
    features = create_feature_extractor(model, ["layer1.0.conv2", "layer2"])
    with torch.no_grad():
        found = features(images)
        expected = model.layer2(model.layer1(model.maxpool(model.relu(model.bn1(model.conv1(images))))))
    assert torch.equal(found["layer2"], expected)
    assert found["layer1.0.conv2"].shape == (1, 64, 8, 8)


@pytest.mark.parametrize("pre_dispatch", [False, True])
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_takes_a_layer_that_has_never_run(x, mode, pre_dispatch):
    ours = layer()
    state = {**dict(ours.named_parameters()), **dict(ours.named_buffers())}

    def run(state, x):
        return torch.func.functional_call(ours, state, (x,))

    traced = make_fx(run, tracing_mode=mode, pre_dispatch=pre_dispatch)(state, x)
    assert torch.equal(traced(state, x), ours(x))
    assert torch.equal(make_fx(copy.deepcopy(ours), pre_dispatch=pre_dispatch)(x)(x), ours(x))


def test_real_weights_among_fake_inputs_give_shapes_and_nothing_is_left_of_it(x):
    ours = layer()
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert ours(torch.randn(5, 8, 6, 6)).shape == (5, 8, 6, 6)
    for form in (x, x.to(memory_format=torch.channels_last)):
        assert torch.equal(ours(form), copy.deepcopy(ours)(form))
    broken = layer()
    broken.permutation.zero_()
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(ValueError, match="not a permutation"):
        broken(torch.randn(5, 8, 6, 6))


def test_a_fake_layer_loads_a_fake_state():
    with FakeTensorMode():
        ours = layer()
        assert str(ours.load_state_dict(layer().state_dict())) == "<All keys matched successfully>"
        assert ours(torch.randn(5, 8, 6, 6)).shape == (5, 8, 6, 6)


@pytest.mark.filterwarnings("ignore")
def test_aot_autograd_takes_a_layer_that_has_never_run(x):
    from functorch.compile import aot_module, nop

    ours = layer()
    expected = copy.deepcopy(ours)
    output = aot_module(ours, nop)(x)
    output.square().sum().backward()
    expected(x).square().sum().backward()
    assert torch.equal(output, expected(x))
    torch.testing.assert_close(ours.weight.grad, expected.weight.grad)


@pytest.fixture
def mesh():
    from torch.distributed.device_mesh import init_device_mesh

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("built_on", ["cpu", "meta"])
def test_a_distributed_layer_computes_what_it_computes_elsewhere(x, mesh, built_on):
    from torch.distributed.tensor import Replicate, distribute_module, distribute_tensor

    with torch.device(built_on):
        ours = layer()
    distribute_module(ours, mesh)
    if built_on == "meta":
        ours.to_empty(device="cpu")
    torch.manual_seed(1)
    ours.reset_parameters()
    torch.manual_seed(1)
    expected = layer()
    output = ours(distribute_tensor(x, mesh, [Replicate()])).full_tensor()
    output.square().sum().backward()
    expected(x).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad.full_tensor() / expected.weight.grad, torch.ones(8, 8, 3, 3))


def selectively(net, x):
    save = [torch.ops.aten.convolution.default]
    return checkpoint(net, x, use_reentrant=False, context_fn=lambda: create_selective_checkpoint_contexts(save))


def test_selective_checkpointing_gives_the_gradients_of_none_also_where_only_one_pass_looks_at_pi(x):
    net = nn.Sequential(nn.Conv2d(8, 8, 1), layer(), nn.ReLU())
    expected = copy.deepcopy(net)
    expected(x).sum().backward()
    for switch in (lambda: None, net.eval, net.train):
        net.zero_grad()
        output = selectively(net.train(), x)
        switch()  # an evaluation between forward and backward
        output.sum().backward()
        for one, other in zip(net.parameters(), expected.parameters(), strict=True):
            assert torch.equal(one.grad, other.grad)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["", "stage1.conv2"])
def test_a_wrong_size_is_what_the_compiler_complains_of(name):
    torch._dynamo.reset()
    ours = layer()
    ours.name = name
    with pytest.raises(Exception, match=rf"{name or 'SSConv2d.8, 8'}.*\(7, 7\).*drawn for \(6, 6\)"):
        torch.compile(ours, backend="eager", fullgraph=True)(torch.randn(2, 8, 7, 7))
