"""The mechanism task in tables: over the distance between the patches, which networks solve it with which α.

A unit of a plain network sees a square, so its receptive field says from which distance on no unit reaches both
patches: the border. Beyond it plain convolution has to fail; whether it succeeds this side of it is a question to the
records. A run solves the task or doesn't, hence counts, by chapter 2's threshold `tables.SOLVED`.
"""

import itertools
import re

import pandas as pd

from . import stats
from .judge import verdict_row
from .readable import alpha_text, readable
from .tables import solved, source

PATCH = 3  # pixels a side, the generated task's default
_MODEL = re.compile(r"long_range_cnn(?:_d(\d+))?")
_CELL = ["profile", "model", "size", "distance", "exact", "alpha"]


def depth_of(model: str) -> int | None:
    """How many 3x3 convolutions a plain network of the generated task has, the stem counted; None of any other."""
    named = _MODEL.fullmatch(model)
    return int(named[1] or 4) if named else None


def border(depth: int, patch: int = PATCH) -> int:
    """The least distance at which no unit of the plain network of this depth reaches both patches, in pixels.

    A unit sees 4·depth pixels a side. Patches d apart reach into such a square, with a pixel each, if d is at most
    4·depth + patch − 2.
    """
    return 4 * depth + patch - 1


def cells(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each network, image size, distance and α, of the paper's layer alone (no controls).

    Args:
        frame: Records of the generated task (see `study.frame`); those of other networks are left out.

    Returns:
        source, model, depth, size, distance, exact (or the least distance), border, outside (whether no unit of the
        plain network reaches both patches), alpha, n, solved, low and high (Wilson's interval of that share, %), mean
        (error, %) and errors (every run's, by seed).
    """
    plain = (frame["control"] == "none") | (frame["alpha"] == 0)
    runs = frame[(frame["data"] == "longrange") & frame["model"].map(depth_of, na_action="ignore").notna() & plain]
    rows = []
    for (_, model, size, distance, exact, alpha), group in runs.sort_values("seed").groupby(_CELL):
        of, share = depth_of(model), stats.proportion(*solved(group["error"]))
        rows.append(
            {
                "source": source(group),
                "model": model,
                "depth": of,
                "size": int(size),
                "distance": int(distance),
                "exact": bool(exact),
                "border": border(of),
                "outside": distance >= border(of),
                "alpha": alpha,
                "n": share.n,
                "solved": share.k,
                "low": 100 * share.low,
                "high": 100 * share.high,
                "mean": float(group["error"].mean()),
                "errors": group["error"].tolist(),
            }
        )
    order = ["source", "depth", "size", "exact", "distance", "alpha"]
    return pd.DataFrame(rows, columns=_CELL_COLUMNS).sort_values(order, ignore_index=True)


_CELL_COLUMNS = ["source", "model", "depth", "size", "distance", "exact", "border", "outside", "alpha"]
_CELL_COLUMNS += ["n", "solved", "low", "high", "mean", "errors"]


def border_table(table: pd.DataFrame) -> pd.DataFrame:
    """Does the border say which plain networks solve the task? A row for each network and size, and one for all.

    Args:
        table: From `cells`.

    Returns:
        source, depth (or "all"), size, border, `solved inside` and `solved outside` ("k of n" runs), p of Fisher's
        exact test on these counts, `last solved` (the largest distance that more than half of the runs solve) and
        `first unsolved` (the least that none does); None where there is no such distance. Runs of one seed at several
        distances share their initial weights, which the test takes as independent.
    """
    rows, plain = [], table[table["alpha"] == 0]
    for origin, of_source in plain.groupby("source", sort=False):
        groups = list(of_source.groupby(["depth", "size", "exact"]))
        for (depth, size, _), group in groups:
            rows.append({"source": origin, "depth": depth, "size": size, "border": border(depth), **_sides(group)})
            most, none = group[2 * group["solved"] > group["n"]], group[group["solved"] == 0]
            rows[-1] |= {"last solved": most["distance"].max(), "first unsolved": none["distance"].min()}
        if len(groups) > 1:
            rows.append({"source": origin, "depth": "all", **_sides(of_source)})
    columns = ["source", "depth", "size", "border", "solved inside", "solved outside", "p"]
    columns += ["last solved", "first unsolved"]
    counts = dict.fromkeys(("size", "border", "last solved", "first unsolved"), "Int64")
    return pd.DataFrame(rows, columns=columns).astype(counts)


def _sides(group: pd.DataFrame) -> dict[str, object]:
    (inside, n_inside), (outside, n_outside) = counts = _counts(group)
    p = stats.fisher(*counts[0], *counts[1]) if n_inside and n_outside else float("nan")
    texts = {"solved inside": f"{inside} of {n_inside}", "solved outside": f"{outside} of {n_outside}"}
    return {**texts, "p": p}


def _counts(group: pd.DataFrame) -> list[tuple[int, int]]:
    """Solved and all runs, this side of the border and beyond it."""
    sides = (group[~group["outside"].astype(bool)], group[group["outside"].astype(bool)])
    return [(int(side["solved"].sum()), int(side["n"].sum())) for side in sides]


def smallest_alpha(table: pd.DataFrame) -> pd.DataFrame:
    """From which α on is the task solved? A row for each network, size and distance.

    Args:
        table: From `cells`.

    Returns:
        source, depth, size, distance, exact, outside, `conv solved` ("k of n"), the smallest α above 0 with which one
        run at least solves it (`one run solves from`), more than half (`most solve from`) and all (`all solve from`),
        the largest with which more than half do (`most solve up to`), and `α tried`; None where no α does. Each row of
        `cells` counts by itself: `all solve from` is the smallest α tried at which all runs solve it; larger ones may
        fail.
    """
    rows = []
    keys = ["source", "depth", "size", "distance", "exact", "outside"]
    for key, group in table.groupby(keys, sort=False):
        conv, ss = group[group["alpha"] == 0], group[group["alpha"] > 0]
        if ss.empty:
            continue
        most = ss.loc[2 * ss["solved"] > ss["n"], "alpha"]
        smallest = {
            "one run solves from": ss.loc[ss["solved"] > 0, "alpha"].min(),
            "most solve from": most.min(),
            "all solve from": ss.loc[ss["solved"] == ss["n"], "alpha"].min(),
            "most solve up to": most.max(),
        }
        row = dict(zip(keys, key, strict=True))
        row["conv solved"] = f"{conv['solved'].sum()} of {conv['n'].sum()}" if len(conv) else None
        row |= {name: None if alpha != alpha else alpha_text(alpha) for name, alpha in smallest.items()}
        rows.append(row | {"α tried": ", ".join(alpha_text(alpha) for alpha in sorted(ss["alpha"]))})
    return pd.DataFrame(rows, columns=[*keys, "conv solved", *_SMALLEST, "α tried"])


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `smallest_alpha` for readers: what plain convolution does, and with which α all or most runs do."""
    names = {"outside": "beyond the border", "most solve from": "most solve it from α ="}
    names["all solve from"] = "all from α ="
    text = table.drop(columns=["exact", "one run solves from", "most solve up to"])
    text["outside"] = text["outside"].map({True: "yes", False: "no"})
    return readable(text).rename(columns=names)


_SMALLEST = ["one run solves from", "most solve from", "all solve from", "most solve up to"]


def runs_a_side(level: float = 0.05) -> int:
    """How many runs a side it takes, at the least, until all against none is below the level by Fisher's test."""
    return next(m for m in itertools.count(1) if stats.fisher(m, m, 0, m) < level)


def border_claims(table: pd.DataFrame) -> list[dict[str, str]]:
    """Beyond its theoretical receptive field, plain convolution fails: a row for each profile.

    "Supported": no plain run beyond the border solves the task, and Fisher's exact test says that those on this side do
    so more often (5 %). "Not supported": a run beyond it solves the task. Else "cannot tell". Nothing is claimed of
    runs on this side: that a unit reaches both patches need not be enough.

    The evidence has Wilson's interval of both shares, and how many runs a side it takes at the least (`runs_a_side`).

    Args:
        table: From `cells`.
    """
    rows = []
    for origin, group in table[table["alpha"] == 0].groupby("source", sort=False):
        (_, n_inside), (outside, n_outside) = counts = _counts(group)
        if not n_inside or not n_outside:
            continue
        p = stats.fisher(*counts[0], *counts[1])
        outcome = "not supported" if outside else "supported" if p < 0.05 else "cannot tell"
        evidence = (
            f"Solved without shuffling where a unit reaches both patches: {stats.proportion(*counts[0])};"
            f" where none does: {stats.proportion(*counts[1])}; Fisher's exact p = {p:.2g}. All against none could be"
            f" told from {runs_a_side()} runs a side on."
        )
        claim = "Beyond its theoretical receptive field, plain convolution fails"
        rows.append(verdict_row(claim, f"Not in the paper; {origin}", evidence, outcome))
    return rows
