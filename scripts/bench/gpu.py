"""How many examples a second training takes on a GPU, beside the expert TFRS model on the same device.

    python scripts/bench/gpu.py --out benchmarks/gpu.md     on a machine with a GPU of 80 GB and 64 GB of memory
    python scripts/bench/gpu.py --self-test                 anywhere, with small sizes: does it run?

1 million products with power-law counts, 10 million customers, 20 million reviews, generated; in-batch negatives, all
losses joint. Steps of 8,192, 65,536 and 262,144 reviews, in float32 and in bfloat16 (amzrec: --precision bfloat16;
TFRS: Keras' mixed_bfloat16). Systems:
  amzrec ids    the mathematics of the peer: towers of ids 32 wide, a head of 256 and 128, Adagrad
  amzrec full   default flags: 96 wide, histories of both sides, biases, lazy Adam with averaged weights
  expert TFRS   rows instead of strings, no metric while training, tfrs.tasks as they are, Adagrad
"step" repeats one batch that is on the device, and "with input" makes every batch on the host as training does, beside
the step before it. "out of memory" is what a system says that does not fit: TFRS keeps matrices of batch x batch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amzrec.config import TrainConfig
from amzrec.model.keras2 import import_tensorflow
from amzrec.store.dataset import Reviews
from synthetic import WIDTH, Vocabularies, learner, reviews
from tables import described_by, markdown, section
from tfrs_peers import Peer, batch_of

tf: Any = import_tensorflow()

SHARED = {"negatives": "batch", "svd_start": False}
SYSTEMS: dict[str, dict[str, Any]] = {
    "amzrec ids": {"features": "ids", "dim": WIDTH, "head": (256, 128), "optimizer": "adagrad"} | SHARED,
    "amzrec full": SHARED,
}
PEER = "expert TFRS"
PRECISIONS = ("float32", "bfloat16")


class Size(NamedTuple):
    """How much is generated and trained on."""

    customers: int
    products: int
    reviews: int
    batches: tuple[int, ...]
    steps: int  # timed, after two to warm up


WHOLE = Size(10_000_000, 1_000_000, 20_000_000, (8192, 65_536, 262_144), 20)
SELF_TEST = Size(5_000, 1_000, 12_000, (256, 1024), 3)


def rates(size: Size, some: Reviews, system: str, precision: str, batch: int) -> tuple[float, float | None]:
    """Examples/s of repeated steps, and of steps with their input; the peer has no input of its own (None)."""
    if system == PEER:
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
        try:
            model = Peer(size.customers, size.products)
            model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
            return batch / seconds(model, repeated(batch_of(some, drawn(some, batch))), size.steps), None
        finally:
            tf.keras.mixed_precision.set_global_policy("float32")
    config = TrainConfig.of(**SYSTEMS[system], batch_size=batch, precision=precision)
    ours = learner(some, Vocabularies(size.customers, size.products), config)
    one = tf.nest.map_structure(tf.constant, ours.steps.columns(drawn(some, batch), 0))
    step = batch / seconds(ours.model, repeated(one), size.steps)
    ours.epoch_number, ours.epoch_seed = 1, [1, 0]
    return step, ours.epoch_plan.batch_size / seconds(ours.model, iter(ours.step_columns.repeat()), size.steps)


def drawn(some: Reviews, batch: int) -> Any:
    """Positions of the reviews of a batch."""
    return np.random.default_rng(2).permutation(len(some))[:batch]


def repeated(batch: Any) -> Iterator[Any]:
    """One batch, for ever."""
    while True:
        yield batch


def seconds(model: Any, batches: Iterator[Any], steps: int) -> float:
    """Median wall seconds of a training step, after two to warm up; each reads back its loss."""
    convert = isinstance(model, Peer)  # tfrs.tasks.Retrieval reads a length as only autograph can
    step, found = tf.function(model.train_step, autograph=convert, reduce_retracing=True), []
    for number in range(steps + 2):
        started = time.perf_counter()
        step(next(batches))["loss"].numpy()
        if number > 1:
            found.append(time.perf_counter() - started)
    return statistics.median(found)


def measured(size: Size, some: Reviews) -> Iterator[list[str]]:
    """The rows of the table, one system, precision and batch each."""
    for system in (*SYSTEMS, PEER):
        for precision in PRECISIONS:
            for batch in size.batches:
                try:
                    step, with_input = rates(size, some, system, precision, batch)
                    cells = [f"{step:,.0f}", "" if with_input is None else f"{with_input:,.0f}"]
                except tf.errors.ResourceExhaustedError:
                    cells = ["out of memory", ""]
                tf.keras.backend.clear_session()
                yield [system, precision, f"{batch:,}", *cells]
                print(system, precision, batch, cells, flush=True)


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
    head = ["system", "precision", "batch", "examples/s, step", "examples/s, with input"]
    table = markdown(head, list(measured(size, some)))
    kind = f"{size.customers:,} customers, {size.products:,} products, {size.reviews:,} reviews, on {device()}:"
    section(arguments.out, "Training on a GPU", f"{described_by(__doc__)}\n\n{kind}\n\n{table}")


if __name__ == "__main__":
    main()
