"""Pages and parts of pages that are made from tables and records: verdicts, downloads, what ran when and where."""

import datetime
import html
import json
from collections import Counter
from collections.abc import Iterable, Sequence

import pandas as pd

from .. import study
from ..readable import plain
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
}
KINDS = {"training": "runs", "speed": "measurements of speed", "field": "receptive fields", "probe": "probes"}
VERSIONS = ("python", "torch", "numpy", "scipy", "pandas", "matplotlib", "seaborn")


def verdicts(chapters: Iterable[Chapter]) -> pd.DataFrame:
    """Return the verdicts of all chapters that have run: chapter (its name), claim, where, evidence, verdict."""
    tables = [
        pd.read_csv(path, dtype=str, keep_default_na=False).assign(chapter=chapter.name)
        for chapter in chapters
        for path in sorted((chapter.results / "tables").glob(f"{chapter.name[:2]}_verdict*.csv"))
    ]
    columns = ["chapter", "claim", "where", "evidence", "verdict"]
    return pd.concat([pd.DataFrame(columns=columns), *tables], ignore_index=True)[columns]


def verdict_table(found: pd.DataFrame, titles: dict[str, str]) -> str:
    """Return the verdicts as HTML, a claim a row, with its evidence to unfold.

    Args:
        found: Of `verdicts`.
        titles: The chapters' titles by name.
    """
    if found.empty:
        return "<p><em>No chapter has run yet.</em></p>"
    rows = []
    for chapter, claims in found.groupby("chapter", sort=True):
        head = f'<a href="{chapter}.html">{_text(titles[chapter])}</a>'
        rows.append(f'<tr class="chapter"><th colspan="2" scope="rowgroup">{head}</th></tr>')
        rows += [_claim_row(claim, list(same.itertuples())) for claim, same in claims.groupby("claim", sort=False)]
    return (
        '<div class="verdicts"><table><thead><tr><th scope="col">Claim</th><th scope="col">Verdict</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def counts(found: pd.DataFrame) -> str:
    """Return how many claims came out how, in words."""
    if found.empty:
        return "No claim has a verdict yet."
    kinds = Counter(_kind(verdict) for verdict in found["verdict"])
    parts = [f"{kinds[kind]} {kind}" for kind in MARKS if kinds[kind]]
    claims = len(found[["chapter", "claim"]].drop_duplicates())
    return f"{claims} claims and controls have been judged, some by several measurements: {', '.join(parts)}."


def _claim_row(claim: str, said: Sequence) -> str:
    """A claim, with the evidence of each measurement that speaks to it."""
    several = len(said) > 1
    evidence = "".join(
        f"<p>{f'<strong>{_text(one.verdict)}.</strong> ' if several else ''}{_text(one.evidence)}<br>"
        f"<small>{_text(one.where)}</small></p>"
        for one in said
    )
    counted = Counter(one.verdict for one in said)
    shares = {verdict: f" ({n} of {len(said)})" if len(counted) > 1 else "" for verdict, n in counted.items()}
    signs = "".join(_sign(verdict, share) for verdict, share in shares.items())
    return f"<tr><td><details><summary>{_text(plain(claim))}</summary>{evidence}</details></td><td>{signs}</td></tr>"


def _sign(verdict: str, share: str) -> str:
    kind = _kind(verdict)
    mark = f'<span class="sign" aria-hidden="true">{MARKS[kind]}</span>'
    return f'<p class="{kind.replace(" ", "-")}">{mark} {_text(verdict)}{share}</p>'


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
    stems: dict[str, list[str]] = {}
    for name in files:
        stem, _, suffix = name.rpartition(".")
        stems.setdefault(stem, []).append(suffix)
    for stem, suffixes in stems.items():
        made = ", ".join(_link(f"{stem}.{suffix}", suffix.upper()) for suffix in suffixes)
        lines.append(f"- {stem.split('/')[0].removesuffix('s').capitalize()} `{stem.split('/')[1]}`: {made}")
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
            _markdown(ran),
            "",
            f"Versions: {_versions(chapters)}.\n",
            "## Records\n",
            "A record is one run, measurement, receptive field or set of answers, a JSON file each. Those of `quick`",
            "are made anew on every machine; all others are kept with the book.\n",
            _markdown(_records()),
            "",
        ]
    )


def _ran(chapter: Chapter, title: str) -> dict[str, str]:
    stamp = _stamp(chapter)
    seconds = stamp.get("seconds")
    took = "" if seconds is None else f"{seconds:.0f}\N{NO-BREAK SPACE}s"
    link = f"[{title}]({chapter.name}.ipynb)"
    return {"chapter": link, "ran": stamp.get("finished", ""), "took": took, "on": stamp.get("machine", "")}


def _stamp(chapter: Chapter) -> dict:
    try:
        return json.loads(chapter.stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _versions(chapters: Sequence[Chapter]) -> str:
    inputs = [_stamp(chapter).get("inputs", {}) for chapter in chapters]
    found = {name: sorted({one[name] for one in inputs if name in one}) for name in VERSIONS}
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items() if versions) or "unknown"


def _records() -> pd.DataFrame:
    """A row for each profile that has records: how many of each kind, machines, torch, first and last date."""
    rows = []
    for name in study.profile_names():
        records = list(RecordStore(name))
        if not records:
            continue
        origins = [record["origin"] for record in records]
        kinds = Counter(record.get("kind", "training") for record in records)
        days = sorted(origin["date"][:10] for origin in origins)
        rows.append(
            {
                "profile": f"`{name}`",
                **{text: kinds[kind] for kind, text in KINDS.items()},
                "machines": ", ".join(sorted({origin["device"] for origin in origins})),
                "torch": ", ".join(sorted({origin["torch"] for origin in origins})),
                "made": f"{days[0]} to {days[-1]}",
            }
        )
    return pd.DataFrame(rows)


def today() -> str:
    """The day on which the site is built, in UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%d %B %Y").lstrip("0")


def _markdown(table: pd.DataFrame) -> str:
    if table.empty:
        return "*Nothing yet.*"
    head = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    cells = [[str(value).replace("|", "\\|") for value in row] for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in head + cells)


def _text(text: str) -> str:
    return html.escape(text)
