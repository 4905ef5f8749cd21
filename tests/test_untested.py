"""`--test 0`: a training on all reviews, for production, which says that nothing is measured and where figures are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from amzrec.cli.app import app
from amzrec.store.dataset import open_dataset
from amzrec.store.recipe import last_figures
from amzrec.store.run import Run, open_run
from conftest import checkerboard_reviews
from runs import parity_vectors, write_run

TINY = ["--dim", "12", "--head", "4", "--epochs", "2", "--patience", "2"]
FIGURES = {
    "rating": {"rmse": 0.5, "mae": 0.4},
    "retrieval": {"top_1": 0.1, "top_100": 0.9},
    "ranking": {"recall@10": 0.25, "ndcg@10": 0.125},
}


def run(*words: object) -> Any:
    """One command, in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


def evaluated_run(folder: Path, board: Path, **info: Any) -> Run:
    """A run of the checkerboard with a metrics.json."""
    made = write_run(folder, board, parity_vectors(open_dataset(board)), **info)
    (folder / "metrics.json").write_text(json.dumps({"model": FIGURES}))
    return made


def test_the_figures_of_the_last_evaluation_stay_with_a_recipe(checkerboard: Path, tmp_path: Path) -> None:
    settings = {"dim": 12, "epochs": 2}
    mine = evaluated_run(tmp_path / "mine", checkerboard, recipe=settings, source="shop.csv")
    about = {"run": str(tmp_path / "mine"), "source": "shop.csv"}
    figures = {"rmse": 0.5, "recall@10": 0.25, "ndcg@10": 0.125, "top_100": 0.9}
    assert last_figures(mine, settings) == about | {"changed": []} | figures
    assert last_figures(mine, {"dim": 24, "epochs": 2}) == about | {"changed": ["dim"]} | figures


def test_figures_of_what_was_not_trained_are_left_out(checkerboard: Path, tmp_path: Path) -> None:
    mine = evaluated_run(tmp_path / "mine", checkerboard, trained=["rating"])
    assert last_figures(mine, {}) == {"run": str(tmp_path / "mine"), "source": None, "changed": [], "rmse": 0.5}


def test_a_run_without_test_reviews_passes_on_the_figures_of_its_recipe(checkerboard: Path, tmp_path: Path) -> None:
    kept = {"run": "runs/mine", "source": "shop.csv", "changed": ["dim"], "rmse": 0.5}
    facts = {"recipe": {"dim": 12, "seed": 1}, "evaluated": kept}
    again = write_run(tmp_path / "again", checkerboard, parity_vectors(open_dataset(checkerboard)), **facts)
    assert last_figures(again, {"dim": 12, "seed": 2}) == kept | {"changed": ["dim", "seed"]}


def test_a_run_that_was_never_evaluated_has_no_figures(checkerboard: Path, tmp_path: Path) -> None:
    mine = write_run(tmp_path / "mine", checkerboard, parity_vectors(open_dataset(checkerboard)))
    assert last_figures(mine, {}) is None
    (mine.path / "metrics.json").write_text("{")
    assert last_figures(mine, {}) is None


@pytest.mark.long
@pytest.mark.usefixtures("eagerly")
def test_a_training_on_everything_answers_and_says_that_nothing_is_measured(
    checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluated_run(tmp_path / "mine", checkerboard, recipe={"dim": 12}, source="shop.csv")
    parts = checkerboard_reviews()
    rows = [f"u{u:02},p{p:02},{stars:g}" for part in parts.values() for u, p, stars in part]
    Path("reviews.csv").write_text("\n".join(["customer,product,stars", *rows]) + "\n")
    words = ["reviews.csv", "--recipe", "mine", "--split", "random", "--test", 0, "--run", "all", *TINY]

    done = run("train", *words)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    measure = "evaluate with amzrec train SOURCE --recipe all --test 0.2"
    assert f"no test reviews (--test 0): nothing is measured; {measure}" in lines
    figures = "RMSE 0.5000, top-100 0.9000, recall@10 0.2500, NDCG@10 0.1250"
    assert f"its recipe was evaluated as {tmp_path / 'mine'} on shop.csv: {figures}" in lines
    assert not any(line.strip().startswith("amzrec evaluate") for line in lines)

    made = open_run("all")
    data = open_dataset(str(made.info.dataset))
    assert (len(data.test), len(data.train) + len(data.valid)) == (0, len(rows))
    assert made.info.fit_parts == ("train", "valid")
    assert int(made.vectors.product_counts.sum()) == len(rows)
    assert made.info.evaluated == last_figures(open_run("mine"), made.info.recipe)
    assert not Path("all/metrics.json").exists()

    refused = run("evaluate", "all")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (1, 1)
    assert measure in refused.stderr
    for asked in (["recommend", "u07"], ["rate", "u07", "p02"], ["similar", "p04"]):
        answer = run(*asked, "--run", "all")
        assert answer.exit_code == 0, answer.output

    document = json.loads(run("train", *words, "--overwrite", "--json").stdout)
    assert document == {"run": "all", "model": None, "evaluated": made.info.evaluated}
