"""The columns of a step that learns every position of some customers at once: windows of what they took, in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from amzrec.arrays import Ints, Rows, ranges
from amzrec.config import Recipe
from amzrec.features.batches import EpochPlan
from amzrec.features.candidates import negatives_of
from amzrec.features.columns import OwnBias, PerQuery, RetrievalColumns, StepColumns
from amzrec.features.fitted import FittedReviews
from amzrec.features.shares import WHOLE, Share
from amzrec.features.steps import SEED_STRIDE

LAST = 100  # products before a review that are read at most
POSITIONS = 8192  # products that a step reads at most, those that fill up its windows included
LEAST_POSITIONS = 512  # … where there are few reviews
STEPS = 64  # steps of an epoch that there should be before they grow from the one to the other
SEEDS = 2**31


class WindowColumns(NamedTuple):
    """What is read of n windows: products that one customer took one after the other."""

    items: Rows  # [n · T] product rows, T of each window from the left, 0 behind its last one
    shape: Ints  # [2] n and T
    asking: Ints  # [P] positions in `items` after which a review is asked; n · T: after nothing
    targets: Rows  # [P] product rows of the reviews that are asked
    candidates: Rows  # [M] product rows that the softmax compares
    seed: Rows  # [2] int32, of what the step drops


class Windows:
    """Cuts the order of all customers into windows, anew in each epoch, and makes the columns of steps of them.

    A window begins at a slot of `fitted.timelines` and ends LAST products later, or before the customer's last one. The
    product after each of its products is asked of all up to that one, and where the window begins with the first
    product of a customer, that one is asked of nothing, so that what answers the unknown customer is learned as well.
    """

    def __init__(self, fitted: FittedReviews, recipe: Recipe) -> None:
        self.fitted, self.recipe, self.negatives = fitted, recipe, negatives_of(fitted, recipe)
        offsets = fitted.timelines.offsets
        self.first, self.end = offsets[:-1][fitted.timelines.lengths > 0], offsets[1:][fitted.timelines.lengths > 0]
        self.reads = np.maximum(self.end - self.first - 1, 0)  # products of each customer that something came after
        self.pieces = np.maximum(-(-self.reads // LAST), 1)  # windows of each customer in an epoch
        lengths = np.sort(np.repeat(np.minimum(self.reads, LAST), self.pieces))
        positions = int(np.clip(lengths.sum() // STEPS, LEAST_POSITIONS, POSITIONS))
        self.cuts = cuts(np.maximum(lengths, 1), positions)
        review = np.empty(len(fitted), np.int64)  # that stands in each slot
        review[fitted.timeline_slot] = np.arange(len(fitted))
        self.review = review

    @property
    def plan(self) -> EpochPlan:
        """Return how an epoch is cut into steps."""
        steps = len(self.cuts) - 1
        return EpochPlan(max(1, round(len(self.fitted) / max(steps, 1))), steps, 1)

    def batches(self, seed: list[int]) -> Iterator[Ints]:
        """Yield the slots [n] at which the windows of each step of one epoch begin, as drawn from the seed.

        Windows of a length stand together, so that little is filled up. They begin anywhere, at the first and at the
        last possible place more often, so that the ends of long histories are read as often as what is between.
        """
        rng = np.random.default_rng(seed)
        customer = np.repeat(np.arange(len(self.first)), self.pieces)
        reads, latest = self.reads[customer], np.maximum(self.reads[customer] - LAST, 0)
        drawn = rng.integers(-(LAST // 2), latest + LAST // 2 + 1)
        start = self.first[customer] + np.clip(drawn, 0, latest)
        order = np.lexsort((rng.random(len(start)), np.minimum(reads, LAST)))
        for step in rng.permutation(len(self.cuts) - 1):
            yield start[order[self.cuts[step] : self.cuts[step + 1]]]

    def columns(self, reviews: Ints, step: int, share: Share = WHOLE) -> StepColumns:
        """Make the columns of a step whose windows begin at these slots [n]; `step` is counted through all epochs.

        Attention is learned by one replica, whose `share` is all of a step.
        """
        fitted, starts = self.fitted, reviews
        customer = np.searchsorted(self.first, starts, side="right") - 1
        stop = np.minimum(starts + LAST, self.end[customer] - 1)  # of what is read; what stands there is asked last
        width = max(int((stop - starts).max(initial=0)), 1)
        slot = starts[:, None] + np.arange(width)
        there = slot < stop[:, None]
        items = np.where(there, fitted.timelines.items[np.where(there, slot, 0)], 0).astype(np.int32)
        begins = np.flatnonzero(starts == self.first[customer])
        asking = np.concatenate([np.flatnonzero(there), np.full(len(begins), there.size)])
        review = self.review[np.concatenate([ranges(starts + 1, stop + 1), starts[begins]])]
        product = fitted.product[review]
        candidates = self.negatives.of(product)
        # of 32 bits, which TensorFlow keeps on the host of a GPU, where seeds are read
        seed = np.array([self.recipe.seed * SEED_STRIDE % SEEDS, step % SEEDS], np.int32)
        query = np.arange(len(review))
        return {
            "windows": WindowColumns(items.ravel(), np.array(items.shape), asking, product, candidates.rows, seed),
            "retrieval": RetrievalColumns(
                shared=(),
                period=fitted.period[review].astype(np.int32),
                positives=PerQuery.of(query, candidates.target, len(review)),
                target=candidates.target,
                log_share_without_self=fitted.log_share_without_self[review],
                weight=fitted.weight[review],
                rows=candidates.rows,
                bias=candidates.bias,
                hidden=(),
                own=OwnBias(product, candidates.own.bias) if candidates.own else (),
            ),
        }


def cuts(lengths: Ints, most: int) -> Ints:
    """Cut windows of these ascending lengths into steps of at most `most` products, filled up: where each begins."""
    begins, start = [0], 0
    while start < len(lengths):
        some = lengths[start : start + most]
        start += max(int(np.count_nonzero(np.arange(1, len(some) + 1) * some <= most)), 1)
        begins.append(start)
    return np.array(begins)
