"""The mechanism task in tables: over the distance between the patches, which networks solve it with which α.

A unit of a plain network sees a square, so its receptive field says from which distance on no unit reaches both
patches: the border. Beyond it plain convolution has to fail; whether it succeeds this side of it is a question to the
records. A run solves the task or doesn't, hence counts, by chapter 2's threshold `tables.SOLVED`.
"""

import re

import pandas as pd

from . import stats
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

    No p: what lies beyond a network's border lies also further apart, and that alone makes it harder; `same_distance`
    compares like with like.

    Args:
        table: From `cells`.

    Returns:
        source, depth (or "all"), size, border, `solved inside` and `solved outside` ("k of n" runs), `last solved` (the
        largest distance that more than half of the runs solve) and `first unsolved` (the least that none does); None
        where there is no such distance.
    """
    rows, plain = [], table[table["alpha"] == 0]
    for origin, of_source in plain.groupby("source", sort=False):
        groups = list(of_source.groupby(["depth", "size", "exact"]))
        for (depth, size, _), group in groups:
            rows.append({"source": origin, "depth": depth, "size": size, "border": border(depth), **_texts(group)})
            most, none = group[2 * group["solved"] > group["n"]], group[group["solved"] == 0]
            rows[-1] |= {"last solved": most["distance"].max(), "first unsolved": none["distance"].min()}
        if len(groups) > 1:
            rows.append({"source": origin, "depth": "all", **_texts(of_source)})
    columns = ["source", "depth", "size", "border", "solved inside", "solved outside", "last solved", "first unsolved"]
    counts = dict.fromkeys(("size", "border", "last solved", "first unsolved"), "Int64")
    return pd.DataFrame(rows, columns=columns).astype(counts)


def same_distance(table: pd.DataFrame) -> pd.DataFrame:
    """At one distance, do networks whose units reach both patches solve the task more often than others?

    Plain networks alone. On images of one size, with the patches at one distance, those on either side of the border
    have the same task and differ in depth, so the p says "deeper" as much as "sees both": a deeper network is what
    sees more.

    Args:
        table: From `cells`.

    Returns:
        A row for each image size and distance, and one for all: source, size, distance ("all"), `solved inside` and
        `solved outside` ("k of n" runs), p of Fisher's exact test, for all of the stratified one (`stats.stratified`);
        nan where a side has no runs.
    """
    rows = []
    for origin, of_source in table[table["alpha"] == 0].groupby("source", sort=False):
        groups = list(of_source.groupby(["size", "exact", "distance"]))
        for (size, _, distance), group in groups:
            rows.append({"source": origin, "size": size, "distance": distance, **_texts(group), "p": _p([group])})
        if len(groups) > 1:
            p = _p([group for _, group in groups])
            rows.append({"source": origin, "distance": "all", **_texts(of_source), "p": p})
    columns = ["source", "size", "distance", "solved inside", "solved outside", "p"]
    return pd.DataFrame(rows, columns=columns).astype({"size": "Int64"})


def sides(group: pd.DataFrame) -> tuple[int, int, int, int]:
    """Solved and all runs this side of the border, then beyond it, of rows of `cells`: as `stats.stratified` has it."""
    beyond = group["outside"].astype(bool)
    inside, outside = ((int(side["solved"].sum()), int(side["n"].sum())) for side in (group[~beyond], group[beyond]))
    return *inside, *outside


def _texts(group: pd.DataFrame) -> dict[str, str]:
    inside, n_inside, outside, n_outside = sides(group)
    return {"solved inside": f"{inside} of {n_inside}", "solved outside": f"{outside} of {n_outside}"}


def _p(groups: list[pd.DataFrame]) -> float:
    """The exact p of strata, nan if none has runs on both sides."""
    strata = [sides(group) for group in groups]
    return stats.stratified(strata).p if any(n and other for _, n, _, other in strata) else float("nan")


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
