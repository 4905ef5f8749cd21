"""The run folder: opened by path, by name or as the latest; foreign and damaged ones are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amzrec.errors import AmzrecError
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run, finished_runs, latest_run, open_run
from runs import parity_vectors, random_vectors, write_run


@pytest.fixture
def run(checkerboard: Path, tmp_path: Path) -> Run:
    dataset = open_dataset(checkerboard)
    return write_run(tmp_path / "runs" / "joint", dataset, random_vectors(dataset, np.random.default_rng(0)))


def test_a_run_can_be_opened_by_path_as_itself_or_as_the_latest(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_run(run) is run
    assert open_run(str(run.path)).path == run.path
    monkeypatch.chdir(run.path.parent.parent)
    assert open_run().path.name == "joint"


def test_the_latest_run_is_the_one_that_finished_last(checkerboard: Path, tmp_path: Path) -> None:
    vectors = parity_vectors(open_dataset(checkerboard))
    for name, finished in (("b", 2.0), ("a", 3.0), ("c", 1.0)):
        write_run(tmp_path / name, checkerboard, vectors, finished=finished)
    assert [path.name for path in finished_runs(tmp_path)] == ["c", "b", "a"]
    assert latest_run(tmp_path).name == "a"


def test_an_unfinished_folder_is_not_the_latest_run(run: Run) -> None:
    (run.path.parent / "newer").mkdir()
    assert latest_run(run.path.parent) == run.path


def test_without_any_run_the_error_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AmzrecError, match="amzrec train"):
        open_run()


def test_an_unknown_run_names_the_known_ones(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.path.parent.parent)
    with pytest.raises(AmzrecError, match=r"no run folder runs/other.*runs/joint"):
        open_run("runs/other")


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AmzrecError, match=r"no run\.json"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(AmzrecError, match="damaged"):
        open_run(tmp_path)
