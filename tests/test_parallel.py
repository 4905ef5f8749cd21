"""Work on all cores, results in order."""

from __future__ import annotations

import threading

import pytest

from amzrec import parallel
from amzrec.parallel import ahead


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_results_come_in_order_and_none_is_missing(threads: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: threads)
    assert list(ahead(lambda n: n * n, range(count))) == [n * n for n in range(count)]


def test_no_more_is_computed_ahead_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    begun, results = list[int](), ahead(lambda n: begun.append(n) or n, range(100))  # type: ignore[func-returns-value]
    assert next(results) == 0
    results.close()
    assert len(begun) <= 4


def test_a_mistake_in_a_thread_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    before = set(threading.enumerate())  # other tests may have left some
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda n: 1 // (n - 3), range(10)))
    begun = set(threading.enumerate()) - before
    for thread in begun:
        thread.join(10)
    assert not any(thread.is_alive() for thread in begun)
