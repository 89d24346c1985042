"""Pages and parts of pages that are made from tables and records: verdicts, downloads, what ran when and where."""

import datetime
import html
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import pandas as pd

from .. import stamps, study
from ..claims import shares
from ..judge import NO_RUNS
from ..records import RecordStore
from ..stamps import Chapter

# The verdicts of the book and their marks; word and shape say it, so no colour has to. MIXED is of several parts.
MIXED = "of several parts"
MARKS = {
    "reproduced": "✓",
    "supported": "✓",
    "not reproduced": "✗",
    "not supported": "✗",
    "in part": "◐",
    "cannot tell": "?",
    MIXED: "◐",
    NO_RUNS: "–",
}
KINDS = {"training": "runs", "speed": "measurements of speed", "field": "receptive fields", "probe": "probes"}
KINDS_OF_FILE, OFFERED = {"tables": "Table", "figures": "Figure"}, (".csv", ".svg", ".png")
VERSIONS = ("python", "torch", "numpy", "scipy", "pandas", "matplotlib", "seaborn")


def verdict_table(found: pd.DataFrame, titles: dict[str, str]) -> str:
    """Return the verdicts as HTML, a claim a row, with its evidence to unfold.

    Args:
        found: Of `claims.verdicts`.
        titles: The chapters' titles by name, such as 01_method.
    """
    if found.empty:
        return "<p><em>No chapter has run yet.</em></p>"
    parts = []
    for name, title in titles.items():
        rows = [_claim_row(*same) for same in found[found["chapter"] == name[:2]].groupby("claim", sort=False)]
        link = f'<a href="{name}.html">{_text(title)}</a>'
        head = f'<tr class="chapter"><th colspan="2" scope="rowgroup">{link}</th></tr>'
        parts += [f"<tbody>{head}{''.join(rows)}</tbody>"] if rows else []
    head = '<thead><tr><th scope="col">Claim</th><th scope="col">Verdict</th></tr></thead>'
    return f'<div class="verdicts"><table>{head}{"".join(parts)}</table></div>'


def counts(found: pd.DataFrame) -> str:
    """Return how many claims came out how, in words."""
    if found.empty:
        return "No claim has a verdict yet."
    tested = found[found["verdict"] != NO_RUNS]
    kinds = Counter(_kind(verdict) for verdict in tested["verdict"])
    parts = [f"{kinds[kind]} {kind}" for kind in MARKS if kinds[kind]]
    claims = len(tested[["chapter", "claim"]].drop_duplicates())
    said = f"{claims} claims and controls have {len(tested)} verdicts, some by several measurements"
    lacking = f" Without runs so far: {len(found) - len(tested)}." if len(tested) < len(found) else ""
    return f"{said}: {', '.join(parts)}.{lacking}"


def _claim_row(claim: str, said: pd.DataFrame) -> str:
    """A claim, with the evidence of each measurement that speaks to it."""
    first = {True: "<strong>{}.</strong> ", False: ""}[len(said) > 1]
    evidence = "".join(
        f"<p>{first.format(_text(one.verdict))}{_text(one.evidence)}<br><small>{_text(one.where)}</small></p>"
        for one in said.itertuples()
    )
    signs = "".join(_sign(verdict, share) for verdict, share in shares(said["verdict"]).items())
    unfolds = f"<details><summary>{_text(claim)}</summary>{evidence}</details>"
    return f'<tr><th scope="row">{unfolds}</th><td>{signs}</td></tr>'


def _sign(verdict: str, share: str) -> str:
    kind = _kind(verdict)
    mark = f'<span class="sign" aria-hidden="true">{MARKS[kind]}</span>'
    return f'<p class="{kind.replace(" ", "-")}">{mark} {_text(verdict)}{f" ({share})" if share else ""}</p>'


def _kind(verdict: str) -> str:
    return verdict if verdict in MARKS else MIXED


def downloads(chapter: Chapter, files: Sequence[str]) -> str:
    """Return the section with which a chapter's page ends: all that it made, and itself, to download.

    Args:
        chapter: The chapter.
        files: What it made, as `stage` put it below downloads/: tables/02_table2.csv, figures/02_fig2.svg, …
    """
    lines = [f"- This chapter: {_link(f'notebooks/{chapter.name}.ipynb', 'as it ran (.ipynb)')}"]
    lines[0] += f", {_link(f'{chapter.name}.py', 'as text (.py)')}"
    suffixes: dict[PurePosixPath, list[str]] = {}
    for path in map(PurePosixPath, files):
        if path.suffix in OFFERED:
            suffixes.setdefault(path.with_suffix(""), []).append(path.suffix)
    for stem, found in suffixes.items():
        made = ", ".join(_link(f"{stem}{suffix}", suffix[1:].upper()) for suffix in found)
        lines.append(f"- {KINDS_OF_FILE[stem.parent.name]} `{stem.name}`: {made}")
    text = "\n".join(lines)
    head = "## Downloads\n\nEvery table and figure of this page, and the page itself."
    return f"{head}\n\n:::{{dropdown}} All files\n{text}\n:::\n"


def _link(name: str, text: str) -> str:
    return f"{{download}}`{text} <downloads/{name}>`"


def status(chapters: Sequence[Chapter], titles: dict[str, str]) -> str:
    """Return the status page: when and how long each chapter ran, with which versions, and what the records are."""
    ran = pd.DataFrame([_ran(chapter, titles[chapter.name]) for chapter in chapters])
    profile = chapters[0].profile
    return "\n".join(
        [
            "# Status\n",
            "What this site was made from: when each chapter ran, for how long, with which versions, and which records",
            "its numbers come from. All of this page is written by the program that builds the site.\n",
            f"## Chapters, at the profile `{profile}`\n",
            _table(ran),
            "",
            f"Versions: {_versions(chapters)}.\n",
            "## Records\n",
            "A record is one run, measurement, receptive field or set of answers, a JSON file each. Those of `quick`",
            "are made anew on every machine; all others are kept with the book.\n",
            _table(_records(dict.fromkeys([*study.profile_names(), profile]))),
            "",
        ]
    )


def _ran(chapter: Chapter, title: str) -> dict[str, str]:
    stamp = stamps.read_stamp(chapter)
    seconds = stamp.get("seconds")
    took = "" if seconds is None else f"{seconds:.0f}\N{NO-BREAK SPACE}s"
    told = {"ran": stamp.get("finished", ""), "took": took, "on": stamp.get("machine", "")}
    link = f'<a href="{chapter.name}.html">{_text(title)}</a>'
    return {"chapter": link, **{name: _text(text) for name, text in told.items()}}


def _versions(chapters: Sequence[Chapter]) -> str:
    inputs = [stamps.read_stamp(chapter).get("inputs", {}) for chapter in chapters]
    found = {name: sorted({one[name] for one in inputs if name in one}) for name in VERSIONS}
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items() if versions) or "unknown"


def _records(profiles: Iterable[str]) -> pd.DataFrame:
    """A row for each profile that has records: how many of each kind, machines, torch, first and last date."""
    rows = []
    for name in profiles:
        if not (records := list(RecordStore(name))):
            continue
        kinds = Counter(record.get("kind", "training") for record in records)
        told = {key: sorted({_told(record, key) for record in records}) for key in ("device", "torch", "date")}
        days = [date[:10] for date in told["date"]]
        row = {"profile": name, **{text: kinds[kind] for kind, text in KINDS.items()}}
        row |= {"machines": ", ".join(told["device"]), "torch": ", ".join(told["torch"])}
        rows.append({**row, "made": f"{days[0]} to {days[-1]}"})
    return pd.DataFrame(rows).map(_text)


def _told(record: dict, key: str) -> str:
    """What a record says of where it comes from; one from elsewhere may not."""
    return str(record["origin"].get(key, "unknown"))


def today() -> str:
    """The day on which the site is built, in UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%d %B %Y").lstrip("0")


def _table(table: pd.DataFrame) -> str:
    """A table whose cells are HTML, on one line, so that nothing in it is read as MyST."""
    if table.empty:
        return "*Nothing yet.*"
    html_table = table.to_html(index=False, border=0, classes="table", escape=False)
    return " ".join(html_table.split("\n"))


def _text(text: object) -> str:
    """Text as it is, on one line: a blank one would end the HTML around it, and let the rest be read as MyST."""
    return html.escape(" ".join(str(text).split()))
