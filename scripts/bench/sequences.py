"""The part of the quality table about files of sequences: the last product of each customer, asked with all before it.

RecTools' SASRec is no peer in the same run: up to Python 3.12 it needs numpy below 2, which amzrec does not run with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from amzrec.answers.recommender import Recommender
from amzrec.evaluation import intervals
from amzrec.evaluation.judge import judge
from amzrec.evaluation.systems import RunSystem
from amzrec.evaluation.testset import line_up_run
from amzrec.store.dataset import open_dataset
from peers import fitted
from trained import Figures, Job, measured, short, trained
from transitions import transition_peer

DAY = 86_400
START = 1_000_000_000  # of the first day; the files hold an order and no times


def in_order(name: str) -> Job:
    """A file of sequences, split leave-last-out: amzrec, popularity and the transition table."""

    def job(data: Path, folder: Path) -> Figures:
        source = write_in_order(data, name, folder)
        run, seconds = trained(source, folder, {"split": "leave-last-out"})
        found, dataset = measured(run, seconds), open_dataset(folder / "dataset")
        testset = line_up_run(run, dataset)
        answered = list(fitted(testset, transition_peer(testset, dataset)))
        found["systems"] |= {name: short(each.to_json()) | {"seconds": took} for name, each, took in answered}
        model = judge(testset, RunSystem(Recommender(run.vectors)))
        rivals = {name: each for name, each, _ in answered}
        found["differences"] |= intervals.gaps(testset, model, rivals, np.random.default_rng(0))
        return found

    return job


def write_in_order(data: Path, name: str, folder: Path) -> Path:
    """A file of sequences as a table of reviews, each a day after the one before it."""
    file = folder / f"{name}.csv"
    with (data / f"sequences/{name}.txt").open() as lines, file.open("w") as out:
        out.write("customer,product,timestamp\n")
        for line in lines:
            customer, *products = line.split()
            out.writelines(f"{customer},{one},{START + day * DAY}\n" for day, one in enumerate(products))
    return file
