"""Chapter 7's tables and verdicts of trained networks, on answers that are known."""

import numpy as np
import pandas as pd
import pytest

from ssconv_lib import usagejudge, usagetables
from ssconv_lib.bootstrap import over_images_and_draws, paired_bootstrap_mean

N = 400


def wrong(*runs: tuple[int, int]) -> np.ndarray:
    """Wrong answers to the images of some ranges, [first, last)."""
    answers = np.zeros(N, dtype=bool)
    for first, last in runs:
        answers[first:last] = True
    return answers


def row(probe: str, answers: np.ndarray, alpha: float = 0.06, seed: int = 3, **condition) -> dict:
    network = {"profile": "laptop", "model": "wrn10_2", "alpha": alpha, "layout": "auto", "control": "none"}
    network |= {"seed": seed, "data": "cifar10", "network": f"net-{alpha}-{seed}"}
    found = {"error": 100 * answers.mean(), "n_images": N, "wrong": answers}
    return {**network, "probe": probe, **condition, **found}


def wired(other_pi: list[np.ndarray], unshuffled: np.ndarray, intact: np.ndarray) -> pd.DataFrame:
    rows = [row("wiring", intact, alpha, treatment="intact", draw=0) for alpha in (0, 0.06)]
    rows += [row("wiring", answers, treatment="other_pi", draw=k) for k, answers in enumerate(other_pi)]
    rows += [row("wiring", unshuffled, treatment="unshuffled", draw=0)]
    return pd.DataFrame([*rows, row("shift", intact, shift=0, direction="none", measure="error")])


def test_a_drop_is_in_points_above_the_intact_network_in_the_mean_over_draws():
    frame = wired([wrong((0, 60)), wrong((0, 80))], wrong((0, 40)), wrong((0, 40)))
    table = usagetables.wiring_table(frame).set_index("treatment")
    assert table["error"].to_dict() == {"intact": 10, "other_pi": 17.5, "unshuffled": 10}
    one = table.loc["other_pi"]
    assert (one["drop"], one["n"], one["draws"], one["alpha"]) == (7.5, N, 2, 0.06)
    assert one["drop_sd"] == pytest.approx(np.std([15, 20], ddof=1))
    with_draws = over_images_and_draws(wrong((0, 40)), [wrong((0, 60)), wrong((0, 80))])
    assert (one["low"], one["high"]) == pytest.approx((with_draws.low, with_draws.high))
    assert one["low"] < 0, "two draws that differ by five points"
    assert one["source"] == "laptop (CIFAR-10)"
    assert np.isnan(table.loc["unshuffled", "low"])  # no image is answered differently
    assert table.loc["unshuffled", "drop"] == 0
    assert np.isnan(table.loc["intact", "drop"])


def test_the_wirings_verdicts_follow_from_the_intervals():
    def outcome(other_pi: np.ndarray, unshuffled: np.ndarray, intact: np.ndarray) -> list[str]:
        return [r["verdict"] for r in usagejudge.wiring_verdicts(wired([other_pi], unshuffled, intact))]

    some = wrong((0, 40))
    # the claims in order: un-shuffled, another π
    assert outcome(wrong((0, 80)), wrong((0, 80)), some) == ["supported", "supported"]
    assert outcome(wrong((0, 10)), wrong((0, 80)), some) == ["supported", "not supported"]
    assert outcome(wrong((0, 30), (40, 50)), some, some) == ["cannot tell", "cannot tell"]
    row = usagejudge.wiring_verdicts(wired([wrong((0, 80))], some, some))[1]
    assert row["claim"] == "The network needs the very wiring that it was trained with"
    assert row["evidence"].startswith("Another π takes the error from 10.00 to 20.00 %, by 10.00 [")
    assert "WRN-10-2, α = 0.06, seed 3; laptop (CIFAR-10)" in row["where"]


def test_answers_that_never_differ_decide_only_if_there_are_enough_images(monkeypatch):
    same = wrong((0, 40))
    frame = wired([same], same, same)
    assert [r["verdict"] for r in usagejudge.wiring_verdicts(frame)] == ["cannot tell"] * 2  # up to .92 points at 400
    monkeypatch.setattr(usagejudge, "SLIGHT", 1.0)
    assert [r["verdict"] for r in usagejudge.wiring_verdicts(frame)] == ["not supported"] * 2


@pytest.mark.parametrize(
    ("mean", "low", "high", "slight", "outcome"),
    [
        (1.15, 0.84, 1.46, 1.47, "in part"),  # above 0, and all of it little
        (1.15, 0.84, 1.46, 1.20, "in part"),
        (0.20, -0.13, 0.28, 0.30, "not supported"),
        (1.15, 0.84, 1.46, 1.15, "supported"),
        (1.15, 0.00, 1.46, 0.30, "cannot tell"),
        (-1.0, -2.0, -0.1, 0.30, "not supported"),
    ],
)
def test_what_is_needed_is_told_by_the_interval_and_by_what_is_little(mean, low, high, slight, outcome):
    assert usagejudge._need(mean, low, high, slight) == outcome


def test_what_is_little_does_not_grow_with_what_zeroing_costs():
    """As WRN-10-2: another π costs more than the gain that is sought, and less than a tenth of zeroing."""
    frame = wired([wrong((0, 46)), wrong((0, 46))], wrong((0, 40)), wrong((0, 40)))
    zeroed = pd.DataFrame([row("wiring", wrong((0, 112)), treatment="zeroed", draw=0)])  # 18 points
    of = {r["claim"]: r for r in usagejudge.wiring_verdicts(pd.concat([frame, zeroed]))}
    one = of["The network needs the very wiring that it was trained with"]
    assert one["verdict"] == "supported"
    assert "by 1.50 [0.50, 2.75] points, over 400 images and 2 draws, where" in one["evidence"]
    assert one["evidence"].endswith("; less than 0.3 is little")
    assert of["The network needs its shuffled channels"]["verdict"] == "supported"


def test_draws_that_differ_are_in_the_interval_that_judges():
    frame = wired([wrong((0, 44)), wrong((0, 60))], wrong((0, 40)), wrong((0, 40)))  # 1 and 5 points
    one = usagejudge.wiring_verdicts(frame)[1]
    assert paired_bootstrap_mean(wrong((0, 40)), [wrong((0, 44)), wrong((0, 60))]).low > 0
    assert one["verdict"] == "cannot tell", "two draws leave a cost of 0 open"


def test_the_evidence_names_the_images_and_what_could_have_been_seen():
    frame = wired([wrong((0, 80))], wrong((0, 40)), wrong((0, 40)))
    unshuffled, other = (r["evidence"] for r in usagejudge.wiring_verdicts(frame))
    detectable = usagetables.wiring_table(frame).set_index("treatment").loc["other_pi", "detectable"]
    assert f"over 400 images, where {detectable:.2f} points could have been seen (80 % power)" in other
    assert "over 400 images, none of which is answered differently" in unshuffled
    conv, ss = ([wrong((0, count)), wrong((100, 100 + count))] for count in (40, 80))  # an image has two directions
    detectable = paired_bootstrap_mean(conv, ss).detectable
    assert f"over 400 images, where {detectable:.2f} points" in usagejudge.shift_verdicts(shifted())[0]["evidence"]


def test_the_rule_for_readers_has_the_numbers_that_judge():
    rule = " ".join(usagejudge.RULES)
    for number in (f"{usagejudge.SLIGHT} points", f"{usagejudge.POOR:.0f} %"):
        assert number in rule
    for outcome in ("not supported", "supported", "in part", "nobody can tell"):
        assert outcome in rule


def test_readers_see_names_and_no_hash_and_intervals_in_one_column():
    frame = wired([wrong((0, 80))], wrong((0, 40)), wrong((0, 40)))
    table = usagetables.wiring_table(frame)
    text = usagetables.shown(table)
    assert text["treatment"].tolist() == ["intact", "another π", "un-shuffled"]
    assert not {"network", "control", "low", "high"} & set(text)
    controlled = usagetables.shown(table.assign(control="per_channel"))
    assert controlled["control"].unique().tolist() == ["π per channel"]
    corrupt = usagetables.shown(usagetables.corruption_table(corrupted()))
    assert not {"network", "beyond_low", "beyond_high"} & set(corrupt)
    one = usagetables.corruption_table(corrupted()).iloc[1]
    assert corrupt["beyond, 95 % interval"].iloc[1] == f"{one['beyond_low']:.2f} to {one['beyond_high']:.2f}"
    assert len(usagetables.shown(table[:0])) == 0


def shifted(seed: int = 3, still: int = 40, changed: tuple[int, int] = (40, 80)) -> pd.DataFrame:
    """Conv changes the first of `changed` answers, ss the second, in either of two directions, other images each."""
    rows = []
    for alpha, count in zip((0, 0.06), changed, strict=True):
        rows.append(row("shift", wrong((0, still)), alpha, seed, shift=0, direction="none", measure="error"))
        for direction, start in (("up", 0), ("down", 100)):
            at = {"shift": 2, "direction": direction}
            answers = wrong((start, start + count))
            rows.append(row("shift", answers, alpha, seed, **at, measure="changed"))
            rows.append(row("shift", wrong((0, still)), alpha, seed, **at, measure="error"))
    return pd.DataFrame(rows)


def test_shifts_are_compared_by_image_over_all_directions_and_conv_minus_ss():
    table = usagetables.shift_table(shifted()).set_index(["measure", "shift"])
    one = table.loc["changed", 2]
    assert (one["conv"], one["ss"], one["difference"], one["n"]) == (10, 20, -10, N)
    assert -14 < one["low"] < -10 < one["high"] < -6
    assert one["p"] < 0.001
    assert (table.loc[("error", 0), "conv"], table.loc[("error", 2), "difference"]) == (10, 0)


def test_networks_are_compared_with_the_plain_one_of_their_seed_alone():
    frame = pd.concat([shifted(3), shifted(4, changed=(80, 80)), shifted(5).query("alpha > 0")])
    table = usagetables.shift_table(frame).query("measure == 'changed'").set_index("seed")
    assert table["difference"].to_dict() == {3: -10, 4: 0}


def test_the_shifts_verdict_needs_networks_that_are_mostly_right():
    def outcome(**options) -> str:
        return usagejudge.shift_verdicts(shifted(**options))[0]["verdict"]

    assert outcome() == "supported"
    assert outcome(changed=(80, 40)) == "not supported"
    assert outcome(changed=(40, 40)) == "cannot tell"
    assert outcome(still=200) == "cannot tell"
    assert "wrong about 50 % unmoved" in usagejudge.shift_verdicts(shifted(still=200))[0]["evidence"]


def sized() -> pd.DataFrame:
    rows = [row("sizes", wrong((0, 40)), 0, size=size, way="as is", draw=0) for size in (24, 32)]
    rows += [row("sizes", wrong((0, 60)), 0, size=24, way="resized back", draw=0)]
    rows += [row("sizes", wrong((0, 50)), size=24, way="resized back", draw=0)]
    rows += [row("sizes", wrong((0, n)), size=24, way="new π", draw=k) for k, n in enumerate((60, 80))]
    rows += [row("sizes", wrong((0, 30)), size=32, way="as is", draw=0)]
    return pd.DataFrame([*rows, row("sizes", wrong((0, 40)), size=32, way="new π", draw=0)])


def test_a_sizes_drop_is_against_the_network_at_its_own_size():
    table = usagetables.size_table(sized()).set_index(["alpha", "size", "way"])
    assert table["drop"].dropna().to_dict() == {
        (0, 24, "as is"): 0,
        (0, 24, "resized back"): 5,
        (0.06, 24, "resized back"): 5,
        (0.06, 24, "new π"): 10,
        (0.06, 32, "new π"): 2.5,
    }
    assert table.loc[(0.06, 24, "new π"), "draws"] == 2


def corrupted() -> pd.DataFrame:
    rows = []
    for alpha, counts in ((0, (40, 80, 120)), (0.06, (60, 80, 160))):
        rows.append(row("corruptions", wrong((0, counts[0])), alpha, corruption="none", severity=0))
        for severity, count in enumerate(counts[1:], 1):
            rows.append(row("corruptions", wrong((0, count)), alpha, corruption="blur", severity=severity))
    return pd.DataFrame(rows)


def test_what_a_corruption_costs_beyond_the_clean_difference_is_told_apart():
    table = usagetables.corruption_table(corrupted()).set_index(["corruption", "severity"])
    assert table["difference"].to_dict() == {("none", 0): -5, ("blur", 1): 0, ("blur", 2): -10, ("blur", "mean"): -5}
    assert table["beyond"].dropna().to_dict() == {("blur", 1): 5, ("blur", 2): -5, ("blur", "mean"): 0}
    one = table.loc[("blur", 1)]
    # 20 images of 400 that ss alone has wrong when clean: the binomial's interval around 5 %
    assert (one["beyond_low"], one["beyond_high"]) == pytest.approx((2.9, 7.2), abs=0.3)


def test_without_records_there_are_tables_without_rows():
    empty = pd.DataFrame(columns=["profile", "model", "alpha", "control", "seed", "data", "network", "probe", "wrong"])
    for name in ("wiring_table", "shift_table", "size_table", "corruption_table"):
        table = getattr(usagetables, name)(empty)
        assert table.empty
        assert "source" in table
    assert usagejudge.verdict_rows(empty) == []


def test_a_source_that_is_given_is_kept():
    assert usagetables.with_source(shifted().assign(source="here"))["source"].unique().tolist() == ["here"]
