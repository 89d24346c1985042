"""What the fuzz tests make their input of: plain values, changes of what is valid, damage to bytes.

`SSCONV_FUZZ=10000` tries so many cases a test, as `make fuzz` does; without it there are 200.
"""

import copy
import functools
import json
import os
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

CASES = int(os.environ.get("SSCONV_FUZZ") or 200)
SECONDS = 10  # that a case may take
PEAK = Path("/proc/self/clear_refs")
MEMORY = 2**29  # bytes that a case may add to the process, even for a moment

limits = settings(
    max_examples=CASES,
    deadline=1000 * SECONDS,
    suppress_health_check=[*HealthCheck],
    derandomize="SSCONV_FUZZ" not in os.environ,  # the suite's are the same everywhere, and the long form's others
    database=None,
)


def fuzzed(test):
    """A test by hypothesis, above which this stands, with so many cases, and limits of time and memory to each."""
    inner = test.hypothesis.inner_test

    @functools.wraps(inner)
    def case(*args, **kwargs):
        with little_memory():
            inner(*args, **kwargs)

    test.hypothesis.inner_test = case
    return limits(test)


texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "none", "cpu", "cuda", "quick", "1/2", "../..", "/", "<script>", "a\nb", "\x00", "1e-9999999"]
    ),
)
numbers = st.one_of(
    st.integers(-3, 70),
    st.sampled_from([2**31, 2**63 - 1, 2**63, -(2**63), 10**30]),
    st.floats(),
    st.sampled_from([0.0, -0.0, 0.06, 0.25, 0.999999, 1.0, 1e300]),
)
plain = st.recursive(
    st.one_of(texts, numbers, st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)


@st.composite
def changed(draw, valid, values=plain):
    """A valid structure of dicts and lists, with one to three of its parts replaced, taken away or added."""
    made = copy.deepcopy(draw(valid) if isinstance(valid, st.SearchStrategy) else valid)
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, made, values)
    return made


def _change(draw, made, values):
    here = made
    while True:  # down to some part
        keys = [*here] if isinstance(here, dict) else [*range(len(here))]
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if not (isinstance(here[key], (dict, list)) and here[key] and draw(st.integers(0, 3))):
            break
        here = here[key]
    kind = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
    if kind == "add" or not here:
        here.update({draw(texts): draw(values)}) if isinstance(here, dict) else here.append(draw(values))
    elif kind == "remove":
        del here[key]
    else:
        here[key] = draw(values)


@st.composite
def damaged(draw, valid):
    """Valid bytes, of which some are others, gone or new, or which end too early."""
    content = bytearray(draw(valid) if isinstance(valid, st.SearchStrategy) else valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.sampled_from([0, 1, 1, 1, 2, 4, 30, len(content)]))
        content[start : start + length] = draw(st.binary(max_size=4))
    return bytes(content)


def as_toml(value):
    """A value of dicts, lists, text, numbers and bools as TOML on one line; a top level as lines."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_quoted(name)} = {as_toml(part)}" for name, part in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text):
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


@contextmanager
def little_memory():
    """What happens inside must not make the process larger by more than `MEMORY`, even for a moment; on Linux."""
    if not PEAK.exists():
        yield
        return
    PEAK.write_text("5")  # forget the peak of what ran before, which would hide this one's
    before = _peak()
    yield
    assert _peak() - before < MEMORY


def _peak():
    status = PEAK.with_name("status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
