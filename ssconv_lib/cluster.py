"""A cluster by dask.distributed: its scheduler, and workers that are fit to train.

Whoever can reach a scheduler can run code on its workers, so they belong in a network of one's own.
"""

import asyncio
import logging
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from .data import DataSpec
from .errand import check_here, code

CONNECT = 5.0  # seconds that a scheduler has to answer


@contextmanager
def connected(address: str, data: Iterable[DataSpec] = (), device: str = "cpu") -> Iterator[Executor]:
    """Connect to a dask scheduler, and yield the executor of its workers, which have been checked.

    Args:
        address: Such as "tcp://10.0.0.1:8786".
        data: Whose images every worker needs.
        device: Which every worker needs, "cpu" or "cuda".

    Raises:
        ValueError: the address is none.
        ConnectionError: no dask scheduler answers there.
        RuntimeError: dask is not installed; or a worker can't train, and would spoil one run after the other.
    """
    _check_address(address)
    try:
        from distributed import Client
    except ImportError as error:
        raise RuntimeError(f"a cluster needs dask.distributed ({error}): pip install -e '.[cluster]'") from error
    _greet(address)
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a lost connection is told in one line
    with Client(address, timeout=CONNECT, set_as_default=False) as client:
        _check_workers(client, address, list(data), device)
        yield client.get_executor(pure=False)


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        whole = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port and not parts.path
    except ValueError:  # the port is no number
        whole = False
    if not whole:
        raise ValueError(f"cluster {address!r}: expected the address that dask scheduler prints, as tcp://HOST:8786")


def _greet(address: str) -> None:
    """Shake hands with the scheduler, for which a Client has no limit of time."""
    from distributed.comm import connect
    from distributed.security import Security

    async def greet() -> None:
        async with asyncio.timeout(CONNECT):
            comm = await connect(address, timeout=CONNECT, **Security().get_connection_args("client"))
            await comm.close()

    try:
        with ThreadPoolExecutor(1) as pool:  # a notebook's own thread has a loop already
            pool.submit(asyncio.run, greet()).result()
    except Exception as error:  # another server's answer fails in many ways
        reason = f" ({error})" if str(error) else ""
        raise ConnectionError(
            f"no dask scheduler answers at {address} within {CONNECT:g} s{reason}; start one there: dask scheduler"
        ) from error


def _check_workers(client: Any, address: str, data: list[DataSpec], device: str) -> None:
    """Refuse a cluster with a worker that can't train: it would fail one run after the other, and empty the queue."""
    threads = client.nthreads()
    if not threads:
        message = f"no worker has joined {address} yet; on each machine: dask worker {address} --nthreads 1"
        warnings.warn(message, stacklevel=4)
    answers = client.run(_why_unfit, code(), device, data, on_error="return")
    unfit = defaultdict(list)
    for worker, number in threads.items():
        reason = f"{number} threads, expected one: --nthreads 1" if number != 1 else answers.get(worker)
        if reason:
            unfit[str(reason)].append(worker)
    if unfit:
        raise RuntimeError("; ".join(f"{', '.join(workers)}: {reason}" for reason, workers in unfit.items()))


async def _why_unfit(*arguments: Any) -> str | None:
    """Runs in a worker, beside its event loop, which has to go on."""
    try:
        await asyncio.to_thread(check_here, *arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
