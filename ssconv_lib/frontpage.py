"""What the README says of what has come out so far, made from laptop's tables: `python -m ssconv_lib.frontpage`.

Five lines with numbers, and the table of the paper's claims with their verdicts.
"""

from pathlib import Path

import pandas as pd

from .ablation import ALL, KEPT, NEW
from .ablationanswers import block_text
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
        _wiring(tables / "06_drops.csv", tables / "07_wiring.csv"),
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


def _wiring(drops: Path, wiring: Path) -> str:
    """What the first network's wiring is worth; what zeroing costs, only beside what as many other channels cost."""
    of_blocks = _of_laptop(drops)
    found = pd.concat([_of_laptop(wiring).assign(bn=""), of_blocks[of_blocks["block"] == block_text(ALL)]])
    found = found[found["network"] == found["network"].iloc[0]] if len(found) else found
    cost = {(row["treatment"], row["bn"]): row for row in found.to_dict("records")}
    zeroed = {
        bn: [number(cost[how, bn]["drop"]) for how in ("zeroed", "others_zeroed")]
        for bn in (KEPT, NEW)
        if {("zeroed", bn), ("others_zeroed", bn)} <= set(cost)
    }
    said = []
    if KEPT in zeroed:
        said.append("zeroing its shuffled channels costs {} points, as many others {}".format(*zeroed[KEPT]))
        said[0] += (
            "; with batch norm's statistics estimated anew {} and {}".format(*zeroed[NEW]) if NEW in zeroed else ""
        )
    if other := cost.get(("other_pi", "")):
        ends = interval(other["low"], other["high"])
        said.append(f"{'A' if said else 'a'}nother permutation costs {number(other['drop'])} points ({ends})")
    return f"**Wiring**, one trained {model_text(found['model'].iloc[0])}: {'. '.join(said)}." if said else ""


def _of_laptop(path: Path) -> pd.DataFrame:
    """A table's rows of laptop; without the file none, with the columns that are looked at."""
    if not path.exists():
        return pd.DataFrame(columns=["source", "arm", "n", "model", "network", "block", "treatment", "bn"])
    found = pd.read_csv(path)
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
