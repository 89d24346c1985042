"""The README's lines on real images are those that laptop's committed tables give."""

import pandas as pd
import pytest

from ssconv_lib import frontpage
from ssconv_lib.paths import ROOT

TABLES = ROOT / "results" / "laptop" / "tables"
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not TABLES.exists(), reason="no tables of laptop are committed")
def test_the_readme_has_the_lines_of_the_committed_tables_and_the_picture():
    assert 3 <= len(frontpage.lines(TABLES)) <= 5
    assert frontpage.with_lines(README, frontpage.block(TABLES)) == README, "make picture writes them anew"
    figure = ROOT / "results" / "laptop" / "figures" / "02_paired_differences.png"
    assert (ROOT / "book" / "images" / "paired_differences.png").read_bytes() == figure.read_bytes()


def test_a_line_has_the_numbers_of_its_row(tmp_path):
    names = ["source", "model", "n", "conv", "ss", "difference", "low", "high", "outcome"]
    values = ["laptop (CIFAR-10)", "wrn10_2", 8, 15.016, 14.721, 0.295, -0.0399, 0.63, "cannot tell"]
    rows = [{"source": "paper", "model": "wrn16_4", "n": 5}, dict(zip(names, values, strict=True))]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv")
    line = frontpage._pairs(tmp_path / "t.csv", "CIFAR-10")
    assert "WRN-10-2, 8 pairs of runs: 15.02 % error" in line
    assert "0.29 points (95 % interval −0.04 to 0.63): cannot tell." in line
    pd.DataFrame(rows[:1]).to_csv(tmp_path / "t.csv")
    assert frontpage._pairs(tmp_path / "t.csv", "CIFAR-10") == ""


def test_the_view_is_not_rounded_up_to_all_of_the_image(tmp_path):
    rows = [{"layer": "conv1", "ResNet50": 0.03, "ResNet50 + ss": 0.03}]
    rows += [{"layer": "conv2_1", "ResNet50": 0.044025, "ResNet50 + ss": 0.99996}]
    pd.DataFrame(rows).to_csv(tmp_path / "05_reach.csv")
    line = frontpage._view(tmp_path / "05_reach.csv")
    assert "4.4 % of the image can change what a box of 32×32 pixels holds; with shuffling over 99.9 %," in line


def test_marks_that_are_gone_are_missed():
    with pytest.raises(ValueError, match="expected the marks"):
        frontpage.with_lines("# Title", ["a"])
    text = f"a\n{frontpage.BEGIN}\n- old\n{frontpage.END}\nb"
    assert frontpage.with_lines(text, ["- new"]) == f"a\n{frontpage.BEGIN}\n- new\n{frontpage.END}\nb"


def test_the_table_has_the_papers_claims_alone_and_puts_measurements_of_one_together(tmp_path):
    rows = [
        ["It is $\\alpha C$", "Table 1", "reproduced"],
        ["It is slow", "Sec. 4; one machine", "reproduced"],
        ["It is slow", "Sec. 4; another", "cannot tell"],
        ["It is slow", "Sec. 4; a third", "reproduced"],
        ["It is fixed", "Not in the paper; laptop", "supported"],
        ["It costs more", "Control of Fig. 5 (b), not in the paper", "supported"],
    ]
    table = pd.DataFrame(rows, columns=["claim", "where", "verdict"]).assign(evidence="measured")
    table.to_csv(tmp_path / "04_verdicts.csv")
    assert frontpage.claims(tmp_path)[2:] == [
        "| It is αC | Table 1 | 4 | reproduced |",
        "| It is slow | Sec. 4; 3 measurements | 4 | reproduced in 2 of 3, cannot tell in 1 of 3 |",
    ]


def test_what_has_no_table_has_no_line(tmp_path):
    assert frontpage.lines(tmp_path) == []


def test_the_speed_is_that_of_one_machine(tmp_path):
    rows = [
        {"source": f"laptop: {machine}, torch 2", "arm": arm, "pixels": 224, "n": 15, "ratio": ratio}
        for machine, ratios in (("A", (1.0, 1.1)), ("B", (1.5, 1.9)))
        for arm, ratio in zip(("ss", "listing"), ratios, strict=True)
    ]
    pd.DataFrame(rows).assign(ratio_low=0.9, ratio_high=1.2).to_csv(tmp_path / "04_table4.csv")
    (line,) = frontpage.lines(tmp_path)
    assert "on A, torch 2: 1.00 times" in line
    assert "takes 1.10 times" in line


DROPS = [
    ("all blocks", "zeroed", "kept", 14.63),
    ("all blocks", "zeroed", "re-estimated", 2.154),
    ("all blocks", "others_zeroed", "kept", 6.937),
    ("all blocks", "others_zeroed", "re-estimated", 1.1133),
    ("conv2_1", "zeroed", "kept", 99.0),
]


def wiring_line(folder, drops=DROPS, wired=(("zeroed", 14.63, 13.8, 15.5), ("other_pi", 1.15, 0.672, 1.628))):
    """The line on wiring, of tables with these rows, and with those of other networks and profiles around them."""
    of = {"source": "laptop (CIFAR-10)", "model": "wrn10_2", "network": "a"}
    around = [{"source": "gpu (CIFAR-10)"}, {"network": "b"}]
    rows = [{**of, **dict(zip(("block", "treatment", "bn", "drop"), row, strict=True))} for row in drops]
    rows += [{**row, **other, "drop": 77.0} for other in around for row in rows]
    pd.DataFrame(rows, columns=[*of, "block", "treatment", "bn", "drop"]).to_csv(folder / "06_drops.csv")
    rows = [{**of, **dict(zip(("treatment", "drop", "low", "high"), row, strict=True))} for row in wired]
    rows += [{**row, **other, "drop": 77.0} for other in around for row in rows]
    pd.DataFrame(rows, columns=[*of, "treatment", "drop", "low", "high"]).to_csv(folder / "07_wiring.csv")
    return "".join(frontpage.lines(folder))


def test_what_zeroing_costs_stands_beside_its_control(tmp_path):
    zeroing = "zeroing its shuffled channels costs 14.63 points, as many others 6.94"
    anew = "; with batch norm's statistics estimated anew 2.15 and 1.11"
    other = "nother permutation costs 1.15 points (0.67 to 1.63)."
    start = "**Wiring**, one trained WRN-10-2: "
    assert wiring_line(tmp_path) == f"{start}{zeroing}{anew}. A{other}"
    assert wiring_line(tmp_path, wired=[]) == f"{start}{zeroing}{anew}."
    assert wiring_line(tmp_path, DROPS[:3]) == f"{start}{zeroing}. A{other}"
    assert wiring_line(tmp_path, DROPS[:2]) == f"{start}a{other}", "without its control it isn't told"
    (tmp_path / "06_drops.csv").unlink()
    assert "".join(frontpage.lines(tmp_path)) == f"{start}a{other}"
    assert wiring_line(tmp_path, DROPS[:2], wired=[]) == ""
