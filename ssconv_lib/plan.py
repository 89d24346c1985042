"""What a profile plans: its training runs and its measurements of speed, read from a TOML file."""

import dataclasses
import itertools
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from .fields import check_types, from_mapping
from .run import Run
from .speedrun import SpeedRun

R = TypeVar("R", Run, SpeedRun)
PROFILES = Path(__file__).parent / "profiles"


@dataclasses.dataclass(frozen=True)
class Planned(Generic[R]):
    """A run, or a measurement of speed, and the study that asks for it."""

    study: str
    run: R


@dataclasses.dataclass(frozen=True)
class Profile:
    """A whole protocol: which runs there are, in order of priority.

    Attributes:
        name: The file's stem; names the folder of records, tables and figures.
        source: What `--profile` takes: the name, or the path of a file that is not the project's.
        title: One line for captions and tables.
        hardware: What it is made for.
        device: Where its runs are trained and timed unless the call says otherwise: "cpu" or "cuda".
        weights_of_study: The study whose trained networks are kept (`weights`); None keeps none.
        weights_of_seed: The seed of it whose networks are kept.
        trains_in_chapter: Whether a chapter trains what is missing (quick) or draws what is stored (all others).
        planned: The training runs; one that several studies ask for is trained once.
        timed: The measurements of speed, likewise; their studies are others.
    """

    name: str
    source: str
    title: str
    hardware: str
    planned: tuple[Planned[Run], ...]
    timed: tuple[Planned[SpeedRun], ...] = ()
    device: Literal["cpu", "cuda"] = "cpu"
    weights_of_study: str | None = None
    weights_of_seed: int | None = None
    trains_in_chapter: bool = False

    def __post_init__(self) -> None:
        """Refuse values of another type, naming the field, and a study of both kinds."""
        check_types(self)
        if both := [study for study in self.speed_studies if study in self.studies]:
            raise ValueError(f"study {both[0]!r} is in a block [[runs]] and in a block [[speeds]]: rename one")
        if (self.weights_of_study or self.weights_of_seed is not None) and not self.kept:
            chosen = f"weights_of_study = {self.weights_of_study!r}, weights_of_seed = {self.weights_of_seed!r}"
            raise ValueError(f"{chosen}: there is no such run; name a study that trains and a seed in it")

    @property
    def studies(self) -> list[str]:
        """The names of the studies that train, in order."""
        return list(dict.fromkeys(planned.study for planned in self.planned))

    @property
    def speed_studies(self) -> list[str]:
        """The names of the studies of speed, in order."""
        return list(dict.fromkeys(planned.study for planned in self.timed))

    def runs(self, study: str | None = None) -> list[Run]:
        """The runs of a study, or of all, each once, in order of priority."""
        if study in self.speed_studies:
            raise ValueError(f"study {study!r} trains nothing: {self.bench_command(study)} measures it")
        return self._chosen(self.planned, study)

    def speed_runs(self, study: str | None = None) -> list[SpeedRun]:
        """The measurements of a study of speed, or of all, each once, on no machine yet."""
        if study in self.studies:
            raise ValueError(f"study {study!r} is not of speed: {self.train_command(study)} trains it")
        return self._chosen(self.timed, study)

    @property
    def kept(self) -> list[Run]:
        """The runs whose trained networks are kept."""
        study = self.weights_of_study
        return [run for run in self.runs(study) if run.seed == self.weights_of_seed] if study else []

    def _chosen(self, planned: Sequence[Planned[R]], study: str | None) -> list[R]:
        studies = dict.fromkeys(one.study for one in planned)
        if study is not None and study not in studies:
            raise ValueError(f"profile {self.name!r} has no study {study!r}: it has {', '.join(studies) or 'none'}")
        chosen = [one.run for one in planned if study in (None, one.study)]
        return list({run.hash: run for run in chosen}.values())

    def train_command(self, study: str | None = None) -> str:
        """The command that trains what is missing."""
        return self._command("train", study)

    def bench_command(self, study: str | None = None) -> str:
        """The command that measures speed."""
        return self._command("bench", study)

    def _command(self, name: str, study: str | None) -> str:
        command = f"python -m ssconv_lib {name} --profile {self.source}"
        return command if study is None else f"{command} --study {study}"


def profile_names() -> list[str]:
    """The project's own profiles, cheapest first."""
    order = ["quick", "pilot", "laptop", "gpu", "paper"]
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
    runs = _take_blocks(fields, "run", "runs", Run.from_dict)
    speeds = _take_blocks(fields, "speed", "speeds", SpeedRun.from_dict)
    if not runs:
        raise ValueError("expected a table [run] for what all runs share and at least one block [[runs]]")
    if any(planned.run.device is not None for planned in speeds):
        raise ValueError("device, torch and threads are not for a profile to set: the machine that measures has them")
    if own := {"name", "source", "planned", "timed"} & fields.keys():
        raise ValueError(f"{min(own)!r} is not for a profile to set: its name is its file's")
    return from_mapping(Profile, {"name": name, "source": source, "planned": runs, "timed": speeds, **fields})


def _take_blocks(
    fields: dict[str, Any], table: str, blocks: str, make: Callable[[Mapping[str, Any]], R]
) -> tuple[Planned[R], ...]:
    """Take a table of what all share, and the blocks, out of a profile's fields."""
    common, found = fields.pop(table, {}), fields.pop(blocks, [])
    if not isinstance(common, dict) or not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"expected a table [{table}] for what all share, and blocks [[{blocks}]]")
    return tuple(itertools.chain.from_iterable(_expand(common, block, blocks, make) for block in found))


def _expand(
    common: Mapping[str, Any], block: Mapping[str, Any], blocks: str, make: Callable[[Mapping[str, Any]], R]
) -> Iterator[Planned[R]]:
    """All combinations of a block's `sweep`, the first key slowest: seeds first makes complete pairs first."""
    block = dict(block)
    study, sweep = block.pop("study", None), block.pop("sweep", {})
    if not isinstance(study, str) or not study:
        raise ValueError(f"study = {study!r} in a block [[{blocks}]]: expected the name of the study that asks for it")
    if not isinstance(sweep, dict) or not all(isinstance(values, list) and values for values in sweep.values()):
        raise ValueError(f"sweep = {sweep!r}: expected a table of lists, as {{ seed = [0, 1], alpha = [0, 0.06] }}")
    if twice := sweep.keys() & block.keys():
        raise ValueError(f"{min(twice)!r} is both fixed and swept in a block of study {study!r}")
    for values in itertools.product(*sweep.values()):
        point = dict(zip(sweep, values, strict=True))
        yield Planned(study, make({**common, **block, **point}))
