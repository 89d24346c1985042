"""The chapters, executed: what came out, from the runner and as Lab would run them, with and without images."""

import json
import subprocess
import sys
from pathlib import Path

import jupytext
import nbclient
import pandas as pd
import pytest

from ssconv_lib import ablation, study
from ssconv_lib.book import Chapter
from ssconv_lib.paths import ROOT
from ssconv_lib.records import RecordStore
from ssconv_lib.speedrun import SpeedRun

TINY = Path(__file__).with_name("tiny.toml")
RECORDS = ROOT / "results" / "records"
SPEED_RECORDS = [*(RECORDS / "laptop").glob("speed-resnet50-*-160px-*")]
TABLE3_PAIRS = {path.name.split("-")[2] for path in (RECORDS / "laptop").glob("resnet14-a0.04-s*")} & {
    path.name.split("-")[2] for path in (RECORDS / "laptop").glob("resnet14-a0-s*")
}
MAIN_PAIRS = [*(RECORDS / "laptop").glob("wrn10_2-a0.06-s0-*")]
TABLE4_RECORDS = [*(RECORDS / "laptop").glob("speed-resnet50-*-224px-*")]


pytestmark = pytest.mark.timeout(1800)  # the first test runs all chapters


@pytest.fixture(scope="module")
def places(book_environment):
    """Results with the committed records of laptop; there is no data set."""
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in book_environment.items():
            patch.setenv(name, folder)
        yield Path(book_environment["SSCONV_RESULTS"])


def reproduce(*arguments):
    command = [sys.executable, "-m", "ssconv_lib", "reproduce", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def tiny(places, tiny_book):
    return tiny_book


@pytest.fixture(scope="module")
def laptop(places):
    done = reproduce("--profile", "laptop", "--chapter", "02")
    assert done.returncode == 0, done.stderr
    return places / "laptop"


def table(folder, name):
    """The CSV of a table, or the one behind a figure."""
    (path,) = folder.glob(f"*/{name}.csv")
    return pd.read_csv(path)


def trained(profile, root):
    """The records of training, of which no kind is said."""
    return [record for record in RecordStore(profile, root) if "kind" not in record]


def texts(notebook):
    """All that the cells printed or showed, pictures included, in order."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.get("text") or json.dumps(output.get("data", {}), sort_keys=True) for output in outputs]
    return ["".join(text.split()) for text in shown if text.strip()]


def test_every_table_and_figure_is_there_and_nothing_else(tiny):
    names = {path.stem for folder in ("tables", "figures") for path in (tiny / folder).iterdir()}
    assert names == {
        "01_fig1a",
        "01_fig1b",
        "01_receptive_field",
        "01_window",
        "01_group",
        "01_outside",
        "01_groups",
        "01_cost",
        "01_verdict",
        "02_reach",
        "02_fig2",
        "02_fig2_summary",
        "02_learning_curves",
        "02_table1",
        "02_table1_arms",
        "02_table1_contrasts",
        "02_schedules",
        "02_table2",
        "02_paired_differences",
        "02_pairs_needed",
        "02_alpha_selection",
        "02_verdicts",
        "03_networks",
        "03_readings",
        "03_table5",
        "03_bottlenecks",
        "03_table3",
        *(["03_paired_differences"] if TABLE3_PAIRS else []),
        "03_pairs_needed",
        "03_alpha_search",
        "03_work",
        "03_estimate",
        "03_verdicts",
        "04_table4",
        *(["04_table4_ratios"] if TABLE4_RECORDS else []),
        "04_networks",
        "04_networks_ratios",
        "04_memory",
        "04_scaling",
        "04_compiled",
        "04_with_the_compiler",
        "04_traffic",
        "04_parts",
        "04_extra_time",
        "04_verdicts",
        "05_reach",
        "05_reach_maps",
        "05_mass_outside",
        "05_location",
        "05_figure3",
        "05_figure4",
        "05_figure5a",
        "05_figure6",
        "05_figure7",
        "05_figure8",
        "05_optimised",
        "05_learned",
        "05_beside",
        "05_drift",
        "05_sensitivity_beta",
        "05_channelwise",
        "05_cost",
        "05_verdicts",
        "06_treatments",
        "06_doses",
        "06_figure5b",
        "06_drops",
        "06_controls",
        "06_verdicts",
        "07_mechanism",
        "07_borders",
        "07_same_distance",
        "07_solved",
        "07_smallest_alpha",
        "07_controls_generated",
        "07_controls_generated_runs",
        "07_controls",
        *(["07_controls_pairs"] if MAIN_PAIRS else []),
        "07_controls_against_ss",
        "07_wiring",
        "07_wiring_drops",
        "07_weight_norms",
        "07_shifts",
        "07_robustness",
        "07_sizes",
        "07_corruptions",
        "07_pathfinder",
        "07_pathfinder_runs",
        "07_power",
        "07_selection_bias",
        "07_verdicts",
    }
    for figure in (tiny / "figures").glob("*.png"):
        assert figure.with_suffix(".svg").exists()
        assert len(pd.read_csv(figure.with_suffix(".csv"))) > 0


def test_chapter_1_finds_no_cost_in_parameters_or_macs(tiny):
    cost = table(tiny, "01_cost")
    plain, ss = (cost[cost["alpha"] == alpha].set_index("model") for alpha in (0, 0.06))
    assert plain["parameters"].to_dict() == {
        "wrn16_4": 2_748_890,
        "densenet_bc_100_12": 769_162,
        "resnext29_2x64d": 9_130_314,
    }
    assert ss[["parameters", "macs"]].equals(plain[["parameters", "macs"]])
    assert (ss["moved"] > 0).all()
    assert (ss["listing_copies"] > 10 * ss["moved"]).all()


def test_chapter_2_trained_the_profiles_runs(tiny, places):
    profile = study.load_profile(TINY)
    assert {record["hash"] for record in trained("tiny", places / "records")} == {run.hash for run in profile.runs()}
    sweep = table(tiny, "02_fig2")
    assert sweep["alpha"].value_counts().to_dict() == {0: 2, 0.0625: 2, 0.25: 2, 1: 2}
    assert sweep["error"].between(0, 100).all()


def test_chapter_2_puts_the_paper_first(tiny):
    table2 = table(tiny, "02_table2")
    assert table2.loc[table2["source"] == "paper", "conv"].tolist() == [5.1, 5.0, 4.3]
    table1 = table(tiny, "02_table1").set_index("arm")
    assert table1.loc["Eq. 3", "paper (CIFAR-10)"] == 3.9
    assert table1["n, tiny (generated task)"].tolist() == [2] * 5


def test_chapter_3_trains_bottlenecks_and_puts_the_paper_first(tiny):
    trained = table(tiny, "03_bottlenecks")
    assert trained[["alpha", "runs"]].values.tolist() == [[0, 2], [0.0625, 2]]
    table3 = table(tiny, "03_table3")
    assert table3.loc[table3["source"] == "paper", "ss"].tolist() == [23.0, 22.6, 22.6, 24.1, 22.0]
    verdicts = table(tiny, "03_verdicts")
    assert verdicts.loc[verdicts["where"] == "Table 5", "verdict"].tolist() == ["reproduced"]
    assert table(tiny, "03_work")["runs"].sum() == 30 + 9 + 6


def test_chapter_4_measured_the_profiles_cases(tiny, places):
    records = [json.loads(path.read_text()) for path in (places / "records" / "tiny").glob("speed-*.json")]
    planned = {run.hash for run in study.load_profile(TINY).speed_runs()}
    assert {SpeedRun.from_dict(record["run"]).plan.hash for record in records} == planned
    networks = table(tiny, "04_networks")
    own = networks[networks["source"].str.startswith("tiny: ")]
    first = [record for record in records if (record["run"]["alpha"], record["run"]["channels"]) == (0.04, 64)]
    of = {record["run"]["memory_format"]: record["arms"] for record in first}
    assert sorted(own["memory_format"]) == sorted(of) == ["channels_last", "nchw"]
    for row in own.itertuples():
        assert row.ss == pytest.approx(of[row.memory_format]["ss"]["ratio"], rel=1e-4)
        assert row.listing_low == pytest.approx(of[row.memory_format]["listing"]["ratio_quartiles"][0], rel=1e-4)
    scaling = table(tiny, "04_scaling")
    assert scaling["axis"].value_counts().to_dict() == {"alpha": 4, "channels": 4}


def test_chapter_4_counts_what_has_to_move(tiny):
    traffic = table(tiny, "04_traffic").set_index("what")
    least = 2 * 4 * 309_582 / 1e6
    assert traffic["MB"].tolist()[1:3] == pytest.approx([least, 3 * least], rel=1e-4)
    assert traffic["MB"].iloc[3] == pytest.approx(2 * 4 * (8_203_776 + 309_582) / 1e6, rel=1e-4)
    parts = table(tiny, "04_parts")
    assert parts.groupby("arm")["ms"].sum().gt(0).to_dict() == {"conv": True, "listing": True, "ss": True}


def test_chapter_4_puts_the_paper_first_and_tells_nothing_from_two_rounds(tiny):
    table4 = table(tiny, "04_table4")
    assert table4["ms"].tolist()[:3] == [1.44, 1.66, 2.11]
    verdicts = table(tiny, "04_verdicts")
    own = verdicts[verdicts["where"].str.contains("tiny: ")]
    assert own["verdict"].tolist() == ["cannot tell"]


def test_chapter_5_has_the_oracles_numbers_of_resnet50(tiny):
    reach = table(tiny, "05_reach").set_index("layer")
    assert reach.loc["conv3_4"].tolist() == pytest.approx([91, 51, 165, 0.2636, 1, 1], abs=1e-4)
    assert reach.loc["conv1", ["ResNet50", "ResNet50 + ss", "SEResNet50"]].tolist() == pytest.approx(
        [0.0273] * 3, abs=1e-4
    )
    outside = table(tiny, "05_mass_outside").set_index(["model", "measure", "layer"])["share"]
    expected = {"conv2_1": 0.042, "conv2_3": 0.12, "conv3_2": 0.18, "conv3_4": 0.21}
    paths = outside["ResNet50 + ss", "paths"]
    assert paths[list(expected)].to_dict() == pytest.approx(expected, abs=0.005)
    assert (outside["ResNet50 + ss", "squared"] > 50 * outside["SEResNet50", "squared"]).all()
    assert (outside["ResNet50 + ss", "absolute"] < 20 * outside["SEResNet50", "absolute"]).all()
    drift = table(tiny, "05_drift").set_index(["beta", "eps", "start"])["moved"]
    assert drift[1e-12, 1e-8, 0] == pytest.approx(-0.025, abs=5e-4)


def test_chapter_5_makes_the_profiles_maps_and_judges_every_claim(tiny, places):
    planned = {run.hash for run in study.load_profile(TINY).field_runs()}
    records = (places / "records" / "tiny").glob("field-*.json")
    assert {path.stem.rpartition("-")[2] for path in records} == planned
    own = table(tiny, "05_optimised").query("source.str.startswith('tiny')", engine="python")
    assert sorted(own["model"].unique()) == ["small CNN", "small CNN + ss", "small SENet"]
    assert own[["exact", "trained"]].stack().between(0, 1).all()
    rows = table(tiny, "05_verdicts").set_index("claim")
    verdicts = rows["verdict"]
    (size,) = [claim for claim in rows.index if "size is almost 1" in claim]
    assert verdicts[size] == "reproduced"
    assert verdicts["SEResNet50 uses what is outside the classical field"] == "cannot tell"
    assert verdicts["What SEResNet50 sees outside does not depend on the location"] == "reproduced"
    assert verdicts["What ResNet50 + ss sees outside depends on the location"] == "reproduced"
    location = table(tiny, "05_location").set_index(["model", "compared"])
    ss, se = (location.loc[(model, "two boxes")] for model in ("ResNet50 + ss", "SEResNet50"))
    assert ss["high"] < 0.9 < se["low"]
    where = rows["where"]
    optimised = where[where.index == "The optimised map is the receptive field"]
    assert "Eq. 4; small CNN, small SENet, tiny (generated task)" in set(optimised)
    assert where.drop(optimised.index).str.contains("; untrained").all()


def test_chapter_6_shows_what_each_treatment_leaves_and_counts_what_there_is(tiny):
    left = table(tiny, "06_treatments").set_index("treatment")["mean"]
    assert left["zeroed"] == 0
    assert left["mean"] == pytest.approx(left["unshuffled"], abs=1e-4)
    assert left["others_zeroed"] == left["intact"], "the shuffled channels are left alone"
    doses = table(tiny, "06_doses").set_index(["network", "block"])
    assert doses.loc["resnet50", "shuffled"].sum() == 771
    assert doses.loc[("resnet50", "conv4_4"), "values"] == 11_760


def test_chapter_6_asks_every_network_of_the_profile_and_judges_it(tiny):
    own = table(tiny, "06_drops").query("source.str.startswith('tiny')", engine="python")
    assert sorted(own["seed"].unique()) == [0, 1]
    assert set(own["treatment"]) == set(ablation.TREATMENTS) - {"intact"}
    assert (own["n"] == 40).all()
    zeroed = own[(own["treatment"] == "zeroed") & (own["bn"] == "kept")].set_index("seed")
    more = table(tiny, "06_controls").query("source.str.startswith('tiny') and bn == 'kept'", engine="python")
    more = more[(more["control"] == "unshuffled") & (more["block"] == zeroed["block"].iloc[0])].set_index("seed")
    unshuffled = own[(own["treatment"] == "unshuffled") & (own["bn"] == "kept")].set_index("seed")
    assert more["more"].to_dict() == pytest.approx((zeroed["error"] - unshuffled["error"]).to_dict())
    claims = table(tiny, "06_verdicts")
    assert claims["where"].str.contains("tiny").sum() == 5, "five claims, each on two networks"


def test_chapter_7_has_its_records_in_tables_and_figures(tiny, places):
    solved = table(tiny, "07_controls_generated").query("source.str.startswith('tiny')", engine="python")
    assert solved["n"].tolist() == [2] * 6, "conv, ss, three controls and the narrower network, two seeds each"
    cells = table(tiny, "07_mechanism")
    settings = sorted(set(zip(cells["distance"], cells["alpha"], strict=True)))
    assert settings == [(5, 0), (5, 0.0625), (8, 0), (8, 0.0625)]
    wiring = table(tiny, "07_wiring").query("source.str.startswith('tiny')", engine="python")
    assert wiring["treatment"].tolist()[0] == "intact"
    assert len(wiring) == 6


def test_a_second_run_changes_nothing(tiny):
    done = reproduce("--profile", TINY)
    assert done.returncode == 0
    assert done.stdout.count("unchanged") == 7


def test_evidence_is_what_git_has_and_the_profile_in_force():
    """What `quick` leaves on a machine must not get into the tables that are committed for another profile."""
    known = {name: [one.name for one in Chapter("02", name)._profiles()] for name in ("quick", "laptop")}
    assert known["laptop"] == ["pilot", "laptop", "gpu", "paper"]
    assert known["quick"] == ["quick", *known["laptop"]]


def test_a_study_that_a_profile_lacks_is_empty_in_its_chapters():
    chapter = Chapter("02", "pilot")
    assert chapter.records("alpha_sweep").empty
    assert chapter.histories("alpha_sweep").empty


def test_the_default_run_shows_the_evidence_of_real_images(tiny):
    """Tables of any profile stand beside the committed records of the others."""
    table2 = table(tiny, "02_table2")
    expected = len([*(RECORDS / "laptop").glob("wrn10_2-a0-*")]) > 0
    assert ("laptop (CIFAR-10)" in set(table2["source"])) == expected


def test_lab_opened_in_book_gives_the_same(tiny, places):
    """Executed in book/, from the notebook that Lab opens; only the profile is set, as a reader would."""
    notebook = jupytext.read(ROOT / "book" / "02_cifar.ipynb")
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source = f"profile = {str(TINY)!r}"
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT / "book")}}).execute()
    from_runner = jupytext.read(tiny / "notebooks" / "02_cifar.ipynb")
    assert texts(notebook) == texts(from_runner)


@pytest.mark.skipif(not (RECORDS / "laptop").exists(), reason="no records of laptop are committed")
class TestLaptop:
    def test_it_draws_from_records_without_images(self, laptop, places):
        assert not any((places.parent / "data").iterdir())
        pairs = table(laptop, "02_paired_differences")
        assert len(pairs) >= 2, "at least two seeds of conv and of ss"
        row = table(laptop, "02_table2").query("source == 'laptop (CIFAR-10)' and model == 'wrn10_2'").iloc[0]
        assert row["n"] == (pairs["model"] == "wrn10_2").sum()
        assert row["outcome"] in ("reproduced", "not reproduced", "cannot tell")

    def test_every_number_is_traceable_to_a_record(self, laptop):
        records = trained("laptop", RECORDS)
        shuffled = [record for record in records if record["run"].get("control", "none") == "none"]
        runs = [(record["run"], record["final"]["error"]) for record in shuffled]
        of = {(run["model"], run["alpha"], run["seed"]): error for run, error in runs}
        for pair in table(laptop, "02_paired_differences").itertuples():
            expected = of[pair.model, 0.0, pair.seed] - of[pair.model, 0.06, pair.seed]
            assert pair.difference == pytest.approx(expected, abs=1e-4)

    def test_it_prints_the_command_for_what_is_missing(self, laptop):
        shown = "\n".join(texts(jupytext.read(laptop / "notebooks" / "02_cifar.ipynb")))
        assert "python-mssconv_libtrain--profilelaptop--study" in shown

    def test_the_verdict_states_its_evidence(self, laptop):
        verdicts = table(laptop, "02_verdicts")
        row = verdicts[verdicts["where"].str.startswith("Table 2; its relative WRN-10-2")].iloc[0]
        assert "pairs of runs" in row["evidence"]
        assert "95 % interval" in row["evidence"]
        assert row["verdict"] in ("reproduced", "not reproduced", "cannot tell")

    @pytest.mark.skipif(not TABLE3_PAIRS, reason="no pair of Imagenette's runs is committed")
    def test_chapter_3_draws_imagenette_without_images(self, places):
        done = reproduce("--profile", "laptop", "--chapter", "03")
        assert done.returncode == 0, done.stderr
        row = table(places / "laptop", "03_table3").query("source == 'laptop (Imagenette)' and model == 'resnet14'")
        assert row["n"].tolist() == [len(TABLE3_PAIRS)]
        pairs = table(places / "laptop", "03_paired_differences").query("model == 'resnet14'")
        assert pairs["difference"].mean() == pytest.approx(row["difference"].iloc[0], abs=1e-4)
        estimate = table(places / "laptop", "03_estimate")
        assert (estimate["days, 1 device"] / estimate["days, 8 devices"]).tolist() == pytest.approx(
            [8] * len(estimate), rel=1e-4
        )

    def test_chapter_4_draws_what_is_stored_and_says_how_to_measure(self, places):
        done = reproduce("--profile", "laptop", "--chapter", "04")
        assert done.returncode == 0, done.stderr
        shown = "\n".join(texts(jupytext.read(places / "laptop" / "notebooks" / "04_speed.ipynb")))
        assert "python-mssconv_libbench--profilelaptop--studytable4" in shown
        assert {path.stem for path in (places / "records" / "laptop").glob("*")} == {
            path.stem for path in (RECORDS / "laptop").glob("*")
        }, "nothing is measured"
        networks = table(places / "laptop", "04_networks")
        assert networks["source"].str.startswith("laptop: ").any() == bool(SPEED_RECORDS)

    def test_chapter_5_draws_stored_maps_without_images_or_training(self, places):
        done = reproduce("--profile", "laptop", "--chapter", "05")
        assert done.returncode == 0, done.stderr
        assert not any((places.parent / "data").iterdir())
        optimised = table(places / "laptop", "05_optimised")
        stored = {path.stem.split("-")[1] for path in (RECORDS / "laptop").glob("field-*")}
        assert optimised["source"].str.startswith("laptop").any() == bool(stored)
        if stored:
            learned = table(places / "laptop", "05_learned").query("model == 'WRN-10-2 + ss'")
            assert learned["measure"].value_counts().to_dict() == {"squared": 3, "absolute": 3}
            assert (learned["trained"] < 0.7 * learned["untrained"]).all(), "the network turns away from the outside"

    @pytest.mark.parametrize("chapter", ["06", "07"])
    def test_chapters_6_and_7_draw_stored_answers_without_images_or_training(self, places, chapter):
        done = reproduce("--profile", "laptop", "--chapter", chapter)
        assert done.returncode == 0, done.stderr
        assert not any((places.parent / "data").iterdir())
        name = {"06": "06_drops", "07": "07_wiring"}[chapter]
        asked = {"06": "ablation", "07": "wiring"}[chapter]
        stored = [*(RECORDS / "laptop").glob(f"probe-{asked}-wrn10_2-a0.06-*")]
        found = table(places / "laptop", name)
        assert found["source"].str.startswith("laptop").any() == bool(stored)
        if stored:
            drops = found[found["source"].str.startswith("laptop")].set_index("treatment")["drop"]
            assert drops["zeroed"].max() > 5 > drops["other_pi"].max(), "the shuffle matters, its permutation little"

    def test_the_terminal_tells_what_is_missing(self, laptop):
        done = reproduce("--profile", "laptop", "--chapter", "02")
        assert (
            "runs of laptop have no record; to train them: python -m ssconv_lib train --profile laptop" in done.stdout
        )

    def test_a_profile_with_one_study_draws_the_chapter_too(self, tmp_path):
        """The README's example of a profile of one's own."""
        text = (ROOT / "README.md").read_text().split("```toml\n")[1].split("```")[0]
        (tmp_path / "mine.toml").write_text(text)
        done = reproduce("--profile", tmp_path / "mine.toml", "--chapter", "02")
        assert done.returncode == 0, done.stderr
        assert "6 runs of mine have no record" in done.stdout
