"""Fig. 2's numbers and the choice of α, from runs made up so that the answers are known."""

import numpy as np
import pandas as pd
import pytest
from test_tables import runs

from ssconv_lib import stats, sweeps


def test_sweep_summary_counts_what_is_solved_of_the_generated_task():
    errors = {0.0: [50, 49, 51], 0.125: [0.1, 9.9, 10.0]}
    summary = sweeps.sweep_summary(runs(errors, model="long_range_cnn", data="longrange"))
    assert summary["alpha"].tolist() == [0, 0.125]
    assert summary["mean"].tolist() == pytest.approx([50, 20 / 3])
    assert summary["sd"].iloc[0] == pytest.approx(1.0)
    assert summary["solved"].tolist() == [0, 2], "10 % is not below the threshold"
    assert summary["low"].isna().all(), "an interval of the mean of two kinds of runs"
    real = sweeps.sweep_summary(runs(errors))
    assert real["solved"].isna().all()
    assert real["gain"].tolist()[1] == pytest.approx(50 - 20 / 3)
    assert real["p"].iloc[1] == pytest.approx(stats.paired_difference([50, 49, 51], [0.1, 9.9, 10.0]).p)
    assert np.isnan(real["gain"].iloc[0])
    assert real["low"].iloc[0] == pytest.approx(50 - 4.302653 / 3**0.5, rel=1e-6)
    assert sweeps.sweep_summary(runs({})).empty


def test_a_curve_needs_five_alphas_with_two_seeds():
    errors = {a: [10 + a, 10.5 + a, 9.5 + a] for a in (0.0, 0.02, 0.04, 0.06, 0.1)}
    curve = sweeps.fitted_curve(runs(errors))
    assert (curve["x"].min(), curve["x"].max()) == (0, 4), "places in the list, not values"
    assert (curve["low"] <= curve["fit"]).all()
    assert curve["fit"].iloc[0] == pytest.approx(10, abs=0.3)
    errors[0.1] = errors[0.1][:1]
    assert sweeps.fitted_curve(runs(errors)) is None


def test_the_curve_leaves_out_what_is_far_worse():
    errors = {a: [10 + a, 10.5 + a] for a in (0.0, 0.02, 0.04, 0.06, 0.1, 0.2)}
    far = errors | {0.5: [17.0, 17.2], 1.0: [38.0, 40.0]}
    assert sweeps.near_best(sweeps.sweep_summary(runs(far))) == list(errors)
    assert sweeps.fitted_curve(runs(far)).equals(sweeps.fitted_curve(runs(errors))), "or it would swing before them"
    between = errors | {0.04: [30.0, 31.0]}
    assert sweeps.near_best(sweeps.sweep_summary(runs(between))) == list(errors), "one panel, without a gap"


def test_gains_have_their_pairs_their_interval_and_a_p_for_many_alphas():
    errors = {0.0: [15.0, 15.2, 15.4, 15.6], 0.06: [14.8, 15.1, 15.0, 15.5], 0.5: [16.1, 16.0, 16.6]}
    table = sweeps.sweep_summary(runs(errors)).set_index("alpha")
    assert table["pairs"].tolist()[1:] == [4, 3] and table["pairs"].isna()[0.0]
    for alpha, n in ((0.06, 4), (0.5, 3)):
        one = stats.paired_difference(errors[0.0][:n], errors[alpha])
        got = table.loc[alpha, ["gain", "gain_low", "gain_high", "p"]].tolist()
        assert got == pytest.approx([one.mean, one.low, one.high, one.p])
    smaller, larger = sorted(table["p"].dropna())
    assert sorted(table["p, Holm"].dropna()) == pytest.approx([2 * smaller, max(2 * smaller, larger)])


def test_several_permutations_are_no_further_seeds():
    frame = runs({a: [10.0 + a, 11.0] for a in (0.0, 0.02, 0.04, 0.06, 0.1)})
    twice = pd.concat([frame, frame.assign(error=frame["error"] + 0.2, hash=frame["hash"] + "b")])
    table = sweeps.sweep_summary(twice)
    assert set(table["n"]) == {2} and table["mean"].iloc[0] == pytest.approx(10.6)
    assert sweeps.fitted_curve(twice) is not None, "a seed may be there twice"


def test_a_sweep_takes_the_runs_that_table_2_has_of_its_alphas():
    sweep = runs({0.0: [15.0], 0.06: [14.8], 0.5: [16.0]})
    table2 = runs({0.0: [15.0, 15.2], 0.06: [14.8, 15.1]})
    other = [runs({0.25: [1.0]}), runs({0.0: [1.0]}, profile="gpu"), runs({0.0: [1.0]}, model="wrn16_4")]
    (joined,) = sweeps.with_pairs([sweep], [table2, *other])
    assert joined.groupby("alpha")["error"].apply(list).to_dict() == {
        0.0: [15.0, 15.2],
        0.06: [14.8, 15.1],
        0.5: [16.0],
    }
    assert sweeps.with_pairs([sweep], [])[0].equals(sweep)
    assert sweeps.with_pairs([runs({})], [table2])[0].empty


VALIDATED = {0.0: [10.0, 10.2], 0.02: [9.6, 9.8], 0.04: [9.0, 9.2], 0.06: [9.5, 9.5]}
TESTED = {0.0: [11.0], 0.02: [10.0], 0.04: [10.1], 0.06: [9.9], 0.5: [9.0]}


def test_selection_marks_both_choices():
    table = sweeps.selection(runs(VALIDATED), runs(TESTED), VALIDATED).set_index("alpha")
    assert table.index[table["chosen"]].tolist() == [0.04]
    assert table.index[table["papers_rule"]].tolist() == [0.06], "only among the paper's three"
    assert table["mean_test"].dropna().to_dict() == {0.04: 10.1, 0.06: 9.9}, "no other test error is shown"
    assert sweeps.selection(runs({}), runs({}), ()).empty
    assert sweeps.selection(runs({}), runs({}), VALIDATED).empty


def test_nothing_is_chosen_before_every_planned_alpha_has_a_run():
    table = sweeps.selection(runs(VALIDATED), runs(TESTED), [*VALIDATED, 0.5]).set_index("alpha")
    assert not table["chosen"].any()
    assert table["mean_test"].dropna().to_dict() == {0.06: 9.9}, "the test set is not read for a choice not made"


def test_one_lucky_run_does_not_beat_the_mean_of_two():
    table = sweeps.selection(runs(VALIDATED | {0.02: [9.3]}), runs(TESTED | {0.02: [9.0], 0.06: [9.9, 8.0]}), VALIDATED)
    table = table.set_index("alpha")
    assert table["count_validation"].tolist() == [1, 1, 1, 1], "the seed that all have"
    assert table.index[table["chosen"]].tolist() == [0.04], "9.0 of seed 0"
    assert table.index[table["papers_rule"]].tolist() == [0.02]
    assert table.loc[0.02, "count_test"] == 1
