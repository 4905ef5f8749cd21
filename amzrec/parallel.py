"""Blocks of numpy work on all cores, the results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
    """work(item) of each item in order, by one thread per core; no more than one result per core waits to be taken.

    numpy and Arrow let go of the interpreter while they compute. Each thread multiplies its matrices alone: threads
    that each start BLAS threads get in each other's way.
    """
    following = iter(items)
    first = list(islice(following, cores() + 1))
    if min(cores(), len(first)) < 2:
        yield from map(work, chain(first, following))
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(cores(), len(first))) as pool:
        waiting = deque(pool.submit(work, item) for item in first)
        try:
            while waiting:
                done = waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(following, 1))
                yield done
        finally:
            pool.shutdown(cancel_futures=True)
