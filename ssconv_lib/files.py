"""Files that are whole or absent: written under a temporary name beside the final one, then renamed."""

import os
import shutil
import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_HOST = socket.gethostname().replace(".", "-")


def write_whole(path: Path, content: bytes | Callable[[BinaryIO], None], *, replace: bool = True) -> None:
    """Write a file so that every reader sees the old one, the new one or none, also after a crash or a full disk.

    Args:
        path: The final name; its folder is made if needed.
        content: The bytes, or a function that writes them to an open binary file.
        replace: Whether to replace a file that is there.

    Raises:
        FileExistsError: the file is there and must not be replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)  # fails if it is there, also if it came a moment ago
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """A name beside a file or folder for what is to become it; it says who writes there, for `sweep`."""
    return path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")


def check_writable(folder: Path) -> None:
    """Make a folder if needed, and see that a file can be made in it: before hours of work, not after them.

    Raises:
        OSError: it can't; naming the folder and the remedy.
    """
    trial = temporary_name(folder / "trial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        remedy = "make it writable, or name another place with --records or SSCONV_RESULTS"
        raise OSError(error.errno, f"nothing can be written in {folder} ({error.strerror}); {remedy}") from error


def sweep(folder: Path) -> None:
    """Remove what killed writers of this machine left behind; living ones and other machines are left alone."""
    for leftover in folder.glob(".*.tmp"):
        parts = leftover.name.split(".")  # as write_whole names them: … host, pid, random, tmp
        if len(parts) > 4 and parts[-4] == _HOST and parts[-3].isdigit() and not _alive(int(parts[-3])):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
