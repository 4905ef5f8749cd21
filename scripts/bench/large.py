"""Reviews per second of steps on large data, beside the expert's TFRS model on the same reviews, in turn.

    python scripts/bench/scale.py --reviews 10000000 --folder scale --stages generate,prepare
    python scripts/bench/large.py scale/10000000/dataset --out benchmarks/scale.md

Peers:
  amzrec               default flags: its histories, weights by customer, masked positives and penalties are all there
  amzrec, 32 numbers   the same with --dim 32, as wide as the peer
  expert TFRS          rows instead of strings, 32 wide, batches of 8,192, no metric in training, tfrs.tasks as they are
A turn is three steps of amzrec, and as many reviews of the peer. Input is part of both, made before each step and not
beside the one before it, so that each turn pays for its own; and so is the one heap for all threads that `amzrec train`
has. Medians of the turns after the first; CPU seconds are those of all threads, which a busy machine changes little.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from amzrec import heap
from amzrec.config import TrainConfig
from amzrec.features.fitted import fit_reviews
from amzrec.store.dataset import Dataset, open_dataset
from amzrec.training.learner import Learner
from tables import described_by, markdown, section
from tfrs_peers import Peer, batch_of, tf
from timing import Step, alternating

BATCH, STEPS, MINE = 8192, 3, "amzrec"


def amzrec_turn(dataset: Dataset, **settings: Any) -> tuple[Step, int]:
    """Some steps of the first epoch, and how many reviews they have; each turn goes on where the last one ended."""
    recipe = TrainConfig.of(refit=False, **settings).resolve(dataset.facts(refit=False))
    ours = Learner(recipe, fit_reviews(dataset, dataset.train, recipe), dataset)
    ours.prepare()
    [share] = ours.replicas.shares
    signature = ours.step_columns.element_spec
    step = tf.function(ours.model.train_step, input_signature=[signature], autograph=False)
    drawn = ours._numbered_batches()

    def turn() -> None:
        for _ in range(STEPS):
            number, reviews = next(drawn)
            step(tf.nest.map_structure(tf.convert_to_tensor, ours.steps.columns(reviews, number, share)))[
                "loss"
            ].numpy()

    return turn, STEPS * ours.epoch_plan.batch_size


def peer_turn(dataset: Dataset, reviews: int) -> Step:
    """As many reviews of the peer, in the order of a shuffled epoch."""
    model = Peer(dataset.customers.num_rows - 1, dataset.products.num_rows - 1)
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
    step = tf.function(model.train_step)

    def positions() -> Iterator[Any]:
        order = np.random.default_rng(1).permutation(len(dataset.train))
        for start in range(0, len(order) - BATCH, BATCH):
            yield order[start : start + BATCH]

    drawn = positions()

    def turn() -> None:
        for _ in range(reviews // BATCH):
            step(batch_of(dataset.train, next(drawn)))["loss"].numpy()

    return turn


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if os.environ.get(heap.FLAG) != "1":  # which allocators read when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {heap.FLAG: "1", heap.CHILDREN: "1"})
    dataset = open_dataset(options.dataset)
    turns, reviews = {}, {}
    for name, settings in ((MINE, {}), (f"{MINE}, 32 numbers", {"dim": 32})):
        turns[name], reviews[name] = amzrec_turn(dataset, **settings)
    turns["expert TFRS"] = peer_turn(dataset, reviews[MINE])
    reviews["expert TFRS"] = reviews[MINE] // BATCH * BATCH
    with heap.reused():
        measured = alternating(turns, options.rounds)
    rates = {name: [reviews[name] / each for each in seconds] for name, seconds in measured.items()}
    peer = rates["expert TFRS"]
    rows = [
        [name, f"{wall:,.0f}", f"{cpu:,.0f}", f"{wall / peer[0]:.2f}", f"{cpu / peer[1]:.2f}"]
        for name, (wall, cpu) in rates.items()
    ]
    header = [f"{len(dataset.train):,} reviews", "reviews/s", "per CPU second", "ratio", "ratio of CPU"]
    section(options.out, "Steps beside TFRS", described_by(__doc__) + "\n\n" + markdown(header, rows), "Scale")


if __name__ == "__main__":
    main()
