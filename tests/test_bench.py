"""python -m ssconv_lib bench, in this process: what it prints, what it stores, its exit status."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from ssconv_lib import bench
from ssconv_lib.__main__ import main

TINY = Path(__file__).with_name("tiny.toml")


@pytest.fixture
def call(tmp_path, capsys):
    def call(*arguments):
        code = main(["bench", "--profile", str(TINY), "--records", str(tmp_path), *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


def records(folder):
    return {path.name: json.loads(path.read_text()) for path in (folder / "tiny").glob("*.json")}


@pytest.fixture
def counted(monkeypatch):
    """What was measured: the measurements of before, so that a call takes no time."""
    seen, known = [], {}

    def measure(run, device):
        seen.append(run)
        if run not in known:
            known[run] = bench_measure(run, device)
        return known[run]

    bench_measure = bench.measure
    monkeypatch.setattr(bench, "measure", measure)
    return seen


def test_every_case_is_printed_and_stored_once(call, tmp_path):
    code, out, err = call()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[-1] == "5 measured, 5 stored, 0 left, 0 failed", "one case is in both studies"
    assert [line.split()[0] for line in lines if "(time over" in line] == ["speed", "scaling"]
    rows = [line for line in lines if line.startswith("conv3x3-")]
    ratio = r"\d\.\d{3} \(\d+\.\d{3}-\d+\.\d{3}\)"
    assert len(rows) == 5
    assert all(re.fullmatch(rf"conv3x3\S+ +conv +[\d.]+ ms  listing {ratio}  ss {ratio}  n = 2", row) for row in rows)
    assert len(records(tmp_path)) == 5


def test_it_measures_anew_and_stores_only_when_told(call, tmp_path, counted):
    assert call("--study", "speed")[1].splitlines()[-1] == "2 measured, 2 stored, 0 left, 0 failed"
    first = records(tmp_path)
    assert call("--study", "speed")[1].splitlines()[-1] == "2 measured, 0 stored, 0 left, 0 failed"
    assert len(counted) == 4
    assert records(tmp_path) == first
    name = next(iter(first))
    (tmp_path / "tiny" / name).write_text(json.dumps({**first[name], "steps": 10**6}))
    assert call("--study", "speed", "--replace")[1].splitlines()[-1] == "2 measured, 2 stored, 0 left, 0 failed"
    assert records(tmp_path)[name] == first[name]


def test_fewer_rounds_than_planned_are_printed_not_stored(call, tmp_path, counted):
    out = call("--study", "speed", "--rounds", 1)[1]
    assert out.splitlines()[-1] == "2 measured, 0 stored, 0 left, 0 failed"
    assert out.count("n = 1\n") == 2
    assert call("--study", "speed", "--rounds", 3)[1].splitlines()[-1] == "2 measured, 2 stored, 0 left, 0 failed"


def test_another_number_of_threads_is_another_record(call, tmp_path):
    try:
        for threads in (1, 2):
            assert call("--study", "speed", "--threads", threads)[1].endswith("2 stored, 0 left, 0 failed\n")
    finally:
        torch.set_num_threads(1)
    assert sorted(record["run"]["threads"] for record in records(tmp_path).values()) == [1, 1, 2, 2]


def test_a_budget_begins_nothing_new(call, monkeypatch):
    monkeypatch.setattr(bench, "measure", lambda *_: pytest.fail("no time is left"))
    assert call("--budget", 1e-9)[1].splitlines()[-1] == "0 measured, 0 stored, 5 left, 0 failed"


def test_a_failing_case_is_named_and_the_others_go_on(call, monkeypatch):
    measure = bench.measure

    def fails(run, device):
        if run.memory_format == "channels_last":
            raise RuntimeError("out of luck")
        return measure(run, device)

    monkeypatch.setattr(bench, "measure", fails)
    code, out, err = call("--study", "speed")
    assert code == 1
    assert out.splitlines()[-1] == "1 measured, 1 stored, 0 left, 1 failed"
    assert err == ("error: speed: conv3x3-c64-a0.04-inference-fp32-channels_last-b2-6px: RuntimeError: out of luck\n")


def test_training_prints_what_is_saved():
    arm = {"median": 0.5, "ratio": 1.25, "ratio_quartiles": [1.2, 1.3], "n": 7, "saved_bytes": 1300}
    run = {"network": "resnet50", "batch": 8, "pixels": 160, "mode": "training", "arms": ["conv", "listing"]}
    line = bench.line({"run": run, "arms": {"conv": {**arm, "saved_bytes": 1000}, "listing": arm}})
    assert line.endswith("conv    500.00 ms  listing 1.250 (1.200-1.300)  saves 1.300  n = 7")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--study", "nine"], "no study 'nine'.*speed, scaling"),
        (["--study", "table1"], "'table1' is not of speed.*ssconv_lib train"),
        (["--network", "resnet50"], "--network resnet50.*conv3x3"),
        (["--device", "abacus"], "device 'abacus' is not there"),
        (["--profile", "paper"], r"'paper' plans no measurement of speed"),
    ],
)
def test_wrong_calls_exit_with_2(call, arguments, message):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert re.search(message, err)


def test_the_loop_is_measured_instead(call, monkeypatch):
    runs = []
    cost = bench.loop_cost

    def quickly(run, **options):
        runs.append(run)
        small = dataclasses.replace(run, data=dataclasses.replace(run.data, train=96, test=40), batch_size=16)
        return cost(small, steps=1, **options)

    monkeypatch.setattr(bench, "loop_cost", quickly)
    monkeypatch.setattr(bench, "data_dir", lambda: TINY.parent / "nowhere")
    code, out, _ = call("--loop", "--rounds", 1)
    assert code == 0
    assert "quick: long_range_cnn" in out
    assert "laptop: skipped, since CIFAR-10 is not there" in out
    assert len(runs) == 1
