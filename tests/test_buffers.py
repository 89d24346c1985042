"""π as a buffer: on every way to a layer it is the right one, or the layer says that it isn't there."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn

from ssconv_lib import SSConv2d, convert_to_ssconv


def layer(**options):
    return SSConv2d(8, 4, 3, **{"alpha": 0.5, "spatial_size": 6, "seed": 3, "padding": 1, **options})


def draw(seed=0):
    return torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(seed))


def on_meta(**options):
    with torch.device("meta"):
        return layer(**options)


def plain_state():
    return nn.Conv2d(8, 4, 3, padding=1).state_dict()


def garbage(model):
    """What `to_empty` may leave."""
    model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(7)
    return model


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_a_plain_checkpoint_assigned_to_a_layer_on_meta_gives_what_it_gives_on_the_cpu(fast, grad):
    state = plain_state()
    ours, expected = on_meta(fast=fast), layer(fast=fast)
    for one in (ours, expected):
        assert str(one.load_state_dict(state, assign=True)) == "<All keys matched successfully>"
    with torch.set_grad_enabled(grad):
        assert torch.equal(ours(draw()), expected(draw()))


def test_so_does_a_whole_model_that_was_built_and_converted_on_meta():
    def build():
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        )
        return convert_to_ssconv(model, 0.5, input_size=(3, 6, 6))

    expected = build()
    with torch.device("meta"):
        ours = build()
    ours.load_state_dict({k: v for k, v in expected.state_dict().items() if "permutation" not in k}, assign=True)
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(ours(x), expected(x))


def test_a_fresh_layer_on_meta_gets_its_count_too():
    ours, expected = on_meta(control="fresh"), layer(control="fresh")
    for one in (ours, expected):
        one.load_state_dict(plain_state(), assign=True)
    assert torch.equal(ours.shuffle(draw()), expected.shuffle(draw()))
    assert int(ours.draws) == 1


@pytest.mark.parametrize("fast", [True, False])
def test_where_no_seed_is_known_a_permutation_on_meta_is_missing_and_the_layer_refuses_to_compute(fast):
    ours = on_meta(fast=fast)
    ours.seed = None  # as of a layer that was pickled by an older version
    with pytest.raises(RuntimeError, match="Missing key.*permutation"):
        ours.load_state_dict(plain_state(), assign=True)
    ours.load_state_dict(plain_state(), assign=True, strict=False)
    for run in (ours, torch.compile(ours, backend="eager")):
        with pytest.raises(ValueError, match=r"meta device.*reset_permutation\(\)"):
            run(draw())
    torch._dynamo.reset()  # or it takes the layer's forward for one that can't be traced, in later tests, too
    ours.seed = 3
    ours.reset_permutation()
    assert torch.equal(ours.permutation, layer().permutation)
    assert ours(draw()).isfinite().all()


def test_on_meta_all_stays_as_it_was():
    ours = on_meta()
    assert ours(draw().to("meta")).is_meta
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that nothing is copied
        ours.load_state_dict(plain_state())
        ours.load_state_dict(layer(seed=9).state_dict())
    assert ours.permutation.is_meta
    assert ours.seed == 3, "nothing was loaded"


@pytest.mark.parametrize("control", ["none", "per_channel", "roll", "fresh"])
def test_behind_to_empty_reset_parameters_makes_the_layer_as_new(control):
    for ours in (on_meta(control=control), layer(control=control)):
        garbage(ours)
        torch.manual_seed(5)
        ours.reset_parameters()
        torch.manual_seed(5)
        expected = layer(control=control)
        assert expected.state_dict().keys() == ours.state_dict().keys()
        assert all(torch.equal(ours.state_dict()[key], value) for key, value in expected.state_dict().items())
        assert torch.equal(ours(draw()), expected(draw()))


def test_from_meta_a_layer_brings_its_permutation_by_itself():
    """So that a plain checkpoint is all it needs, also behind `skip_init`, which never calls reset_parameters."""
    skipped = nn.utils.skip_init(SSConv2d, 8, 4, 3, alpha=0.5, spatial_size=6, seed=3)
    for ours in (skipped, on_meta().to_empty(device="cpu"), nn.Sequential(on_meta()).to_empty(device="cpu")[0]):
        assert torch.equal(ours.permutation, layer().permutation)


def test_reset_parameters_puts_back_the_permutation_of_the_seed_and_draws_weights_as_the_convolution_does():
    ours, plain = layer(), nn.Conv2d(8, 4, 3, padding=1)
    ours(draw())
    ours.permutation.copy_(layer(seed=9).permutation)
    ours(draw())
    for one in (ours, plain):
        torch.manual_seed(1)
        one.reset_parameters()
    assert torch.equal(ours.weight, plain.weight)
    assert torch.equal(ours.bias, plain.bias)
    assert torch.equal(ours.permutation, layer().permutation)
    again = layer()
    again.load_state_dict(plain.state_dict())
    assert torch.equal(ours(draw()), again(draw())), "what was derived from the other is gone"


def test_a_permutation_that_was_loaded_stays_and_its_seed_is_unknown():
    ours, other = layer(), layer(seed=9)
    ours.load_state_dict(layer().state_dict())
    assert ours.seed == 3, "the same permutation"
    ours.load_state_dict(other.state_dict())
    assert ours.seed is None
    assert "seed" not in repr(ours)
    ours.reset_parameters()
    assert torch.equal(ours.permutation, other.permutation)
    with pytest.raises(ValueError, match="no seed is known"):
        ours.reset_permutation()
    ours.seed = 3
    ours.reset_permutation()
    assert torch.equal(ours.permutation, layer().permutation)


def test_a_permutation_written_by_hand_stays_if_the_seed_is_taken_away():
    ours, own = layer(), layer(seed=9).permutation
    ours.permutation.copy_(own)
    ours.seed = None
    ours.reset_parameters()
    assert torch.equal(ours.permutation, own)


def test_the_seed_is_kept_also_where_none_was_given():
    ours = layer(seed=None)
    assert torch.equal(layer(seed=ours.seed).permutation, ours.permutation)
    assert torch.equal(layer(seed=5).permutation, layer(seed=layer(seed=5).seed).permutation)
    for again in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert again.seed == ours.seed
        garbage(again).reset_parameters()
        assert torch.equal(again.permutation, ours.permutation)
    conv = nn.Conv2d(8, 4, 3)
    assert SSConv2d.from_conv(conv, alpha=0.5, spatial_size=6, seed=5).seed == 5


def test_a_layer_pickled_by_an_older_version_works_and_keeps_its_permutation():
    old = layer(seed=9)
    for name in ("seed", "_is_seeded", "_fresh_seed", "_evaluated"):
        del old.__dict__[name]
    file = io.BytesIO()
    torch.save(old, file)
    file.seek(0)
    ours = torch.load(file, weights_only=False)
    assert torch.equal(ours(draw()), old(draw()))
    assert "seed" not in repr(ours)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.load_state_dict(plain_state())
        ours.reset_parameters()
    assert torch.equal(ours.permutation, layer(seed=9).permutation)
    assert ours.to("meta").permutation.is_meta


def test_a_seed_that_was_given_is_printed():
    assert "spatial_size=6x6, seed=3" in repr(layer())
    assert "seed" not in repr(layer(seed=None))


def loaded(ours, state):
    """The warnings of loading a state into a layer."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ours.load_state_dict(state, strict=False)
    return [str(one.message) for one in seen]


def test_a_layer_without_a_seed_says_that_it_keeps_a_permutation_of_its_own():
    one, other = (layer(seed=None) for _ in range(2))
    (said,) = loaded(one, dict(other.named_parameters()))
    assert "save the buffers `permutation`" in said
    assert "give the layers a seed" in said
    with pytest.warns(UserWarning, match="without a seed"):
        on_meta(seed=None).load_state_dict(plain_state(), assign=True)
    deep = nn.Sequential(nn.Sequential(layer(seed=None)), layer(seed=None))
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        deep.load_state_dict({f"{name}.{k}": v for name in ("0.0", "1") for k, v in plain_state().items()})
    assert len(seen) == 1, "once, whatever the number of layers"


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({}, plain_state()),
        ({"seed": None, "alpha": 0.0}, plain_state()),
        ({"seed": None, "control": "roll"}, plain_state()),
        ({"seed": None}, layer().state_dict()),
        ({"seed": None}, {}),
    ],
    ids=["a seed", "nothing shuffled", "not drawn", "π in the state", "another layer's state"],
)
def test_loading_is_silent_where_nothing_is_in_doubt(options, state):
    assert loaded(layer(**options), state) == []


def test_loading_is_silent_in_a_converted_model_and_once_a_permutation_was_loaded():
    model = convert_to_ssconv(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)), 0.5, input_size=(3, 6, 6))
    assert loaded(model, {key: value for key, value in model.state_dict().items() if "permutation" not in key}) == []
    ours = layer(seed=None)
    ours.load_state_dict(layer().state_dict())
    assert loaded(ours, plain_state()) == [], "as an average of the parameters is"
