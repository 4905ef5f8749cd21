"""Generated reviews, and learners, dataset folders and runs made of them: the shape of real data without its files."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.config import DataFacts, PrepareConfig, TrainConfig
from amzrec.store.dataset import (
    CUSTOMER_SCHEMA,
    NO_TIME,
    PRODUCT_SCHEMA,
    Dataset,
    DatasetInfo,
    Reviews,
    Scale,
    open_dataset,
    reviews_table,
)
from amzrec.store.manifest import new_identity, write_manifest
from amzrec.store.ownership import RUN_FOLDER
from amzrec.store.protocol import DataProtocol
from amzrec.store.run import RUN, Run, RunInfo, open_run
from amzrec.store.strings import Strings
from amzrec.store.vectors import Head, Vectors, write_vectors

ROWS, CUSTOMERS, TITLES, WIDTH = 115_120, 109_308, 46_438, 32  # of the Amazon notebook
DAYS, PERIODS, DAY = 4000, 200, 86_400


def reviews(rows: int = ROWS, customers: int = CUSTOMERS, titles: int = TITLES) -> Reviews:
    """Reviews with titles by a power law (exponent 1) and customers at random; every one of both at least once."""
    rng = np.random.default_rng(1)
    share = 1 / np.arange(1, titles + 1)
    product = np.concatenate([np.arange(titles), rng.choice(titles, rows - titles, p=share / share.sum())]) + 1
    customer = np.concatenate([np.arange(customers), rng.integers(0, customers, rows - customers)]) + 1
    stars = rng.integers(1, 6, rows).astype(np.float32)
    mixed = rng.permutation(customer).astype(np.int32), rng.permutation(product).astype(np.int32)
    return Reviews(*mixed, stars, np.full(rows, NO_TIME))


class Vocabularies:
    """What a learner needs of a dataset, without a folder; with `features` every other row has one."""

    def __init__(self, customers: int, titles: int, features: bool = False) -> None:
        def table(name: str, size: int) -> pa.Table:
            lengths = np.arange(size + 1) % 2 * features
            words = pa.array(np.full(lengths.sum(), "kind=odd"), pa.string())
            lists = pa.ListArray.from_arrays(pa.array(np.cumsum([0, *lengths]).astype(np.int32)), words)
            return pa.table({f"{name}_id": pa.nulls(size + 1, pa.string()), "features": lists})

        self.customers, self.products = table("customer", customers), table("product", titles)
        self.info = argparse.Namespace(stars=Scale(1.0, 5.0))

    def candidates(self, counts: Any) -> Any:
        """All products with a review."""
        return np.flatnonzero(counts > 0).astype(np.int32)


def learner(some: Reviews, data: Any, config: TrainConfig, half_life: float | None = None) -> Any:
    """Make a learner on reviews with these vocabularies, its input prepared.

    `half_life` is that of popularity, in days, for reviews with dates; None: of all time.
    """
    from amzrec.features.fitted import fit_reviews
    from amzrec.training.learner import Learner

    dated = bool((some.timestamp != NO_TIME).all())
    recipe = config.resolve(DataFacts(len(some), len(np.unique(some.product)), rated=True, dated=dated, valid=False))
    fitted = fit_reviews(data, some, recipe)
    found = Learner(recipe, fitted.with_popularity(some, half_life) if half_life else fitted, data)
    found.prepare()
    return found


def attention_learner(some: Reviews, data: Any, config: TrainConfig, half_life: float | None = None) -> Any:
    """Make a learner of attention as `learner` makes one of the towers."""
    from amzrec.training.attention import AttentionLearner

    ours = learner(some, data, config, half_life)
    found = AttentionLearner(ours.recipe, ours.fitted)
    found.prepare()
    return found


def dataset_of(folder: Path, some: Reviews) -> Dataset:
    """The reviews as a dataset folder, 72/8/20, its tables without titles and features."""
    folder.mkdir()
    part = np.random.default_rng(2).choice(3, len(some), p=[0.72, 0.08, 0.2])
    for number, name in enumerate(("train", "valid", "test")):
        pq.write_table(reviews_table(some.take(part == number)), folder / f"{name}.parquet")
    for name, rows, schema in (("customers", CUSTOMERS, CUSTOMER_SCHEMA), ("products", TITLES, PRODUCT_SCHEMA)):
        ids = pa.array([""] + [str(n) for n in range(rows)])
        columns = {"row": pa.array(range(rows + 1)), f"{name[:-1]}_id": ids}
        empty = pa.table({f.name: columns.get(f.name, pa.nulls(rows + 1, f.type)) for f in schema}).cast(schema)
        pq.write_table(empty, folder / f"{name}.parquet")
    protocol = DataProtocol(**PrepareConfig(product_key="id").protocol())
    info = DatasetInfo(source="generated", fingerprint="generated", protocol=protocol, stars=Scale(1.0, 5.0))
    info.write(folder / "dataset.json")
    return open_dataset(folder)


def run_of(folder: Path, dataset: Dataset, dated: bool, unknown: bool = False) -> Run:
    """A finished run with random vectors for every product, customer and `unknown` customer; a head of 256 and 128."""
    rng, fit = np.random.default_rng(3), Reviews.concat([dataset.train, dataset.valid])
    counts = np.bincount(fit.product, minlength=TITLES + 1)

    def table(*shape: int) -> Any:
        return 0.1 * rng.standard_normal(shape, np.float32)

    arrays = {
        "retrieval_query": table(CUSTOMERS + 1, WIDTH + 1),
        "retrieval_candidate": table(TITLES + 1, WIDTH + 1),
        "rating_query": table(CUSTOMERS + 1, WIDTH + 2),
        "rating_candidate": table(TITLES + 1, WIDTH + 2),
        "rating_weight": table(WIDTH),
        "candidates": dataset.candidates(counts),
        "product_counts": counts,
        "customer_counts": np.bincount(fit.customer, minlength=CUSTOMERS + 1),
        "product_bias": table(TITLES + 1),
        "seen_offsets": np.zeros(CUSTOMERS + 2, np.int64),
        "seen_product": np.zeros(0, np.int32),
        "seen_stars": np.zeros(0, np.float32),
        "seen_part": np.zeros(0, np.uint8),
    }
    if not unknown:
        for name in ("retrieval_query", "rating_query"):
            arrays[name][arrays["customer_counts"] == 0] = arrays[name][0]
    if dated:
        arrays |= {"context": table(PERIODS, TITLES + 1), "rating_context": table(PERIODS)}
        arrays["context_edges"] = (np.arange(1, PERIODS) * (DAYS * DAY // PERIODS)).astype(np.int64)
    sizes = [3 * WIDTH + 2, 256, 128, 1]
    layers = [(table(a, b), table(b)) for a, b in itertools.pairwise(sizes)]
    names = [dataset.customers["customer_id"].to_pylist(), dataset.products["product_id"].to_pylist()]
    head = Head(mean=3.0, retrieval_dims=WIDTH, rating_start=0)
    write(folder, arrays, [*names, [""] * (TITLES + 1)], layers, head)
    RunInfo(finished=1.0, dataset=str(dataset.path), identity=new_identity()).write(folder / RUN)
    write_manifest(folder, RUN_FOLDER)
    return open_run(folder).remembered()


def run_of_everyone(folder: Path, customers: int, products: int, dims: int) -> Run:
    """A finished run with random vectors, retrieval and rating each `dims` wide, and 3 reviews of each customer."""
    rng = np.random.default_rng(1)

    def table(rows: int, width: int) -> Any:
        return rng.standard_normal((rows, width), np.float32)

    arrays = {
        "retrieval_query": table(customers + 1, dims + 1),
        "retrieval_candidate": table(products + 1, dims + 1),
        "rating_query": 0.1 * table(customers + 1, dims + 2),
        "rating_candidate": 0.1 * table(products + 1, dims + 2),
        "rating_weight": table(1, dims)[0],
        "product_counts": np.ones(products + 1, np.int64),
        "customer_counts": np.ones(customers + 1, np.int64),
        "candidates": np.arange(1, products + 1, dtype=np.int32),
        "seen_offsets": np.maximum(3 * np.arange(-1, customers + 1), 0),
        "seen_product": rng.integers(1, products + 1, 3 * customers, np.int32),
        "seen_stars": np.full(3 * customers, 5, np.float32),
        "seen_part": np.zeros(3 * customers, np.uint8),
        "product_bias": np.zeros(products + 1, np.float32),
    }
    layers = [(0.1 * table(3 * dims + 2, 64), np.zeros(64, np.float32)), (table(64, 1), np.zeros(1, np.float32))]
    names = [["", *(f"{kind}{n:027}" for n in range(rows))] for kind, rows in (("A", customers), ("B", products))]
    titles = ["", *(f"A product of the catalogue, number {n:05}" for n in range(products))]
    head = Head(mean=4.0, retrieval_dims=dims, rating_start=0)
    write(folder, arrays, [*names, titles], layers, head)
    RunInfo(finished=1.0, identity=new_identity()).write(folder / RUN)
    write_manifest(folder, RUN_FOLDER)
    return open_run(folder).remembered()


def write(folder: Path, arrays: dict[str, Any], names: list[Any], layers: Any, head: Head) -> None:
    """Write vectors of a run, with what only --liked reads left empty; `names` are customers, products, titles."""
    folder.mkdir(parents=True)
    sizes = [len(names[0]), len(names[1]), len(names[1])]
    nothing: dict[str, Any] = {
        name: np.zeros((rows, 0), np.float32)
        for name, rows in zip(("query_base", "history_bag", "history_residual"), sizes, strict=True)
    }
    strings: dict[str, Any] = dict(zip(("customer_ids", "product_ids", "titles"), map(Strings.of, names), strict=True))
    write_vectors(folder, Vectors(**arrays, **nothing, **strings, layers=layers, head=head))
