"""Chapter 6's tables, verdicts and figure say what the answers say, either way."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from ssconv_lib import ablation, ablationanswers, ablationjudge, ablationplots, ablationtables, figures, judge
from ssconv_lib.ablation import KEPT, NEW
from ssconv_lib.bootstrap import paired_bootstrap
from ssconv_lib.models import create_model
from ssconv_lib.probestudy import empty_probe_frame

N, BASE = 1000, 200  # images, and how many of them the intact network gets wrong
BLOCKS = ["stage1.0", "stage2.0", "stage3.0"]
SIX = [f"layer{stage}.{k}" for stage in (1, 2) for k in range(3)]
AT = {"source": "laptop (CIFAR-10)", "model": "wrn10_2", "alpha": 0.06, "seed": 3, "network": "abc"}


def wrong(more, start=0):
    """The intact network's errors and as many more, from an image on; fewer if the number is negative."""
    vector = np.zeros(N, dtype=bool)
    vector[: BASE + min(more, 0)] = True
    vector[BASE + start : BASE + start + max(more, 0)] = True
    return vector


def row(block, treatment, more, bn=KEPT, draw=0, start=0, **other):
    return {**AT, **other, "block": block, "treatment": treatment, "draw": draw, "bn": bn, "wrong": wrong(more, start)}


def frame(drops, others=None, unshuffled=None, new=None, **other):
    """Rows of a network whose blocks lose so many images when zeroed, and when treated otherwise; draws in tuples."""
    blocks = SIX if len(drops) > 3 else BLOCKS
    rows = [row("none", "intact", 0, **other)]
    for how, of in (("zeroed", drops), ("others_zeroed", others), ("unshuffled", unshuffled)):
        for block, lost in zip(blocks, of or [], strict=False):
            draws = lost if isinstance(lost, tuple) else (lost,)
            rows += [row(block, how, more, draw=draw, **other) for draw, more in enumerate(draws)]
    if new:
        rows.append(row("none", "intact", 0, NEW, **other))
        rows += [row(block, "zeroed", more, NEW, **other) for block, more in zip(blocks, new, strict=False)]
    return pd.DataFrame(rows)


def verdicts(data):
    return {one["claim"]: one["verdict"] for one in ablationjudge.verdict_rows(data)}


def test_a_drop_is_the_error_above_the_intact_network_with_statistics_of_the_same_kind():
    rows = [row("none", "intact", 0), row("none", "intact", 40, NEW), row(BLOCKS[0], "zeroed", 30)]
    table = ablationtables.ablation_table(pd.DataFrame([*rows, row(BLOCKS[0], "zeroed", 60, NEW)]))
    assert list(table["block"]) == ["none", "none", "conv2_1", "conv2_1"]
    assert list(table["error"]) == pytest.approx([20, 24, 23, 26])
    assert list(table["drop"])[2:] == pytest.approx([3, 2])
    expected = paired_bootstrap(wrong(40), wrong(60))
    last = table.iloc[-1]
    assert (last["low"], last["high"], last["detectable"]) == (expected.low, expected.high, expected.detectable)
    assert (last["n"], last["draws"], last["network"], last["seed"]) == (1000, 1, "abc", 3)
    assert table.iloc[:2][["drop", "low", "high"]].isna().all(axis=None)


def test_several_draws_are_one_row_with_their_mean_and_spread():
    draws = [row(BLOCKS[0], "others_zeroed", more, draw=k) for k, more in enumerate((10, 20, 60))]
    table = ablationtables.ablation_table(pd.DataFrame([row("none", "intact", 0), *draws]))
    (one,) = table[table["treatment"] == "others_zeroed"].to_dict("records")
    assert (one["drop"], one["drop_sd"], one["draws"]) == (pytest.approx(3), pytest.approx(2.6457, abs=1e-3), 3)
    assert one["low"] < 3 < one["high"]


def test_a_treatment_that_changes_no_answer_has_no_interval():
    table = ablationtables.ablation_table(pd.DataFrame([row("none", "intact", 0), row(BLOCKS[0], "mean", 0)]))
    assert table["drop"].iloc[1] == 0
    assert table[["low", "high", "detectable"]].iloc[1].isna().all()


def test_networks_are_compared_with_themselves_and_tensors_are_taken_too():
    one, other = frame([30]), frame([10], network="def", seed=4)
    other["wrong"] = [torch.tensor(vector) for vector in other["wrong"]]
    other.loc[0, "wrong"] = None
    other.at[0, "wrong"] = torch.tensor(wrong(5))
    table = ablationtables.ablation_table(pd.concat([one, other]))
    assert list(table.loc[table["treatment"] == "zeroed", "drop"]) == pytest.approx([3, 0.5])


def test_an_intact_network_that_is_missing_is_named():
    data = frame([30])
    with pytest.raises(ValueError, match=r"network abc \(laptop \(CIFAR-10\)\): no row of treatment 'intact' with bn"):
        ablationtables.ablation_table(data[data["treatment"] != "intact"])
    with pytest.raises(ValueError, match="with bn 're-estimated'"):
        ablationjudge.verdict_rows(pd.DataFrame([*data.to_dict("records"), row(BLOCKS[0], "zeroed", 3, NEW)]))


def test_without_rows_there_are_empty_tables_and_no_verdicts():
    empty = frame([30]).iloc[:0]
    assert list(ablationtables.ablation_table(empty)) == list(ablationtables.ablation_table(frame([30])))
    assert len(ablationtables.ablation_table(empty)) == len(ablationtables.control_table(empty)) == 0
    assert ablationjudge.verdict_rows(empty) == []


def test_a_frame_of_probes_is_taken_as_it_is():
    data = frame([30, 50, 40], [10, 10, 10])
    probes = data.drop(columns="source").assign(profile="laptop", data="cifar10", layout="auto", probe="ablation")
    for table in (ablationtables.ablation_table, ablationtables.control_table):
        pd.testing.assert_frame_equal(table(probes), table(data))
    assert ablationjudge.verdict_rows(probes) == ablationjudge.verdict_rows(data)
    assert len(ablationtables.ablation_table(empty_probe_frame())) == 0
    assert len(ablationtables.control_table(empty_probe_frame())) == 0
    assert ablationjudge.verdict_rows(empty_probe_frame()) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("layer3.3", "conv4_4"),
        ("stage1.0", "conv2_1"),
        ("layers.1", "conv3"),
        ("features.denseblock1.denselayer12", "dense1_12"),
        ("block2.3", "dense2_4"),
        ("all", "all blocks"),
        ("attention_branch.stage.0", "attention_branch.stage.0"),
    ],
)
def test_blocks_are_named_as_readers_know_them(name, text):
    assert ablationanswers.block_text(name) == text


def test_zeroing_is_compared_with_its_controls_image_by_image():
    data = pd.concat(
        [
            frame([30, 50], [10, 50], [0, 0]),
            pd.DataFrame([row("all", "zeroed", 90), row("all", "others_zeroed", 10, draw=0)]),
            pd.DataFrame([row("all", "others_zeroed", 30, draw=1)]),
        ]
    )
    table = ablationtables.control_table(data).set_index(["block", "control"])
    others = table.xs("others_zeroed", level="control")
    assert others["more"].to_dict() == pytest.approx({"conv2_1": 2, "conv3_1": 0, "all blocks": 7})
    assert others.loc["all blocks", "draws"] == 2
    assert others.loc["all blocks", ["draw_low", "draw_high"]].tolist() == pytest.approx([6, 8])
    assert others.loc["conv2_1", ["draw_low", "draw_high"]].tolist() == pytest.approx([2, 2])
    assert np.isnan(others.loc["conv3_1", "low"])
    assert table.loc[("conv3_1", "unshuffled"), "more"] == pytest.approx(5)
    one = paired_bootstrap(wrong(10), wrong(30))
    assert tuple(table.loc[("conv2_1", "others_zeroed"), ["low", "high", "p"]]) == (one.low, one.high, one.p)


ANY = "Zeroing the shuffled channels of any block degrades the performance"
FIRST = "The performance is degraded even at the first block"
BIGGEST = "The biggest drop is at a block between the middle and the last"
OTHERS = "Zeroing the shuffled channels costs more than zeroing as many others"
UNSHUFFLED = "Zeroing the shuffled channels costs more than un-shuffling them"


def test_the_papers_picture_is_reproduced():
    data = frame([20, 21, 22, 80, 30, 31], [5] * 6, [4] * 6, new=[1, 1, 1, 20, 0, 0])
    rows = ablationjudge.verdict_rows(data)
    assert all(list(one) == judge.COLUMNS for one in rows)
    of = {one["claim"]: one for one in rows}
    assert {claim: one["verdict"] for claim, one in of.items()} == {
        ANY: "reproduced",
        FIRST: "reproduced",
        BIGGEST: "reproduced",
        OTHERS: "supported",
        UNSHUFFLED: "supported",
    }
    assert of[ANY]["where"] == "Fig. 5 (b); WRN-10-2, α = 0.06, seed 3; laptop (CIFAR-10)"
    assert of[OTHERS]["where"].startswith("Control of Fig. 5 (b), not in the paper; WRN-10-2")
    assert "in 6 of 6 blocks, by 2.00 [" in of[ANY]["evidence"]
    assert "estimated anew in 1 of 6 blocks, by 0.10 [" in of[ANY]["evidence"]
    assert "conv3_1 costs most, 8.00 points, of the others conv3_3, 3.10" in of[BIGGEST]["evidence"]


def test_the_evidence_names_the_images_and_what_could_have_been_seen():
    rows = ablationjudge.verdict_rows(frame([20, 21, 22, 80, 30, 31], [5] * 6, [4] * 6))
    of = {one["claim"]: one["evidence"] for one in rows}
    assert all("over 1,000 images" in evidence for evidence in of.values())
    first = paired_bootstrap(wrong(0), wrong(20)).detectable
    assert f"where {first:.2f} points could have been seen (80 % power)" in of[FIRST]
    worst = paired_bootstrap(wrong(0), wrong(80)).detectable
    assert f"where {worst:.2f} points could have been seen (80 % power, in the worst case)" in of[ANY]
    against = paired_bootstrap(wrong(5), wrong(80)).detectable
    assert f"where {against:.2f} points could have been seen" in of[OTHERS]
    (still, *_) = ablationjudge.verdict_rows(frame([0, 0, 0]))
    assert still["evidence"].endswith("over 1,000 images, none of which is answered differently")


def test_what_compares_two_treatments_must_hold_with_new_statistics_too():
    data = frame([20, 80, 30], [5] * 3, [4] * 3, new=[20, 80, 30])
    anew = [row(block, "unshuffled", more, NEW) for block, more in zip(BLOCKS, (20, 80, 30), strict=True)]
    assert verdicts(data)[UNSHUFFLED] == "supported"
    assert verdicts(pd.concat([data, pd.DataFrame(anew)]))[UNSHUFFLED] == "cannot tell"
    less = [{**one, "wrong": wrong(2)} for one in anew]
    assert verdicts(pd.concat([data, pd.DataFrame(less)]))[UNSHUFFLED] == "supported"
    assert verdicts(pd.concat([data, pd.DataFrame(anew)]))[OTHERS] == "supported", "measured with kept ones alone"


@pytest.mark.parametrize(
    ("drops", "every", "first"),
    [
        ([20, 80, 30], "reproduced", "reproduced"),
        ([20, 80, 2], "cannot tell", "reproduced"),
        ([2, 80, 30], "cannot tell", "cannot tell"),
        ([20, 80, -40], "not reproduced", "reproduced"),
        ([-40, 80, 30], "not reproduced", "not reproduced"),
        ([0, 0, 0], "cannot tell", "cannot tell"),
    ],
)
def test_every_block_and_the_first_are_judged_by_their_intervals(drops, every, first):
    found = verdicts(frame(drops))
    assert (found[ANY], found[FIRST]) == (every, first)
    assert OTHERS not in found, "what was not measured has no verdict"


def test_one_of_several_blocks_that_seems_to_help_is_asked_at_a_corrected_level():
    few = -4  # p = .125 either way, but the interval at 95 % leaves out 0
    assert paired_bootstrap(wrong(0), wrong(few)).high < 0
    assert verdicts(frame([few]))[FIRST] == "not reproduced"
    assert verdicts(frame([few, 40, 40]))[ANY] == "cannot tell"


@pytest.mark.parametrize(
    ("drops", "outcome"),
    [
        ([20, 20, 20, 80, 30, 20], "reproduced"),
        ([80, 20, 20, 20, 30, 20], "not reproduced"),
        ([20, 20, 20, 20, 30, 80], "not reproduced"),
        ([79, 20, 20, 80, 20, 20], "cannot tell"),
    ],
)
def test_the_biggest_drop_is_to_be_late_but_not_last(drops, outcome):
    assert verdicts(frame(drops))[BIGGEST] == outcome


@pytest.mark.parametrize("drops", [[20, 80], [20, 80, 30], [80, 20, 30], [20, 20, 80, 30, 20]])
def test_with_fewer_than_six_blocks_late_cannot_be_told(drops):
    (one,) = [one for one in ablationjudge.verdict_rows(frame(drops)) if one["claim"] == BIGGEST]
    assert one["verdict"] == "cannot tell"
    said = f"fewer than 6 blocks, and these are {len(drops)}" if len(drops) > 2 else "Of 2 blocks none lies between"
    assert said in one["evidence"]


@pytest.mark.parametrize(
    ("others", "outcome"),
    [([5, 10, 5], "supported"), ([5, 80, 5], "cannot tell"), ([80, 10, 5], "not supported")],
)
def test_zeroing_must_cost_more_than_the_control_in_every_block(others, outcome):
    assert verdicts(frame([40, 80, 40], others))[OTHERS] == outcome
    assert verdicts(frame([40, 80, 40], None, others))[UNSHUFFLED] == outcome


@pytest.mark.parametrize(
    ("others", "outcome", "count"),
    [
        ([(5, 6, 7), (5, 60, 5), (1, 2, 3)], "supported", 3),
        ([(5, 6, 7), (5, 80, 5), (1, 2, 3)], "cannot tell", 2),  # the mean of the draws is still far below
        ([(80, 90, 7), (5, 6, 7), (1, 2, 3)], "cannot tell", 2),
        ([(80, 90, 99), (5, 6, 7), (1, 2, 3)], "not supported", 2),
    ],
)
def test_zeroing_must_cost_more_than_each_draw_of_as_many_others(others, outcome, count):
    rows = ablationjudge.verdict_rows(frame([40, 80, 40], others))
    (one,) = [one for one in rows if one["claim"] == OTHERS]
    assert one["verdict"] == outcome
    assert f"above every draw in {count} of 3 blocks" in one["evidence"]


def test_minus_signs_are_typeset():
    assert "−4.00 [−" in ablationjudge.verdict_rows(frame([-40, 80, 30]))[0]["evidence"]


def seeds(*drops, **other):
    return pd.concat([frame(of, seed=seed, network=f"net{seed}", **other) for seed, of in enumerate(drops)])


@pytest.mark.parametrize(
    ("networks", "outcome"),
    [
        ([[20, 80, 30], [30, 60, 30], [40, 70, 30]], "reproduced"),
        ([[20, 80, 30], [30, 60, 30], [-40, 70, 30]], "cannot tell"),
        ([[20, 80, 30], [-30, 60, 30], [-40, 70, 30]], "not reproduced"),
        ([[20, 80, 30], [-30, 60, 30]], "cannot tell"),  # half is not most
    ],
)
def test_the_networks_of_a_source_are_judged_together(networks, outcome):
    rows = ablationjudge.verdict_rows(seeds(*networks))
    assert len(rows) == 3, "one row a claim"
    (one,) = [one for one in rows if one["claim"] == FIRST]
    assert one["verdict"] == outcome
    numbers = ", ".join(map(str, range(len(networks))))
    assert one["where"] == f"Fig. 5 (b); WRN-10-2, α = 0.06, seeds {numbers}; laptop (CIFAR-10)"
    lost = [of[0] / 10 for of in networks]
    pooled = f"{np.mean(lost):.2f} [range {min(lost):.2f} to {max(lost):.2f}] (conv2_1)".replace("-", "−")
    count = sum(of > 0 for of in lost)
    assert f"on average by {pooled}, in {count} of {len(networks)} networks; over 1,000 images a net" in one["evidence"]


def test_several_networks_are_counted_and_their_numbers_pooled():
    data = seeds([20, 21, 22, 80, 30, 31], [20, 21, 22, 23, 80, 31], [80, 21, 2, 24, 30, 31], others=[(5, 6)] * 6)
    of = {one["claim"]: one for one in ablationjudge.verdict_rows(data)}
    assert {of[claim]["verdict"] for claim in (ANY, BIGGEST, OTHERS)} == {"cannot tell"}
    assert "in every block in 2 of 3 networks, on average by 4.00 [range 2.00 to 8.00]" in of[ANY]["evidence"]
    assert of[ANY]["evidence"].count("range") == 6
    late = "In 2 of 3 networks the costliest late block (conv3_2 in 2, conv3_1 in 1)"
    assert of[BIGGEST]["evidence"].startswith(late)
    assert "(conv3_3 in 2, conv2_1 in 1), on average by 1.60 [range −5.00 to 4.90] points" in of[BIGGEST]["evidence"]
    assert "above every draw in every block in 2 of 3 networks" in of[OTHERS]["evidence"]


def test_models_sources_and_fractions_are_judged_apart():
    others = [{"model": "wrn16_4"}, {"source": "gpu (CIFAR-10)"}, {"alpha": 0.25}]
    data = pd.concat([frame([-40, 80, 30]), *(frame([20, 80, 30], network=str(o), **o) for o in others)])
    rows = [one for one in ablationjudge.verdict_rows(data) if one["claim"] == FIRST]
    assert [one["verdict"] for one in rows] == ["not reproduced"] + ["reproduced"] * 3


def test_readers_see_treatments_by_name_and_no_hash():
    data = frame([30, 50, 40], [(5, 10), (10, 20), (5, 5)], [4, 5, 6])
    drops = ablationtables.shown(ablationtables.ablation_table(data))
    assert "network" not in drops
    names = ["intact", "zeroed (Eq. 5)", "as many others zeroed", "un-shuffled"]
    assert list(drops["treatment"].unique()) == names
    table = ablationtables.control_table(data)
    controls = ablationtables.shown(table)
    assert not {"network", "draw_low", "draw_high"} & set(controls)
    assert list(controls["control"].unique()) == names[2:]
    assert controls["above single draws"].tolist()[:2] == ["2.00 to 2.50", ""]
    assert "draw_low" in table, "which stays as it is"
    assert len(ablationtables.shown(table[:0])) == 0


@pytest.fixture
def style():
    figures.use_style()
    yield
    plt.close("all")


def whole(blocks, **other):
    treatments = {"zeroed": 40, "others_zeroed": 20, "unshuffled": 15, "mean": 8, "other_pi": 3, "fresh": 0}
    rows = [row("none", "intact", 0, bn, **other) for bn in (KEPT, NEW)]
    for number, block in enumerate([*blocks, "all"]):
        rows += [row(block, how, more + number, start=number, **other) for how, more in treatments.items()]
        rows += [row(block, how, more // 4, NEW, **other) for how, more in [*treatments.items()][:3]]
    return ablationtables.ablation_table(pd.DataFrame(rows))


def drawn(ax):
    return sorted(y for container in ax.containers for y in container[0].get_ydata() if np.isfinite(y))


def test_the_figure_shows_every_drop_in_two_panels_of_one_scale(style):
    table = whole(BLOCKS)
    figure = ablationplots.block_drops(table)
    kept, new = figure.axes
    for ax, bn in ((kept, KEPT), (new, NEW)):
        assert drawn(ax) == pytest.approx(sorted(table.loc[table["bn"] == bn, "drop"].dropna()))
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["conv2_1", "conv3_1", "conv4_1", "all blocks"]
    assert kept.get_ylim() == new.get_ylim()
    assert kept.get_ylabel().replace("\n", " ") == "drop of top-1 accuracy (points)"
    assert "WRN-10-2, α = 0.06, seed 3, laptop (CIFAR-10), n = 1,000 images" in kept.get_title(loc="left")
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == [*ablation.TREATMENT_TEXT.values()][1:]
    colours = [line.get_color() for line in (container[0] for container in kept.containers)]
    assert colours[0] == figures.BLUE
    assert len(set(colours)) == 6


def test_the_interval_is_drawn_where_there_is_one(style):
    table = whole(BLOCKS)
    (kept, _) = ablationplots.block_drops(table).axes
    zeroed = table[(table["treatment"] == "zeroed") & (table["bn"] == KEPT)]
    (bars,) = kept.containers[0][2]
    ends = [tuple(segment[:, 1]) for segment in bars.get_segments()]
    assert ends == [pytest.approx(pair) for pair in zip(zeroed["low"], zeroed["high"], strict=True)]
    assert table["low"].isna().any(), "an unchanged answer has no interval and is drawn all the same"


def test_many_blocks_get_panels_of_their_own_beside_all_blocks_at_once(style):
    blocks = [f"layer{stage}.{k}" for stage in (1, 2) for k in range(4)]
    tables = [whole(blocks), whole(blocks, network="def", seed=4)]
    figure = ablationplots.block_drops(pd.concat(tables))
    assert len(figure.axes) == 8
    for number, ax in enumerate(figure.axes):
        kind = tables[number // 4].query("bn == @bn", local_dict={"bn": (KEPT, NEW)[number // 2 % 2]})
        of = kind[(kind["block"] == "all blocks") == number % 2]
        assert drawn(ax) == pytest.approx(sorted(of["drop"].dropna()))


def test_a_table_without_treatments_is_refused(style):
    with pytest.raises(ValueError, match="no row of a treated block"):
        ablationplots.block_drops(ablationtables.ablation_table(pd.DataFrame([row("none", "intact", 0)])))


def test_doses_are_the_papers_counts_of_resnet50_block_by_block():
    table = ablationtables.doses(create_model("resnet50", num_classes=10, alpha=0.04))
    assert table["block"].tolist()[:: len(table) - 1] == ["conv2_1", "conv5_3"]
    assert len(table) == 16
    assert table["shuffled"].sum() == 771
    assert table["values"].sum() == 309_582
    assert table.loc[0, ["convolutions", "shuffled", "channels"]].tolist() == [3, 6, 192]
