"""Reading what torch.save wrote, every bit of it checked."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch


def load_checked(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the dict in a file of torch.save; nothing in it is executed.

    Torch writes a checksum for each tensor, and does not look at it when it reads: a weight with a bit that changed on
    the disk would be taken for what was trained.

    Raises:
        ValueError: the file is damaged, or holds something other than a dict.
        OSError: it can't be read at all.
    """
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
                raise ValueError("a part is compressed, which torch never does")
            if damaged := parts.testzip():
                raise ValueError(f"the checksum of {damaged} does not hold")
        loaded = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a torn file fails in many ways, all meaning the same
        raise ValueError(f"{path} is damaged ({error})") from error
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, expected a dict")
    return loaded
