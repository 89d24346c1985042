"""The loop's cost is measured on the same steps, in turn; the real number is `bench --loop`'s to give."""

import time

import pytest

from ssconv_lib import loopcost
from ssconv_lib.data import Batches, LongRange
from ssconv_lib.run import Run

RUN = Run(data=LongRange(size=12, distance=6, train=96, test=40), model="long_range_cnn", epochs=1, batch_size=32)


def test_both_halves_do_the_same_steps(monkeypatch):
    sizes = []
    step = loopcost.Training._accumulate
    monkeypatch.setattr(
        loopcost.Training, "_accumulate", lambda self, x, y, total: sizes.append(len(y)) or step(self, x, y, total)
    )
    cost = loopcost.loop_cost(RUN, steps=4, rounds=3)
    assert sizes == [32] * (4 * 2 * 4), "full batches only: four steps, two halves, a round to warm up and three more"
    assert cost.low <= cost.ratio <= cost.high
    assert cost.loop > 0


def test_a_slow_loader_shows(monkeypatch):
    """Twenty milliseconds a batch: the loop then keeps a small part of the bare step's speed."""
    epoch = Batches.epoch

    def slow(self, *args, **options):
        for batch in epoch(self, *args, **options):
            time.sleep(0.02)
            yield batch

    monkeypatch.setattr(Batches, "epoch", slow)
    cost = loopcost.loop_cost(RUN, steps=4, rounds=3)
    assert cost.ratio < 0.6
    assert cost.ratio == pytest.approx(cost.loop / cost.step, rel=0.5)
