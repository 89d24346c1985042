"""Where a measurement comes from: code, versions, device, threads, date."""

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from .paths import ROOT


def origin(device: str, compile: str | None = None, processes: int = 1) -> dict[str, str | int]:
    """What a record says about the machine and the code that made it.

    Args:
        device: Where it was trained: "cpu" or "cuda".
        compile: The mode of `torch.compile`, if any.
        processes: How many trained it together, each on such a device.
    """
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **({"compile": compile} if compile else {}),
        **({"processes": processes} if processes > 1 else {}),
    }


def check_origins(origins: Iterable[Mapping[str, Any]]) -> None:
    """Hold what a file says of machines and code to words, and to whole numbers where it counts.

    Raises:
        ValueError: a part is neither; AttributeError or TypeError, these are no origins at all.
    """
    for name, value in [part for one in origins for part in one.items()]:
        expected = int if name in ("threads", "processes") else str
        if type(value) is not expected:
            raise ValueError(f"the origin's {name} = {value!r}, expected {expected.__name__}")


def device_name(device: str) -> str:
    """The model of the GPU or the processor behind "cuda" or "cpu"."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else _cpu_name()


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def commit() -> str:
    """The commit of the code, with a plus if the library differs from it; "unknown" outside a checkout.

    Asked at a worker's start and kept, since the checkout may move on while the code that was loaded trains.
    """
    if not (ROOT / "pyproject.toml").is_file():
        return "unknown"  # installed; a checkout around it would be another project's
    try:
        git = ["git", "-C", str(ROOT)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "ssconv_lib"], capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head[:12] + ("+" if changed.returncode else "")


@functools.cache
def _cpu_name() -> str:
    """The processor's model, as Linux and macOS know it."""
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, subprocess.CalledProcessError):
        return platform.machine()
