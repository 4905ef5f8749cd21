"""Several replicas give the model of one: on two devices of this host, and in two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from amzrec.commands.train import train
from amzrec.errors import AmzrecError
from amzrec.training.cluster import ALONE, Worker, worker_of
from conftest import ROOT

FULL = {"dim": 12, "head": (4,), "own_vector": 1, "epochs": 2, "batch_size": 150, "negatives": "batch"}
KINDS = {
    "full": FULL | {"compared": 100, "history_budget": 400, "seed": 5, "eagerly": False},
    "order": FULL | {"history": "recent", "negatives": "full", "eagerly": True},
    "ids": FULL | {"features": "ids", "optimizer": "adagrad", "refit": True, "eagerly": True},
}
MIRRORED = """
import json, sys
from amzrec.model.keras2 import import_tensorflow
tf = import_tensorflow()
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import amzrec
from amzrec.config import TrainConfig
reviews, folder, kinds = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
for name, settings in kinds.items():
    tf.config.run_functions_eagerly(settings.pop("eagerly"))
    settings["head"] = tuple(settings["head"])
    for strategy in ("one", "mirrored"):
        amzrec.train(reviews, f"{folder}/{name}-{strategy}", TrainConfig.of(**settings), strategy=strategy)
"""


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Some 1,000 reviews of 80 customers and 60 products, with stars and times."""
    rng = np.random.default_rng(0)
    pairs = [(c, p) for c in range(80) for p in range(60) if rng.random() < 0.22]
    rows = [f"c{c},p{p},{1 + (c * p + int(rng.integers(2))) % 5},{1e9 + 1e6 * rng.random():.0f}" for c, p in pairs]
    file = tmp_path / "reviews.csv"
    file.write_text("\n".join(["customer_id,product_id,stars,timestamp", *rows]) + "\n")
    return file


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a process that trains: a cache of its own, the code that is tested."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"AMZREC_CACHE": str(folder / "cache"), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | more


def differences(one: Path, other: Path) -> dict[str, float]:
    """By how much the arrays of two runs differ at most; what is kept in half precision counts by its digits."""
    found = {}
    for file in sorted((one / "vectors").glob("*.npy")):
        known, array = np.load(file), np.load(other / "vectors" / file.name)
        assert known.shape == array.shape, file.name
        if known.dtype.kind != "f":
            np.testing.assert_array_equal(known, array, err_msg=file.name)
        elif known.size:
            unit = 1.0 if known.dtype == np.float32 else float(np.finfo(known.dtype).eps) * 1e5
            found[file.name] = float(np.nanmax(np.abs(known.astype(np.float64) - array))) / unit
    return found


def same_model(one: Path, other: Path) -> None:
    """Assert that two runs hold the same model, to 1e-5."""
    found = differences(one, other)
    assert len(found) > 5
    assert max(found.values()) < 1e-5, found
    chosen = [json.loads((run / "run.json").read_text()) for run in (one, other)]
    assert chosen[0]["best_epochs"] == chosen[1]["best_epochs"]
    assert chosen[0]["recipe"] == chosen[1]["recipe"]


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_two_devices_of_a_host_give_the_model_of_one(kind: str, reviews: Path, tmp_path: Path) -> None:
    """Both phases, both optimizers, sampled histories and negatives drawn for the step as a whole."""
    command = [sys.executable, "-c", MIRRORED, str(reviews), str(tmp_path), json.dumps({kind: KINDS[kind]})]
    subprocess.run(command, env=environment(tmp_path), check=True, timeout=600)
    same_model(tmp_path / f"{kind}-one", tmp_path / f"{kind}-mirrored")


# --- what TF_CONFIG says


def config(task: object, **cluster: object) -> dict[str, str]:
    """An environment with TF_CONFIG."""
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


def test_the_chief_of_a_cluster_is_its_first_worker_unless_it_names_one() -> None:
    two = ["a:1", "b:2"]
    assert worker_of("auto", {}) == ALONE
    assert worker_of("one", config({"type": "worker", "index": 1}, worker=two)) == ALONE
    assert worker_of("auto", config({"type": "worker", "index": 1}, worker=two)) == Worker(1, 2)
    assert worker_of("multi-worker", config({"type": "worker", "index": "0"}, worker=two)).chief
    assert worker_of("auto", config({"type": "chief", "index": 0}, chief=["c:3"], worker=two)) == Worker(0, 3)
    assert worker_of("auto", config({"type": "worker", "index": 0}, chief=["c:3"], worker=two)) == Worker(1, 3)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "needs the variable TF_CONFIG, which is not set"),
        ({"TF_CONFIG": "{"}, "is no JSON"),
        ({"TF_CONFIG": "[]"}, "needs an object with the keys cluster and task"),
        (config({"type": "worker", "index": 0}, worker="a:1"), "needs a list of HOST:PORT for worker; found 'a:1'"),
        (config({"type": "worker", "index": 0}, worker=["a:1", "a:1"]), "lists an address of worker twice"),
        (config({"type": "worker", "index": 2}, worker=["a:1", "b:1"]), "has the task index 2: the 2 of type worker"),
        (config({"type": "ps", "index": 0}, worker=["a:1"], ps=["b:1"]), "trains without parameter servers"),
        (config({"type": "chief", "index": 0}, worker=["a:1"]), "has the task type 'chief'"),
    ],
)
def test_a_cluster_that_cannot_be_read_is_one_error(environment: dict[str, str], said: str) -> None:
    with pytest.raises(AmzrecError, match="TF_CONFIG") as error:
        worker_of("multi-worker", environment)
    assert said in str(error.value)


def test_a_strategy_that_does_not_exist_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(AmzrecError, match="--strategy is 'all'; allowed: auto, one, mirrored, multi-worker"):
        train(tmp_path / "missing.csv", tmp_path / "run", strategy="all")
