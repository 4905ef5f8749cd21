"""The heap of a process that trains."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from amzrec import heap

HELD = """
import os
from amzrec import heap
{share}
import numpy as np
def mapped():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6
with heap.reused():
    first = np.ones(40_000_000)
    kept = np.ones(1000)
    del first
    inside = mapped()
print(inside, mapped(), os.environ.get(heap.FLAG), os.environ.get(heap.CHILDREN))
"""


def numbers(share: str) -> list[str]:
    """Run HELD: MB held after 320 MB were freed inside the block, MB after it, and what the environment has."""
    environment = {name: value for name, value in os.environ.items() if name not in (heap.FLAG, heap.CHILDREN)}
    done = subprocess.run(
        [sys.executable, "-c", HELD.format(share=share)], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.split()


@pytest.mark.skipif(not heap.tell(heap.ARENAS, 0), reason="the system's allocator is not glibc")
def test_what_is_freed_is_kept_in_a_training_and_given_back_after_it() -> None:
    inside, after, *flags = numbers("heap.share()")
    assert float(inside) > 320 > 150 > float(after)
    assert flags == ["1", "1"], "the processes that it starts share a heap each, or none of them does"
    inside, after, *flags = numbers("")  # a process of somebody else's
    assert float(inside) < 150
    assert flags == ["None", "None"]


def test_only_commands_that_train_share_a_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    from amzrec import __main__
    from amzrec.cli import app

    shared: list[str] = []
    monkeypatch.setattr(app, "main", lambda: None)
    monkeypatch.setattr(heap, "share", lambda: shared.append(sys.argv[1]))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    for command in ("train", "tune", "recommend", "serve", "backtest"):
        monkeypatch.setattr(sys, "argv", ["amzrec", command])
        __main__.main()
    assert shared == ["train", "tune", "backtest"]
