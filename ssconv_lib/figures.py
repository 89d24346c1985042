"""The house style, and saving: every figure as SVG and PNG with the CSV behind it, the same bytes each time.

The plots themselves are in `plots` (results) and `pictures` (method); all take DataFrames or tensors, never train.
"""

import hashlib
import io
import re
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from .files import write_whole
from .readable import plain

# Okabe and Ito's colours, told apart with any kind of colour vision; by name where the meaning is fixed
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, GREY = "#CC79A7", "#56B4E9", "#F0E442", "#6E6E6E"
PALETTE = [BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, GREY]
COLOUR = {"conv": GREY, "ss": BLUE, "listing": ORANGE, "paper": VERMILION}

STYLE = {
    "axes.edgecolor": "#444444",
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.dpi": 160,  # a page shows it smaller: sharp on a phone, too
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "font.size": 9.5,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "savefig.dpi": 160,
    "svg.fonttype": "path",
    "svg.hashsalt": "ssconv",  # without it, ids in an SVG are drawn anew each time
}


def use_style() -> None:
    """Set seaborn's ticks theme with the house colours for all figures that follow."""
    sns.set_theme(style="ticks", palette=PALETTE, rc=STYLE)


def caption_profile(figure: Figure, profile: str) -> None:
    """Write the profile into the lower right corner, unless it is the paper's own protocol."""
    if profile != "paper":
        figure.supxlabel(f"profile: {profile}", x=0.995, ha="right", fontsize=7.5, color=GREY)


def save(figure: Figure, data: pd.DataFrame, path: Path) -> None:
    """Write `path`.svg, .png and .csv, each whole or not at all."""
    for suffix in ("svg", "png"):
        with mpl.rc_context(STYLE):
            content = io.BytesIO()
            metadata = {"Date": None} if suffix == "svg" else {"Software": None}
            figure.savefig(content, format=suffix, metadata=metadata)
        drawn = _renamed(content.getvalue()) if suffix == "svg" else content.getvalue()
        write_whole(path.with_suffix(f".{suffix}"), drawn)
    write_whole(path.with_suffix(".csv"), data.to_csv(index=False, float_format="%.6g").encode())


def _renamed(svg: bytes) -> bytes:
    """Name clip paths by what they are: matplotlib's names change with the last bit of a layout that is solved for."""
    names = {}
    for name, path in re.findall(rb'<clipPath id="(\w+)">(.*?)</clipPath>', svg, re.DOTALL):
        names[name] = b"p" + hashlib.sha256(path).hexdigest()[:10].encode()
    for mark in (rb'(<clipPath id=")(\w+)', rb"(url\(#)(\w+)"):
        svg = re.sub(mark, lambda found: found[1] + names.get(found[2], found[2]), svg)
    return svg


def alt_text(figure: Figure) -> str:
    """Describe a figure to readers who can't see it: titles, axes with units, legends. What it shows the text says."""
    parts = [figure.get_suptitle()] if figure.get_suptitle() else []
    seen = set()
    for ax in figure.axes:
        titles = [ax.get_title(loc) for loc in ("left", "center", "right")]
        labels = [f"{name}: {text}" for name, text in (("x", ax.get_xlabel()), ("y", ax.get_ylabel())) if text]
        for text in [title for title in titles if title] + labels:
            if text not in seen:  # panels share axes
                seen.add(text)
                parts.append(text)
    legends = [legend for legend in [*figure.legends, *(ax.get_legend() for ax in figure.axes)] if legend]
    entries = dict.fromkeys(text.get_text() for legend in legends for text in legend.get_texts())
    if entries:
        parts.append(f"marked: {', '.join(entries)}")
    texts = [" ".join(plain(part).split()) for part in parts]
    return "Figure. " + "; ".join(texts) if texts else "Figure."
