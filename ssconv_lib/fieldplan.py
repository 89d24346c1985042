"""From a block [[fields]] or [[probes]] of a profile to its runs: which trained networks it looks at, each alike."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from .run import Run

L = TypeVar("L")
SELECTABLE = tuple(field.name for field in fields(Run) if field.name != "milestones")  # a list means any of its values


def looks_of(
    point: Mapping[str, Any],
    studies: Mapping[str, Sequence[Run]],
    study: str,
    blocks: str,
    make: Callable[[Mapping[str, Any]], L],
) -> Iterator[L]:
    """Yield the runs of one combination of a block's values, one for each of its `networks`, in order of the plan.

    Args:
        point: The fields of a `FieldRun` or `ProbeRun`, with `networks` in place of `network`.
        studies: The training runs of the profile, by study.
        study: That the block belongs to.
        blocks: The blocks' name, "fields" or "probes".
        make: Makes a run of its fields.

    Raises:
        ValueError: no network matches, or a field or value is impossible; it is quoted.
    """
    point = dict(point)
    chosen = point.pop("networks", None)
    if "network" in point or not isinstance(chosen, Mapping):
        raise ValueError(
            f"networks = {chosen!r} in a block [[{blocks}]] of study {study!r}: expected which of the training runs to "
            'look at (and no network beside it), as networks = { study = "table2", seed = 0 }'
        )
    for network in _matching(dict(chosen), studies, study):
        yield make({**point, "network": network.to_dict()})


def _matching(chosen: dict[str, Any], studies: Mapping[str, Sequence[Run]], study: str) -> list[Run]:
    where = f"networks of study {study!r}"
    name = chosen.pop("study", None)
    if not isinstance(name, str) or name not in studies:
        raise ValueError(f"{where}: study = {name!r}, expected one that trains: {', '.join(studies)}")
    runs = list(studies[name])
    for field, wanted in chosen.items():
        if field not in SELECTABLE:
            raise ValueError(f"{where}: a run has no field {field!r} to choose by; choose by {', '.join(SELECTABLE)}")
        known = list(dict.fromkeys(_value(run, field) for run in runs))
        allowed = wanted if isinstance(wanted, list) else [wanted]
        if strange := [value for value in allowed if value not in known]:
            there = ", ".join(map(repr, known))
            raise ValueError(f"{where}: no run left of {name!r} has {field} = {strange[0]!r}; they have {there}")
        runs = [run for run in runs if _value(run, field) in allowed]
    if not runs:
        raise ValueError(f"{where}: networks = {chosen} chooses none, since a list is empty; leave the field out")
    return list({run.hash: run for run in runs}.values())


def _value(run: Run, field: str) -> Any:
    """A field as a profile writes it; data by the name of the set, or of its folder."""
    return getattr(run.data, "folder", run.data.name) if field == "data" else getattr(run, field)
