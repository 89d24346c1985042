"""Files that are whole or absent: written under a temporary name beside the final one, then renamed."""

import errno
import hashlib
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES)  # of FAT, some network folders
OLD = 7 * 86_400  # seconds after which what another machine left is taken for dead


def _here() -> str:
    """A name for where a process number means one process: machines may share a name, containers a machine."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # Linux tells
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]


HERE = _here()


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
            _put_where_nothing_is(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _put_where_nothing_is(temporary: Path, path: Path) -> None:
    """Give a file its name, unless that is taken; where there are no links, one that came a moment ago is replaced."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        temporary.replace(path)


def temporary_name(path: Path) -> Path:
    """A name beside a file or folder for what is to become it; it says who writes there, for `sweep`."""
    return path.with_name(f".{path.name}.{HERE}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")


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
    """Remove what killed writers of this machine left, and others a week ago; the living are left alone."""
    for leftover in folder.glob(".*.tmp"):
        parts = leftover.name.split(".")  # as `temporary_name` has them: … where, pid, random, tmp
        if len(parts) < 5 or not parts[-3].isdigit():
            continue
        with suppress(FileNotFoundError):  # another may sweep, too
            dead = not _alive(int(parts[-3])) if parts[-4] == HERE else time.time() - leftover.stat().st_mtime > OLD
            if dead and leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            elif dead:
                leftover.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
