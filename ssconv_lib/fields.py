"""Descriptions that check themselves: the fields of a frozen dataclass, held to their annotations."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def check_types(spec: Any) -> None:
    """Holds every field to its annotation: a class, a union of classes or a `Literal`; call it in `__post_init__`.

    Nothing is read leniently, since a description names a run: True is no int, "3" is no 3, NaN and
    infinities are no numbers. The conversions are 1 to 1.0 in a float field, so that both are one run, and a
    list, all that JSON and TOML have, to a tuple.

    Raises:
        ValueError: naming the field, its value and what was expected.
    """
    hints = get_type_hints(type(spec))
    for field in fields(spec):
        value, expected = getattr(spec, field.name), hints[field.name]
        if expected is float and type(value) is int and abs(value) < 2**53:
            object.__setattr__(spec, field.name, float(value))
        elif get_origin(expected) is Literal:
            if value not in get_args(expected):
                choices = ", ".join(map(repr, get_args(expected)))
                raise ValueError(f"{_label(spec, field.name)} is {value!r}: choose one of {choices}")
        elif get_origin(expected) is tuple and type(value) is list:
            object.__setattr__(spec, field.name, tuple(value))
        elif type(value) not in _classes(expected) or (expected is float and not math.isfinite(value)):
            kind = "a finite number" if expected is float else f"of type {getattr(expected, '__name__', expected)}"
            raise ValueError(f"{_label(spec, field.name)} is {value!r}: it must be {kind}")


def check_at_least(spec: Any, **lowest: float) -> None:
    """Holds fields to their smallest value: `check_at_least(spec, size=1, seed=0)`.

    Raises:
        ValueError: naming the field, its value and the smallest that is allowed.
    """
    for name, bound in lowest.items():
        if getattr(spec, name) < bound:
            raise ValueError(f"{_label(spec, name)} is {getattr(spec, name)!r}: it must be at least {bound}")


def from_mapping(kind: type[T], values: Mapping[str, Any]) -> T:
    """Makes a `kind` of named values, as a profile gives them.

    Raises:
        ValueError: quoting a field that `kind` does not have, or a value that it refuses.
    """
    known = [field.name for field in fields(kind)]
    for name in values:
        if name not in known:
            raise ValueError(f"{kind.__name__} has no field {name!r}: its fields are {', '.join(known)}")
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if lacking := [name for name in needed if name not in values]:
        raise ValueError(f"{kind.__name__} needs the field {lacking[0]!r}: it has {', '.join(values) or 'none'}")
    return kind(**values)


def expect(spec: Any, name: str, holds: bool, expectation: str) -> None:
    """Holds a field to what types and bounds can't say.

    Raises:
        ValueError: it does not hold; naming the field, its value and the expectation.
    """
    if not holds:
        kind = type(spec).__name__
        raise ValueError(f"{name} = {getattr(spec, name)!r} of a {kind}: expected {expectation}")


def without_defaults(spec: Any, keep: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns the fields that differ from their defaults, and those to keep in any case."""
    values = {field.name: (getattr(spec, field.name), field.default) for field in fields(spec)}
    return {name: value for name, (value, default) in values.items() if name in keep or value != default}


def digest(identity: Mapping[str, Any]) -> str:
    """Returns twelve hexadecimal digits of the SHA-256 of the canonical JSON: the hash that names a record."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _classes(expected: Any) -> tuple[type, ...]:
    return get_args(expected) if isinstance(expected, UnionType) else (get_origin(expected) or expected,)


def _label(spec: Any, name: str) -> str:
    return f"{type(spec).__name__}.{name}"
