"""What the processes that this project starts have in common: none outlives the one that started it."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, however that came about."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def end_within(seconds: float) -> None:
    """End this process after so many seconds, unless it ends before in order."""
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _wait_for_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
