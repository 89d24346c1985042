"""The rounds: who comes when, what is counted, and the numbers made of them; with a clock that the test turns."""

import gc
from collections import Counter
from itertools import pairwise
from statistics import median, quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssconv_lib.timing import interleaved, order, quartiles, summary

NAMES = ["conv", "listing", "ss", "se"]
seconds = st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=40)


class Clock:
    """Hands out 1, 2, 3, … as the seconds of whoever is timed, and notes who was."""

    def __init__(self):
        self.calls = []

    def timer(self, name):
        def time():
            self.calls.append(name)
            return float(len(self.calls))

        return time


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("warm_up", [0, 1, 2])
def test_each_is_timed_once_a_round_and_the_warm_up_is_dropped(count, warm_up):
    clock, names = Clock(), NAMES[:count]
    found = interleaved({name: clock.timer(name) for name in names}, 5, warm_up=warm_up)
    rounds = [clock.calls[i : i + count] for i in range(0, len(clock.calls), count)]
    assert len(rounds) == 5 + warm_up
    assert all(sorted(one) == sorted(names) for one in rounds)
    for name in names:
        assert found[name] == [float(clock.calls.index(name, i * count) + 1) for i in range(warm_up, 5 + warm_up)]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_everyone_is_everywhere_equally_often_and_has_either_neighbour_in_front(count):
    names = NAMES[:count]
    rounds = [order(names, number) for number in range(2 * count)]
    for place in range(count):
        assert Counter(one[place] for one in rounds) == dict.fromkeys(names, 2)
    pairs = Counter(pair for one in rounds for pair in pairwise(one))
    assert all(pairs[first, second] == pairs[second, first] for first, second in pairs)


def test_the_garbage_collector_is_off_meanwhile_and_back_afterwards():
    def fail():
        assert not gc.isenabled()
        raise RuntimeError("stop")

    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="stop"):
        interleaved({"conv": fail}, 1)
    assert gc.isenabled()


@given(seconds)
def test_quartiles_are_the_usual_ones(values):
    low, _, high = quantiles(values, n=4, method="inclusive")
    assert quartiles(values) == pytest.approx([low, high], rel=1e-5)


def test_one_round_is_its_own_quartiles():
    assert quartiles([0.25]) == [0.25, 0.25]


@given(st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), min_size=1), st.integers(1, 64))
def test_the_ratio_is_taken_round_by_round(pairs, batch):
    ss, conv = zip(*pairs, strict=True)
    found = summary(ss, conv, batch)
    assert found["n"] == len(pairs)
    assert found["ratio"] == pytest.approx(median(a / b for a, b in pairs), rel=1e-5)
    assert found["per_image"] == pytest.approx(median(ss) / batch, rel=1e-5)
    assert found["ratio_quartiles"][0] <= found["ratio"] * 1.00001
    assert summary(conv, conv, batch)["ratio"] == 1


def test_a_drift_that_hits_both_alike_leaves_the_ratio():
    conv = [1.0, 2.0, 4.0, 8.0]
    assert summary([1.5 * one for one in conv], conv, 1)["ratio_quartiles"] == [1.5, 1.5]
