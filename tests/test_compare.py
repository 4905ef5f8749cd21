"""The comparison, with the training stood in for: what is trained, what is written, what is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amzrec.commands.compare import compare
from amzrec.commands.evaluate import evaluate
from amzrec.config import PrepareConfig, TrainConfig
from amzrec.errors import AmzrecError
from amzrec.store.dataset import Dataset, open_dataset
from amzrec.store.run import Run, latest_run
from runs import parity_vectors, random_vectors, write_run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, float]]:
    """(name, rating weight, retrieval weight) of what was asked to be trained, in order; joint understands."""
    asked = list[tuple[str, float, float]]()

    def train(dataset: Dataset, run: Path, config: TrainConfig, **_: Any) -> Run:
        asked.append((run.name, config.rating_weight, config.retrieval_weight))
        understood = run.name == "joint"
        vectors = parity_vectors(dataset) if understood else random_vectors(dataset, np.random.default_rng(len(asked)))
        return write_run(run, dataset, vectors, finished=float(len(asked)))

    monkeypatch.setattr("amzrec.commands.train.train", train)
    return asked


@pytest.mark.slow
def test_three_models_are_trained_and_joint_is_the_latest(
    checkerboard: Path, tmp_path: Path, trained: list[tuple[str, float, float]]
) -> None:
    found = compare(checkerboard, root=tmp_path / "runs")
    assert trained == [("rating", 1, 0), ("retrieval", 0, 1), ("joint", 1, 1)]
    assert latest_run(tmp_path / "runs").name == "joint"
    assert list(found["models"]) == ["rating", "retrieval", "joint"]
    assert found["models"]["joint"] == evaluate(tmp_path / "runs" / "joint")["model"]
    assert set(found["differences"]["joint"]) == set(found["baselines"])
    assert json.loads((tmp_path / "runs" / "comparison.json").read_text()) == found
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")


def test_the_weights_of_joint_are_those_asked_for(
    checkerboard: Path, tmp_path: Path, trained: list[tuple[str, float, float]]
) -> None:
    compare(checkerboard, TrainConfig(rating_weight=2, retrieval_weight=0.5), root=tmp_path / "runs")
    assert trained == [("rating", 1, 0), ("retrieval", 0, 1), ("joint", 2, 0.5)]


def test_a_dataset_without_test_reviews_is_refused_before_anything_is_trained(
    tmp_path: Path, trained: list[tuple[str, float, float]]
) -> None:
    (tmp_path / "reviews.csv").write_text("customer,product,stars\nc,p,5\nd,q,4\nc,q,3\n")
    with pytest.raises(AmzrecError, match="no test reviews: prepare it with a larger --test"):
        compare(tmp_path / "reviews.csv", root=tmp_path / "runs", prepare=PrepareConfig(test=0))
    assert trained == []


def test_a_run_in_the_way_is_refused_before_anything_is_trained(
    checkerboard: Path, tmp_path: Path, trained: list[tuple[str, float, float]]
) -> None:
    dataset = open_dataset(checkerboard)
    write_run(tmp_path / "joint", dataset, parity_vectors(dataset))
    with pytest.raises(AmzrecError, match="--overwrite"):
        compare(checkerboard, root=tmp_path)
    assert trained == []
