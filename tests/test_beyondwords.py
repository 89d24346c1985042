"""Chapter 7's sentences say what their tables say, whatever the records."""

import numpy as np
import pandas as pd
import pytest
from test_contours import FAR, NEAR, records
from test_controltables import few, generated, real

from ssconv_lib import beyondwords, contours, controltables, selection, stats
from ssconv_lib.controlarms import arm_text


def test_arms_are_sorted_by_how_many_of_their_runs_solve_the_task():
    table = controltables.solved_arms(
        generated({"ss": 6, "roll": 6, "fresh": 4, "zeroed": 0, "shift": 0, "dilated": 6})
    )
    (line,) = beyondwords.who_solves(table).data.splitlines()
    start, none = line.split("; **in none**: ")
    start, some = start.split("; **in some**: ")
    assert start == (
        "- laptop (generated task), α = 1/16, distance 18, solved **in all runs**: "
        f"ss convolution with the paper's π, {arm_text('roll')}, {arm_text('dilated')}"
    )
    p = {k: f"{stats.fisher(k, 6, 4, 6):.3f}" for k in (0, 6)}
    assert some == f"{arm_text('fresh')} 4 of 6 (p = {p[0]} to plain convolution, {p[6]} to the shuffle)"
    assert none == ", ".join(arm_text(arm) for arm in ("conv", "shift", "zeroed")) + "."


def test_what_no_arm_does_is_not_named_and_settings_have_lines_of_their_own():
    frame = pd.concat([generated({"ss": 6}), generated({"ss": 6}, alpha=0.25).query("alpha > 0")])
    lines = beyondwords.who_solves(controltables.solved_arms(frame)).data.splitlines()
    assert ["α = 1/16" in lines[0], "α = 1/4" in lines[1]] == [True, True]
    assert not any("in some" in line for line in lines)
    assert beyondwords.who_solves(controltables.solved_arms(frame[:0])).data == ""


def test_arms_that_differ_from_plain_convolution_are_named_and_the_others_counted():
    table = controltables.paired_arms(real({"ss": 0.3, "zeroed": -0.2, "mean": 0.0}))
    (line,) = beyondwords.told_apart(table).data.splitlines()
    measured = table.set_index("arm")["difference"].abs()
    better, worse = (f"{measured[arm_text(arm)]:.2f} points (6 pairs)" for arm in ("ss", "zeroed"))
    assert line == (
        f"- laptop (CIFAR-10), WRN-10-2, α = 0.06: {arm_text('ss')} is better, by {better}; {arm_text('zeroed')} is"
        f" worse, by {worse}; 1 of 3 arms can't be told from plain convolution."
    )
    frame, _ = few()
    lines = beyondwords.told_apart(controltables.paired_arms(frame[frame["control"] == "none"])).data.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["1 of 1 arms can't be told from plain convolution."] * 2
    assert beyondwords.told_apart(controltables.paired_arms(frame[:0])).data == ""


@pytest.mark.parametrize(
    ("conv", "ss", "words"),
    [
        (FAR, NEAR, "0 of 4 runs follow the contour without shuffling, 4 of 4 with it (p = 0.029): it helps."),
        (NEAR, FAR, "4 of 4 runs follow the contour without shuffling, 0 of 4 with it (p = 0.029): it harms."),
        (NEAR[:3], [1.0, 50.0, 50.0], "1 of 3 with it (p = 0.400): too few to tell, and no sign of help."),
        (NEAR, NEAR, "4 of 4 with it (p = 1.000): too few to tell, and no sign of help."),
        (FAR, [*NEAR[:1], *FAR[:3]], "1 of 4 with it (p = 1.000): too few to tell."),
    ],
)
def test_whether_shuffling_helps_to_follow_a_contour(conv, ss, words):
    table = contours.table(records({0.0: conv, 0.0625: ss}))
    (line,) = beyondwords.who_follows(table).data.splitlines()
    assert line.startswith("- laptop (Pathfinder), a CNN of 4 layers: ")
    assert line.endswith(words)


def test_without_plain_runs_nothing_is_said():
    assert beyondwords.who_follows(contours.table(records({0.0625: NEAR}))).data == ""
    assert beyondwords.who_follows(contours.table(records({}))).data == ""


def test_the_runs_needed_are_those_of_the_papers_gain():
    rng = np.random.default_rng(0)
    errors = pd.DataFrame(
        {"error": rng.normal(15, 0.3, 20), "seed": [*range(10)] * 2, "alpha": [0.0] * 10 + [0.06] * 10}
    )
    frame = errors.assign(profile="laptop", model="wrn10_2", data="cifar10", n_images=10_000)
    sd = selection.spread_of_runs([frame])
    table = selection.power_table(sd.pair, sd.run)
    words = beyondwords.runs_needed(table).data
    assert words.startswith("At the spread of WRN-10-2, laptop (CIFAR-10) the paper's 0.3 points take ")
    for design in ("pairs", "runs an arm"):
        row = table[(table["design"] == design) & (table["true difference"] == 0.3)].iloc[0]
        assert f"{row['needed']} {design} ({row['low']} to {row['high']})" in words
