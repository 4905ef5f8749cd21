"""How many examples a second training takes on a GPU, beside the expert TFRS model on the same device.

    python scripts/bench/gpu.py --out benchmarks/gpu.md     on a machine with a GPU of 80 GB and 64 GB of memory
    python scripts/bench/gpu.py --self-test                 anywhere, with small sizes: does it run?

1 million products with power-law counts, 10 million customers, 20 million reviews, generated; in-batch negatives, all
losses joint. Steps of 8,192, 65,536 and 262,144 reviews, in float32 and in bfloat16 (amzrec: --precision bfloat16;
TFRS: Keras' mixed_bfloat16). Systems:
  amzrec ids    the mathematics of the peer: towers of ids 32 wide, a head of 256 and 128, Adagrad, all products of a
                batch as negatives
  amzrec full   default flags: 96 wide, histories of both sides, biases, lazy Adam with averaged weights, the products
                of 8,192 reviews as negatives
  expert TFRS   rows instead of strings, no metric while training, tfrs.tasks as they are, Adagrad
"step" repeats one batch that is on the device, and "with input" makes every batch on the host as training does, beside
the step before it; × is how many times the step of expert TFRS, in the same precision. "softmax" is the time of the
retrieval loss and its gradients alone, as a share of the step. While steps with input ran, "busy" is the share of the
time in which the device worked (nvidia-smi; on a CPU the share of its cores), and "waits" the share in which the step
waited for the host to make its batch. "out of memory": TFRS keeps matrices of batch x batch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amzrec.config import TrainConfig
from amzrec.model.keras2 import import_tensorflow
from amzrec.model.softmax import softmax_loss
from amzrec.parallel import cores
from amzrec.store.dataset import Reviews
from synthetic import WIDTH, Vocabularies, learner, reviews
from tables import described_by, markdown, section
from tfrs_peers import Peer, batch_of

tf: Any = import_tensorflow()

SHARED = {"negatives": "batch", "svd_start": False}
SYSTEMS: dict[str, dict[str, Any]] = {
    "amzrec ids": {"features": "ids", "dim": WIDTH, "head": (256, 128), "optimizer": "adagrad", "compared": 0} | SHARED,
    "amzrec full": SHARED,
}
PEER = "expert TFRS"
PRECISIONS = ("float32", "bfloat16")
NVIDIA_SMI = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=100"]


class Size(NamedTuple):
    """How much is generated and trained on."""

    customers: int
    products: int
    reviews: int
    batches: tuple[int, ...]
    steps: int  # timed at least, after two to warm up …
    seconds: float  # … and for so long, in which the device is watched


WHOLE = Size(10_000_000, 1_000_000, 20_000_000, (8192, 65_536, 262_144), 20, 10.0)
SELF_TEST = Size(5_000, 1_000, 12_000, (256, 1024), 3, 0.0)


class Timed(NamedTuple):
    """How long steps took."""

    seconds: float  # of a step, the median
    waiting: float  # share of the time in which the step waited for its batch


class Figures(NamedTuple):
    """What is known of one system, precision and batch."""

    step: float  # examples/s of repeated steps
    with_input: float | None = None  # examples/s of steps with their input; None: the peer has no input of its own
    softmax: float | None = None  # share of the step
    busy: float | None = None  # share of the time of steps with input in which the device worked
    waiting: float | None = None  # … and in which the step waited for the host


def figures_of(size: Size, some: Reviews, system: str, precision: str, batch: int) -> Figures:
    """Train for some steps and measure."""
    if system == PEER:
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
        try:
            model = Peer(size.customers, size.products)
            model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
            again = repeated(batch_of(some, drawn(some, batch)))
            return Figures(batch / timed(stepping(model), again, size).seconds)
        finally:
            tf.keras.mixed_precision.set_global_policy("float32")
    config = TrainConfig.of(**SYSTEMS[system], batch_size=batch, precision=precision)
    ours = learner(some, Vocabularies(size.customers, size.products), config)
    one = tf.nest.map_structure(tf.constant, ours.steps.columns(drawn(some, batch), 0))
    step = timed(stepping(ours.model), repeated(one), size).seconds
    softmax = timed(softmax_of(ours.model, one), repeated(one), size).seconds
    fed, busy = watched(lambda: timed(stepping(ours.model), iter(ours.step_columns.repeat()), size))
    return Figures(batch / step, ours.epoch_plan.batch_size / fed.seconds, softmax / step, busy, fed.waiting)


def drawn(some: Reviews, batch: int) -> Any:
    """Positions of the reviews of a batch."""
    return np.random.default_rng(2).permutation(len(some))[:batch]


def repeated(batch: Any) -> Iterator[Any]:
    """One batch, for ever."""
    while True:
        yield batch


def stepping(model: Any) -> Callable[[Any], object]:
    """A training step on a batch, which reads back its loss."""
    convert = isinstance(model, Peer)  # tfrs.tasks.Retrieval reads a length as only autograph can
    step = tf.function(model.train_step, autograph=convert, reduce_retracing=True)
    return lambda batch: step(batch)["loss"].numpy()


def softmax_of(model: Any, batch: Any) -> Callable[[Any], object]:
    """The retrieval loss of a step on this batch with its gradients, alone."""
    asked: list[Any] = []

    def keep(*arguments: Any) -> Any:
        asked.extend(arguments)
        return tf.constant(0.0)

    retrieval, task = model.retrieval, model.retrieval.task
    retrieval.task = keep
    try:
        model.compute_loss(batch, training=True)
    finally:
        retrieval.task = task
    logits, reviews, hardest, half = asked

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def alone(query: Any, candidate: Any, bias: Any, logit: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch((query, candidate, bias, logit))
            mine = logits._replace(query=query, candidate=candidate, bias=bias)
            loss = softmax_loss(mine, reviews._replace(logit=logit), hardest, half)
        return tf.add_n([tf.reduce_sum(each) for each in tape.gradient(loss, [query, candidate, bias, logit])])

    inputs = logits.query, logits.candidate, logits.bias, reviews.logit
    return lambda _: alone(*inputs).numpy()


def timed(step: Callable[[Any], object], batches: Iterator[Any], size: Size) -> Timed:
    """Take steps, after two to warm up."""
    found: list[float] = []
    waiting = 0.0
    for _ in range(2):
        step(next(batches))
    while len(found) < size.steps or sum(found) < size.seconds:
        started = time.perf_counter()
        batch = next(batches)
        waiting += time.perf_counter() - started
        step(batch)
        found.append(time.perf_counter() - started)
    return Timed(statistics.median(found), waiting / sum(found))


def watched(work: Callable[[], Timed]) -> tuple[Timed, float | None]:
    """Do some work, and tell for which share of the time the device was busy; None where nvidia-smi saw nothing."""
    if not tf.config.list_physical_devices("GPU"):
        started, before = time.perf_counter(), sum(os.times()[:2])
        done = work()
        return done, (sum(os.times()[:2]) - before) / (time.perf_counter() - started) / cores()
    with subprocess.Popen(NVIDIA_SMI, stdout=subprocess.PIPE, text=True) as process:
        try:
            done = work()
        finally:
            process.terminate()
        seen = [float(line) / 100 for line in (process.stdout or ()) if line.strip().isdecimal()]
    return done, statistics.mean(seen) if seen else None


def measured(size: Size, some: Reviews) -> dict[tuple[str, str, int], Figures | None]:
    """Measure each system, precision and batch; None: out of memory."""
    found: dict[tuple[str, str, int], Figures | None] = {}
    for system in (*SYSTEMS, PEER):
        for precision in PRECISIONS:
            for batch in size.batches:
                key = system, precision, batch
                try:
                    found[key] = figures_of(size, some, *key)
                except tf.errors.ResourceExhaustedError:
                    found[key] = None
                tf.keras.backend.clear_session()
                print(*key, found[key], flush=True)
    return found


def table_of(found: dict[tuple[str, str, int], Figures | None]) -> str:
    """The table, and the range of × of each system."""
    rows, times = list[list[str]](), {system: list[float]() for system in SYSTEMS}
    for (system, precision, batch), one in found.items():
        start = [system, precision, f"{batch:,}"]
        if one is None:
            rows.append([*start, "out of memory", *[""] * 5])
            continue
        peer = found[PEER, precision, batch]
        if peer and system != PEER:
            times[system].append(one.step / peer.step)
        ratio = f"{one.step / peer.step:.1f}" if peer else ""
        shares = ["" if share is None else f"{share:.0%}" for share in (one.softmax, one.busy, one.waiting)]
        rows.append(
            [*start, f"{one.step:,.0f}", ratio, "" if one.with_input is None else f"{one.with_input:,.0f}", *shares]
        )
    head = ["system", "precision", "batch", "examples/s, step", "×", "with input", "softmax", "busy", "waits"]
    ranges = [f"{name}: {min(each):.1f} to {max(each):.1f} × {PEER}" for name, each in times.items() if each]
    return f"{markdown(head, rows)}\n\n{'; '.join(ranges)} (the goal is 5), where both fit."


def device() -> str:
    """The GPU that is measured, or the CPU."""
    found = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(found[0]).get("device_name", "a GPU") if found else "the CPU"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true", help="small sizes, on whatever device there is")
    parser.add_argument("--out", type=Path, help="Markdown file whose section is replaced; default: print")
    arguments = parser.parse_args()
    size = SELF_TEST if arguments.self_test else WHOLE
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    if not tf.config.list_physical_devices("GPU") and not arguments.self_test:
        parser.error("TensorFlow sees no GPU (pip install 'amzrec[gpu]'); --self-test runs small sizes without one")
    some = reviews(size.reviews, size.customers, size.products)
    table = table_of(measured(size, some))
    kind = f"{size.customers:,} customers, {size.products:,} products, {size.reviews:,} reviews, on {device()}:"
    section(arguments.out, "Training on a GPU", f"{described_by(__doc__)}\n\n{kind}\n\n{table}")


if __name__ == "__main__":
    main()
