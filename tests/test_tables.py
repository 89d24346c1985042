"""Chapter 2's tables and verdicts, from runs made up so that the answers are known."""

import numpy as np
import pandas as pd
import pytest

from ssconv_lib import judge, readable, tables

COLUMNS = ["profile", "data", "model", "alpha", "layout", "seed", "error", "hash", "epochs"]


def runs(errors, *, model="wrn10_2", profile="laptop", data="cifar10", layout="auto"):
    """A frame of runs: {alpha: errors by seed}."""
    rows = [
        (profile, data, model, alpha, layout, seed, error, f"{alpha}{seed}", 12)
        for alpha, values in errors.items()
        for seed, error in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def grouped(errors, **options):
    """A frame of Table 1's arms: {arm: errors by seed}."""
    options = {"model": "resnext29_2x16d", **options}
    parts = [
        runs({0.0 if arm == "conv" else 0.06: values}, layout="auto" if arm == "conv" else arm, **options)
        for arm, values in errors.items()
    ]
    return pd.concat(parts, ignore_index=True)


def test_schedules_put_the_pilots_beside_the_same_network():
    pilot = runs({0.0: [20.0]}, profile="pilot").assign(epochs=6)
    others = runs({0.0: [4.0]}, model="wrn16_4", profile="paper")
    table = tables.schedules([pilot], [runs({0.0: [15.0, 14.0], 0.06: [13.0, 14.0]}), others])
    assert table[["profile", "epochs", "alpha", "n"]].values.tolist() == [["pilot", 6, 0, 1], ["laptop", 12, 0, 2]]
    assert table["error"].tolist() == [20, 14.5]
    assert table["error_sd"].tolist()[1] == pytest.approx(0.5**0.5)
    assert tables.schedules([], []).empty


def test_several_permutations_of_a_seed_count_once():
    frame = runs({0.06: [9.0, 10.0]})
    frame = pd.concat([frame, frame.assign(error=frame["error"] + 1)])
    assert tables.by_seed(frame).to_dict() == {0: 9.5, 1: 10.5}


def test_comparison_is_paired_and_judged_by_the_paper():
    frame = runs({0.0: [10.0, 12.0, 11.0, 13.0], 0.06: [9.7, 11.65, 10.75, 12.7]})
    row = tables.comparison(frame).iloc[0]
    assert row["n"] == 4
    assert row["difference"] == pytest.approx(0.3)
    assert row["difference_sd"] == pytest.approx(np.std([0.3, 0.35, 0.25, 0.3], ddof=1))
    assert row["conv"] == pytest.approx(11.5)
    assert row["outcome"] == "reproduced"
    best = tables.comparison(frame.assign(best_error=frame["error"] - 0.5)).iloc[0]
    assert best["best, selected on test"] == "11.00 / 10.70"
    opposite = runs({0.0: [9.7, 11.65, 10.75, 12.7], 0.06: [10.0, 12.0, 11.0, 13.0]})
    assert tables.comparison(opposite).iloc[0]["outcome"] == "not reproduced"
    noisy = runs({0.0: [10.0, 12.0], 0.06: [9.0, 12.5]})
    assert tables.comparison(noisy).iloc[0]["outcome"] == "cannot tell"


def test_a_relative_need_not_have_an_effect_of_the_papers_size():
    small = runs({0.0: [10.0, 12.0, 11.0, 13.0], 0.06: [9.99, 12.01, 10.97, 13.01]})
    row = tables.comparison(small).iloc[0]
    assert row["high"] < 0.2, "the paper's .3 is excluded, and 0 is not"
    assert row["outcome"] == "cannot tell"
    assert "includes 0 and excludes the paper's 0.3 points" in row["sentence"]
    assert tables.comparison(small.assign(model="wrn16_4")).iloc[0]["outcome"] == "not reproduced"


def test_a_comparison_of_two_arms_takes_one_alpha():
    frame = runs({0.0: [10.0, 12.0], 0.04: [9.0, 12.5], 0.06: [9.0, 12.5]})
    for asked in (tables.comparison, tables.gains):
        with pytest.raises(ValueError, match=r"wrn10_2: α = 0.04, 0.06 beside 0"):
            asked(frame)


def test_three_pairs_do_not_say_what_could_have_been_seen():
    frame = runs({0.0: [10.0, 12.0, 11.0, 13.0], 0.06: [9.7, 11.6, 10.9, 12.7]})
    assert tables.comparison(frame).iloc[0]["detectable"] > 0
    three = tables.comparison(frame[frame["seed"] < 3]).iloc[0]
    assert np.isnan(three["detectable"]) and "don't know their own spread" in three["sentence"]


def test_comparison_drops_seeds_without_a_partner():
    frame = runs({0.0: [10.0, 12.0, 11.0], 0.06: [9.7, 11.6]})
    row = tables.comparison(frame).iloc[0]
    assert row["n"] == 2
    assert row["conv"] - row["ss"] == pytest.approx(row["difference"]), "all three over the same seeds"
    assert tables.comparison(runs({0.0: [10.0]})).empty


def test_table2_has_the_papers_rows_first_and_relatives_below():
    laptop = runs({0.0: [10.0, 12.0], 0.06: [9.0, 11.9]})
    gpu = runs({0.0: [5.0, 5.2], 0.06: [4.9, 5.0]}, model="wrn16_4", profile="gpu")
    table = tables.table2([laptop, gpu])
    assert table["source"].tolist() == ["paper", "laptop (CIFAR-10)", "gpu (CIFAR-10)", "paper", "paper"]
    assert table["model"].tolist()[:4] == ["wrn16_4", "wrn10_2", "wrn16_4", "densenet_bc_100_12"]
    first = table.iloc[0]
    assert (first["conv"], first["ss"], first["n"]) == (5.1, 4.8, 5)
    assert first["difference"] == pytest.approx(0.3)
    assert tables.table2([])["source"].tolist() == ["paper"] * 3


def test_pairs_and_pairs_needed():
    frame = runs({0.0: [10.0, 12.0, 11.0, 13.0], 0.06: [9.7, 11.6, 10.9, 12.7]})
    pairs = tables.pairs([frame])
    assert pairs["difference"].tolist() == pytest.approx([0.3, 0.4, 0.1, 0.3])
    assert set(pairs["label"]) == {"WRN-10-2, laptop (CIFAR-10)"}
    assert float(tables.printed_differences(pairs)["WRN-10-2, laptop (CIFAR-10)"]) == pytest.approx(0.3)
    needed = tables.pairs_needed(tables.table2([frame])).iloc[0]
    assert needed["sd of a pair"] == pytest.approx(np.std([0.3, 0.4, 0.1, 0.3], ddof=1))
    assert needed["pairs needed"] == 4  # power .61 at 3 pairs, .90 at 4
    two = runs({0.0: [10.0, 12.0], 0.06: [9.7, 11.6]})
    assert tables.pairs_needed(tables.table2([two])).iloc[0]["pairs needed"] is None, "two pairs hardly have a spread"
    assert tables.pairs([]).empty


def test_table1_and_its_contrasts():
    frame = grouped(
        {
            "conv": [10, 12, 11],
            "leading": [9, 11, 10],
            "listing": [9.1, 10.9, 10],
            "auto": [8, 10.1, 9],
            "matched": [9, 11, 10],
        }
    )
    table = tables.table1([frame]).set_index("arm")
    assert table.loc["Conv", "paper (CIFAR-10)"] == 4.3
    assert table.loc["Eq. 2", "paper (CIFAR-10)"] == 4.2
    assert table.loc["Eq. 3", "paper (CIFAR-10)"] == 3.9
    assert np.isnan(table.loc["Listing 1 as written", "paper (CIFAR-10)"])
    assert table.loc["Eq. 3", "laptop (CIFAR-10)"] == pytest.approx(27.1 / 3)
    assert table.loc["Conv", "n, laptop (CIFAR-10)"] == 3
    contrasts = tables.contrasts([frame]).set_index("contrast")
    assert contrasts.loc["Eq. 2 − Eq. 3", "difference"] == pytest.approx((1 + 0.9 + 1) / 3)
    assert contrasts.loc["Eq. 2 − Listing 1 as written", "difference"] == pytest.approx(0, abs=1e-9)
    assert contrasts.loc["Conv − Eq. 2", "difference"] == pytest.approx(1)
    assert len(contrasts) == 5
    assert len(tables.contrasts([grouped({"conv": [10, 12], "auto": [9, 11.5]})])) == 1


def test_an_interval_without_spread_is_not_shown_as_certainty():
    row = tables.contrasts([grouped({"leading": [0.0, 0.0], "auto": [0.0, 0.0]})]).iloc[0]
    assert row["difference"] == 0
    assert np.isnan(row["low"])
    assert np.isnan(row["detectable"])
    assert "agree to the last digit" in row["note"]


def test_readable_puts_spread_and_interval_together():
    table = pd.DataFrame(
        {"alpha": [0.125], "conv": [10.0], "conv_sd": [0.5], "low": [-1.0], "high": [1.0], "p": [0.0001], "x": [None]}
    )
    row = readable.readable(table).iloc[0].to_dict()
    assert row == {"alpha": "1/8", "conv": "10.00 ± 0.50", "95 % interval": "−1.00 to 1.00", "p": "< 0.001", "x": ""}


@pytest.mark.parametrize(
    ("alpha", "text"),
    [(0, "0"), (1, "1"), (1 / 32, "1/32"), (0.5, "1/2"), (0.06, "0.06"), (0.04, "0.04"), (0.1, "0.1"), (0.2, "0.2")],
)
def test_alpha_as_readers_write_it(alpha, text):
    assert readable.alpha_text(alpha) == text


def test_verdicts_of_table_1_need_real_images_and_both_arms():
    real = grouped({"leading": [9.0, 9.5, 9.2, 9.4], "auto": [8.7, 9.2, 8.9, 9.12]})
    (row,) = judge.table1_claims([real])
    assert row["verdict"] == "reproduced"
    assert row["where"] == "Table 1; its relative ResNeXt-29 (2x16d), 12 epochs (laptop)"
    generated = grouped({"leading": [9.0, 9.5], "auto": [8.7, 9.1]}, model="long_range_resnext")
    for frames in ([grouped({"conv": [1.0, 2.0], "auto": [1.0, 2.0]})], [generated], []):
        (row,) = judge.table1_claims(frames)
        assert (row["where"], row["verdict"]) == ("Table 1", "no runs yet")


def test_verdicts_of_table_2_say_what_stands_for_the_papers_network():
    frame = runs({0.0: [10.0, 12.0, 11.0, 13.0], 0.06: [9.7, 11.65, 10.75, 12.7]})
    row, *others = judge.difference_claims([frame])
    assert [other["verdict"] for other in others] == ["no runs yet"] * 2, "the paper's other networks are not left out"
    assert others[0]["claim"] == "Shuffling lowers the error of DenseNet-BC-100-12"
    assert row["claim"] == "Shuffling lowers the error of WRN-16-4 (seen in a relative, WRN-10-2)"
    assert row["where"] == "Table 2; its relative WRN-10-2, 12 epochs (laptop)"
    assert row["verdict"] == tables.comparison(frame)["outcome"].iloc[0] == "reproduced"
    assert row["evidence"].startswith("Over 4 pairs of runs, conv minus ss is 0.30 points")
    own = judge.difference_claims([frame.assign(model="wrn16_4")])[0]
    assert (own["claim"], own["where"]) == ("Shuffling lowers the error of WRN-16-4", "Table 2; 12 epochs (laptop)")
    assert {row["verdict"] for row in judge.difference_claims([runs({0.0: [10.0]})])} == {"no runs yet"}


@pytest.mark.parametrize(
    ("without", "shuffled", "outcome"),
    [
        ([50, 49, 51, 50], [0, 0, 1, 0], "reproduced"),
        ([50, 49, 51, 50], [0, 0, 50, 0], "cannot tell"),
        ([0, 0, 1, 0], [50, 49, 51, 50], "not reproduced"),
    ],
)
def test_the_verdict_on_reach_follows_fishers_test(without, shuffled, outcome):
    frame = runs({0.0: without, 0.0625: shuffled}, data="longrange", model="long_range_cnn", profile="quick")
    row = judge.reach_claim(frame)
    assert row["verdict"] == outcome
    assert row["where"] == "Abstract; quick (generated task)"
    assert "of 4" in row["evidence"]


ALPHAS = (0.0, 0.02, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0)


@pytest.mark.parametrize(
    ("means", "outcome"),
    [
        ((11, 10.9, 10.1, 10, 10.1, 11, 12, 30), "reproduced"),
        ((11, 10.9, 9, 10, 9, 11, 12, 30), "reproduced"),  # the neighbours are "around 0.06" too
        ((11, 10.9, 10.1, 10, 10.1, 9, 12, 30), "not reproduced"),
        ((10.01, 10.9, 10.1, 10, 10.1, 11, 12, 30), "cannot tell"),
        ((11, 10), "cannot tell"),
    ],
)
def test_the_verdict_on_the_best_alpha(means, outcome):
    """Noise of a tenth around means; with only a few of the paper's α nothing can be said."""
    noise = np.random.default_rng(0).normal(0, 0.05, (8, 4))
    alphas = ALPHAS if len(means) == 8 else (0.0, 0.06)
    errors = {a: list(mean + noise[k]) for k, (a, mean) in enumerate(zip(alphas, means, strict=True))}
    (row,) = judge.best_alpha_claims([runs(errors)])
    assert row["verdict"] == outcome
    assert judge.best_alpha_claims([runs(errors, model="long_range_cnn", data="longrange")]) == []


def test_the_best_alpha_names_what_is_open_and_what_could_have_been_seen():
    means, noise = (
        {0.0: 11, 0.02: 10.1, 0.06: 10, 0.2: 11, 0.5: 12, 1.0: 30},
        np.random.default_rng(0).normal(0, 0.1, 24),
    )
    errors = {a: list(means[a] + noise[4 * k : 4 * k + 4]) for k, a in enumerate(means)}
    errors[0.02] = [errors[0.06][k] + d for k, d in enumerate((-0.1, 0.1, 0.05, -0.05))]
    (row,) = judge.best_alpha_claims([runs(errors)])
    assert row["evidence"].startswith("6 of the 8 α have runs. ")
    assert "worse: 0, 0.2, 1/2, 1; better: none; undecided: 0.02." in row["evidence"]
    seen = [judge.stats.paired_difference(errors[a], errors[0.06]).detectable() for a in errors if a != 0.06]
    assert f"Their 4 pairs would have seen {min(seen):.2f} to {max(seen):.2f} points" in row["evidence"]
    few = runs({a: values[:2] for a, values in errors.items()})
    assert "don't know their own spread" in judge.best_alpha_claims([few])[0]["evidence"]


def test_the_best_alpha_takes_all_of_the_sweep():
    noise = np.random.default_rng(0).normal(0, 0.05, 24)
    errors = {a: list((10 if a == 0.06 else 12) + noise[4 * k : 4 * k + 4]) for k, a in enumerate(ALPHAS) if k < 6}
    errors |= {0.5: errors[0.0], 1.0: errors[0.02]}
    assert judge.best_alpha_claims([runs(errors)])[0]["verdict"] == "reproduced"
    del errors[0.1]
    assert judge.best_alpha_claims([runs(errors)])[0]["verdict"] == "cannot tell", "0.1 has no run"


def imagenette(conv, ss, **options):
    return runs({0.0: conv, 0.04: ss}, data="imagenette160", **options)


def test_table_3_names_the_images_beside_the_profile():
    frame = imagenette([20.0, 21.0, 22.0], [19.0, 20.5, 20.0], model="resnet14")
    table = tables.table3([frame, imagenette([10.0, 11.0], [9.0, 9.5], model="densenet121", profile="gpu")])
    assert table["source"].tolist() == ["paper", "laptop (Imagenette)", *["paper"] * 3, "gpu (Imagenette)", "paper"]
    ours = table.iloc[1]
    assert (ours["model"], ours["n"]) == ("resnet14", 3)
    assert ours["difference"] == pytest.approx((1 + 0.5 + 2) / 3)
    assert "the paper's 0.5 points (0.4 to 0.6 before rounding)" in ours["sentence"]
    assert table["difference"].iloc[0] == pytest.approx(0.5)


def test_claims_of_table_3_say_what_stands_for_what():
    frame = imagenette([20.0, 21.0, 22.0, 21.5], [19.0, 20.1, 20.9, 20.5], model="resnet14")
    row = judge.difference_claims([frame], 3)[0]
    assert row["claim"] == "Shuffling lowers the error of ResNet50 (seen in a relative, ResNet14)"
    assert row["where"] == "Table 3; its relative ResNet14, 12 epochs on Imagenette (laptop)"
    assert row["verdict"] == "reproduced"


def test_the_se_claim_compares_gains_by_seed():
    resnet = imagenette([20.0, 21.0, 22.0], [18.0, 19.1, 19.9], model="resnet14")  # gains 2.0, 1.9, 2.1
    se = imagenette([20.0, 20.0, 20.0], [19.9, 20.0, 20.1], model="seresnet14")  # gains .1, 0, -.1
    both = pd.concat([resnet, se], ignore_index=True)
    (row,) = judge.se_claim([both])
    assert row["verdict"] == "reproduced"
    assert "is 2.00 points" in row["evidence"]
    assert "0.4 points (0.2 to 0.6 before rounding)" in row["evidence"]
    (other,) = judge.se_claim([both.assign(error=both["error"].where(both["alpha"] == 0, 20.0 - both["seed"]))])
    assert other["verdict"] != "reproduced"
    assert {row["verdict"] for row in judge.se_claim([resnet]) + judge.se_claim([])} == {"no runs yet"}


def test_the_structure_claim_counts_what_agrees():
    stages = pd.DataFrame({"agrees": [True, True, False]})
    row = judge.structure_claim(stages)
    assert row["verdict"] == "not reproduced" and "2 of 3 stages" in row["evidence"]
    assert judge.structure_claim(stages[stages["agrees"]])["verdict"] == "reproduced"
