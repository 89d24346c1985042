"""Many runs: a profile describes them, the store keeps their records, a study is a table of those."""

import dataclasses
import itertools
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from .fields import check_types, from_mapping
from .records import RecordStore
from .run import Run

PROFILES = Path(__file__).parent / "profiles"


@dataclasses.dataclass(frozen=True)
class Planned:
    """A run, and the study that asks for it."""

    study: str
    run: Run


@dataclasses.dataclass(frozen=True)
class Profile:
    """A whole protocol: which runs there are, in order of priority.

    Attributes:
        name: The file's stem; names the folder of records, tables and figures.
        source: What `--profile` takes: the name, or the path of a file that is not the project's.
        title: One line for captions and tables.
        hardware: What it is made for.
        device: Where its runs are trained unless the call says otherwise: "cpu" or "cuda".
        trains_in_chapter: Whether a chapter trains what is missing (quick) or draws what is stored (all others).
        planned: The runs; one that several studies ask for is trained once.
    """

    name: str
    source: str
    title: str
    hardware: str
    planned: tuple[Planned, ...]
    device: Literal["cpu", "cuda"] = "cpu"
    trains_in_chapter: bool = False

    def __post_init__(self) -> None:
        """Refuse values of another type, naming the field."""
        check_types(self)

    @property
    def studies(self) -> list[str]:
        """The names of the studies, in order."""
        return list(dict.fromkeys(planned.study for planned in self.planned))

    def runs(self, study: str | None = None) -> list[Run]:
        """The runs of a study, or of all, each once, in order of priority."""
        if study is not None and study not in self.studies:
            raise ValueError(f"profile {self.name!r} has no study {study!r}: it has {', '.join(self.studies)}")
        chosen = [planned.run for planned in self.planned if study in (None, planned.study)]
        return list({run.hash: run for run in chosen}.values())

    def train_command(self, study: str | None = None) -> str:
        """The command that trains what is missing."""
        command = f"python -m ssconv_lib train --profile {self.source}"
        return command if study is None else f"{command} --study {study}"


def profile_names() -> list[str]:
    """The project's own profiles, cheapest first."""
    order = ["quick", "laptop", "gpu", "paper"]
    names = [path.stem for path in PROFILES.glob("*.toml")]
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def load_profile(name_or_path: str | Path) -> Profile:
    """Read a profile by name, or from a TOML file of one's own.

    Raises:
        ValueError: there is no such profile, or a field or value in it is unknown; it is quoted.
    """
    text = str(name_or_path)
    path = Path(text).expanduser() if text.endswith(".toml") else PROFILES / f"{text}.toml"
    if not path.is_file():
        raise ValueError(
            f"no profile {text!r}: expected one of {', '.join(profile_names())}, or the path of a .toml file"
        )
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        return _parse(path.stem, text, fields)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"profile {text}: {error}") from error


def _parse(name: str, source: str, fields: dict[str, Any]) -> Profile:
    common, blocks = fields.pop("run", {}), fields.pop("runs", [])
    if not isinstance(common, dict) or not isinstance(blocks, list) or not blocks:
        raise ValueError("expected a table [run] for what all runs share and at least one block [[runs]]")
    if own := {"name", "source", "planned"} & fields.keys():
        raise ValueError(f"{min(own)!r} is not for a profile to set: its name is its file's")
    if not all(isinstance(block, dict) for block in blocks):
        raise ValueError("expected tables [[runs]]")
    planned = tuple(itertools.chain.from_iterable(_expand(common, block) for block in blocks))
    return from_mapping(Profile, {"name": name, "source": source, "planned": planned, **fields})


def _expand(common: Mapping[str, Any], block: Mapping[str, Any]) -> Iterator[Planned]:
    """All combinations of a block's `sweep`, the first key slowest: seeds first makes complete pairs first."""
    block = dict(block)
    study, sweep = block.pop("study", None), block.pop("sweep", {})
    if not isinstance(study, str) or not study:
        raise ValueError(f"study = {study!r} in a block [[runs]]: expected the name of the study that asks for it")
    if not isinstance(sweep, dict) or not all(isinstance(values, list) and values for values in sweep.values()):
        raise ValueError(f"sweep = {sweep!r}: expected a table of lists, as {{ seed = [0, 1], alpha = [0, 0.06] }}")
    if twice := sweep.keys() & block.keys():
        raise ValueError(f"{min(twice)!r} is both fixed and swept in a block of study {study!r}")
    for values in itertools.product(*sweep.values()):
        point = dict(zip(sweep, values, strict=True))
        yield Planned(study, Run.from_dict({**common, **block, **point}))


def missing(profile: Profile, study: str | None = None, store: RecordStore | None = None) -> list[Run]:
    """The runs without a record, in order of priority."""
    store = store or RecordStore(profile.name)
    return [run for run in profile.runs(study) if store.get(run) is None]


def frame(profile: Profile, study: str, store: RecordStore | None = None) -> pd.DataFrame:
    """The stored records of a study, a row each, in order of the plan.

    Returns:
        Columns: profile, the fields of the run (data as its name), `error` and `best_error` in percent,
        `best_epoch`, `evaluated_on`, `n_images`, `seconds` (training and evaluation), `device`, `hash`. Without
        records the columns are there and no row.
    """
    store = store or RecordStore(profile.name)
    rows = [_row(profile, run, record) for run in profile.runs(study) if (record := store.get(run))]
    return pd.DataFrame(rows, columns=[*_COLUMNS])


def empty_frame() -> pd.DataFrame:
    """The columns of `frame`, without a row."""
    return pd.DataFrame(columns=[*_COLUMNS])


_RUN_FIELDS = [field.name for field in dataclasses.fields(Run)]
_FINAL = ("error", "best_error", "best_epoch", "evaluated_on", "n_images")
_COLUMNS = ("profile", *_RUN_FIELDS, *_FINAL, "seconds", "device", "hash")


def _row(profile: Profile, run: Run, record: dict[str, Any]) -> dict[str, Any]:
    return {
        "profile": profile.name,
        **{name: getattr(run, name) for name in _RUN_FIELDS},
        "data": run.data.name,
        **{name: record["final"][name] for name in _FINAL},
        "seconds": sum(record["seconds"].values()),
        "device": record["origin"]["device"],
        "hash": run.hash,
    }


def histories(profile: Profile, study: str, store: RecordStore | None = None) -> pd.DataFrame:
    """The learning curves of a study: a row an epoch, with the run's model, alpha, layout, seed and hash."""
    store = store or RecordStore(profile.name)
    curves = [
        pd.DataFrame(record["history"]).assign(
            model=run.model, alpha=run.alpha, layout=run.layout, seed=run.seed, hash=run.hash
        )
        for run in profile.runs(study)
        if (record := store.get(run))
    ]
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()


def status(profile: Profile, store: RecordStore | None = None) -> pd.DataFrame:
    """What is there and what is missing, a row a study; seconds are the mean of the runs that are there."""
    rows = []
    for study in profile.studies:
        there = frame(profile, study, store)
        planned = len(profile.runs(study))
        rows.append(
            {
                "study": study,
                "planned": planned,
                "there": len(there),
                "missing": planned - len(there),
                "seconds a run": round(there["seconds"].mean(), 1) if len(there) else None,
            }
        )
    return pd.DataFrame(rows)
