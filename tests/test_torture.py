"""The short form of scripts/torture: seeded faults, each with the outcome that it must have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT


def tortured(folder: Path, *words: str) -> None:
    """Torture a world of its own, which must end well."""
    environment = {name: value for name, value in os.environ.items() if name != "AMZREC_CACHE"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "torture"), "--jobs", "1", "--no-export", "--seed", "5", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment | {"TMPDIR": str(folder)},
    )
    assert done.returncode == 0, done.stderr + done.stdout[-3000:]
    assert "## What went wrong\n\nNothing." in done.stdout
    assert not list(folder.iterdir())


@pytest.mark.long
def test_kills_and_full_disks_do_what_they_must(tmp_path: Path) -> None:
    quick = [word for kind in ("training", "events", "prepare", "recommend --all", "update") for word in ("--of", kind)]
    tortured(tmp_path, "--minutes", "9", "--most", "6", "--only", "kills", "--only", "full", *quick)
