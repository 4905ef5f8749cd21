"""Tracking: a run in a real server of MLflow and in its local store, and a run that is kept whatever the store does."""

from __future__ import annotations

import json
import sqlite3
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from typer.testing import CliRunner

import amzrec
import servers
from amzrec.cli.app import app
from amzrec.commands.evaluate import evaluate
from amzrec.errors import AmzrecError
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run
from amzrec.store.tracking import Tracker, named
from runs import random_vectors, write_run
from test_plots import HISTORY

pytest.importorskip("mlflow", reason="pip install 'amzrec[mlflow]'")


@pytest.fixture
def run(checkerboard: Path, tmp_path: Path) -> Run:
    """The checkerboard with random vectors, evaluated, and with a history of its training."""
    dataset = open_dataset(checkerboard)
    facts = {"recipe": {"dim": 6, "head": [4]}, "best_epochs": {"rating": 2}, "seconds": 3.0, "finished": 1e9}
    vectors = random_vectors(dataset, np.random.default_rng(3))
    made = write_run(tmp_path / "board", dataset, vectors, source="shop/reviews.csv", **facts)
    (made.path / "history.csv").write_text(HISTORY)
    evaluate(made)
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.mlflow(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


def asked(server: str, path: str) -> Any:
    """What the server answers."""
    with urllib.request.urlopen(f"{server}/{path}", timeout=60) as answer:
        content = answer.read()
    return json.loads(content) if "json" in answer.headers["Content-Type"] else content


@pytest.mark.long
def test_a_server_keeps_recipe_epochs_figures_pictures_and_folder(
    server: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "shop")
    kept = amzrec.track(run)
    found = asked(server, f"api/2.0/mlflow/runs/get?run_id={kept}")["run"]
    assert found["info"]["run_name"] == "board"
    assert found["info"]["status"] == "FINISHED"
    assert (int(found["info"]["start_time"]), int(found["info"]["end_time"])) == (999_999_997_000, 1_000_000_000_000)
    experiment = asked(server, "api/2.0/mlflow/experiments/get-by-name?experiment_name=shop")["experiment"]
    assert found["info"]["experiment_id"] == experiment["experiment_id"]
    parameters = {each["key"]: each["value"] for each in found["data"]["params"]}
    assert (parameters["dim"], parameters["head"], parameters["split.split"]) == ("6", "[4]", "given")
    assert {each["key"]: each["value"] for each in found["data"]["tags"]}["source"] == "reviews.csv"
    metrics = {each["key"]: each["value"] for each in found["data"]["metrics"]}
    measured = json.loads((run.path / "metrics.json").read_text())
    assert metrics["test/rmse"] == pytest.approx(measured["model"]["rating"]["rmse"])
    assert metrics["test/recall_at_10"] == pytest.approx(measured["model"]["ranking"]["recall@10"])
    assert metrics["popularity/top_10"] == pytest.approx(measured["baselines"]["popularity"]["retrieval"]["top_10"])
    assert metrics["best_epoch/rating"] == 2
    history = asked(server, f"api/2.0/mlflow/metrics/get-history?run_id={kept}&metric_key={quote('select/valid_rmse')}")
    assert [(each["step"], each["value"]) for each in history["metrics"]] == [(1, 0.95), (2, 0.94)]
    for name in ("run.json", "plots/coverage.png", "vectors/rating_query.npy"):
        assert asked(server, f"get-artifact?run_id={kept}&path=run/{name}") == (run.path / name).read_bytes() or (
            asked(server, f"get-artifact?run_id={kept}&path=run/{name}") == json.loads((run.path / name).read_text())
        )


def test_the_local_store_is_a_file_here_and_json_stays_one_document(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = CliRunner().invoke(app, ["evaluate", str(run.path), "--track", "mlflow", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["model"]
    assert "tracked at sqlite:///" in done.stderr
    connection = sqlite3.connect(tmp_path / "mlflow.db")
    assert connection.execute("SELECT name, status FROM runs").fetchall() == [("board", "FINISHED")]
    connection.close()
    assert list(tmp_path.glob("mlruns/*/*/artifacts/run/plots/coverage.png"))


def test_a_store_that_fails_at_the_end_loses_nothing_and_says_what_to_type(
    server: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    tracker = Tracker()

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left at https://me:secret@host")

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.tracking.MlflowClient.log_artifacts", full)
        before = {file: file.read_bytes() for file in run.path.rglob("*.npy")}
        with pytest.raises(AmzrecError, match=r"is whole, but not tracked: .*No space left") as told:
            amzrec.track(run, tracker=tracker)
        assert str(told.value).endswith(f"then type: amzrec evaluate {run.path} --track mlflow")
        assert "secret" not in str(told.value)
        done = CliRunner().invoke(app, ["evaluate", str(run.path), "--track", "mlflow", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["model"]  # the figures are shown all the same
    assert done.stderr.count("amzrec: error: ") == 1
    assert {file: file.read_bytes() for file in run.path.rglob("*.npy")} == before
    body = json.dumps({"experiment_ids": [tracker.experiment]}).encode()
    request = urllib.request.Request(f"{server}/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        states = [each["info"]["status"] for each in json.loads(answer.read())["runs"]]
    assert states == ["FAILED", "FAILED"]


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_a_store_that_is_not_there_is_told_before_the_work_begins(
    verb: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{servers.free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def begun(*_: Any, **__: Any) -> None:
        raise AssertionError("work begins before the store is reached")

    monkeypatch.setattr(f"amzrec.commands.{verb}.{verb}", begun)
    done = CliRunner().invoke(app, [verb, str(run.path), "--track", "mlflow"])
    assert done.exit_code == 1
    assert "MLflow at http://me:***@127.0.0.1" in done.stderr
    assert "secret" not in done.output
    assert done.stderr.count("\n") == 1


def test_another_store_and_figures_that_are_not_kept_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, text in (
        (["--track", "paper"], "--track is 'paper'; allowed: mlflow"),
        (["--track", "mlflow", "--context", "kind"], "leave --context and --later out"),
    ):
        done = CliRunner().invoke(app, ["evaluate", str(run.path), *words])
        assert done.exit_code == 1
        assert text in done.stderr
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(AmzrecError, match=r"pip install 'amzrec\[mlflow\]'"):
        amzrec.track(run)


def test_names_are_written_as_the_store_takes_them() -> None:
    assert named("model/ndcg@10") == "model/ndcg_at_10"
    assert named("50%:x") == "50__x"
