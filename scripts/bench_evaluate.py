"""How fast an evaluation is, against FactorizedTopK as the reference notebook and as an expert would use it.

    python scripts/bench_evaluate.py --out benchmarks/speed.md

Shape of the Amazon notebook: 115,120 reviews, 80/20, 46,438 titles with power-law counts, vectors 32 wide, a random one
for each customer of train. With 1.05 reviews per customer most of test have none there: as in every run they share the
unknown customer's vector, so that amzrec ranks these once. "all known" is the worst case, a vector of its own for each.
  amzrec            `amzrec evaluate`: stars, top-k, the ranking metrics, slices, baselines, intervals, JSON, no picture
  amzrec, all known the same
  amzrec, ranks     what of that the peers do: ranks of the test products, and with the seen products left out too
  amzrec, dates     `amzrec evaluate`, all known, 200 periods in the model, popularity as of each day as a baseline
  expert            FactorizedTopK over unique candidates in one BruteForce index, batches of 1,024 test rows, by ids
  expert, streaming the same over a dataset of unique candidates in batches of 4,096
  notebook          FactorizedTopK over the train reviews' titles in batches of 128, duplicates and all
Peers compute top 1, 5, 10, 50, 100 and nothing else; the slow ones over the first rows only, scaled to all. In turn,
medians; wall and CPU seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import amzrec.commands.evaluate
from amzrec.answers.recommender import Recommender
from amzrec.commands.evaluate import evaluate
from amzrec.config import PrepareConfig
from amzrec.evaluation.systems import RunSystem, rank_system
from amzrec.evaluation.testset import line_up_run
from amzrec.model.keras2 import import_tensorflow, import_tfrs
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
from amzrec.store.protocol import DataProtocol
from amzrec.store.run import RUN, Run, RunInfo, open_run
from amzrec.store.strings import Strings
from amzrec.store.vectors import Head, Vectors, write_vectors
from bench_recommend import alternating, markdown, section

tf: Any = import_tensorflow()
tfrs: Any = import_tfrs()

ROWS, CUSTOMERS, TITLES, WIDTH = 115_120, 109_308, 46_438, 32
DAYS, PERIODS, DAY = 4000, 200, 86_400
KS = (1, 5, 10, 50, 100)


def generated(rows: int = ROWS, customers: int = CUSTOMERS, titles: int = TITLES) -> Reviews:
    """Reviews with titles by a power law (exponent 1) and customers at random; every one of both at least once."""
    rng = np.random.default_rng(1)
    share = 1 / np.arange(1, titles + 1)
    product = np.concatenate([np.arange(titles), rng.choice(titles, rows - titles, p=share / share.sum())]) + 1
    customer = np.concatenate([np.arange(customers), rng.integers(0, customers, rows - customers)]) + 1
    stars = rng.integers(1, 6, rows).astype(np.float32)
    mixed = rng.permutation(customer).astype(np.int32), rng.permutation(product).astype(np.int32)
    return Reviews(*mixed, stars, np.full(rows, NO_TIME))


def dataset_of(folder: Path, reviews: Reviews) -> Dataset:
    """The reviews as a dataset folder, 72/8/20, its tables without titles and features."""
    folder.mkdir()
    part = np.random.default_rng(2).choice(3, len(reviews), p=[0.72, 0.08, 0.2])
    for number, name in enumerate(("train", "valid", "test")):
        pq.write_table(reviews_table(reviews.take(part == number)), folder / f"{name}.parquet")
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
    arrays |= {name: np.zeros((1, 1), np.float32) for name in ("query_base", "history_bag", "history_residual")}
    if not unknown:
        for name in ("retrieval_query", "rating_query"):
            arrays[name][arrays["customer_counts"] == 0] = arrays[name][0]
    if dated:
        arrays |= {"context": table(PERIODS, TITLES + 1), "rating_context": table(PERIODS)}
        arrays["context_edges"] = (np.arange(1, PERIODS) * (DAYS * DAY // PERIODS)).astype(np.int64)
    sizes = [3 * WIDTH + 2, 256, 128, 1]
    layers = [(table(a, b), table(b)) for a, b in itertools.pairwise(sizes)]
    strings = {
        "customer_ids": Strings.of(dataset.customers["customer_id"].to_pylist()),
        "product_ids": Strings.of(dataset.products["product_id"].to_pylist()),
        "titles": Strings.of([""] * (TITLES + 1)),
    }
    folder.mkdir()
    head = Head(mean=3.0, retrieval_dims=WIDTH, rating_start=0)
    write_vectors(folder, Vectors(**arrays, **strings, layers=layers, head=head))
    RunInfo(finished=1.0, dataset=str(dataset.path)).write(folder / RUN)
    return open_run(folder)


def factorized(run: Run, test: Reviews, candidates: Any, batch: int) -> Callable[[], list[float]]:
    """FactorizedTopK by ids over `candidates`, a TopK layer or dataset of (ids, vectors)."""
    layer = (
        candidates if isinstance(candidates, tf.keras.layers.Layer) else tfrs.layers.factorized_top_k.Streaming(k=100)
    )
    if layer is not candidates:
        layer.index_from_dataset(candidates)
    queries, products = run.vectors.retrieval_query, run.vectors.retrieval_candidate
    metric = tfrs.metrics.FactorizedTopK(candidates=layer, ks=KS)

    @tf.function  # type: ignore[untyped-decorator]
    def update(query: Any, product: Any, ids: Any) -> None:
        metric.update_state(query, product, true_candidate_ids=ids)

    def peer() -> list[float]:
        metric.reset_states()
        for start in range(0, len(test), batch):
            part = slice(start, start + batch)
            update(queries[test.customer[part]], products[test.product[part]], tf.constant(test.product[part]))
        return [float(value.numpy()) for value in metric.result()]

    return peer


def ranks_alone(run: Run, dataset: Dataset) -> Callable[[], list[float]]:
    """What of the evaluation the peers do too."""
    testset = line_up_run(run, dataset)

    def ranks() -> list[float]:
        found = rank_system(testset, RunSystem(Recommender(run.vectors)))
        assert found is not None
        return [float((found.above < k).mean()) for k in KS]

    return ranks


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streaming-rows", type=int, default=2048, help="test rows of the streaming expert")
    parser.add_argument("--notebook-rows", type=int, default=256, help="test rows of the notebook")
    parser.add_argument("--out", type=Path, help="Markdown file whose section is replaced; default: print")
    a = parser.parse_args()
    amzrec.commands.evaluate.draw = lambda *_: None
    reviews = generated()
    time = np.random.default_rng(4).integers(0, DAYS * DAY, ROWS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = dataset_of(folder / "plain", reviews)
        with_dates = dataset_of(folder / "dated", dataclasses.replace(reviews, timestamp=time))
        run, known = run_of(folder / "run", dataset, False), run_of(folder / "known", dataset, False, True)
        dated = run_of(folder / "dates", with_dates, True, True)
        rows, vectors, test = known.vectors.candidates, known.vectors.retrieval_candidate, dataset.test
        unique = tf.data.Dataset.from_tensor_slices((rows, vectors[rows])).batch(4096).cache()
        titles = Reviews.concat([dataset.train, dataset.valid]).product
        repeated = tf.data.Dataset.from_tensor_slices((titles, vectors[titles])).batch(128)
        index = tfrs.layers.factorized_top_k.BruteForce(k=100)
        index.index(tf.constant(vectors[rows]), tf.constant(rows))
        few, fewer = (test.take(np.arange(n)) for n in (a.streaming_rows, a.notebook_rows))
        steps: dict[str, Callable[[], object]] = {
            "amzrec": lambda: evaluate(run, dataset),
            "amzrec, all known": lambda: evaluate(known, dataset),
            "amzrec, ranks": ranks_alone(known, dataset),
            "amzrec, dates": lambda: evaluate(dated, with_dates),
            "expert": factorized(known, test, index, 1024),
            "expert, streaming": factorized(known, few, unique, 1024),
            "notebook": factorized(known, fewer, repeated, 256),
        }
        peak = {}
        for each, step in steps.items():
            found = step()
            peak[each] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            if each in ("amzrec, ranks", "expert"):
                print(each, found)
        seconds = alternating(steps, a.rounds)
    scale = {"expert, streaming": len(test) / len(few), "notebook": len(test) / len(fewer)}
    base, table = seconds["amzrec"], []
    for each, times in seconds.items():
        wall, cpu = (value * scale.get(each, 1) for value in times)
        name = f"{each} ({len(test) / scale[each]:,.0f} rows, scaled)" if each in scale else each
        table.append(
            [name, f"{wall:.2f}", f"{cpu:.2f}", f"{wall / base[0]:.2f}", f"{cpu / base[1]:.2f}", f"{peak[each]:.2f}"]
        )
    head = [
        f"{len(test):,} test rows × {len(rows):,} products",
        "wall s",
        "CPU s",
        "wall ratio",
        "CPU ratio",
        "peak GB so far",
    ]
    section(a.out, "Evaluation", f"{__doc__.split(chr(10) * 2, 2)[2].strip()}\n\n{markdown(head, table)}")


if __name__ == "__main__":
    main()
