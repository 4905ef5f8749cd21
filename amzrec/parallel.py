"""Work on blocks of an array on all cores at once, with the results in order."""

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
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
    """Yield work(item) for each item, in order, computed ahead by one thread per core.

    At most one result per core and one more are computed before they are taken, so memory stays bounded. Threads are
    enough because numpy and Arrow release the interpreter lock while they compute. Within a thread a product of
    matrices is computed by that thread alone, since threads that each start BLAS threads slow each other down.
    """
    remaining = iter(items)
    first = list(islice(remaining, cores() + 1))
    if min(cores(), len(first)) < 2:
        yield from map(work, chain(first, remaining))
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(cores(), len(first))) as pool:
        submitted = deque(pool.submit(work, item) for item in first)
        try:
            while submitted:
                result = submitted.popleft().result()
                submitted.extend(pool.submit(work, item) for item in islice(remaining, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
