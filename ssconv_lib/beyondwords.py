"""What chapter 7 says of its tables in words: made from them, so that further records can't make it false."""

from collections.abc import Iterable

import pandas as pd
from IPython.display import Markdown

from . import paper
from .contours import network_text
from .readable import alpha_text, interval, model_text, number, p_text


def who_solves(table: pd.DataFrame) -> Markdown:
    """Which arms solve the generated task in all of their runs, in some and in none.

    Args:
        table: From `controltables.solved_arms`.
    """
    lines = []
    for (source, alpha, distance), of in _groups(table, "source", "alpha", "distance"):
        of = of.assign(arm=of["arm"].str.replace(", ", " with "))  # names stand in a list
        every, none = of["solved"] == of["n"], of["solved"] == 0
        some = [
            f"{row['arm']} {row['solved']} of {row['n']}{_tests(row)}" for row in of[~every & ~none].to_dict("records")
        ]
        parts = {"in all runs": of.loc[every, "arm"], "in some": some, "in none": of.loc[none, "arm"]}
        told = "; ".join(f"**{how}**: {', '.join(arms)}" for how, arms in parts.items() if len(arms))
        lines.append(f"{source}, α = {alpha_text(alpha)}, distance {distance}, solved {told}.")
    return _listed(lines)


def _tests(row: dict[str, object]) -> str:
    known = [
        f"{p_text(row[name])} to {other}"
        for name, other in (("p to conv", "plain convolution"), ("p to ss", "the shuffle"))
        if row[name] == row[name]
    ]
    return f" (p = {', '.join(known)})" if known else ""


def told_apart(table: pd.DataFrame) -> Markdown:
    """Which arms differ from plain convolution on real images, after correction.

    Args:
        table: From `controltables.paired_arms`, against conv.
    """
    lines = []
    for (source, model, alpha), of in _groups(table, "source", "model", "alpha"):
        compared = of[of["difference"].notna()].to_dict("records") if "difference" in of else []
        told = [
            f"{row['arm']} is {row['verdict']}, by {number(abs(row['difference']))} points ({row['n']} pairs)"
            for row in compared
            if row["verdict"] in ("better", "worse")
        ]
        rest = f"{len(compared) - len(told)} of {len(compared)} arms can't be told from plain convolution"
        lines.append(f"{source}, {model_text(model)}, α = {alpha_text(alpha)}: {'; '.join([*told, rest])}.")
    return _listed(lines)


def who_follows(table: pd.DataFrame) -> Markdown:
    """Whether shuffling helps networks to follow a contour.

    Args:
        table: From `contours.table`.
    """
    lines = []
    for (source, model), of in _groups(table, "source", "model"):
        plain = of[of["alpha"] == 0]
        for row in of[of["alpha"] > 0].to_dict("records") if len(plain) else ():
            k, n = plain[["solved", "n"]].iloc[0]
            more = row["solved"] / row["n"] - k / n
            sign = "it helps" if more > 0 else "it harms"
            if not row["p"] < 0.05:
                sign = "too few to tell" + ("" if more > 0 else ", and no sign of help")
            lines.append(
                f"{source}, {network_text(model)}: {k} of {n} runs follow the contour without shuffling,"
                f" {row['solved']} of {row['n']} with it (p = {p_text(row['p'])}): {sign}."
            )
    return _listed(lines)


def runs_needed(table: pd.DataFrame) -> Markdown:
    """How many runs the paper's gain of WRN-16-4 on CIFAR-10 takes at our spread.

    Args:
        table: From `selection.power_table`, with that difference among its own.
    """
    gain = float(paper.difference(2, "wrn16_4"))
    of = table[(table["true difference"] - gain).abs() < 1e-9]
    needed = [f"{row['needed']} {row['design']} ({interval(row['low'], row['high'])})" for row in of.to_dict("records")]
    return Markdown(f"At the spread of {of['source'].iloc[0]} the paper's {gain:g} points take {' or '.join(needed)}.")


def _groups(table: pd.DataFrame, *keys: str) -> Iterable[tuple[tuple, pd.DataFrame]]:
    return table.groupby([*keys], sort=False) if len(table) else ()


def _listed(lines: Iterable[str]) -> Markdown:
    return Markdown("\n".join(f"- {line}" for line in lines))
