"""A training that is stopped by signals and goes on; each command is a fork of a process with the libraries.

python tests/stopped.py FOLDER
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from amzrec.store.run import open_run
from torture.children import Child, load_libraries
from torture.world import eagerly, write_reviews

TRAIN = ["train", "reviews.csv", "--epochs", "2", "--dim", "4", "--head", "", "--batch-size", "300", "--json"]
STOPS = [
    ("starting TensorFlow", signal.SIGINT),
    ("epoch 1: rmse", signal.SIGTERM),
    ("epoch 1: fitted", signal.SIGINT),
    ("test rev", signal.SIGTERM),
]


def typed(words: list[str], folder: Path, when: str = "", number: int = 0) -> tuple[int | None, list[str]]:
    """Return the exit code of a command, to which a signal is sent when it says something, and what it said."""
    child = Child(words, folder, before=eagerly)
    while not child.ended(0.002):
        if number and when.encode() in os.pread(child.log.fileno(), 1 << 20, 0):
            os.kill(child.pid, number)
            number = 0
    ended = child.end()
    return ended.code, ended.said.splitlines()


def main(folder: Path) -> None:
    """Train undisturbed, then with stops, each time typing the line that is said: both end with the same bits."""
    write_reviews(folder / "reviews.csv", 3, 400)
    code, lines = typed([*TRAIN, "--run", "whole"], folder)
    assert code == 0, lines
    words = TRAIN
    for when, number in STOPS:
        code, lines = typed(words, folder, when, number)
        assert code == 128 + number, (when, code, lines)
        assert not [line for line in lines if "Traceback" in line]
        if when == "starting TensorFlow":
            assert lines[-1] == "amzrec: interrupted"
            assert not list((folder / "runs").iterdir())
            continue
        words = shlex.split(lines[-1].partition("Go on with: amzrec ")[2])
        assert words[-3:] == ["--run", "runs/joint", "--resume"], lines
    code, lines = typed(words, folder)
    assert code == 0, lines
    assert "the run runs/joint is trained: its evaluation is left" in lines
    one, other = (open_run(folder / name).vectors.arrays() for name in ("whole", "runs/joint"))
    assert one.keys() == other.keys()
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


if __name__ == "__main__":
    load_libraries()
    main(Path(sys.argv[1]))
