"""What N workers take off each other, what they must tell each other, and what a strategy costs one of them.

    python scripts/bench/distributed.py [--rounds 3] [--other CHECKOUT] [--out benchmarks/distributed.md]

Generated reviews, towers with histories, both tasks. One machine of two cores can time no cluster, so:
  work       what the largest share of a step holds, and the CPU time in which one process makes its input and its
             gradients: the median of rounds in which the shares of all N take turns.
  exchanged  the bytes of the gradients of all shares but the own one, counted from the tensors (rows of tables with
             their numbers, the head and what else is dense twice times (N - 1) / N), and on paper, without latency,
             the time that they take at 1, 10 and 100 Gbit/s.
  strategy   the same steps under MirroredStrategy with one device and without a strategy, in turn, in CPU time. No
             training takes such a strategy; --other shows what is left of it: the steps of --strategy mirrored with
             one device beside those of another checkout, such as that of before there were strategies.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.config import TrainConfig
from amzrec.errors import SILENT
from amzrec.features.batches import shuffled_batches
from amzrec.features.shares import Share
from amzrec.model.keras2 import graphs_as_written, import_tensorflow
from amzrec.training.cluster import ALONE
from amzrec.training.learner import Learner
from amzrec.training.strategy import Replicas
from synthetic import Vocabularies, learner, reviews
from tables import described_by, markdown, section
from timing import alternating, compared

tf: Any = import_tensorflow()
ROWS, CUSTOMERS, TITLES, BATCH = 200_000, 12_000, 20_000, 8192
WORKERS = (1, 2, 4, 8)
GIGABITS = (1, 10, 100)
EPOCHS = 4  # of each process that is compared with another checkout; the first one, which makes the graph, is left out
ONE_DEVICE = """
import sys, time
from amzrec.config import TrainConfig
from amzrec.errors import SILENT
from amzrec.model.keras2 import graphs_as_written
from synthetic import Vocabularies, learner, reviews
size, customers, titles, batch, epochs = map(int, sys.argv[1:])
config = TrainConfig.of(batch_size=batch, negatives="batch", svd_start=False)
ours = learner(reviews(size, customers, titles), Vocabularies(customers, titles), config)
try:
    from amzrec.training.strategy import replicas_of
    assert replicas_of("mirrored").strategy is None
except ImportError:
    pass  # before there were strategies
with graphs_as_written():
    for number in range(1, epochs + 1):
        start = time.process_time()
        ours.epoch(number, SILENT, "", None, "select")
        if number > 1:
            print((time.process_time() - start) / ours.epoch_plan.steps)
"""


def bytes_of(gradients: list[Any]) -> tuple[int, int]:
    """The bytes of rows of tables with their numbers, and of dense gradients."""
    rows = dense = 0
    for each in gradients:
        if isinstance(each, tf.IndexedSlices):
            rows += each.values.numpy().nbytes + each.indices.numpy().nbytes
        elif each is not None:
            dense += each.numpy().nbytes
    return rows, dense


def work(rounds: int, size: int, batch: int) -> str:
    """What shares of a step hold and exchange, for each number of workers."""
    customers, titles = size * CUSTOMERS // ROWS, size * TITLES // ROWS
    ours = learner(
        reviews(size, customers, titles),
        Vocabularies(customers, titles),
        TrainConfig.of(batch_size=batch, negatives="batch", svd_start=False),
    )
    drawn = next(iter(shuffled_batches(ours.fitted, ours.epoch_plan, [1])))
    variables = ours.model.trainable_variables

    @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
    def gradients(columns: Any) -> Any:
        with tf.GradientTape() as tape:
            encoded = ours.model.encoder.encode(columns)
            loss = encoded.penalty + tf.add_n([task.loss(columns, encoded) for task in ours.model.tasks])
        return tape.gradient(loss, variables)

    shares = {n: [Share(number, n) for number in range(n)] for n in WORKERS}
    largest = {}
    counts: dict[int, list[str]] = {}
    exchanged: dict[int, list[str]] = {}
    with graphs_as_written():
        for n, all_of_them in shares.items():
            columns = [ours.steps.columns(drawn, 0, share) for share in all_of_them]
            sizes = [len(each["reviews"].value) for each in columns]
            mine = columns[int(np.argmax(sizes))]
            largest[n] = int(np.argmax(sizes))
            towers, asked = mine["towers"], mine["retrieval"]
            logits = len(asked.period) * len(asked.rows)
            histories = (len(towers.customer_sums.sums.values), len(towers.product_sums.sums.values))
            counts[n] = [f"{number:,}" for number in (max(sizes), logits, *histories)]
            rows, dense = np.array([bytes_of(gradients(tensors(each))) for each in columns]).T
            received = rows.sum() - rows[largest[n]] + 2 * (n - 1) / n * dense.max()
            seconds = [f"{1e3 * received * 8 / (rate * 1e9):,.1f}" for rate in GIGABITS]
            exchanged[n] = [f"{rows.max() / 1e6:,.2f}", f"{dense.max() / 1e6:,.3f}", f"{received / 1e6:,.2f}", *seconds]
        makes = {n: (lambda n=n: ours.steps.columns(drawn, 0, shares[n][largest[n]])) for n in WORKERS}
        ready = {n: tensors(make()) for n, make in makes.items()}
        made = alternating({str(n): make for n, make in makes.items()}, rounds)
        learned = alternating({str(n): (lambda n=n: gradients(ready[n])) for n in WORKERS}, rounds)
    times = {n: [f"{1e3 * taken[str(n)][1]:,.0f}" for taken in (made, learned)] for n in WORKERS}
    first = ["reviews", "logits", "entries of histories: customers", "products", "input, CPU ms", "gradients, CPU ms"]
    second = ["MB of rows sent", "MB dense", "MB received", *(f"ms at {rate} Gbit/s" for rate in GIGABITS)]
    return "\n\n".join(
        [
            f"{size:,} reviews of {customers:,} customers and {titles:,} products, {batch:,} reviews a step. "
            "The largest share of a step:",
            markdown(["workers", *first], [[str(n), *counts[n], *times[n]] for n in WORKERS]),
            "What a worker exchanges in a step:",
            markdown(["workers", *second], [[str(n), *exchanged[n]] for n in WORKERS]),
        ]
    )


def tensors(columns: Any) -> Any:
    """The columns on the device."""
    return tf.nest.map_structure(tf.constant, columns)


def overhead(rounds: int, size: int, batch: int) -> str:
    """Epochs of one device with and without a strategy, in turn."""
    customers, titles = size * CUSTOMERS // ROWS, size * TITLES // ROWS
    some, data = reviews(size, customers, titles), Vocabularies(customers, titles)
    config = TrainConfig.of(batch_size=batch, negatives="batch", svd_start=False)
    plain = learner(some, data, config)
    mirrored = Replicas(tf.distribute.MirroredStrategy(["/cpu:0"]), ALONE, 1)
    under = Learner(plain.recipe, plain.fitted, data, replicas=mirrored)  # type: ignore[arg-type]
    under.prepare()
    numbers = {"one": 0, "mirrored, one device": 0}

    def epoch(name: str, each: Any) -> None:
        numbers[name] += 1
        each.epoch(numbers[name], SILENT, "", None, "select")

    with graphs_as_written():
        pairs = zip(numbers, (plain, under), strict=True)
        taken = alternating({name: (lambda name=name, each=each: epoch(name, each)) for name, each in pairs}, rounds)
    steps = plain.epoch_plan.steps
    per_step = {name: (wall / steps, cpu / steps) for name, (wall, cpu) in taken.items()}
    return compared("a step", per_step, "one")


def beside(other: Path, rounds: int, size: int, batch: int) -> str:
    """Steps of one device by this checkout, asked for --strategy mirrored, and by another one, in turn."""
    numbers = [size, size * CUSTOMERS // ROWS, size * TITLES // ROWS, batch, EPOCHS]
    described = ["git", "-C", str(other), "describe", "--always"]
    before = (
        f"the other checkout, {subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()}"
    )
    checkouts = {before: other, "this one, --strategy mirrored": Path(__file__).resolve().parents[2]}
    seconds: dict[str, list[float]] = {name: [] for name in checkouts}
    for _ in range(rounds):
        for name, root in checkouts.items():
            paths = os.pathsep.join([str(root), str(root / "scripts/bench")])
            command = [sys.executable, "-c", ONE_DEVICE, *map(str, numbers)]
            done = subprocess.run(
                command, env=os.environ | {"PYTHONPATH": paths}, cwd=root, capture_output=True, check=True
            )
            seconds[name] += map(float, done.stdout.split())
    usual = statistics.median(seconds[before])
    rows = []
    for name, each in seconds.items():
        middle = statistics.median(each)
        ends = f"{1e3 * min(each):.1f} to {1e3 * max(each):.1f}"
        rows.append([name, f"{1e3 * middle:.1f}", ends, f"{middle / usual:.3f}"])
    epochs = rounds * (EPOCHS - 1)
    said = f"One device, this checkout and another one, {epochs} epochs of each, median and range:"
    return f"{said}\n\n{markdown(['a step', 'CPU ms', 'from, to', 'ratio'], rows)}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reviews", type=int, default=ROWS)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--other", type=Path, help="another checkout, to compare with")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    parts = [
        described_by(__doc__),
        work(given.rounds, given.reviews, given.batch),
        "One device with and without a strategy, per step:",
        overhead(given.rounds, given.reviews, given.batch),
        *([beside(given.other, given.rounds, given.reviews, given.batch)] if given.other else []),
    ]
    section(given.out, "Several workers", "\n\n".join(parts), "Distributed training")
