"""How fast a training step is, against the reference notebook, an expert's TFRS and keras-rs, in one run, as ratios.

    python scripts/bench/training.py --out benchmarks/speed.md

Shape of the Amazon notebook: 115,120 reviews, 109,308 customers, 46,438 titles with power-law counts, 32 wide, batch
8192, head 256-128-1, Adagrad(0.1), in-batch negatives, no correction; one seeded generator feeds all. Peers:
  notebook, metric on   StringLookup inside the towers, FactorizedTopK over the reviews' titles in batches of 128
  notebook, metric off  the same model with compute_metrics=False in training
  expert TFRS           rows instead of strings, no metric while training, tfrs.tasks as they are
  keras-rs on JAX       keras_rs.py in an environment of its own (--keras-rs its python), at the shape of ML-100K
One step to trace, then in turn, medians; wall and CPU seconds. Every step reads back its loss.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.config import TrainConfig
from amzrec.features.columns import PerQuery
from amzrec.model.keras2 import import_tensorflow, import_tfrs
from amzrec.model.softmax import LOGITS, Logits, RetrievalBatch, softmax_loss
from amzrec.store.dataset import NO_TIME, Dataset, Reviews
from synthetic import CUSTOMERS, ROWS, TITLES, WIDTH, Vocabularies, dataset_of, learner, reviews
from tables import described_by, section
from tfrs_peers import Peer, batch_of, step_of
from timing import READ, ROOT, Seconds, Step, alternating, compared, median, peak, timed

tf: Any = import_tensorflow()
tfrs: Any = import_tfrs()

BATCH, LARGE = 8192, 65_536
ROWS_AT_ONCE = LOGITS // BATCH  # of the floor of the loss: as many as the loss itself takes
ML_ROWS, ML_CUSTOMERS, ML_TITLES, ML_BATCH = 100_000, 943, 1682, 1000
NOTEBOOK = {"features": "ids", "dim": WIDTH, "optimizer": "adagrad", "head": (256, 128), "log_q": False, "mask": 0.0}


def drawn(some: Reviews, size: int) -> Any:
    """Positions of the reviews of the one batch that all peers get."""
    return np.random.default_rng([1]).permutation(len(some))[:size]


def amzrec_step(some: Reviews, customers: int, titles: int, size: int) -> Step:
    """One step of amzrec with the notebook's mathematics, again and again on one batch; without its input."""
    ours = learner(
        some, Vocabularies(customers, titles), TrainConfig.of(**NOTEBOOK, negatives="batch", batch_size=size)
    )
    batch = tf.nest.map_structure(tf.constant, ours.steps.columns(drawn(some, size), 0))
    step = tf.function(ours.model.train_step, autograph=False)
    return lambda: step(batch)["loss"].numpy()


def peer_step(some: Reviews, strings: bool, scored: int = 0) -> Step:
    """One step of a TFRS peer on the batch of all, its metric over the titles of the first `scored` reviews."""
    model = Peer(CUSTOMERS, TITLES, strings, some.product[:scored].astype(str) if scored else None)
    return step_of(model, batch_of(some, drawn(some, BATCH), strings))


def joint_step(rounds: int, share: int) -> list[str]:
    """The joint step against the TFRS peers."""
    some = reviews()
    unique = len(np.unique(some.product[drawn(some, BATCH)]))
    steps = {
        "amzrec": amzrec_step(some, CUSTOMERS, TITLES, BATCH),
        "expert TFRS": peer_step(some, strings=False),
        "notebook, metric off": peer_step(some, strings=True),
    }
    found = alternating(steps, rounds)
    if share:
        step, off = peer_step(some, strings=True, scored=ROWS // share), found["notebook, metric off"]
        step()
        whole = [without + share * (each - without) for each, without in zip(timed(step), off, strict=True)]
        found[f"notebook, metric on (one step with 1/{share} of the candidates, scaled)"] = whole[0], whole[1]
    return [compared(f"joint step, batch {BATCH:,} ({unique:,} unique titles)", found, "amzrec")]


def against_keras(rounds: int, python: str) -> list[str]:
    """The joint step at the shape of ML-100K against keras-rs on JAX."""
    some = reviews(ML_ROWS, ML_CUSTOMERS, ML_TITLES)
    order = drawn(some, ML_BATCH)
    mine = amzrec_step(some, ML_CUSTOMERS, ML_TITLES, ML_BATCH)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "batch.npz"
        batch = {name: getattr(some, name)[order] for name in ("customer", "product", "stars")}
        np.savez(file, **batch, customers=ML_CUSTOMERS, products=ML_TITLES, width=WIDTH)
        peer = subprocess.Popen(
            [python, str(ROOT / "scripts/bench/keras_rs.py"), str(file)],
            env={**os.environ, "KERAS_BACKEND": "jax"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert peer.stdin is not None
        assert peer.stdout is not None
        mine()
        pairs: dict[str, list[Seconds]] = {"amzrec": [], "keras-rs on JAX": []}
        for number in range(10 * rounds + 1):
            own = timed(mine)
            peer.stdin.write("\n")
            peer.stdin.flush()
            other = tuple(map(float, peer.stdout.readline().split()))
            if number:
                pairs["amzrec"].append(own)
                pairs["keras-rs on JAX"].append((other[0], other[1]))
        peer.stdin.close()
        peer.wait()
    found = {name: median(times) for name, times in pairs.items()}
    unique = len(np.unique(some.product[order]))
    return [compared(f"joint step, shape of ML-100K, batch {ML_BATCH:,} ({unique:,} unique)", found, "amzrec")]


def retrieval_loss(rounds: int) -> list[str]:
    """The retrieval loss forward and backward against its floor; all products of the batch different."""
    rng = np.random.default_rng(2)
    q, v = (tf.constant(rng.normal(size=(BATCH, WIDTH)).astype(np.float32)) for _ in range(2))
    zeros, every = tf.zeros([BATCH]), np.arange(BATCH)
    own = PerQuery(*map(tf.constant, PerQuery.of(every, every, BATCH)))

    @tf.function  # type: ignore[untyped-decorator]
    def mine() -> Any:
        with tf.GradientTape() as tape:
            tape.watch((q, v))
            loss = softmax_loss(Logits(q, v, zeros), RetrievalBatch(own, tf.reduce_sum(q * v, 1)))
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
    """The input alone: the columns of an epoch in fresh order, made on the host and handed over as tensors."""
    some, parts = reviews(), []
    for name, settings in (("the notebook's mathematics", NOTEBOOK), ("default flags", {})):
        ours = learner(
            some, Vocabularies(CUSTOMERS, TITLES), TrainConfig.of(**settings, negatives="batch", batch_size=BATCH)
        )

        def epoch(ours: Any = ours) -> None:
            for _ in ours.step_columns:
                pass

        wall, cpu = (each / ours.epoch_plan.steps for each in alternating({"epoch": epoch}, rounds)["epoch"])
        parts.append(
            f"Input of a step of {ours.epoch_plan.batch_size:,} reviews, {name}: {1e3 * wall:,.1f} ms, "
            f"{1e3 * cpu:,.1f} CPU ms, made beside the step before it; {wall / step:.1%} of the joint step."
        )
    return ["\n\n".join(parts)]


def large_batch() -> None:
    """In a process of its own: two steps with a batch of 65,536, and the peak of its memory."""
    before = peak()
    some = reviews()
    step = amzrec_step(some, CUSTOMERS, TITLES, LARGE)
    step()
    started = time.perf_counter()
    step()
    seconds = time.perf_counter() - started
    unique = len(np.unique(some.product[drawn(some, LARGE)]))
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
        dataset: Dataset = dataset_of(folder / "data", reviews())
        for number in range(rounds):
            words = [sys.executable, "-c", FIRST_STEP, str(dataset.path), str(folder / f"run{number}")]
            found.append(float(subprocess.run(words, cwd=ROOT, **READ).stdout.split()[-1]))
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
        lambda: [subprocess.run([sys.executable, "-c", "import training; training.large_batch()"], **LARGE_RUN).stdout],
        lambda: first_step(3),
    ):
        parts += measure()
        print(parts[-1], flush=True)
    section(a.out, "Training", "\n\n".join([described_by(__doc__), *map(str.strip, parts)]))


LARGE_RUN: dict[str, Any] = READ | {"cwd": Path(__file__).parent}

if __name__ == "__main__":
    main()
