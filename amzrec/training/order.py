"""Whether the order in which customers take products tells what they take next: decided on valid, before training."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Array, Doubles, Floats, Lists
from amzrec.evaluation import metrics
from amzrec.evaluation.systems import CustomerVotes, Scored, by_vectors, rank_system
from amzrec.evaluation.testset import Queries, TestSet, line_up
from amzrec.features.fitted import timelines_of
from amzrec.features.memory import of_company, of_order
from amzrec.store.dataset import Dataset, Reviews
from amzrec.store.memory import Memory

MOST = 5000  # valid reviews that decide
REVIEWS = 2_000_000  # train reviews that are counted
LATER = 0.9  # share of them that must be later than all that their customers have in train
ERRORS = 3.0  # standard errors by which order must rank them better


@dataclasses.dataclass(frozen=True)
class Voters:
    """A memory of pairs alone as a system: the most votes rank first, and what nothing votes for by popularity."""

    name: str
    memory: Memory
    timelines: Lists  # [C + 1] products of each customer in the order of time
    log_share: Floats  # [N + 1] log popularity

    def stars(self, testset: TestSet) -> Doubles | None:
        """Predict no stars."""
        return None

    def moments(self, testset: TestSet) -> Array | None:
        """Answer the same at any time."""
        return None

    def scores(self, testset: TestSet, queries: Queries) -> Scored:
        """Score all candidates for each query; a vote weighs more than any popularity."""
        votes = self.memory.votes(self.timelines.take(testset.customers)).scaled(1e4)
        nobody = np.ones((len(testset.customers), 1), np.float32)
        popularity = self.log_share[testset.candidates][:, None]
        return by_vectors(nobody, popularity, queries, None, CustomerVotes(votes, testset.column))


def order_pays(dataset: Dataset, seed: int) -> bool:
    """Tell whether what followed what ranks valid better than what stood beside what, by more than chance.

    Valid can tell only where it is what customers took later, as after --split temporal or leave-last-out; a random
    split has shown the future already.
    """
    train, valid = dataset.train, dataset.valid
    if not dataset.has_time or not len(valid) or not valid_is_later(train, valid):
        return False
    rng = np.random.default_rng([seed, 4])
    if len(train) > REVIEWS:  # the reviews of some of the customers
        kept = rng.random(dataset.customers.num_rows) < REVIEWS / len(train)
        train, valid = (part.take(np.flatnonzero(kept[part.customer])) for part in (train, valid))
    if not len(valid):
        return False
    if len(valid) > MOST:
        valid = valid.take(np.sort(rng.choice(len(valid), MOST, replace=False)))
    size = dataset.products.num_rows
    counts = np.bincount(train.product, minlength=size)
    testset = line_up(dataset, valid, train, train, dataset.candidates(counts), rng)
    timelines, _ = timelines_of(train, dataset.customers.num_rows, True)
    log_share = np.log(counts + 0.5).astype(np.float32)
    gains = []
    for name, memory in (("order", of_order(timelines, size)), ("company", of_company(timelines, size))):
        ranked = rank_system(testset, Voters(name, memory, timelines, log_share), lists=False)
        assert ranked is not None
        gains.append(metrics.rank_gain(ranked.above_unseen))
    better = gains[0] - gains[1]
    return bool(better.mean() > ERRORS * better.std() / np.sqrt(len(better)))


def valid_is_later(train: Reviews, valid: Reviews) -> bool:
    """Tell whether nearly all valid reviews of customers with train reviews are later than all of those."""
    customers = 1 + max(train.customer.max(initial=0), valid.customer.max(initial=0))
    last = np.full(customers, np.iinfo(np.int64).min)
    np.maximum.at(last, train.customer, train.timestamp)
    known = np.bincount(train.customer, minlength=customers)[valid.customer] > 0
    later = valid.timestamp[known] >= last[valid.customer[known]]
    return len(later) > 0 and float(later.mean()) >= LATER
