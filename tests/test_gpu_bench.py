"""What scripts/bench/gpu.py would measure on a GPU: it runs anywhere at small sizes, and its shares are shares."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import gpu
from synthetic import reviews


@pytest.mark.long
def test_every_system_is_measured_in_both_precisions_beside_the_peer() -> None:
    size = gpu.Size(200, 100, 600, (64,), 1, 0.0)
    found = gpu.measured(size, reviews(size.reviews, size.customers, size.products))
    assert len(found) == 6
    for (system, _, _), one in found.items():
        assert one is not None
        assert one.step > 0
        shares = (one.softmax, one.busy, one.waiting)
        if system == gpu.PEER:
            assert shares == (None, None, None)
        else:
            assert all(share is not None and share >= 0 for share in shares)
            assert one.softmax
            assert (one.waiting or 0) < 1
    lines = gpu.table_of(found).splitlines()
    assert [line.count("|") for line in lines[:8]] == [10] * 8
    assert "| expert TFRS | float32 | 64 |" in lines[6]
    assert "amzrec ids: " in lines[-1]


def test_a_system_that_does_not_fit_says_so_and_is_compared_with_nothing() -> None:
    found = {
        ("amzrec ids", "float32", 64): gpu.Figures(600.0, 500.0, 0.5, 0.9, 0.1),
        ("amzrec ids", "float32", 128): gpu.Figures(900.0, 800.0, 0.6, 0.8, 0.2),
        (gpu.PEER, "float32", 64): gpu.Figures(100.0),
        (gpu.PEER, "float32", 128): None,
    }
    table = gpu.table_of(found)
    assert "| amzrec ids | float32 | 64 | 600 | 6.0 | 500 | 50% | 90% | 10% |" in table
    assert "| amzrec ids | float32 | 128 | 900 |  | 800 | 60% | 80% | 20% |" in table
    assert "| expert TFRS | float32 | 128 | out of memory |" in table
    assert table.endswith("amzrec ids: 6.0 to 6.0 × expert TFRS (the goal is 5), where both fit.")


def test_the_share_in_which_a_gpu_is_busy_is_the_mean_of_what_nvidia_smi_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "nvidia-smi"
    done = tmp_path / "said"
    said.write_text(f"#!/bin/sh\necho 50\necho 70\necho '[N/A]'\ntouch {done}\nexec sleep 60\n")
    said.chmod(0o755)
    monkeypatch.setattr(gpu, "NVIDIA_SMI", [str(said)])
    monkeypatch.setattr(gpu.tf.config, "list_physical_devices", lambda _: ["a GPU"])

    def work() -> Any:
        while not done.exists():
            time.sleep(0.01)
        return gpu.Timed(1.0, 0.0)

    timed, busy = gpu.watched(work)
    assert timed.seconds == 1.0
    assert busy == pytest.approx(0.6)
