"""Files that are whole or absent: written under a temporary name beside the final one, then renamed."""

import os
import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_HOST = socket.gethostname().replace(".", "-")


def write_whole(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write a file so that every reader sees the old one, the new one or none, also after a crash or a full disk.

    Args:
        path: The final name; its folder is made if needed.
        content: The bytes, or a function that writes them to an open binary file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed writers of this machine left behind; living ones and other machines are left alone."""
    for leftover in folder.glob(".*.tmp"):
        *_, host, pid, _, _ = leftover.name.rsplit(".", 4)
        if host == _HOST and pid.isdigit() and not _alive(int(pid)):
            leftover.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
