import copy
import pickle
import shutil

import pytest

from ssconv_lib import paper


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """A copy of data/paper to damage; returns a function that replaces text in one file."""
    folder = tmp_path / "paper"
    shutil.copytree(paper.PAPER, folder)
    monkeypatch.setattr(paper, "PAPER", folder)

    def replace(name, old, new):
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return replace


@pytest.mark.parametrize(
    ("number", "key", "layout", "expected"),
    [
        (1, "resnext29_2x64d", "leading", 0.1),
        (1, "resnext29_2x64d", "interleaved", 0.4),
        (2, "wrn16_4", None, 0.3),
        (2, "densenet_bc_100_12", None, 0.4),
        (2, "resnext29_2x64d", None, 0.4),
        (3, "resnet50", None, 0.5),
        (3, "resnet50_abn", None, 0.3),
        (3, "seresnet50", None, 0.1),
        (3, "densenet121", None, 0.4),
        (3, "resnext50_32x4d", None, 0.4),
        (4, "resnet50", None, -0.22),
    ],
)
def test_differences_are_conv_minus_ss_to_the_printed_decimals(number, key, layout, expected):
    assert paper.difference(number, key, layout=layout) == expected  # to the last bit: 5.1 - 4.8 is not 0.3


def test_a_difference_knows_what_rounding_hides():
    points, milliseconds = paper.difference(2, "wrn16_4"), paper.difference(4, "resnet50")
    assert (points.decimals, points.rounding, points.unit) == (1, 0.1, "points")
    assert (milliseconds.decimals, milliseconds.rounding, milliseconds.unit) == (2, 0.01, "ms")
    for again in (copy.deepcopy(points), pickle.loads(pickle.dumps(points))):
        assert (again, again.rounding, again.unit) == (points, 0.1, "points")


def test_table_4_gives_the_papers_ratio_and_the_price_of_se():
    conv, ss = paper.value(4, "resnet50", "conv"), paper.value(4, "resnet50", "ss")
    assert round(ss / conv, 2) == 1.15
    assert paper.value(4, "seresnet50", "conv") == 2.11


def test_every_result_says_runs_and_unit():
    runs = {1: {5}, 2: {5}, 3: {3}, 4: {1000}}
    rows = {1: 3, 2: 6, 3: 10, 4: 3}
    for number in (1, 2, 3, 4):
        frame = paper.table(number)
        assert len(frame) == rows[number]
        assert set(frame.n_runs) == runs[number]
        assert set(frame.unit) == ({"ms"} if number == 4 else {"%"})


def test_table_1_repeats_the_resnext_of_table_2():
    for method, layout in (("conv", None), ("ss", "interleaved")):
        in_table_1 = paper.value(1, "resnext29_2x64d", method, layout=layout)
        assert in_table_1 == paper.value(2, "resnext29_2x64d", method)


def test_alpha_is_printed_in_table_4_alone_and_taken_elsewhere():
    assert all(paper.table(number).alpha.isna().all() for number in (1, 2, 3))
    assert paper.table(4).alpha.dropna().tolist() == [paper.ALPHA_TAKEN[4]] == [paper.ALPHA_TAKEN[3]]


def test_table_5_boxes_are_the_input_box_over_the_stride():
    frame = paper.table(5)
    boxed = frame[frame.box_height.notna()]
    assert boxed.output_height.tolist() == [224, 112, 56, 56, 28, 14, 7]
    assert boxed.box_height.tolist() == [32, 16, 8, 8, 4, 2, 1]
    assert (boxed.box_height * 7 == boxed.output_height).all()
    assert frame.blocks.dropna().tolist() == [3, 4, 6, 3]  # 16 bottlenecks


def test_claims_have_a_place_a_quote_and_a_prediction():
    claim = paper.claim("best_alpha")
    assert claim["where"].endswith("Fig. 2")
    assert claim.quote.endswith("when α is around 0.06.")
    assert "1.15 times slower" in paper.claim("cost").quote
    places = " ".join(paper.claims()["where"])
    assert all(f"Fig. {figure}" in places for figure in (2, 3, 4, 5, 6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paper.table(6), r"table 6 is not in the paper: expected one of \[1, 2, 3, 4, 5\]"),
        (lambda: paper.claim("none"), r"no claim 'none'.*best_alpha"),
        (lambda: paper.difference(2, "resnet50"), r"no model 'resnet50' in table 2.*wrn16_4"),
        (lambda: paper.difference(1, "resnext29_2x64d"), "several rows.*name a layout.*leading.*interleaved"),
        (lambda: paper.difference(4, "seresnet50"), "no row in table 4.*'ss'"),
        (lambda: paper.value(5, "resnet50", "conv"), "table 5 holds a network's structure"),
        (lambda: paper.value(7, "resnet50", "conv"), "table 7 is not in the paper"),
    ],
)
def test_what_is_not_there_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("table2.csv", ",value,", ",wert,", r"table2\.csv, line 1: the column 'value' is missing"),
        ("table2.csv", "4.8,%", "four,%", r"table2\.csv, line 3: value is 'four', expected a number"),
        ("table2.csv", "4.8,%", "nan,%", r"table2\.csv, line 3: value is 'nan', expected a finite number"),
        ("table2.csv", "4.8,%", "4.80,%", r"table2\.csv, line 3: value is '4.80', expected 1 decimals"),
        ("table2.csv", "4.8,%,1", "4.8,%", r"table2\.csv, line 3: more or fewer fields"),
        ("table2.csv", "5.0,%,1", "5.0,%,1,1", r"table2\.csv, line 4: more or fewer fields"),
        (
            "table2.csv",
            "2,WRN 16-4,wrn16_4,ss",
            "3,WRN 16-4,wrn16_4,ss",
            r"table2\.csv, line 3: table is 3, expected 2",
        ),
        ("table2.csv", "%,1,5", "%,1,5.5", r"table2\.csv, line 2: n_runs is '5.5', expected a whole number"),
        ("table2.csv", "table,", "\x00table,", r"table2\.csv"),
    ],
)
def test_a_damaged_table_is_named_with_its_line(damaged, name, old, new, message):
    damaged(name, old, new)
    with pytest.raises(ValueError, match=message):
        paper.table(2)


def test_damaged_claims_and_empty_files_are_named(damaged):
    damaged("claims.csv", "outside_rf,", "improves,")
    with pytest.raises(ValueError, match=r"claims\.csv, line 3: the id 'improves' is there twice"):
        paper.claims()
    damaged("claims.csv", "improves,Abstract", "improves,")
    with pytest.raises(ValueError, match=r"claims\.csv, line 2: where is blank"):
        paper.claims()
    (paper.PAPER / "table3.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"table3\.csv is damaged"):
        paper.table(3)
    (paper.PAPER / "table3.csv").write_bytes(b"")
    with pytest.raises(ValueError, match=r"table3\.csv, line 1: the column 'table' is missing"):
        paper.table(3)
    (paper.PAPER / "table5.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"table5\.csv"):
        paper.table(5)
