"""The controls' tables compare like with like, correct for many arms, and judge by rules that made-up runs show."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from ssconv_lib import controljudge, controlplots, controltables, figures, receptive_field, stats
from ssconv_lib.controlarms import CONTROL_TEXT, NARROWER_BY, PEERS, arm_of, arm_text, groups
from ssconv_lib.controljudge import verdicts
from ssconv_lib.controls import CONTROLS
from ssconv_lib.controltables import paired_arms, solved_arms
from ssconv_lib.judge import COLUMNS
from ssconv_lib.models import create_model

NOISE = np.array([0.05, -0.05, 0.03, -0.03, 0.01, -0.01])  # of a run beside its seed's own error
SEEDS = np.array([15.0, 15.5, 14.8, 15.2, 14.9, 15.1])


def run_rows(model, alpha, control, errors, data, **setting):
    setting = {"profile": "laptop", "epochs": 12, "size": None, "distance": None, **setting}
    row = {"data": data, "model": model, "alpha": alpha, "control": control, **setting}
    return [{**row, "seed": seed, "error": error} for seed, error in enumerate(errors)]


def real(gains, *, alpha=0.06, spread=1.0, **setting):
    """CIFAR-10: {arm: points better than conv}; the noise of conv and of the arms isn't the same."""
    models = {
        arm: model for model, (arm, base) in PEERS.items() if base == "wrn10_2" and not model.endswith("narrow25")
    }
    rows = run_rows("wrn10_2", 0.0, "none", SEEDS, "cifar10", **setting)
    for number, (arm, gain) in enumerate(gains.items()):
        errors = SEEDS - gain + spread * np.roll(NOISE, number)
        peer = models.get(arm)
        control = "none" if arm == "ss" or peer else arm
        rows += run_rows(peer or "wrn10_2", 0.0 if peer else alpha, control, errors, "cifar10", **setting)
    return pd.DataFrame(rows)


def generated(solved, *, n=6, alpha=0.0625, distance=18):
    """The generated task: {arm: runs solved of n}."""
    models = {
        arm: model
        for model, (arm, base) in PEERS.items()
        if base == "long_range_cnn" and not model.endswith("narrow25")
    }
    rows = []
    for arm, count in {"conv": 0, **solved}.items():
        peer = models.get(arm)
        control = arm if arm in CONTROLS else "none"
        name, a = peer or "long_range_cnn", 0.0 if peer or arm == "conv" else alpha
        errors = [1.0] * count + [50.0] * (n - count)
        rows += run_rows(name, a, control, errors, "longrange", size=24, distance=distance, epochs=8)
    return pd.DataFrame(rows)


def verdict_of(frame, start):
    (row,) = [row for row in verdicts([frame]) if row["claim"].startswith(start)]
    assert list(row) == COLUMNS
    return row["verdict"]


def test_every_control_and_peer_has_a_name_for_readers():
    for control in CONTROLS:
        assert arm_text(arm_of("wrn10_2", 0.06, control))
    assert {arm for arm, _ in PEERS.values()} < set(CONTROL_TEXT)
    assert arm_of("wrn10_2", 0.0, "fresh") == "conv", "at α = 0 a control means nothing"
    assert arm_of("wrn10_2", 0.06, "none") == "ss"
    assert arm_text(arm_of("wrn10_2_se", 0.06, "none")) == "squeeze-and-excitation and ss convolution, the paper's π"
    assert set(NARROWER_BY) == {model for model, (arm, _) in PEERS.items() if arm == "narrower"}


def test_arms_are_compared_within_one_setting_and_alpha():
    frame = pd.concat(
        [
            generated({"ss": 6, "zeroed": 0, "narrower": 0, "se": 6}),
            generated({"ss": 5}, alpha=0.25).query("alpha > 0"),
            generated({"ss": 3}, distance=14),
        ]
    )
    found = {(group.labels["distance"], group.labels["alpha"]): list(group.arms) for group in groups(frame)}
    assert found == {
        (18, 0.0625): ["conv", "ss", "zeroed", "narrower", "se"],
        (18, 0.25): ["conv", "ss", "se"],
        (14, 0.0625): ["conv", "ss"],
    }, "a network narrower by 1/16 says nothing of α = 1/4"


def test_arms_of_two_schedules_are_refused():
    frame = pd.concat([real({"ss": 0.3}), real({"fresh": 0.0}, epochs=6)])
    with pytest.raises(ValueError, match=r"wrn10_2 have \[6, 12\] epochs"):
        list(groups(frame))


def test_the_generated_tasks_table_counts_and_tests():
    table = solved_arms(generated({"ss": 6, "roll": 5, "fresh": 0})).set_index("arm")
    ss, roll, fresh, conv = (table.loc[arm_text(arm)] for arm in ("ss", "roll", "fresh", "conv"))
    assert list(table.index) == [arm_text(arm) for arm in ("conv", "ss", "fresh", "roll")]
    assert (roll["n"], roll["solved"], roll["mean"]) == (6, 5, pytest.approx(55 / 6))
    share = stats.proportion(5, 6)
    assert (roll["low"], roll["high"]) == pytest.approx((100 * share.low, 100 * share.high))
    assert ss["p to conv"] == pytest.approx(2 / 924), "two of C(12, 6) tables are as far apart"
    assert np.isnan([conv["p to conv"], ss["p to ss"]]).all()
    assert ss["p to conv, Holm"] == pytest.approx(3 * 2 / 924)
    assert fresh["p to ss, Holm"] == pytest.approx(3 * 2 / 924)
    assert roll["p to ss"] == pytest.approx(1)
    shown = controltables.shown(table.reset_index())
    assert shown["p to conv"].tolist()[:2] == ["", "0.002"]
    assert solved_arms(generated({})[:0]).empty


def test_paired_arms_is_the_difference_by_seed_with_holms_correction():
    frame = real({"ss": 0.3, "zeroed": 0.0, "mean": 0.05})
    few = frame[(frame["control"] != "mean") | (frame["seed"] < 4)]
    table = paired_arms(few).set_index("arm")
    assert table.loc[arm_text("conv"), ["n", "error"]].tolist() == [6, pytest.approx(SEEDS.mean())]
    row = table.loc[arm_text("mean")]
    own = few[few["control"] == "mean"].sort_values("seed")["error"].to_numpy()
    expected = stats.paired_difference(SEEDS[:4], own)
    assert (row["n"], row["error"]) == (4, pytest.approx(own.mean()))
    for name in ("low", "high", "p"):
        assert row[name] == pytest.approx(getattr(expected, name))
    assert (row["difference"], row["difference_sd"]) == pytest.approx((expected.mean, expected.sd))
    assert row["detectable"] == pytest.approx(expected.detectable())
    compared = table.drop(arm_text("conv"))
    assert compared["p, Holm"].tolist() == pytest.approx(stats.holm(compared["p"]))
    assert table.loc[arm_text("ss"), "verdict"] == "better"
    assert table.loc[arm_text("zeroed"), "verdict"] == "cannot tell"


def few(*, pairs=3):
    """Of ss 6 pairs, of two others a few, one of which happens to vary little; and an arm at another α."""
    arms = {"ss": [0.5, -0.4, 0.3, 0.6, -0.2, 0.4], "fresh": [0.1, 0.11, 0.12], "mean": [0.7, -0.5, 0.1]}
    gains = {arm: np.array(values[: None if arm == "ss" else pairs]) for arm, values in arms.items()}
    rows = run_rows("wrn10_2", 0.0, "none", SEEDS, "cifar10")
    for arm, gain in gains.items():
        control = "none" if arm == "ss" else arm
        rows += run_rows("wrn10_2", 0.06, control, SEEDS[: len(gain)] - gain, "cifar10")
    other = np.array([0.9, -0.9])
    rows += run_rows("wrn10_2", 0.25, "none", SEEDS[:2] - other, "cifar10")
    return pd.DataFrame(rows), [*gains.values(), other]


def test_what_few_pairs_could_have_seen_goes_by_the_sd_of_all():
    frame, gains = few()
    squares = sum(((values - values.mean()) ** 2).sum() for values in gains)
    pooled = (squares / sum(len(values) - 1 for values in gains)) ** 0.5
    table = paired_arms(frame).set_index(["alpha", "arm"])
    fresh, mean, ss = (table.loc[(0.06, arm_text(arm))] for arm in ("fresh", "mean", "ss"))
    assert fresh["detectable"] == mean["detectable"] == pytest.approx(stats.detectable(pooled, 3))
    assert fresh["difference_sd"] == pytest.approx(0.01), "its own, by which .05 points would be seen"
    assert ss["detectable"] == pytest.approx(stats.paired_difference(gains[0], np.zeros(6)).detectable())
    assert table.loc[(0.25, arm_text("ss")), "detectable"] == pytest.approx(stats.detectable(pooled, 2))
    against = paired_arms(frame, "ss").set_index(["alpha", "arm"])
    assert against.loc[(0.06, arm_text("fresh")), "detectable"] == fresh["detectable"]
    without_conv = frame[(frame["alpha"] == 0.06) & (frame["control"] != "mean")]
    of = paired_arms(without_conv, "ss").set_index("arm")
    assert np.isnan(of.loc[arm_text("fresh"), "detectable"]), "three pairs alone, and no other sd"


def test_four_pairs_stand_for_themselves():
    frame = real({"ss": 0.3, "mean": 0.05})
    frame = frame[(frame["control"] != "mean") | (frame["seed"] < 4)]
    row = paired_arms(frame).set_index("arm").loc[arm_text("mean")]
    own = frame[frame["control"] == "mean"].sort_values("seed")["error"].to_numpy()
    assert row["detectable"] == pytest.approx(stats.paired_difference(SEEDS[:4], own).detectable())


def test_a_verdict_of_few_pairs_names_what_they_could_have_seen():
    frame, _ = few()
    frame = pd.concat([frame, frame[frame["control"] == "fresh"].assign(alpha=0.25)])
    rows = [row for row in verdicts([frame]) if "α = 1/4" in row["where"]]
    seen = paired_arms(frame).set_index(["alpha", "arm"]).loc[(0.25, arm_text("ss")), "detectable"]
    assert rows and all(
        f"n = 2 pairs, detectable {seen:.2f} by the sd over all arms)" in row["evidence"] for row in rows
    )


def test_what_only_many_arms_bring_is_not_called_better():
    frame = real({"ss": 0.0, "fresh": 0.0, "zeroed": 0.0, "mean": 0.04})
    row = paired_arms(frame).set_index("arm").loc[arm_text("mean")]
    assert row["p"] < 0.05 < row["p, Holm"]
    assert row["verdict"] == "better, not after correction"


def test_against_ss_the_sign_is_that_of_ss_minus_the_arm():
    table = paired_arms(real({"ss": 0.3, "zeroed": 0.0}), "ss").set_index("arm")
    assert table.loc[arm_text("zeroed"), "difference"] == pytest.approx(-0.3, abs=0.01)
    assert table.loc[arm_text("conv"), "verdict"] == "worse"
    assert paired_arms(real({"zeroed": 0.0}), "ss").empty, "there is no ss to compare with"


def test_an_arm_without_a_partner_or_spread_says_so():
    frame = real({"ss": 0.3, "zeroed": 0.0, "mean": 0.1}, spread=0.0)
    frame.loc[frame["control"] == "mean", "seed"] += 100
    table = paired_arms(frame).set_index("arm")
    assert table.loc[arm_text("mean"), ["n", "note"]].tolist() == [0, "no seed in common"]
    assert "to the last digit" in table.loc[arm_text("zeroed"), "note"]
    assert np.isnan(table.loc[arm_text("ss"), "low"]), "no spread is no evidence of certainty"
    assert table.loc[arm_text("ss"), "verdict"] == "cannot tell"


FULL, NONE = 0.3, 0.0


@pytest.mark.parametrize(
    ("gains", "claim", "outcome"),
    [
        ({"fresh": NONE}, "The wiring has to be fixed", "supported"),
        ({"fresh": FULL}, "The wiring has to be fixed", "not supported"),
        ({"fresh": FULL, "windows": NONE}, "What comes in has to come from far", "supported"),
        ({"windows": 0.15}, "What comes in has to come from far", "in part"),
        ({"roll": NONE, "per_channel": NONE}, "The wiring has to be random", "supported"),
        ({"roll": NONE, "per_channel": FULL}, "The wiring has to be random", "not supported"),
        ({"roll": NONE, "per_channel": 0.15}, "The wiring has to be random", "in part"),
        ({"roll": NONE}, "The wiring has to be random", "cannot tell"),
        ({"mean": FULL}, "Shuffling helps as global", "supported"),
        ({"mean": NONE}, "Shuffling helps as global", "not supported"),
        ({"mean": 0.15}, "Shuffling helps as global", "in part"),
        ({"mean": NONE, "se": FULL}, "Shuffling helps as global", "not supported"),
        ({"zeroed": NONE, "fresh": FULL}, "Shuffling helps as regularisation", "not supported"),
        ({"zeroed": NONE, "narrower": NONE}, "Shuffling helps as regularisation", "not supported"),
        ({"zeroed": NONE, "narrower": FULL}, "Shuffling helps as regularisation", "supported"),
        ({"narrower": NONE}, "Shuffling helps as regularisation", "cannot tell"),
    ],
)
def test_an_explanation_is_judged_by_what_the_controls_keep(gains, claim, outcome):
    assert verdict_of(real({"ss": FULL, **gains}), claim) == outcome


def test_nothing_is_explained_where_ss_gains_nothing_or_all_is_noise():
    nothing = real({"ss": 0.0, "fresh": 0.0, "windows": 0.0, "mean": 0.0})
    assert {row["verdict"] for row in verdicts([nothing])} == {"cannot tell"}
    measured = stats.paired_difference(SEEDS, nothing.query("alpha > 0 and control == 'none'")["error"].to_numpy())
    for row in verdicts([nothing]):
        numbers = f"{measured.mean:.2f} points ({measured.low:.2f} to {measured.high:.2f}, n = 6 pairs"
        numbers = f"ss over conv: {numbers}, detectable {measured.detectable():.2f})".replace("-", "−")
        assert row["evidence"].startswith(f"No gain of ss is seen that could be explained: {numbers}. Decided by")
        assert not any(reading in row["evidence"] for reading in ("keeps", "loses", "can't be told", "over it"))
    other = real({"ss": 0.0, "mean": 0.3})
    assert verdict_of(other, "Shuffling helps as global") == "cannot tell", "context has a gain, which ss hasn't"
    noisy = real({"ss": 0.3, "mean": 0.1}, spread=4.0)
    assert verdict_of(noisy, "Shuffling helps as global") == "cannot tell", "neither a gain nor a shortfall is seen"


def test_one_of_several_that_keeps_the_gain_must_do_so_after_correction():
    claim, others = "Shuffling helps as regularisation", {"ss": 5, "narrower": 0}
    assert 0.025 < stats.fisher(4, 5, 0, 5) < 0.05
    assert verdict_of(generated({"zeroed": 4, **others}, n=5), claim) == "cannot tell"
    assert verdict_of(generated({"zeroed": 5, **others}, n=5), claim) == "supported"
    alone = generated({"ss": 5, "zeroed": 4}, n=5)
    assert verdict_of(alone, claim) == "in part", "a single control needs no correction"


def test_the_generated_task_is_judged_by_the_runs_solved():
    frame = generated({"ss": 6, "fresh": 0, "windows": 0, "mean": 6, "zeroed": 0, "se": 6})
    rows = verdicts([frame])
    assert [row["verdict"] for row in rows] == ["supported", "supported", "supported", "not supported"]
    wiring, _, context, regularisation = rows
    share = {k: str(stats.proportion(k, 6)) for k in (0, 6)}
    assert wiring["evidence"].startswith(f"ss solves {share[6]}, conv {share[0]}: p = 0.0022; fresh π each forward")
    assert (
        f"fresh π each forward solves {share[0]}: it over conv p = 1, ss over it p = 0.0022, loses the gain"
        in (wiring["evidence"])
    )
    assert f"beside it squeeze-and-excitation solves {share[6]}" in context["evidence"]
    assert "Decided by mean broadcast" in context["evidence"]
    assert "distance 18" in wiring["where"]
    assert "without runs: a network narrower" in regularisation["evidence"]
    assert "beside it fresh π each forward" in regularisation["evidence"]


def test_a_control_that_does_more_than_ss_keeps_the_gain():
    frame = generated({"ss": 6, "mean": 12}, n=12)
    assert verdict_of(frame, "Shuffling helps as global") == "supported"


def paired(arms):
    """CIFAR-10: {arm: (points better than conv, seed by seed)}, exactly."""
    rows = run_rows("wrn10_2", 0.0, "none", SEEDS, "cifar10")
    for arm, gains in arms.items():
        rows += run_rows("wrn10_2", 0.06, "none" if arm == "ss" else arm, SEEDS - gains, "cifar10")
    return pd.DataFrame(rows)


def around(mean, half, pattern=(1, -1, 1, -1, 1, -1)):
    """Six values whose 95 % interval is the mean plus or minus a half width."""
    pattern = np.array(pattern)
    return mean + half * pattern / (stats.summarise(pattern).high - pattern.mean())


def reading_of(frame, arm, claim):
    (row,) = [row for row in verdicts([frame]) if row["claim"].startswith(claim)]
    (text,) = [text for text in row["evidence"].split("; ") if text.startswith(arm_text(arm))]
    return text.split(". Decided")[0].rsplit("), ", 1)[1], text


def test_a_gain_of_which_a_fifth_may_be_left_is_not_kept():
    zeroed = around(0.10, 0.07)
    frame = paired({"ss": zeroed + around(0.40, 0.53, (-1, 1, -1, 1, -1, 1)), "zeroed": zeroed})
    reading, text = reading_of(frame, "zeroed", "Shuffling helps as regularisation")
    assert "it over conv 0.10 points (0.03 to 0.17, n = 6 pairs" in text
    assert "ss over it 0.40 points (−0.13 to 0.93, n = 6 pairs" in text
    assert reading == "keeps at least a part"
    assert verdict_of(frame, "Shuffling helps as regularisation") == "in part"


def test_what_is_kept_must_be_more_than_half_by_the_interval_of_the_shortfall():
    claim, pattern = "Shuffling helps as regularisation", (1, 1, -1, -1, 1, -1)
    ss = around(0.50, 0.10)
    for short, half, reading, outcome in (
        (0.10, 0.14, "keeps the gain", "supported"),
        (0.10, 0.16, "keeps at least a part", "in part"),
        (0.20, 0.10, "keeps a part", "in part"),
        (0.40, 0.30, "can't be told", "cannot tell"),
    ):
        frame = paired({"ss": ss, "zeroed": ss - around(short, half, pattern)})
        if reading == "can't be told":  # neither better than conv nor worse than ss
            frame = paired({"ss": ss, "zeroed": around(0.2, 0.5, pattern)})
        assert reading_of(frame, "zeroed", claim)[0] == reading
        assert verdict_of(frame, claim) == outcome


def test_what_is_lost_must_be_more_than_half_by_the_interval_of_what_is_left():
    claim, ss = "The wiring has to be fixed", around(0.50, 0.05)
    lost = paired({"ss": ss, "fresh": around(0.05, 0.15, (1, 1, -1, -1, 1, -1))})
    assert reading_of(lost, "fresh", claim)[0] == "loses the gain"
    assert verdict_of(lost, claim) == "supported"
    unclear = paired({"ss": ss, "fresh": around(0.15, 0.20, (1, 1, -1, -1, 1, -1))})
    assert reading_of(unclear, "fresh", claim)[0] == "loses at least a part"
    assert verdict_of(unclear, claim) == "cannot tell", "it may keep more than half"


def test_shares_of_runs_solved_are_compared_by_newcombes_interval():
    (group,) = groups(generated({"ss": 6, "mean": 5}))
    short = controljudge._by_runs_solved(group)("mean", "ss", 0.95)
    five, six = stats.proportion(5, 6), stats.proportion(6, 6)
    assert short.gain == pytest.approx(1 / 6)
    assert short.high == pytest.approx(1 / 6 + ((six.high - 1) ** 2 + (5 / 6 - five.low) ** 2) ** 0.5)
    assert verdict_of(generated({"ss": 6, "mean": 5}), "Shuffling helps as global") == "in part", (
        "up to .56 are missing"
    )


def test_the_rules_for_readers_name_each_outcome():
    rules = " ".join(controljudge.RULES)
    for outcome in ("half of the gain", "**keeps the gain**", "**loses the gain**", "**in part**", "nobody can tell"):
        assert outcome in rules


REACH = {"conv": 4 / 9, "ss": 1, "fresh": 1, "windows": 1, "shift": 2 / 3, "roll": 7 / 9, "per_channel": 1, "mean": 1}
REACH |= {"zeroed": 4 / 9, "narrower": 4 / 9, "gc": 1, "dilated": 1}


def test_the_reach_is_that_of_each_arms_own_network():
    frame = generated({arm: 0 for arm in REACH if arm != "conv"})
    state = torch.random.get_rng_state()
    table = solved_arms(frame).set_index("arm")["reach"]
    assert torch.equal(torch.random.get_rng_state(), state), "drawing a table leaves the global generator alone"
    assert {arm: table[arm_text(arm)] for arm in REACH} == pytest.approx(REACH)
    larger = frame.assign(size=48)
    assert solved_arms(larger).set_index("arm").loc[arm_text("conv"), "reach"] == pytest.approx((16 / 48) ** 2)


def test_the_reach_of_a_control_is_what_its_forward_depends_on():
    torch.manual_seed(0)
    for control, share in (("zeroed", REACH["zeroed"]), ("mean", 1), ("shift", REACH["shift"])):
        model = create_model("long_range_cnn", num_classes=2, alpha=0.0625, input_size=(3, 24, 24), control=control)
        seen = receptive_field.reach(model, ["layers"], (3, 24, 24))["layers"]
        assert receptive_field.share(seen) == pytest.approx(share)
        image = torch.rand(3, 24, 24)
        assert receptive_field.change(model, "layers", image, seen) > 0
        assert receptive_field.change(model, "layers", image, ~seen) == 0


def test_a_network_without_a_rule_has_no_reach_and_each_is_looked_at_once(monkeypatch):
    controltables.reach.cache_clear()
    calls = []

    def no_rule(*args):
        calls.append(args)
        raise ValueError("the model computes fft, for which there is no rule")

    monkeypatch.setattr(controltables.receptive_field, "reach", no_rule)
    frame = pd.concat([generated({"ss": 6}), generated({"ss": 6}, distance=14)])
    assert solved_arms(frame)["reach"].isna().all()
    assert len(calls) == 2, "conv and ss, once for both distances"
    controltables.reach.cache_clear()


def test_arms_can_be_asked_for_before_they_are_drawn():
    frame = real({"ss": 0.3})
    assert controltables.has_arms(frame)
    alone = frame[frame["alpha"] == 0]
    apart = frame.assign(seed=frame["seed"].where(frame["alpha"] == 0, frame["seed"] + 100))
    for nothing in (alone, frame[frame["alpha"] > 0], apart, frame[:0]):
        assert not controltables.has_arms(nothing)
        with pytest.raises(ValueError, match=f"none of these {len(nothing)} records .* ask controltables.has_arms"):
            controlplots.paired_arms(nothing)


def test_a_group_without_conv_or_ss_has_no_verdict():
    frame = generated({"ss": 6, "mean": 6})
    assert verdicts([frame[frame["alpha"] > 0]]) == []
    assert verdicts([frame[(frame["alpha"] == 0) | (frame["control"] != "none")]]) == []


@pytest.fixture
def style():
    figures.use_style()
    yield
    plt.close("all")


def test_the_figure_of_the_generated_task_shows_every_run_and_the_counts(style):
    frame = generated({"ss": 6, "mean": 5, "zeroed": 0})
    (ax,) = controlplots.solved_arms(frame).axes
    drawn = np.concatenate([points.get_offsets() for points in ax.collections])
    assert sorted(drawn[:, 0]) == sorted(frame["error"])
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == [arm_text(arm) for arm in ("conv", "ss", "mean", "zeroed")]
    counts = [text.get_text() for text in ax.texts if text.get_text().endswith("of 6")]
    assert counts == ["0 of 6", "6 of 6", "5 of 6", "0 of 6"]


def test_the_figure_of_real_images_shows_the_pairs_mean_and_interval(style):
    frame = real({"ss": 0.3, "zeroed": 0.0})
    (ax,) = controlplots.paired_arms(frame).axes
    pairs = {arm: SEEDS - group["error"].to_numpy() for arm, group in frame[frame["alpha"] > 0].groupby("control")}
    for points, arm in zip(ax.collections, ("none", "zeroed"), strict=True):
        assert sorted(points.get_offsets()[:, 0]) == pytest.approx(sorted(pairs[arm]))
    bars = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linewidth() > 2]
    for bar, arm in zip(bars, ("none", "zeroed"), strict=True):
        summary = stats.summarise(pairs[arm])
        assert bar.get_xdata() == pytest.approx([summary.low, summary.high])
    assert [text.get_text() for text in ax.texts] == ["n = 6", "n = 6"]


def test_an_interval_of_two_pairs_does_not_dwarf_the_figure(style):
    frame = real({"ss": 0.3, "zeroed": 0.0})
    frame = frame[(frame["control"] == "none") | (frame["seed"] < 2)]
    frame.loc[frame["control"] == "zeroed", "error"] = [14.0, 16.0]
    (ax,) = controlplots.paired_arms(frame).axes
    low, high = ax.get_xlim()
    summary = stats.summarise([1.0, -0.5])
    assert summary.high - summary.low > 4 * (high - low)
    assert sum(line.get_marker() in "<>" for line in ax.lines) == 2, "arrows at both its ends"
