"""The compiled form of the fast path for the CPU, where it was built: `python -m ssconv_lib build`.

Nothing needs it: without a compiler, or before it is built, `inplace` does the same in Python, a little slower.
"""

import contextlib
import functools
import hashlib
import importlib.machinery
import importlib.util
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch

from .files import sweep, temporary_name
from .origin import device_name

SOURCE = Path(__file__).with_name("native.cpp")
# OpenMP without its library: what libtorch needs is loaded already, and a second one would have threads of its own
FLAGS = ["-O3", "-march=native", *(["-fopenmp"] if sys.platform == "linux" else [])]
SWITCH = "SSCONV_NATIVE"  # an environment variable; 0 leaves the compiled form alone


def name() -> str:
    """The module's name, of what it was built from and for: source, flags, torch, Python and processor.

    The processor too, since it is compiled for that one alone, and machines may share a home.
    """
    built_for = (
        *FLAGS,
        torch.__version__,
        sys.implementation.cache_tag,
        device_name("cpu"),
        torch.backends.cpu.get_cpu_capability(),
    )
    digest = hashlib.sha256(SOURCE.read_bytes() + "|".join(built_for).encode())
    return f"ssconv_native_{digest.hexdigest()[:12]}"


def path() -> Path:
    """Where the built module is, or will be: in the user's folder for caches."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "ssconv_lib" / f"{name()}{importlib.machinery.EXTENSION_SUFFIXES[0]}"


def build() -> Path:
    """Compile the module for this machine's processor, which takes up to a minute, unless it is there; return its path.

    Raises:
        RuntimeError: there is no compiler, or it failed.
    """
    target = path()
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # its ninja
    sweep(target.parent)
    folder = temporary_name(target)
    folder.mkdir()
    try:
        try:
            from torch.utils import cpp_extension  # slow to import, and only needed here

            with _quoted(cpp_extension):
                cpp_extension.load(
                    name(),
                    [str(SOURCE)],
                    extra_cflags=FLAGS,
                    build_directory=str(folder),
                    is_python_module=False,
                    is_standalone=False,
                )
        except (RuntimeError, ImportError, OSError) as error:
            raise RuntimeError(
                f"the compiled form could not be built ({error}); it needs a C++ compiler, ninja and Python's headers,"
                " and without it everything works too"
            ) from error
        (folder / f"{name()}.so").replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


@contextlib.contextmanager
def _quoted(cpp_extension: ModuleType) -> Iterator[None]:
    """Put into quotes the one folder that it leaves without: a blank in the path of torch's libraries broke linking."""
    folder = cpp_extension.TORCH_LIB_PATH
    cpp_extension.TORCH_LIB_PATH = shlex.quote(folder)
    try:
        yield
    finally:
        cpp_extension.TORCH_LIB_PATH = folder


@functools.cache
def load() -> ModuleType | None:
    """Return the module; None if it was not built, can't be loaded, or is switched off by SSCONV_NATIVE=0."""
    return None if os.environ.get(SWITCH) == "0" or not path().exists() else open_module()


def open_module() -> ModuleType | None:
    """Load what was built; None, and a warning, if that fails."""
    spec = importlib.util.spec_from_file_location(name(), path())
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (ImportError, OSError) as error:
        warnings.warn(f"{path()} can't be loaded, so the fast path runs in Python: {error}", stacklevel=2)
        return None
    return module
