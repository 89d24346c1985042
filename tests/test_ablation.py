"""Every treatment makes of P what it says, and leaves nothing behind, however it ends."""

import pytest
import torch
from torch import nn

from ssconv_lib import SSConv2d, ablation
from ssconv_lib.ablation import ablate, ask, blocks, re_estimated, treated
from ssconv_lib.data import LongRange, load
from ssconv_lib.loader import make_batches
from ssconv_lib.models import create_model
from ssconv_lib.shuffle import listing_order

LAYOUTS = [("leading", 1), ("interleaved", 2), ("listing", 2)]
C, S = 10, 3  # channels, and those that are shuffled: 7 others, so that "listing" reorders them


def identity(layout="leading", groups=1, **options):
    """A network of one layer whose convolution is the identity, so that its output is P(x)."""
    layer = SSConv2d(C, C, 1, groups=groups, bias=False, alpha=0.3, spatial_size=4, layout=layout, seed=1, **options)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(C // groups).repeat(groups, 1)[:, :, None, None])
    return nn.Sequential(layer)


def network(**options):
    torch.manual_seed(0)
    model = create_model("long_range_cnn", num_classes=2, alpha=1 / 8, input_size=(3, 8, 8), **options)
    for norm in (one for one in model.modules() if isinstance(one, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.normal_(norm.bias, std=0.5)
    model.eval()
    with torch.no_grad():  # near the border between the classes, little changes an answer
        model.head.bias -= torch.cat([model(x) for x, _ in batches(3)]).median(0).values
    return model


def batches(count=2, size=8, images=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(images, 3, size, size, generator=generator), torch.randint(2, (images,), generator=generator))
        for _ in range(count)
    ]


def images():
    return torch.randn(2, C, 4, 4, generator=torch.Generator().manual_seed(3))


def run(model, x, how, draw=0):
    with torch.no_grad(), treated(model, ["0"], how, draw):
        return model(x)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("layout", "groups"), LAYOUTS)
def test_the_shuffled_channels_are_zeroed_unshuffled_or_averaged_in_every_layout(layout, groups, fast):
    model, x = identity(layout, groups, fast=fast), images()
    before = x.clone()
    zeroed, mean = x.clone(), x.clone()
    chosen = model[0].shuffled
    zeroed[:, chosen] = 0
    mean[:, chosen] = x[:, chosen].mean((2, 3), keepdim=True)
    assert len(range(C)[chosen]) == S
    for how, expected in (("zeroed", zeroed), ("unshuffled", x), ("mean", mean)):
        expected = listing_order(expected, S) if layout == "listing" else expected
        torch.testing.assert_close(run(model, x, how), expected, rtol=0, atol=1e-6)
    assert torch.equal(run(model, x, "intact"), model(x))
    assert torch.equal(x, before)


@pytest.mark.parametrize("control", ["zeroed", "mean"])
def test_a_treatment_does_what_a_layer_does_that_is_made_so(control):
    made = identity(control=control)
    torch.testing.assert_close(run(identity(), images(), control), made(images()))


@pytest.mark.parametrize(("layout", "groups"), LAYOUTS)
def test_as_many_others_are_zeroed_and_nothing_else(layout, groups):
    model, x = identity(layout, groups), images()
    intact, seen = model(x), set()
    for draw in range(20):
        out = run(model, x, "others_zeroed", draw)
        gone = (out == 0).all(-1).all(-1).all(0)
        assert gone.sum() == S
        assert torch.equal(out[:, ~gone], intact[:, ~gone]), "those that are shuffled still are"
        seen |= set(gone.nonzero().flatten().tolist())
        assert torch.equal(out, run(model, x, "others_zeroed", draw))
    shuffled = set(range(S)) if layout == "listing" else set(range(C)[model[0].shuffled])
    assert seen == set(range(C)) - shuffled


@pytest.mark.parametrize(("layout", "groups"), LAYOUTS)
@pytest.mark.parametrize("how", ["other_pi", "fresh"])
def test_another_permutation_moves_the_same_values_elsewhere(layout, groups, how):
    model, x = identity(layout, groups), images()
    chosen = slice(0, S) if layout == "listing" else model[0].shuffled
    rest = [c for c in range(C) if c not in range(C)[chosen]]
    intact, one = model(x), run(model, x, how, 0)
    assert torch.equal(one[:, rest], intact[:, rest])
    assert torch.equal(one[:, chosen].flatten(1).sort().values, intact[:, chosen].flatten(1).sort().values)
    assert (one[:, chosen] == intact[:, chosen]).float().mean() < 0.3
    assert not torch.equal(one, run(model, x, how, 1)), "a draw of its own"
    assert torch.equal(one, run(model, x, how, 0)), "the same draw again"
    with treated(model, ["0"], how):
        assert torch.equal(model(x), model(x)) == (how == "other_pi"), "fresh is another at each forward"


def test_layers_draw_different_channels_and_permutations():
    model, x = nn.Sequential(identity()[0], identity()[0]), images()
    for how in ("others_zeroed", "other_pi"):
        with treated(model, ["0", "1"], how):
            assert not torch.equal(model[0](x), model[1](x))


def test_a_layer_of_two_names_is_treated_once():
    model, x = identity(), images()
    model.again = model[0]
    with torch.no_grad(), treated(model, ["0", "again", "0"], "unshuffled"):
        assert torch.equal(model[0](x), x)


@pytest.mark.parametrize(
    ("name", "first", "last", "count"),
    [
        ("wrn10_2", ("stage1.0", ["stage1.0.conv2"]), "stage3.0", 3),
        ("densenet_bc_40_12", ("block1.0", ["block1.0.conv1", "block1.0.conv2"]), "block3.5", 18),
        ("resnext29_2x16d", ("stage1.0", ["stage1.0.conv2", "stage1.0.conv3"]), "stage3.2", 9),
        ("resnet14", ("layer1.0", ["layer1.0.conv1", "layer1.0.conv2", "layer1.0.conv3"]), "layer4.0", 4),
        ("seresnet14", ("layer1.0", ["layer1.0.conv1", "layer1.0.conv2", "layer1.0.conv3"]), "layer4.0", 4),
        ("long_range_cnn", ("layers.0", ["layers.0.conv"]), "layers.2", 3),
        ("long_range_senet", ("layers.0", ["layers.0.unit.conv"]), "layers.2", 3),
        ("long_range_resnext", ("layers.0", [f"layers.0.{k}.conv" for k in range(3)]), "layers.2", 3),
    ],
)
def test_a_block_is_what_a_stage_repeats(name, first, last, count):
    found = blocks(create_model(name, num_classes=2, alpha=0.06, input_size=(3, 32, 32)))
    # some have fewer channels than shuffle one of them: those are in no block
    assert (next(iter(found.items())), [*found][-1], len(found)) == (first, last, count)


def test_dense_layers_of_torchvision_and_an_attention_branch_are_blocks():
    found = blocks(create_model("densenet121", num_classes=2, alpha=0.04, input_size=(3, 32, 32)))
    assert next(iter(found)) == "features.denseblock1.denselayer1"
    assert len(found) == 58
    model = create_model("resnet14_abn", num_classes=30, alpha=0.04, input_size=(3, 32, 32))
    order = [*blocks(model, torch.zeros(1, 3, 32, 32))]
    assert order == ["layer1.0", "layer2.0", "layer3.0", "attention_branch.stage.0", "attention_branch", "layer4.0"]
    assert model.training


def test_a_network_of_single_convolutions_has_them_as_blocks():
    assert blocks(identity()) == {"0": ["0"]}
    assert blocks(identity()[0]) == {"": [""]}
    assert blocks(create_model("wrn10_2", num_classes=2)) == {}


class Reversed(nn.Module):
    """Blocks that a forward reaches in another order than that in which they are defined."""

    def __init__(self):
        super().__init__()
        self.second, self.first = identity(), identity()

    def forward(self, x):
        return self.second(self.first(x)).mean((2, 3))


def test_blocks_come_in_the_order_of_the_forward():
    model, x = Reversed(), images()
    assert [*blocks(model)] == ["second.0", "first.0"]
    assert [*blocks(model, x)] == ["first.0", "second.0"]
    found = [condition["block"] for condition, _ in ablate(model, [(x, torch.zeros(2, dtype=torch.int64))])]
    assert [*dict.fromkeys(found)] == ["none", "first.0", "second.0", "all"]


def test_batch_norm_is_estimated_anew_and_nothing_else_trains():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3, momentum=0.3)
    norm(torch.randn(4, 3, 2, 2))  # statistics from before, which shall not count
    model = nn.Sequential(nn.Dropout(1.0), norm)  # in training mode no value would come through
    read = batches(3)
    with re_estimated(model, read):
        means, variances = zip(*((x.mean((0, 2, 3)), x.var((0, 2, 3))) for x, _ in read), strict=True)
        torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0))
        torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(0))
    assert norm.momentum == 0.3


def snapshot(model):
    """Everything that a treatment could leave changed, buffers and parameters down to the object and its version."""
    tensors = {name: (id(t), t._version, t.detach().clone()) for name, t in model.state_dict(keep_vars=True).items()}
    modules = [
        (m.training, len(m._forward_pre_hooks), len(m._forward_hooks), getattr(m, "momentum", None))
        for m in model.modules()
    ]
    parameters = [(p.requires_grad, None if p.grad is None else id(p.grad)) for p in model.parameters()]
    return tensors, modules, parameters


def assert_same(before, after):
    assert before[1:] == after[1:]
    for (name, (identity, version, values)), other in zip(before[0].items(), after[0].values(), strict=True):
        assert (identity, version) == other[:2], name
        assert torch.equal(values, other[2]), name


def used_network():
    """A network that has hooks, flags and gradients of its own."""
    model = network()
    model.layers[1].train()
    model.head.bias.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    model.layers[0].conv.register_forward_pre_hook(lambda *_: None)
    return model


class Interrupted(list):
    """Batches that a reader is interrupted in, at the given reading."""

    def __init__(self, batches, at, error):
        super().__init__(batches)
        self.left, self.error = at, error

    def __iter__(self):
        self.left -= 1
        for number, batch in enumerate(super().__iter__()):
            if self.left < 0 and number == 1:
                raise self.error
            yield batch


@pytest.mark.parametrize("which", ["test", "train"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("torn")], ids=["interrupt", "error"])
def test_nothing_is_left_behind_when_reading_fails_in_the_middle(which, error):
    for at in range(1, 9):
        model = used_network()
        before = snapshot(model)
        torn, whole = Interrupted(batches(), at, error), batches()
        with pytest.raises(type(error)):
            list(ablate(model, torn if which == "test" else whole, torn if which == "train" else whole))
        assert_same(before, snapshot(model))


def test_nothing_is_left_behind_at_the_end_nor_at_any_yield():
    model = used_network()
    before = snapshot(model)
    for _ in ablate(model, batches(), batches(seed=1), draws=1):
        assert_same(before, snapshot(model))
    assert_same(before, snapshot(model))


def test_nothing_is_left_behind_when_a_context_or_the_iterator_is_left_early():
    model = used_network()
    before = snapshot(model)
    found = ablate(model, batches(), batches())
    for _ in range(5):
        next(found)
    found.close()
    assert_same(before, snapshot(model))
    found = ablate(model, batches(), batches())
    next(found)
    with pytest.raises(KeyboardInterrupt):
        found.throw(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), treated(model, ["layers.0.conv"], "zeroed"), re_estimated(model, batches()):
        raise KeyboardInterrupt
    assert_same(before, snapshot(model))


def test_all_conditions_come_in_order_the_intact_network_first():
    model, read, train = network(), batches(3), batches(seed=1)
    found = list(ablate(model, read, train, draws=2))
    conditions = [tuple(condition.values()) for condition, _ in found]
    kept, new = ablation.KEPT, ablation.NEW
    of_block = [("zeroed", 0, kept), ("zeroed", 0, new)]
    of_block += [("others_zeroed", draw, bn) for draw in (0, 1) for bn in (kept, new)]
    of_block += [("unshuffled", 0, kept), ("unshuffled", 0, new), ("mean", 0, kept)]
    of_block += [("other_pi", 0, kept), ("other_pi", 1, kept), ("fresh", 0, kept)]
    names = ["layers.0", "layers.1", "layers.2", "all"]
    expected = [("none", "intact", 0, kept), ("none", "intact", 0, new)]
    assert conditions == expected + [(name, *one) for name in names for one in of_block]
    assert [*found[0][0]] == ["block", "treatment", "draw", "bn"]
    assert {(wrong.dtype, tuple(wrong.shape)) for _, wrong in found} == {(torch.bool, (15,))}
    assert len({tuple(wrong.tolist()) for _, wrong in found}) > 5, "treatments change the answers"
    again = list(ablate(model, read, train, draws=2))
    assert all(torch.equal(one[1], other[1]) for one, other in zip(found, again, strict=True))
    assert not [c for c, _ in ablate(model, read) if c["bn"] != kept]


def test_the_answers_of_a_condition_are_those_under_its_treatment():
    model, read, train = network(), batches(3), batches(seed=1)
    layers = {name: [f"{name}.conv"] for name in ("layers.0", "layers.1", "layers.2")}
    layers |= {"none": [], "all": [name for of in layers.values() for name in of]}
    for condition, wrong in ablate(model, read, train, draws=2):
        with treated(model, layers[condition["block"]], condition["treatment"], condition["draw"]):
            if condition["bn"] == ablation.KEPT:
                assert torch.equal(wrong, ask(model, read)[1]), condition
            else:
                with re_estimated(model, train):
                    assert torch.equal(wrong, ask(model, read)[1]), condition


def test_answers_are_in_order_of_the_images_in_fp32_and_evaluation_mode():
    model, read = network().train(), batches(3)
    with torch.no_grad():
        expected = torch.cat([model.eval()(x).argmax(1) != labels for x, labels in read])
    model.train()
    assert torch.equal(ask(model, read)[1], expected)
    assert 0 < expected.sum() < len(expected)
    types = []
    model.head.register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ask(model, read)[1], expected)
    assert set(types) == {torch.float32}
    assert model.training


def test_what_is_drawn_depends_on_the_seed_and_with_seed_0_on_the_draw_alone(monkeypatch):
    model, read = network(), batches(1)

    def numbers(**options):
        found, before = {}, ablation.treated
        with monkeypatch.context() as patch:
            patch.setattr(
                ablation,
                "treated",
                lambda model, layers, how, draw=0: (
                    found.setdefault(how, []).append(draw) or before(model, layers, how, draw)
                ),
            )
            conditions = [c["draw"] for c, _ in ablate(model, read, draws=2, **options)]
        assert max(conditions) == 1, "conditions count draws"
        return {how: list(dict.fromkeys(found[how][1:])) for how in ("others_zeroed", "other_pi", "fresh")}

    assert numbers() == numbers(seed=0) == {"others_zeroed": [0, 1], "other_pi": [0, 1], "fresh": [0]}
    one, other = numbers(seed=1), numbers(seed=2)
    assert one == numbers(seed=1)
    drawn = [number for of in (one, other) for number in {n for numbers in of.values() for n in numbers}]
    assert len(drawn) == len(set(drawn)) == 4, "no draw of one seed is one of another"
    assert not {0, 1} & set(drawn)


def test_other_seeds_answer_otherwise_only_where_something_is_drawn():
    model, read = network(), batches(8)
    answers = [{tuple(c.values()): w for c, w in ablate(model, read, draws=3, seed=seed)} for seed in (0, 1)]
    changed = {key[1] for key, wrong in answers[0].items() if not torch.equal(wrong, answers[1][key])}
    assert {"others_zeroed", "other_pi"} <= changed <= {"others_zeroed", "other_pi", "fresh"}


def test_a_network_that_draws_each_forward_is_left_as_it_was_and_answers_alike_again():
    model, read = network(control="fresh"), batches(3)
    seen, first = [], []
    model.head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    before = snapshot(model)
    for interrupted in (False, True, False):
        if interrupted:
            with pytest.raises(KeyboardInterrupt):
                ask(model, Interrupted(read, 0, KeyboardInterrupt()))
        blocks(model, read[0][0])
        with re_estimated(model, read):
            pass
        seen.clear()
        ask(model, [read[0], read[0], *read])
        assert not torch.equal(seen[0], seen[1]), "each forward draws another π"
        assert_same(before, snapshot(model))
        first = first or [*seen]
        assert all(torch.equal(one, other) for one, other in zip(first, seen, strict=True))


def test_batches_of_a_data_set_are_read_as_they_are_made():
    data = load(LongRange(size=12, distance=6, train=64, test=32))
    test = make_batches(data, "test", 20, train=False)
    train = make_batches(data, "train", 32, train=True)
    torch.manual_seed(0)
    model = create_model("long_range_cnn", num_classes=2, alpha=1 / 8, input_size=data.input_size)
    found = list(ablate(model, test, train, draws=1))
    assert torch.equal(found[0][1], ask(model, [*test.epoch(0)])[1])
    assert {len(wrong) for _, wrong in found} == {32}


def test_what_is_impossible_is_refused_by_name_before_anything_is_read():
    model = identity()
    with (
        pytest.raises(ValueError, match=r"how='erased': expected one of 'intact', 'zeroed'"),
        treated(model, [], "erased"),
    ):
        pass
    for name in ("1", "0.conv"):
        with pytest.raises(ValueError, match=f"layer '{name}': expected the name of"), treated(model, [name], "zeroed"):
            pass
    with pytest.raises(ValueError, match="layer 'stem.conv'"), treated(network(), ["stem.conv"], "zeroed"):
        pass
    for control in ("fresh", "mean"):
        with (
            pytest.raises(ValueError, match=f"layer '0' has the control '{control}', which is no permutation"),
            treated(identity(control=control), ["0"], "unshuffled"),
        ):
            pass
    most = nn.Sequential(SSConv2d(4, 4, 1, alpha=0.75, spatial_size=4))
    with pytest.raises(ValueError, match="0: 3 of 4 channels are shuffled"), treated(most, ["0"], "others_zeroed"):
        pass
    assert not most[0]._forward_pre_hooks
    with pytest.raises(ValueError, match="0.0: 3 of 4 channels are shuffled"):
        next(ablate(nn.Sequential(most, nn.Flatten()), [(torch.zeros(1, 4, 4, 4), torch.zeros(1))]))
    with pytest.raises(ValueError, match="nothing to ablate"):
        next(ablate(create_model("long_range_cnn", num_classes=2), batches(size=24)))
    with pytest.raises(ValueError, match="draws=0"):
        next(ablate(network(), batches(), draws=0))
    with pytest.raises(ValueError, match="there are no images"):
        ask(network(), [])
    with pytest.raises(ValueError, match="there are no images"), re_estimated(network(), iter([])):
        pass


def test_a_control_that_is_a_permutation_can_be_treated():
    model, x = identity(control="windows"), images()
    assert torch.equal(run(model, x, "unshuffled"), x)
