"""What the tests share: quiet TensorFlow, the real data where present, the checkerboard and its known answer."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

if TYPE_CHECKING:
    from amzrec.store.run import Run

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.pop("PYTHONUNBUFFERED", None)  # users have none: what waits in a stream at the end of a process matters
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what it does not wait for: Ctrl-C is tested
    signal.signal(signal.SIGINT, signal.default_int_handler)

gc.set_threshold(50_000, 20, 20)  # TensorFlow has 300,000 objects, which would be looked through at each few tests

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = "AMZREC_REAL_DATA"  # names the folder of real ratings; default: shared/data beside the checkout
SIDE = 20  # customers and products of the checkerboard


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with the most slow tests first, so that no worker is left alone with a long one at the end."""
    slow = Counter(
        item.path for item in items if {"slow", "long", "spark"} & {mark.name for mark in item.iter_markers()}
    )
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (-slow[item.path], -tests[item.path], item.path))


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing that a test prepares lands in the user's cache."""
    os.environ["AMZREC_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def eagerly() -> Iterator[None]:
    """Let a test's trainings run without a graph: for a few steps, tracing it takes longer than they do."""
    from amzrec.model.keras2 import import_tensorflow

    run_eagerly = import_tensorflow().config.run_functions_eagerly
    run_eagerly(True)
    yield
    run_eagerly(False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real ratings; skips, saying why, where it is absent."""
    folder = Path(os.environ.get(REAL_DATA, ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real ratings in {folder}: set {REAL_DATA} to a folder that holds them")
    return folder


def checkerboard_reviews(side: int = SIDE) -> dict[str, list[tuple[int, int, float]]]:
    """(customer, product, stars) by part: even customers like even products, odd ones odd products.

    Every product of the own parity has 5 stars, the two that follow the customer's number and are of the other parity
    have 1 star, the rest of the other parity is not reviewed. The diagonal is withheld as test: the only product of
    the own parity that customer u has not reviewed is product u, so u must get u. Valid is (u, u + 2).
    """
    parts: dict[str, list[tuple[int, int, float]]] = {"train": [], "valid": [], "test": []}
    for u in range(side):
        for p in range(u % 2, side, 2):
            part = "test" if p == u else "valid" if p == (u + 2) % side else "train"
            parts[part].append((u, p, 5.0))
        parts["train"] += [(u, (u + 1) % side, 1.0), (u, (u + 3) % side, 1.0)]
    return parts


def add_features(folder: Path, features: list[list[str]]) -> None:
    """Give the product rows of a dataset folder these features."""
    products = pq.read_table(folder / "products.parquet")
    column = pa.array(features, pa.list_(pa.string()))
    place = products.column_names.index("features")
    pq.write_table(products.set_column(place, "features", column), folder / "products.parquet")


def write_checkerboard(folder: Path, side: int = SIDE) -> Path:
    """The checkerboard as a dataset folder: customer u is `u07`, in row u + 1; product p is `p07`, in row p + 1."""
    parts = checkerboard_reviews(side)
    folder.mkdir(parents=True, exist_ok=True)
    for name, reviews in parts.items():
        customer, product, stars = (np.array(column) for column in zip(*reviews, strict=True))
        table = {
            "customer": pa.array(customer + 1, pa.int32()),
            "product": pa.array(product + 1, pa.int32()),
            "stars": pa.array(stars, pa.float32()),
            "timestamp": pa.nulls(len(reviews), pa.int64()),
        }
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    counts = [0] + [sum(u == row for u, _, _ in parts["train"]) for row in range(side)]
    bought = [0] + [sum(p == row for _, p, _ in parts["train"]) for row in range(side)]
    no_lists: Any = [[] for _ in range(side + 1)]
    customers = {
        "row": pa.array(range(side + 1), pa.int32()),
        "customer_id": pa.array([""] + [f"u{u:02}" for u in range(side)]),
        "count": pa.array(counts, pa.int64()),
        "features": pa.array(no_lists, pa.list_(pa.string())),
    }
    products = {
        "row": pa.array(range(side + 1), pa.int32()),
        "product_id": pa.array([""] + [f"p{p:02}" for p in range(side)]),
        "title": pa.array([None] + [f"Product {p}" for p in range(side)]),
        "count": pa.array(bought, pa.int64()),
        "features": pa.array(no_lists, pa.list_(pa.string())),
        "tokens": pa.array(
            [[]] + [[zlib.crc32(word.encode()) & 0x7FFFFFFF for word in ("product", str(p))] for p in range(side)],
            pa.list_(pa.int32()),
        ),
    }
    pq.write_table(pa.table(customers), folder / "customers.parquet")
    pq.write_table(pa.table(products), folder / "products.parquet")
    sizes = {name: len(reviews) for name, reviews in parts.items()}
    kept = sum(sizes.values())
    protocol = {"split": "given", "test": 0.2, "valid": 0.1, "seed": 42, "product_key": "id", "min_reviews": 0}
    info: dict[str, Any] = {
        "source": "checkerboard",
        "fingerprint": f"checkerboard-{side}",
        "format": "checkerboard",
        "columns": None,
        "protocol": protocol | {"min_stars": 0.0, "catalogue": "train"},
        "stars": {"min": 1.0, "max": 5.0},
        "counts": {"read": kept, "kept": kept, "rejected": {}, "duplicates": 0, "repeats": 0, "filtered": 0}
        | {"customers": side, "products": side},
        "warnings": [],
        "version": "0.1.0",
    }
    (folder / "dataset.json").write_text(json.dumps(info, indent=1))
    return folder


@pytest.fixture(scope="session")
def checkerboard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkerboard as a dataset folder (read it, do not change it)."""
    return write_checkerboard(tmp_path_factory.mktemp("checkerboard") / "dataset")


@pytest.fixture
def two(checkerboard: Path, tmp_path: Path) -> tuple[Run, Run]:
    """Two runs, a and b, whose answers differ."""
    from amzrec.store.dataset import open_dataset
    from runs import parity_vectors, random_vectors, write_run

    dataset = open_dataset(checkerboard)
    vectors = parity_vectors(dataset), random_vectors(dataset, np.random.default_rng(2))
    a, b = (write_run(tmp_path / name, dataset, each) for name, each in zip("ab", vectors, strict=True))
    return a, b


@pytest.fixture(scope="session")
def checkerboard_csv(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The checkerboard as two CSV files with the header customer,product,stars: (train and valid, test)."""
    folder = tmp_path_factory.mktemp("checkerboard_csv")
    parts = checkerboard_reviews()
    rows = {"train": parts["train"] + parts["valid"], "test": parts["test"]}
    for name, reviews in rows.items():
        lines = ["customer,product,stars"] + [f"u{u:02},p{p:02},{stars:g}" for u, p, stars in reviews]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder / "train.csv", folder / "test.csv"


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The one Spark session of the tests, on two cores of this machine."""
    from sparks import QUICK, need_spark

    need_spark()
    from pyspark.sql import SparkSession

    from amzrec.reviews.engines.spark.session import same_interrupts

    builder = SparkSession.builder.master("local[2]")
    for name, value in QUICK.items():
        builder = builder.config(name, value)
    with pytest.MonkeyPatch.context() as patch, same_interrupts():
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        session = builder.config("spark.local.dir", str(tmp_path_factory.mktemp("spark"))).getOrCreate()
    yield session
    session.stop()
