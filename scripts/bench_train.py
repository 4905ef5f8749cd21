"""How fast a training step is, against the reference notebook and an expert's TFRS, in one run, as ratios.

    python scripts/bench_train.py --out benchmarks/train.md

Shape of the Amazon notebook: 115,120 reviews, 109,308 customers, 46,438 titles with power-law counts, 32 wide, batch
8192, head 256-128-1, Adagrad(0.1), in-batch negatives; one seeded generator feeds all. Peers, alternating with amzrec:
  notebook, metric on    StringLookup inside the towers, FactorizedTopK over the reviews' titles in batches of 128
  notebook, metric off   the same model with compute_metrics=False in training
  expert                 rows instead of strings, no metric while training, tfrs.tasks as they are
Medians; wall and CPU seconds (the CPU figure is what a busy machine does not change).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.batches import COLUMNS, Fit, batches, fit_rows
from amzrec.config import TrainConfig
from amzrec.dataset import Dataset, Reviews
from amzrec.learner import Learner
from amzrec.legacy import import_tensorflow, import_tfrs
from amzrec.losses import softmax_loss

tf: Any = import_tensorflow()
tfrs: Any = import_tfrs()

ROWS, CUSTOMERS, TITLES, BATCH, WIDTH = 115_120, 109_308, 46_438, 8192, 32


def generated(rows: int, customers: int, titles: int, seed: int = 1) -> Reviews:
    """Reviews with titles by a power law (exponent 1) and customers at random; every one of both at least once."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, titles + 1)
    product = np.concatenate([np.arange(titles), rng.choice(titles, rows - titles, p=share / share.sum())]) + 1
    customer = np.concatenate([np.arange(customers), rng.integers(0, customers, rows - customers)]) + 1
    stars = rng.integers(1, 6, rows).astype(np.float32)
    order = rng.permutation(rows)
    time_of = np.full(rows, np.iinfo(np.int64).min)
    return Reviews(rng.permutation(customer).astype(np.int32), product[order].astype(np.int32), stars, time_of)


class Tables:
    """What Fit needs of a dataset, without a folder."""

    def __init__(self, customers: int, titles: int) -> None:
        import pyarrow as pa

        no_list = pa.array([[]] * (titles + 1), pa.list_(pa.string()))
        none = pa.array([[]] * (customers + 1), pa.list_(pa.string()))
        self.customers = pa.table({"customer_id": pa.array(np.arange(customers + 1).astype(str)), "features": none})
        self.products = pa.table({"product_id": pa.array(np.arange(titles + 1).astype(str)), "features": no_list})
        self.info = {"stars": {"min": 1.0, "max": 5.0}}

    def candidates(self, counts: Any) -> Any:
        """All products with a review."""
        return np.flatnonzero(counts > 0).astype(np.int32)


def amzrec_step(reviews: Reviews, customers: int, titles: int, **settings: Any) -> tuple[Callable[[], None], Fit]:
    """One step of amzrec with the notebook's mathematics (--features ids), on a batch that is drawn once."""
    config = TrainConfig(**({"features": "ids", "dim": WIDTH, "optimizer": "adagrad", "head": (256, 128)} | settings))
    data: Dataset = Tables(customers, titles)  # type: ignore[assignment]
    fit = fit_rows(data, reviews, config)
    learner = Learner(config, fit, data, (1.0, 1.0))
    learner.lists, learner.size = False, BATCH
    batch = {name: tf.constant(column) for name, column in next(batches(fit, BATCH, 1, [1])).items()}
    step = tf.function(learner.model.train_step)
    return lambda: step(batch)["loss"].numpy(), fit


class Peer(tfrs.models.Model):  # type: ignore[misc]
    """The notebook's model; with strings and its metric, or as an expert would feed it rows."""

    def __init__(self, reviews: Reviews, strings: bool, metric: bool) -> None:
        super().__init__()
        layers = tf.keras.layers
        sizes, embeddings = (CUSTOMERS, TITLES), []
        for size in sizes:
            lookup = [layers.StringLookup(vocabulary=[str(i) for i in range(1, size + 1)])] if strings else []
            embeddings.append(tf.keras.Sequential([*lookup, layers.Embedding(size + 1, WIDTH)]))
        self.query, self.candidate = embeddings
        self.head = tf.keras.Sequential([layers.Dense(256, "relu"), layers.Dense(128, "relu"), layers.Dense(1)])
        self.rating = tfrs.tasks.Ranking(loss=tf.keras.losses.MeanSquaredError())
        self.on, found = metric, None
        if metric:  # candidates as the notebook gives them: one title per review, duplicates and all
            titles = tf.data.Dataset.from_tensor_slices(reviews.product.astype(str))
            found = tfrs.metrics.FactorizedTopK(candidates=titles.batch(128).map(self.candidate))
        self.retrieval = tfrs.tasks.Retrieval(metrics=found)

    def compute_loss(self, inputs: Any, training: bool = False) -> Any:
        """Weights 1 : 1, the retrieval loss a sum over the batch, as the notebook has it."""
        x, y = self.query(inputs["customer"]), self.candidate(inputs["product"])
        stars = self.head(tf.concat([x, y], axis=1))
        return self.rating(labels=inputs["stars"], predictions=stars) + self.retrieval(x, y, compute_metrics=self.on)


def peer_step(reviews: Reviews, strings: bool, metric: bool) -> Callable[[], None]:
    """One step of a peer on the same batch."""
    model = Peer(reviews, strings, metric)
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
    order = np.random.default_rng([1]).permutation(len(reviews))[:BATCH]
    kind = str if strings else np.int32
    batch = {
        "customer": tf.constant(reviews.customer[order].astype(kind)),
        "product": tf.constant(reviews.product[order].astype(kind)),
        "stars": tf.constant(reviews.stars[order]),
    }
    step = tf.function(model.train_step)
    return lambda: step(batch)["loss"].numpy()


def timed(step: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - wall, time.process_time() - cpu


def alternating(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU seconds of each after one call to trace it, taken in turn."""
    for step in steps.values():
        step()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            found[name].append(timed(step))
    return {name: tuple(map(statistics.median, zip(*times, strict=True))) for name, times in found.items()}


def steps_table(rounds: int, slow: bool) -> list[str]:
    """The joint step against its peers."""
    reviews = generated(ROWS, CUSTOMERS, TITLES)
    mine, fit = amzrec_step(reviews, CUSTOMERS, TITLES, negatives="batch")
    unique = len(np.unique(next(batches(fit, BATCH, 1, [1]))["product"]))
    steps = {
        "amzrec": mine,
        "expert TFRS": peer_step(reviews, False, False),
        "notebook, metric off": peer_step(reviews, True, False),
    }
    found = alternating(steps, rounds)
    if slow:
        step = peer_step(reviews, True, True)
        found["notebook, metric on (one step, tracing included)"] = timed(step)
    base = found["amzrec"]
    rows = [
        [name, f"{wall:.3f}", f"{cpu:.3f}", f"{wall / base[0]:.1f}", f"{cpu / base[1]:.1f}"]
        for name, (wall, cpu) in found.items()
    ]
    head = ["joint step, batch 8192", "wall s", "CPU s", "wall ratio", "CPU ratio"]
    return [f"{unique:,} unique titles in the batch.", "", markdown(head, rows)]


def loss_table(rounds: int) -> list[str]:
    """The retrieval loss forward and backward against its floor: three products and one pass of exponentials."""
    rng = np.random.default_rng(2)
    q, v = (tf.constant(rng.normal(size=(BATCH, WIDTH)).astype(np.float32)) for _ in range(2))
    zeros, target = tf.zeros([BATCH]), tf.range(BATCH)

    @tf.function  # type: ignore[untyped-decorator]
    def mine() -> Any:
        with tf.GradientTape() as tape:
            tape.watch((q, v))
            loss = softmax_loss(q, v, zeros, tf.reduce_sum(q * v, 1), target)
        return tape.gradient(loss, (q, v))

    @tf.function  # type: ignore[untyped-decorator]
    def one_hot() -> Any:
        with tf.GradientTape() as tape:
            tape.watch((q, v))
            loss = tfrs.tasks.Retrieval()(q, v)
        return tape.gradient(loss, (q, v))

    @tf.function  # type: ignore[untyped-decorator]
    def floor() -> Any:
        total = 0.0
        for start in range(0, BATCH, 512):
            share = tf.exp(tf.matmul(q[start : start + 512], v, transpose_b=True))
            total += tf.reduce_sum(tf.matmul(share, v)) + tf.reduce_sum(
                tf.matmul(share, q[start : start + 512], transpose_a=True)
            )
        return total

    steps = {"three products and exponentials (floor)": floor, "amzrec": mine, "tfrs.tasks.Retrieval": one_hot}
    calls = {name: (lambda f=f: tf.nest.map_structure(lambda x: x.numpy(), f())) for name, f in steps.items()}
    found = alternating(calls, rounds)
    base = found["three products and exponentials (floor)"]
    rows = [[n, f"{w:.3f}", f"{c:.3f}", f"{w / base[0]:.2f}", f"{c / base[1]:.2f}"] for n, (w, c) in found.items()]
    return [markdown(["softmax 8192 × 8192 × 32, both ways", "wall s", "CPU s", "wall ratio", "CPU ratio"], rows)]


def growth_table(rounds: int, sizes: tuple[int, ...]) -> list[str]:
    """The step when the vocabulary grows and the batch stays."""
    steps = {}
    for size in sizes:
        rng = np.random.default_rng(3)
        n = 200_000
        some = Reviews(
            rng.integers(1, size + 1, n).astype(np.int32),
            rng.integers(1, 2001, n).astype(np.int32),
            rng.integers(1, 6, n).astype(np.float32),
            np.full(n, np.iinfo(np.int64).min),
        )
        steps[f"{size:,} customers"] = amzrec_step(some, size, 2000, negatives="batch")[0]
    found = alternating(steps, rounds)
    base = next(iter(found.values()))
    rows = [[n, f"{w:.3f}", f"{c:.3f}", f"{w / base[0]:.2f}", f"{c / base[1]:.2f}"] for n, (w, c) in found.items()]
    return [markdown(["joint step, ids", "wall s", "CPU s", "wall ratio", "CPU ratio"], rows)]


def input_table(rows: int = 2_000_000) -> list[str]:
    """The input pipeline alone: a fresh permutation, columns gathered, into tensors."""
    rng = np.random.default_rng(4)
    columns = {name: rng.integers(0, 1000, rows).astype(dtype) for name, dtype in COLUMNS.items()}
    fit: Any = type("Rows", (), columns | {"__len__": lambda self: rows})()
    signature = {name: tf.TensorSpec([BATCH], dtype) for name, dtype in COLUMNS.items()}
    data = tf.data.Dataset.from_generator(
        lambda: batches(fit, BATCH, rows // BATCH, [1]), output_signature=signature
    ).prefetch(2)
    started = time.perf_counter()
    for _ in data:
        pass
    rate = rows / (time.perf_counter() - started)
    return [markdown(["input, 2 million rows of 8 columns", "million examples/s"], [["amzrec", f"{rate / 1e6:.2f}"]])]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow", action="store_true", help="also one step of the notebook with its metric on: minutes")
    parser.add_argument("--sizes", default="100000,1000000", help="customers of the growth table")
    parser.add_argument("--out", type=Path, help="Markdown file; default: print")
    arguments = parser.parse_args()
    parts = ["# Speed of training", "", __doc__.split("\n\n", 2)[2].strip(), ""]
    parts += [*loss_table(arguments.rounds), "", *input_table(), ""]
    parts += [*growth_table(arguments.rounds, tuple(map(int, arguments.sizes.split(",")))), ""]
    parts += [*steps_table(arguments.rounds, arguments.slow), ""]
    parts += [f"Peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB."]
    text = "\n".join(parts) + "\n"
    if arguments.out:
        arguments.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
