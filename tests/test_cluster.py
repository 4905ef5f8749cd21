"""On a cluster: what Spark prepares trains the same model, and everyone is recommended what one machine recommends."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest

import amzrec
from amzrec.answers.cluster import BLOCKS, PER_CORE, parts_of, reason
from amzrec.answers.lists import Wanted
from amzrec.answers.parts import Part, Work, checksum_of, write_part
from amzrec.commands.load import load
from amzrec.commands.recommend_all import recommend_all
from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews import engines
from amzrec.store.dataset import CUSTOMERS, PARTS, PRODUCTS, open_dataset
from amzrec.store.run import Run
from conftest import ROOT
from runs import random_vectors, write_run
from sparks import need_spark
from test_train import TINY, same_vectors, write_walks

MARKER = "_recommendations.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of random vectors for 20 customers and products."""
    from conftest import write_checkerboard

    folder = tmp_path_factory.mktemp("random")
    dataset = open_dataset(write_checkerboard(folder / "dataset"))
    return write_run(folder / "run", dataset, random_vectors(dataset, np.random.default_rng(1)))


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 customers are three blocks."""
    monkeypatch.setattr("amzrec.answers.everyone.TOGETHER", 7)


# --- from Spark to a model


@pytest.mark.spark
@pytest.mark.usefixtures("eagerly")
def test_a_dataset_from_spark_in_several_partitions_trains_the_same_model_bit_for_bit(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from amzrec.reviews.engines.spark import session

    monkeypatch.setitem(session.SETTINGS, "spark.sql.files.maxPartitionBytes", "4096")
    monkeypatch.setitem(session.SETTINGS, "spark.sql.files.openCostInBytes", "1")
    header, *lines = write_walks(tmp_path).read_text().splitlines()
    (tmp_path / "many").mkdir()
    for number in range(3):
        part = [header, *lines[number::3]]
        (tmp_path / "many" / f"{number}.csv").write_text("\n".join(part) + "\n")
    engine = engines.connect(tmp_path, PrepareConfig(engine="spark"))
    engine.read_lines(tmp_path / "many" / "0.csv", header=True)
    assert engine.frames[tmp_path / "many" / "0.csv"].rdd.getNumPartitions() > 1  # type: ignore[attr-defined]
    datasets = [
        amzrec.prepare(tmp_path / "many", tmp_path / name, PrepareConfig(engine=name)) for name in ("duckdb", "spark")
    ]
    for table in (*(f"{part}.parquet" for part in PARTS), CUSTOMERS, PRODUCTS):
        assert pq.read_table(datasets[1].path / table).equals(pq.read_table(datasets[0].path / table)), table
    one, two = (
        amzrec.train(data, tmp_path / f"run-{data.path.name}", TINY.replace(epochs=1, patience=1)) for data in datasets
    )
    assert same_vectors(one, two)


# --- everyone, on Spark


@pytest.mark.spark
@pytest.mark.parametrize(
    "wanted",
    [{}, {"k": 3, "sort": "blend", "include_seen": True}, {"k": 4, "diversify": 0.5}, {"k": 50}],
    ids=["plain", "blend", "varied", "more than there are"],
)
def test_spark_writes_the_rows_of_one_machine_in_its_order(
    spark: Any, run: Run, tmp_path: Path, wanted: dict[str, Any]
) -> None:
    here = pq.read_table(recommend_all(run, tmp_path / "here.parquet", **wanted))
    out = recommend_all(run, tmp_path / "there.parquet", engine="spark", **wanted)
    files = sorted(path.name for path in out.iterdir())
    assert files == [MARKER, *(f"part-{n:05}.parquet" for n in range(3))]
    there = pq.read_table(out)
    assert there.schema.equals(here.schema)
    assert there.drop_columns(["score", "stars"]).equals(here.drop_columns(["score", "stars"]))
    for column in ("score", "stars"):  # of products of matrices, which another number of threads may cut differently
        np.testing.assert_allclose(there[column].to_numpy(), here[column].to_numpy(), rtol=1e-5, atol=1e-5)
    read = spark.read.parquet(str(out))
    assert read.count() == here.num_rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.parquet", "there.parquet"]


@pytest.mark.spark
def test_a_folder_of_recommendations_is_replaced_when_asked_and_only_where_amzrec_wrote_it(
    spark: Any, run: Run, tmp_path: Path
) -> None:
    out = recommend_all(run, tmp_path / "all.parquet", k=1, engine="spark")
    with pytest.raises(AmzrecError, match=r"folder of recommendations .* exists already.*--overwrite"):
        recommend_all(run, out, k=2, engine="spark")
    assert pq.read_table(out).num_rows == 20
    recommend_all(run, out, k=2, engine="spark", overwrite=True)
    assert pq.read_table(out).num_rows == 40
    (out / "mine.txt").write_text("")
    with pytest.raises(AmzrecError, match=r"holds mine.txt, which amzrec did not write"):
        recommend_all(run, out, engine="spark", overwrite=True)


@pytest.mark.spark
def test_a_task_that_cannot_go_on_ends_the_work_in_one_line_and_leaves_nothing(
    spark: Any, run: Run, tmp_path: Path
) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    model = load(tmp_path / "run")
    assert model.recommender.has_stars  # the files are open
    for file in (tmp_path / "run" / "vectors").glob("*.npy"):
        file.unlink()
    with pytest.raises(AmzrecError, match=r"^Spark could not recommend: run folder \S+ is damaged[^\n]*$"):
        recommend_all(model, tmp_path / "all.parquet", engine="spark")
    with pytest.raises(AmzrecError, match="--vectors sent needs a Spark session of its own"):
        recommend_all(model, tmp_path / "all.parquet", engine="spark", vectors="sent")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# --- a task, without Spark


class Total:
    """What an accumulator of Spark adds up."""

    value = 0

    def add(self, number: int) -> None:
        self.value += number


def work_on(run: Run, out: Path, /, **changes: Any) -> Work:
    out.mkdir(exist_ok=True)
    return dataclasses.replace(Work(run.path, None, checksum_of(run.path), out, Wanted(k=2)), **changes)


def test_a_task_writes_its_customers_alone_whole_and_again(run: Run, tmp_path: Path) -> None:
    done = Total()
    part = Part("part-00001.parquet", range(8, 21, 7))
    for _ in range(2):  # a second attempt replaces the file of the first
        assert write_part(work_on(run, tmp_path / "out"), done, part) == 26
    assert [path.name for path in (tmp_path / "out").iterdir()] == [part.name]
    table = pq.read_table(tmp_path / "out" / part.name)
    assert table["customer_id"].to_pylist() == [f"u{u:02}" for u in range(7, 20) for _ in range(2)]
    assert done.value == 26


def test_a_task_that_cannot_read_the_run_or_write_names_its_machine_and_what_to_do(run: Run, tmp_path: Path) -> None:
    part, host = Part("part-00000.parquet", range(1, 8, 7)), re.escape(socket.gethostname())
    with pytest.raises(AmzrecError, match=f"{host} cannot read .*No such file.*--vectors sent"):
        write_part(work_on(run, tmp_path / "out", run=tmp_path / "nowhere"), Total(), part)
    with pytest.raises(AmzrecError, match=f"{host} sees another run at .*--vectors sent"):
        write_part(work_on(run, tmp_path / "out", checksum=1), Total(), part)
    with pytest.raises(AmzrecError, match=f"{host} cannot write .*every machine sees it under the same path"):
        write_part(work_on(run, tmp_path / "out", out=tmp_path / "gone" / "out"), Total(), part)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("customers", "cores"), [(0, 4), (1, 4), (20, 1), (20, 64), (100_000, 2)])
def test_each_customer_is_in_one_part(customers: int, cores: int) -> None:
    starts = range(1, customers + 1, 7)
    parts = parts_of(starts, cores)
    assert [start for part in parts for start in part.starts] == list(starts)
    assert [part.name for part in parts] == sorted({part.name for part in parts})
    assert max(len(part.starts) for part in parts) <= BLOCKS
    assert len(parts) <= max(1, len(starts))
    assert len(parts) >= min(len(starts), PER_CORE * cores)
    assert {part.starts.step for part in parts} == {7}


def test_why_a_job_failed_is_one_line() -> None:
    need = "An error occurred while calling o1.collect.\n: org.apache.spark.SparkException: Job aborted due to stage "
    stack = '\n\tat org.apache.spark.X (Y.scala:1)\n  File "parts.py", line 1, in write_part\n'
    pytest.importorskip("pyspark")
    assert reason(Exception(f"{need}{stack}amzrec.errors.AmzrecError: m cannot read x: y\n{stack}")) == (
        "m cannot read x: y"
    )
    missing = reason(Exception(f"{need}{stack}ModuleNotFoundError: No module named 'numpy'\n{stack}"))
    assert missing == (
        "No module named 'numpy' on its machines: the Python there (PYSPARK_PYTHON) must have numpy and pyarrow"
    )
    assert reason(Exception(f"{need}{stack}MemoryError: too much\n{stack}")) == "MemoryError: too much"


# --- before Spark starts


def test_a_master_that_does_not_answer_is_said_at_once(tmp_path: Path) -> None:
    pytest.importorskip("pyspark")
    from amzrec.reviews.engines.spark.session import need_master

    with socket.socket() as closed, socket.socket() as listening:
        closed.bind(("127.0.0.1", 0))
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        dead, alive = (f"127.0.0.1:{each.getsockname()[1]}" for each in (closed, listening))
        with pytest.raises(AmzrecError, match=f"no Spark master answers at spark://{dead} .*refused"):
            need_master(f"spark://{dead}")
        need_master(f"spark://{dead},{alive}")
    with pytest.raises(AmzrecError, match="no Spark master answers at spark://host"):
        need_master("spark://host")
    need_master("local[2]")
    need_master("yarn")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "ray"}, r"--engine is 'ray'; allowed: threads \| spark"),
        ({"engine": "spark", "vectors": "lost"}, r"--vectors is 'lost'; allowed: shared \| sent"),
        ({"engine": "spark", "index": "scann"}, "let --out end in .parquet, and leave --index out"),
        ({"spark_master": "yarn"}, "go with --engine spark"),
        ({"vectors": "sent"}, "go with --engine spark"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused_before_anything_starts(
    run: Run, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(AmzrecError, match=message):
        recommend_all(run, tmp_path / "all.parquet", **options)
    with pytest.raises(AmzrecError, match=r"let --out end in \.parquet"):
        recommend_all(run, tmp_path / "all.csv", engine="spark")
    assert not list(tmp_path.iterdir())


# --- a cluster of several processes


@contextlib.contextmanager
def standalone(folder: Path) -> Iterator[str]:
    """A standalone cluster on the loopback: a master and two workers with a core each, as processes of their own."""
    import pyspark

    script = str(Path(pyspark.__file__).parent / "bin" / "spark-class")
    away = {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_WORKER_DIR": str(folder), "SPARK_LOCAL_DIRS": str(folder)}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | away
    running: list[subprocess.Popen[bytes]] = []

    def start(name: str, *words: str) -> Path:
        log = folder / f"{len(running)}.log"
        with log.open("wb") as stream:
            command = [script, f"org.apache.spark.deploy.{name}", "--host", "127.0.0.1", "--webui-port", "0", *words]
            running.append(subprocess.Popen(command, stdout=stream, stderr=stream, env=environment))
        return log

    def said(log: Path, pattern: str) -> str:
        for _ in range(1500):
            if found := re.search(pattern, log.read_text()):
                return found.group()
            time.sleep(0.2)
        raise AssertionError(log.read_text()[-2000:])

    try:
        address = said(start("master.Master", "--port", "0"), r"spark://127\.0\.0\.1:[1-9]\d*")
        worker = ("worker.Worker", "--cores", "1", "--memory", "1g", "--work-dir", str(folder), address)
        for log in [start(*worker), start(*worker)]:
            said(log, "Successfully registered")
        yield address
    finally:
        for each in running:
            each.kill()
            each.wait()


KILLS_ONE = """
import functools, os, pathlib, signal, sys
import amzrec, amzrec.answers.cluster, amzrec.answers.everyone
from amzrec.answers.parts import write_part

def killing(killed, work, done, part):
    found = write_part(work, done, part)
    try:
        pathlib.Path(killed).touch(exist_ok=False)
    except FileExistsError:
        return found
    daemon = pathlib.Path(f"/proc/{os.getppid()}/stat").read_text()  # of the Python workers; its parent is the executor
    os.kill(int(daemon.rsplit(")", 1)[1].split()[1]), signal.SIGKILL)
    return found

amzrec.answers.everyone.TOGETHER = 7
amzrec.answers.cluster.write_part = functools.partial(killing, sys.argv[4])
amzrec.recommend_all(sys.argv[1], sys.argv[2], engine="spark", spark_master=sys.argv[3], vectors="sent")
"""


@pytest.mark.spark
@pytest.mark.slow
def test_workers_that_have_neither_amzrec_nor_the_run_give_the_same_rows_also_where_an_executor_is_killed(
    run: Run, tmp_path: Path
) -> None:
    need_spark()
    here = pq.read_table(recommend_all(run, tmp_path / "here.parquet"))
    (tmp_path / "cluster").mkdir()
    out, killed = tmp_path / "all.parquet", tmp_path / "killed"
    with standalone(tmp_path / "cluster") as master:
        environment = os.environ | {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
        words = [sys.executable, "-c", KILLS_ONE, *map(str, (run.path, out)), master, str(killed)]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=600)
        assert done.returncode == 0, done.stderr
        logs = "".join(log.read_text() for log in (tmp_path / "cluster").glob("*.log"))
    assert killed.is_file()
    assert re.search(r"Executor app-\S+ finished with state EXITED .*exitStatus 137", logs)
    there = pq.read_table(out)
    assert there.drop_columns(["score", "stars"]).equals(here.drop_columns(["score", "stars"]))
    assert pa.compute.max(pa.compute.abs(pa.compute.subtract(there["score"], here["score"]))).as_py() < 1e-5
