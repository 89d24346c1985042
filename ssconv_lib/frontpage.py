"""What the README says of what has come out so far, made from laptop's tables: `python -m ssconv_lib.frontpage`.

Five lines with numbers, and the table of the paper's claims with their verdicts.
"""

from pathlib import Path

import pandas as pd

from .claims import OWN, shares, verdicts
from .fieldnets import BOX
from .files import write_whole
from .paths import ROOT, results_dir
from .readable import at_least, interval, model_text, number

BEGIN = "<!-- made from results/laptop/tables by make picture; don't edit -->"
END = "<!-- end -->"
PICTURES = (("quick", "02_fig2", "alpha_sweep"), ("laptop", "02_paired_differences", "paired_differences"))


def lines(tables: Path) -> list[str]:
    """Return the lines, those whose table has rows of laptop.

    Args:
        tables: The folder of laptop's tables.
    """
    made = [
        _pairs(tables / "02_table2.csv", "CIFAR-10"),
        _pairs(tables / "03_table3.csv", "Imagenette"),
        _speed(tables / "04_table4.csv"),
        _view(tables / "05_reach.csv"),
        _wiring(tables / "07_wiring.csv"),
    ]
    return [line for line in made if line]


def _pairs(path: Path, data: str) -> str:
    """Conv against ss, paired by seed, of the network with most pairs."""
    found = _of_laptop(path)
    found = found[found["n"] > 1]
    if found.empty:
        return ""
    row = found.loc[found["n"].idxmax()]
    return (
        f"**{data}**, {model_text(row['model'])}, {row['n']:.0f} pairs of runs: {row['conv']:.2f} % error with plain"
        f" convolution, {row['ss']:.2f} % with shuffling; the difference is {number(row['difference'])} points"
        f" (95 % interval {interval(row['low'], row['high'])}): {row['outcome']}."
    )


def _speed(path: Path) -> str:
    found = _of_laptop(path)
    found = found[found["source"] == found["source"].min()].set_index("arm")  # ratios of two machines don't mix
    if not {"listing", "ss"} <= set(found.index):
        return ""
    ss, listing = found.loc["ss"], found.loc["listing"]
    machine = ss["source"].removeprefix("laptop: ")
    quartiles = f"quartiles {ss['ratio_low']:.2f} to {ss['ratio_high']:.2f}, n = {ss['n']:.0f}"
    return (
        f"**Speed**, ResNet50 at {ss['pixels']:.0f} pixels on {machine}: {ss['ratio']:.2f} times the time of plain"
        f" convolution ({quartiles}); the paper's own code takes {listing['ratio']:.2f} times as long here."
    )


def _view(path: Path) -> str:
    if not path.exists():
        return ""
    first = pd.read_csv(path).set_index("layer").loc["conv2_1"]
    side, plain = BOX[1] - BOX[0], 100 * first["ResNet50"]
    return (
        f"**View**: in ResNet50's first block, {plain:.1f} % of the image can change what a box of {side}×{side} pixels"
        f" holds; with shuffling {at_least(first['ResNet50 + ss'])}, by the wiring alone, untrained."
    )


def _wiring(path: Path) -> str:
    found = _of_laptop(path).drop_duplicates("treatment").set_index("treatment")  # of the first network
    if not {"zeroed", "other_pi"} <= set(found.index):
        return ""
    zeroed, other = found.loc["zeroed"], found.loc["other_pi"]
    return (
        f"**Wiring**, one trained {model_text(zeroed['model'])}: zeroing its shuffled channels costs"
        f" {number(zeroed['drop'])} points ({interval(zeroed['low'], zeroed['high'])}), another permutation"
        f" {number(other['drop'])} ({interval(other['low'], other['high'])})."
    )


def _of_laptop(path: Path) -> pd.DataFrame:
    found = pd.read_csv(path) if path.exists() else pd.DataFrame({"source": [""], "arm": "", "treatment": "", "n": 0})
    return found[found["source"].str.startswith("laptop")]


def claims(tables: Path) -> list[str]:
    """Return the table of the paper's claims and what became of each, in the order of the chapters.

    Args:
        tables: The folder of laptop's tables.
    """
    found = verdicts(tables)
    found = found[~found["where"].str.startswith(OWN)]
    rows = ["| claim of the paper | printed in; seen in | chapter | verdict |", "|---|---|---|---|"]
    for (chapter, claim), same in found.groupby(["chapter", "claim"], sort=False):
        said = [f"{verdict} in {share}" if share else verdict for verdict, share in shares(same["verdict"]).items()]
        rows.append(f"| {claim} | {_seen_in(same)} | {int(chapter)} | {', '.join(said)} |")
    return rows


def _seen_in(said: pd.DataFrame) -> str:
    """Where the paper says it and what it was seen in; of several measurements how many there are."""
    if len(said) == 1:
        return said["where"].iloc[0]
    printed = said["where"].str.partition(";")[0].iloc[0]
    return f"{printed}; {len(said)} measurements"


def with_lines(readme: str, made: list[str]) -> str:
    """Return the README with these lines between the marks.

    Raises:
        ValueError: the marks are not there.
    """
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md: expected the marks {BEGIN} and {END}, with the lines to be made between them")
    return "\n".join([f"{head}{BEGIN}", *made, f"{END}{tail}"])


def block(tables: Path) -> list[str]:
    """Return all that stands between the README's marks."""
    return [*(f"- {line}" for line in lines(tables)), "", *claims(tables)]


def main() -> None:
    """Write the lines, the table and both pictures anew, from the results of quick and laptop."""
    path, results = ROOT / "README.md", results_dir()
    text = with_lines(path.read_text(encoding="utf-8"), block(results / "laptop" / "tables"))
    write_whole(path, text.encode())
    for profile, figure, name in PICTURES:
        picture = results / profile / "figures" / f"{figure}.png"
        if picture.exists():
            write_whole(ROOT / "book" / "images" / f"{name}.png", picture.read_bytes())


if __name__ == "__main__":
    main()
