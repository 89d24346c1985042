"""What a profile plans: its training runs, measurements of speed, receptive fields and probes, from a TOML file."""

import dataclasses
import itertools
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from .fieldplan import looks_of
from .fieldrun import FieldRun
from .fields import check_types, expect, from_mapping
from .proberun import ProbeRun
from .run import Run
from .speedrun import SpeedRun

R = TypeVar("R")
PROFILES = Path(__file__).parent / "profiles"
NAME = r"[^\W_][\w .+-]*"  # of a profile or a study: it names folders, and is text on every page
RESERVED = ("records", "weights")  # folders among the results that belong to no profile
MOST = 100_000  # runs of a block


class _Kind(NamedTuple):
    """A kind of blocks: the attribute of a `Profile` with its runs, the command for them, what is said of it or not."""

    attribute: str
    command: str
    does: str
    denied: str


KINDS = {
    "runs": _Kind("planned", "train", "trains it", "trains nothing"),
    "speeds": _Kind("timed", "bench", "measures it", "is not of speed"),
    "fields": _Kind("fielded", "fields", "makes it", "is not of receptive fields"),
    "probes": _Kind("probed", "probe", "makes it", "is not of probes"),
}


@dataclasses.dataclass(frozen=True)
class Planned(Generic[R]):
    """A run of any kind, and the study that asks for it."""

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
        fielded: The optimised receptive fields, likewise; the trained networks that they need are kept.
        probed: The probes of trained networks, likewise; the networks are kept.
    """

    name: str
    source: str
    title: str
    hardware: str
    planned: tuple[Planned[Run], ...]
    timed: tuple[Planned[SpeedRun], ...] = ()
    fielded: tuple[Planned[FieldRun], ...] = ()
    probed: tuple[Planned[ProbeRun], ...] = ()
    device: Literal["cpu", "cuda"] = "cpu"
    weights_of_study: str | None = None
    weights_of_seed: int | None = None
    trains_in_chapter: bool = False

    def __post_init__(self) -> None:
        """Refuse values of another type, text that a page would not show as text, and a study of two kinds."""
        check_types(self)
        for name in ("title", "hardware"):
            expect(self, name, not set(getattr(self, name)) & set("<>&`\n"), "one line of text, without < > & and `")
        for one, other in itertools.combinations(KINDS, 2):
            if both := [study for study in self._studies(other) if study in self._studies(one)]:
                raise ValueError(f"study {both[0]!r} is in a block [[{one}]] and in a block [[{other}]]: rename one")
        if (self.weights_of_study or self.weights_of_seed is not None) and not self._chosen_to_keep:
            chosen = f"weights_of_study = {self.weights_of_study!r}, weights_of_seed = {self.weights_of_seed!r}"
            raise ValueError(f"{chosen}: there is no such run; name a study that trains and a seed in it")

    @property
    def studies(self) -> list[str]:
        """The names of the studies that train, in order."""
        return self._studies("runs")

    @property
    def speed_studies(self) -> list[str]:
        """The names of the studies of speed, in order."""
        return self._studies("speeds")

    @property
    def field_studies(self) -> list[str]:
        """The names of the studies of optimised receptive fields, in order."""
        return self._studies("fields")

    @property
    def probe_studies(self) -> list[str]:
        """The names of the studies of probes, in order."""
        return self._studies("probes")

    def runs(self, study: str | None = None) -> list[Run]:
        """The runs of a study, or of all, each once, in order of priority."""
        return self._chosen("runs", study)

    def speed_runs(self, study: str | None = None) -> list[SpeedRun]:
        """The measurements of a study of speed, or of all, each once, on no machine yet."""
        return self._chosen("speeds", study)

    def field_runs(self, study: str | None = None) -> list[FieldRun]:
        """The receptive fields of a study of them, or of all, each once, in order of the plan."""
        return self._chosen("fields", study)

    def probe_runs(self, study: str | None = None) -> list[ProbeRun]:
        """The probes of a study of them, or of all, each once, in order of the plan."""
        return self._chosen("probes", study)

    @property
    def kept(self) -> list[Run]:
        """The runs whose trained networks are kept, those of one study and seed and those that are looked at."""
        looked_at = [planned.run.network for planned in self.fielded if planned.run.trained]
        looked_at += [planned.run.network for planned in self.probed]
        return list({run.hash: run for run in [*self._chosen_to_keep, *looked_at]}.values())

    @property
    def _chosen_to_keep(self) -> list[Run]:
        study = self.weights_of_study
        return [run for run in self.runs(study) if run.seed == self.weights_of_seed] if study else []

    def _studies(self, blocks: str) -> list[str]:
        return list(dict.fromkeys(one.study for one in getattr(self, KINDS[blocks].attribute)))

    def _chosen(self, blocks: str, study: str | None) -> list[Any]:
        studies = self._studies(blocks)
        if study is not None and study not in studies:
            if right := next((kind for name, kind in KINDS.items() if study in self._studies(name)), None):
                command = f"{self._command(right.command, study)} {right.does}"
                raise ValueError(f"study {study!r} {KINDS[blocks].denied}: {command}")
            raise ValueError(f"profile {self.name!r} has no study {study!r}: it has {', '.join(studies) or 'none'}")
        chosen = [one.run for one in getattr(self, KINDS[blocks].attribute) if study in (None, one.study)]
        return list({run.hash: run for run in chosen}.values())

    def train_command(self, study: str | None = None) -> str:
        """The command that trains what is missing."""
        return self._command("train", study)

    def bench_command(self, study: str | None = None) -> str:
        """The command that measures speed."""
        return self._command("bench", study)

    def fields_command(self, study: str | None = None) -> str:
        """The command that optimises the receptive fields that are missing."""
        return self._command("fields", study)

    def probe_command(self, study: str | None = None) -> str:
        """The command that asks trained networks what is missing."""
        return self._command("probe", study)

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
    except ValueError as error:  # those of TOML and of UTF-8 too
        raise ValueError(f"profile {text}: {error}") from error
    except RecursionError as error:
        raise ValueError(f"profile {text}: its values are nested too deeply; a profile needs four levels") from error


def _parse(name: str, source: str, fields: dict[str, Any]) -> Profile:
    if not re.fullmatch(NAME, name) or name in RESERVED:
        raise ValueError(
            f"{name!r} can't name a folder of results: expected letters, digits, spaces and _ . + - in the file's name,"
            f" and not {' or '.join(RESERVED)}; rename it"
        )
    runs = _take_blocks(fields, "run", "runs", Run.from_dict)
    speeds = _take_blocks(fields, "speed", "speeds", SpeedRun.from_dict)
    if not runs:
        raise ValueError("expected a table [run] for what all runs share and at least one block [[runs]]")
    if any(planned.run.device is not None for planned in speeds):
        raise ValueError("device, torch and threads are not for a profile to set: the machine that measures has them")
    if own := {"name", "source", *(kind.attribute for kind in KINDS.values())} & fields.keys():
        raise ValueError(f"{min(own)!r} is not for a profile to set: its name is its file's")
    studies: dict[str, list[Run]] = {}
    for planned in runs:
        studies.setdefault(planned.study, []).append(planned.run)
    looked = _take_looks(fields, "field", "fields", studies, FieldRun.from_dict)
    asked = _take_looks(fields, "probe", "probes", studies, ProbeRun.from_dict)
    plan = {"name": name, "source": source, "planned": runs, "timed": speeds, "fielded": looked, "probed": asked}
    return from_mapping(Profile, {**plan, **fields})


def _take_looks(
    fields: dict[str, Any],
    table: str,
    blocks: str,
    studies: Mapping[str, Sequence[Run]],
    make: Callable[[Mapping[str, Any]], R],
) -> tuple[Planned[R], ...]:
    """Take blocks that look at trained networks, each as many runs as it chooses networks of the studies."""
    points = _take_blocks(fields, table, blocks, dict)
    return tuple(
        Planned(point.study, run) for point in points for run in looks_of(point.run, studies, point.study, blocks, make)
    )


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
    if not isinstance(study, str) or not re.fullmatch(NAME, study):
        expected = "the name of the study that asks for it, letters, digits, spaces and _ . + -"
        raise ValueError(f"study = {study!r} in a block [[{blocks}]]: expected {expected}")
    if not isinstance(sweep, dict) or not all(isinstance(values, list) and values for values in sweep.values()):
        raise ValueError(f"sweep = {sweep!r}: expected a table of lists, as {{ seed = [0, 1], alpha = [0, 0.06] }}")
    if (count := math.prod(map(len, sweep.values()))) > MOST:
        raise ValueError(f"a block [[{blocks}]] of study {study!r} sweeps over {count} runs: expected {MOST} at most")
    if twice := sweep.keys() & block.keys():
        raise ValueError(f"{min(twice)!r} is both fixed and swept in a block of study {study!r}")
    for values in itertools.product(*sweep.values()):
        point = dict(zip(sweep, values, strict=True))
        yield Planned(study, make({**common, **block, **point}))
