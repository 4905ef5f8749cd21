"""How fast a training step is, against the reference notebook, an expert's TFRS and keras-rs, in one run, as ratios.

    python scripts/bench_train.py --out benchmarks/speed.md

Shape of the Amazon notebook: 115,120 reviews, 109,308 customers, 46,438 titles with power-law counts, 32 wide, batch
8192, head 256-128-1, Adagrad(0.1), in-batch negatives, no correction; one seeded generator feeds all. Peers:
  notebook, metric on   StringLookup inside the towers, FactorizedTopK over the reviews' titles in batches of 128
  notebook, metric off  the same model with compute_metrics=False in training
  expert TFRS           rows instead of strings, no metric while training, tfrs.tasks as they are
  keras-rs on JAX       bench_keras_rs.py in an environment of its own (--keras-rs its python), at the shape of ML-100K
One step to trace, then in turn, medians; wall and CPU seconds. Every step reads back its loss.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from amzrec.config import TrainConfig
from amzrec.features.batches import COLUMNS, fit_rows
from amzrec.model.keras2 import import_tensorflow, import_tfrs
from amzrec.model.losses import LOGITS, softmax_loss
from amzrec.store.dataset import NO_TIME, Dataset, Reviews, Scale
from amzrec.training.learner import Learner, examples
from bench_evaluate import CUSTOMERS, ROWS, TITLES, WIDTH, dataset_of, generated
from bench_recommend import HERE, READ, alternating, markdown, section

tf: Any = import_tensorflow()
tfrs: Any = import_tfrs()

BATCH, LARGE = 8192, 65_536
ROWS_AT_ONCE = LOGITS // BATCH  # of the floor of the loss: as many as the loss itself takes
ML_ROWS, ML_CUSTOMERS, ML_TITLES, ML_BATCH = 100_000, 943, 1682, 1000
SAME = {"features": "ids", "dim": WIDTH, "optimizer": "adagrad", "head": (256, 128), "log_q": False, "mask": 0.0}

Step = Callable[[], object]


class Tables:
    """What a learner needs of a dataset, without a folder."""

    def __init__(self, customers: int, titles: int) -> None:
        def table(name: str, size: int) -> pa.Table:
            lists = pa.ListArray.from_arrays(pa.array(np.zeros(size + 2, np.int32)), pa.array([], pa.string()))
            return pa.table({f"{name}_id": pa.nulls(size + 1, pa.string()), "features": lists})

        self.customers, self.products = table("customer", customers), table("product", titles)
        self.info = argparse.Namespace(stars=Scale(1.0, 5.0))

    def candidates(self, counts: Any) -> Any:
        """All products with a review."""
        return np.flatnonzero(counts > 0).astype(np.int32)


def drawn(reviews: Reviews, size: int) -> Any:
    """Positions of the reviews of the one batch that all peers get."""
    return np.random.default_rng([1]).permutation(len(reviews))[:size]


def amzrec_step(reviews: Reviews, customers: int, titles: int, size: int) -> Step:
    """One step of amzrec with the notebook's mathematics."""
    config = TrainConfig.of(**SAME, negatives="batch", batch_size=size)
    data: Any = Tables(customers, titles)
    fit = fit_rows(data, reviews, config)
    learner = Learner(config, fit, data, (1.0, 1.0))
    order = drawn(reviews, size)
    batch = {name: tf.constant(getattr(fit, name)[order]) for name in COLUMNS}
    step = tf.function(learner.model.train_step)
    return lambda: step(batch)["loss"].numpy()


class Peer(tfrs.models.Model):  # type: ignore[misc]
    """The notebook's model; with strings and its metric, or as an expert would feed it rows."""

    def __init__(self, reviews: Reviews, strings: bool, scored: int) -> None:
        super().__init__()
        layers, towers = tf.keras.layers, []
        for size in (CUSTOMERS, TITLES):
            lookup = [layers.StringLookup(vocabulary=[str(i) for i in range(1, size + 1)])] if strings else []
            towers.append(tf.keras.Sequential([*lookup, layers.Embedding(size + 1, WIDTH)]))
        self.query, self.candidate = towers
        self.head = tf.keras.Sequential([layers.Dense(256, "relu"), layers.Dense(128, "relu"), layers.Dense(1)])
        self.rating = tfrs.tasks.Ranking(loss=tf.keras.losses.MeanSquaredError())
        self.on, found = scored > 0, None
        if scored:  # candidates as the notebook gives them: one title per review, duplicates and all
            titles = tf.data.Dataset.from_tensor_slices(reviews.product[:scored].astype(str))
            found = tfrs.metrics.FactorizedTopK(candidates=titles.batch(128).map(self.candidate))
        self.retrieval = tfrs.tasks.Retrieval(metrics=found)

    def compute_loss(self, inputs: Any, training: bool = False) -> Any:
        """Weights 1 : 1, the retrieval loss a sum over the batch, as the notebook has it."""
        x, y = self.query(inputs["customer"]), self.candidate(inputs["product"])
        stars = self.head(tf.concat([x, y], axis=1))
        return self.rating(labels=inputs["stars"], predictions=stars) + self.retrieval(x, y, compute_metrics=self.on)


def peer_step(reviews: Reviews, strings: bool, scored: int = 0) -> Step:
    """One step of a TFRS peer on the same batch, its metric over the titles of the first `scored` reviews."""
    model = Peer(reviews, strings, scored)
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
    order, kind = drawn(reviews, BATCH), str if strings else np.int32
    batch = {name: tf.constant(getattr(reviews, name)[order].astype(kind)) for name in ("customer", "product")}
    batch["stars"] = tf.constant(reviews.stars[order])
    step = tf.function(model.train_step)
    return lambda: step(batch)["loss"].numpy()


def compared(what: str, seconds: dict[str, tuple[float, float]], base: str) -> str:
    """A table of wall and CPU milliseconds, and both divided by those of `base`."""
    first = seconds[base]
    rows = [
        [name, f"{1e3 * wall:,.1f}", f"{1e3 * cpu:,.1f}", f"{wall / first[0]:.2f}", f"{cpu / first[1]:.2f}"]
        for name, (wall, cpu) in seconds.items()
    ]
    return markdown([what, "wall ms", "CPU ms", "wall ratio", "CPU ratio"], rows)


def joint_step(rounds: int, share: int) -> list[str]:
    """The joint step against the TFRS peers."""
    reviews = generated(ROWS, CUSTOMERS, TITLES)
    unique = len(np.unique(reviews.product[drawn(reviews, BATCH)]))
    steps = {
        "amzrec": amzrec_step(reviews, CUSTOMERS, TITLES, BATCH),
        "expert TFRS": peer_step(reviews, strings=False),
        "notebook, metric off": peer_step(reviews, strings=True),
    }
    found = alternating(steps, rounds)
    if share:
        step, off = peer_step(reviews, strings=True, scored=ROWS // share), found["notebook, metric off"]
        step()
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        times = time.perf_counter() - wall, time.process_time() - cpu
        whole = [without + share * (each - without) for each, without in zip(times, off, strict=True)]
        found[f"notebook, metric on (one step with 1/{share} of the candidates, scaled)"] = whole[0], whole[1]
    return [compared(f"joint step, batch {BATCH:,} ({unique:,} unique titles)", found, "amzrec")]


def against_keras(rounds: int, python: str) -> list[str]:
    """The joint step at the shape of ML-100K against keras-rs on JAX."""
    reviews = generated(ML_ROWS, ML_CUSTOMERS, ML_TITLES)
    order = drawn(reviews, ML_BATCH)
    mine = amzrec_step(reviews, ML_CUSTOMERS, ML_TITLES, ML_BATCH)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "batch.npz"
        batch = {name: getattr(reviews, name)[order] for name in ("customer", "product", "stars")}
        np.savez(file, **batch, customers=ML_CUSTOMERS, products=ML_TITLES, width=WIDTH)
        peer = subprocess.Popen(
            [python, str(HERE / "scripts" / "bench_keras_rs.py"), str(file)],
            env={**os.environ, "KERAS_BACKEND": "jax"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert peer.stdin is not None
        assert peer.stdout is not None
        mine()
        pairs: dict[str, list[tuple[float, float]]] = {"amzrec": [], "keras-rs on JAX": []}
        for number in range(10 * rounds + 1):
            wall, cpu = time.perf_counter(), time.process_time()
            mine()
            own = time.perf_counter() - wall, time.process_time() - cpu
            peer.stdin.write("\n")
            peer.stdin.flush()
            other = tuple(map(float, peer.stdout.readline().split()))
            if number:
                pairs["amzrec"].append(own)
                pairs["keras-rs on JAX"].append((other[0], other[1]))
        peer.stdin.close()
        peer.wait()
    found = {name: (float(np.median(t, axis=0)[0]), float(np.median(t, axis=0)[1])) for name, t in pairs.items()}
    unique = len(np.unique(reviews.product[order]))
    return [compared(f"joint step, shape of ML-100K, batch {ML_BATCH:,} ({unique:,} unique)", found, "amzrec")]


def retrieval_loss(rounds: int) -> list[str]:
    """The retrieval loss forward and backward against its floor; all products of the batch different."""
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

    def floor(products: int) -> Any:
        @tf.function  # type: ignore[untyped-decorator]
        def arithmetic() -> Any:
            first, second = [], tf.zeros_like(v)
            for start in range(0, BATCH, ROWS_AT_ONCE):
                rows = q[start : start + ROWS_AT_ONCE]
                share = tf.exp(tf.matmul(rows, v, transpose_b=True))
                first.append(tf.matmul(share, v))
                if products == 3:
                    second += tf.matmul(share, rows, transpose_a=True)
            return tf.concat(first, 0), second

        return arithmetic

    calls = {
        "two products and the exponentials": floor(2),
        "three products and the exponentials (what a gradient of both sides needs)": floor(3),
        "amzrec": mine,
        "tfrs.tasks.Retrieval": one_hot,
    }
    steps = {name: (lambda call=call: [part.numpy() for part in call()]) for name, call in calls.items()}
    title = f"retrieval loss {BATCH:,} × {BATCH:,} × {WIDTH}, both ways"
    return [compared(title, alternating(steps, rounds), "two products and the exponentials")]


def growth(rounds: int, sizes: list[int]) -> list[str]:
    """The step when the vocabulary grows and the batch stays."""
    steps, rng = {}, np.random.default_rng(3)
    for size in sizes:
        customer, product = (rng.integers(1, most + 1, ROWS).astype(np.int32) for most in (size, TITLES))
        stars = rng.integers(1, 6, ROWS).astype(np.float32)
        some = Reviews(customer, product, stars, np.full(ROWS, NO_TIME))
        steps[f"{size:,} customers"] = amzrec_step(some, size, TITLES, BATCH)
    return [compared("joint step", alternating(steps, rounds), f"{sizes[0]:,} customers")]


def pipeline(rounds: int, step: float) -> list[str]:
    """The input pipeline alone: a fresh permutation each epoch, all columns gathered, into tensors."""
    rng, rows = np.random.default_rng(4), 2_000_000
    columns = {name: rng.integers(0, 1000, rows).astype(dtype) for name, dtype in COLUMNS.items()}
    fit: Any = type("Rows", (), columns | {"__len__": lambda self: rows})()

    def epoch() -> None:
        for _ in examples(fit, BATCH, rows // BATCH, lambda: [1]):
            pass

    wall, cpu = alternating({"epoch": epoch}, rounds)["epoch"]
    share = wall / (rows // BATCH) / step
    return [
        f"Input of {len(COLUMNS)} columns, {rows:,} rows in a fresh permutation: {rows / wall / 1e6:.2f} million "
        f"examples/s, {rows / cpu / 1e6:.2f} million per CPU second; a batch takes {share:.1%} of the joint step."
    ]


def peak() -> float:
    """Most memory that this process held, in GB; unlike ru_maxrss not that of its parent."""
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1e6


def large_batch() -> None:
    """In a process of its own: two steps with a batch of 65,536, and the peak of its memory."""
    before = peak()
    reviews = generated(ROWS, CUSTOMERS, TITLES)
    step = amzrec_step(reviews, CUSTOMERS, TITLES, LARGE)
    step()
    started = time.perf_counter()
    step()
    seconds = time.perf_counter() - started
    unique = len(np.unique(reviews.product[drawn(reviews, LARGE)]))
    print(
        f"A joint step with a batch of {LARGE:,} ({unique:,} unique titles): {seconds:.1f} s; peak memory of the "
        f"process {peak():.2f} GB, of which {before:.2f} GB before it (TensorFlow imported)."
    )


FIRST_STEP = """
import sys, time
started = time.perf_counter()
import amzrec
from amzrec.errors import Silent
class First(Silent):
    def step(self, *_): print(time.perf_counter() - started, flush=True); import os; os._exit(0)
amzrec.train(sys.argv[1], sys.argv[2], progress=First())
"""


def first_step(rounds: int) -> list[str]:
    """From the start of Python to the end of the first step of `amzrec train`, default flags."""
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), []
        dataset: Dataset = dataset_of(folder / "data", generated(ROWS, CUSTOMERS, TITLES))
        for number in range(rounds):
            words = [sys.executable, "-c", FIRST_STEP, str(dataset.path), str(folder / f"run{number}")]
            found.append(float(subprocess.run(words, cwd=HERE, **READ).stdout.split()[-1]))
    return [
        f"`amzrec train` with default flags on a prepared dataset of this shape, until its first step is done (import, "
        f"histories, valid figures of the untrained model, trace): {np.median(found):.1f} s (median of {rounds})."
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--share", type=int, default=16, help="1/share of the metric's candidates, scaled; 0: leave out"
    )
    parser.add_argument("--sizes", default="100000,10000000", help="customers of the growth table")
    parser.add_argument("--keras-rs", metavar="PYTHON", help="python of an environment with keras and jax")
    parser.add_argument("--out", type=Path, help="Markdown file whose section is replaced; default: print")
    a = parser.parse_args()
    parts = joint_step(a.rounds, a.share)
    print(parts[-1], flush=True)
    step = float(parts[0].splitlines()[2].split("|")[2].replace(",", "")) / 1e3
    for measure in (
        lambda: against_keras(a.rounds, a.keras_rs) if a.keras_rs else [],
        lambda: retrieval_loss(a.rounds),
        lambda: growth(a.rounds, [int(size) for size in a.sizes.split(",")]),
        lambda: pipeline(a.rounds, step),
        lambda: [
            subprocess.run([sys.executable, "-c", "import bench_train as b; b.large_batch()"], **LARGE_RUN).stdout
        ],
        lambda: first_step(3),
    ):
        parts += measure()
        print(parts[-1], flush=True)
    section(a.out, "Training", "\n\n".join([__doc__.split("\n\n", 2)[2].strip(), *map(str.strip, parts)]))


LARGE_RUN: dict[str, Any] = READ | {"cwd": HERE / "scripts"}

if __name__ == "__main__":
    main()
