"""tfrs.metrics.FactorizedTopK beside the judge's own count: equal where no scores are equal."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from amzrec.cli.app import app
from amzrec.commands.evaluate import evaluate
from amzrec.errors import AmzrecError
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run
from runs import parity_vectors, random_vectors, write_run
from test_evaluate import DAY, random_dataset
from test_memory import random_memory


def random_run(folder: Path, dated: bool, remembers: bool = False) -> Run:
    """A run with random vectors, so that no scores are equal; some test products are no candidates."""
    dataset = random_dataset(folder / "dataset", 11)
    vectors = random_vectors(dataset, np.random.default_rng(11))
    if dated:
        context = np.random.default_rng(5).normal(size=(3, 21)).astype(np.float32)
        vectors = dataclasses.replace(vectors, context=context, context_edges=np.array([100 * DAY, 250 * DAY]))
    if remembers:
        memory = random_memory(len(vectors.product_ids), 200)
        lists, head = memory.neighbours, dataclasses.replace(vectors.head, memory_fade=0.7, memory_last=4)
        arrays: dict[str, Any] = {
            "memory_offsets": lists.offsets,
            "memory_items": lists.items,
            "memory_weights": 9 * memory.weights,
        }
        vectors = dataclasses.replace(vectors, head=head, **arrays)
    return write_run(folder / "run", dataset, vectors)


@pytest.mark.slow
@pytest.mark.parametrize(("dated", "remembers"), [(False, False), (True, False), (False, True), (True, True)])
def test_by_ids_it_gives_the_shares_of_the_judge_where_there_are_no_ties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dated: bool, remembers: bool
) -> None:
    monkeypatch.setattr("amzrec.model.factorized.VOTERS", 7)  # several blocks
    run = random_run(tmp_path, dated, remembers)
    found = evaluate(run, metric="factorized-top-k")
    ours, theirs = found["model"]["retrieval"], found["model"]["factorized_top_k"]
    assert 0 < ours["top_5"] < ours["top_50"] < 1
    assert theirs == pytest.approx(ours, abs=1e-6)
    written = json.loads((run.path / "metrics.json").read_text())["model"]
    assert written["factorized_top_k"] == theirs
    assert "factorized_top_k" not in evaluate(run)["model"], "only where it is asked for"


@pytest.mark.slow
def test_equal_scores_count_against_the_judge_alone(checkerboard: Path, tmp_path: Path) -> None:
    from amzrec.model.factorized import factorized_top_k

    dataset = open_dataset(checkerboard)
    vectors = parity_vectors(dataset)
    vectors.retrieval_candidate[:, -1] = 0  # the ten products of a parity score the same
    found = evaluate(write_run(tmp_path / "run", dataset, vectors))["model"]["retrieval"]
    assert (found["top_5"], found["top_10"]) == (0, 1)
    theirs = factorized_top_k(vectors, dataset.test)
    assert 0 < theirs["top_5"] < 1
    assert theirs["top_10"] == 1


@pytest.mark.slow
def test_a_candidate_that_is_listed_twice_is_refused(checkerboard: Path) -> None:
    from amzrec.model.factorized import factorized_top_k

    dataset = open_dataset(checkerboard)
    twice = dataclasses.replace(parity_vectors(dataset), candidates=np.array([1, 2, 2], np.int32))
    with pytest.raises(ValueError, match="unique"):
        factorized_top_k(twice, dataset.test)


@pytest.mark.slow
def test_the_command_shows_it_beside_our_own(tmp_path: Path) -> None:
    run = random_run(tmp_path, False)
    done = CliRunner().invoke(app, ["evaluate", str(run.path), "--metric", "factorized-top-k"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    theirs = next(line.split() for line in lines if line.startswith("FactorizedTopK "))
    shown = [f"{value:.4f}" for value in evaluate(run)["model"]["retrieval"].values()]
    assert theirs == ["FactorizedTopK", "-", "-", *shown, "-", "-"]


def test_another_metric_is_refused_and_the_metric_goes_with_no_context(checkerboard: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", checkerboard, parity_vectors(open_dataset(checkerboard)))
    with pytest.raises(AmzrecError, match=r"--metric is 'recall'; allowed: factorized-top-k"):
        evaluate(run, metric="recall")
    with pytest.raises(AmzrecError, match="leave --context out"):
        evaluate(run, metric="factorized-top-k", context="kind")
