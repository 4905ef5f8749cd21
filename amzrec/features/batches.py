"""Training batches: how an epoch is cut into steps, and which reviews each has, in fresh order every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from amzrec.arrays import Ints, offsets_of
from amzrec.config import Recipe
from amzrec.features.fitted import Fitted

FEW_STEPS = 10  # steps of an epoch where there are ROWS_PER_STEP reviews for each
ROWS_PER_STEP = 256


class Plan(NamedTuple):
    """How an epoch is cut into steps."""

    size: int  # reviews per step
    steps: int  # per epoch
    lists: int  # reviews of one customer that stand together

    @property
    def reviews(self) -> int:
        """Reviews that an epoch passes over."""
        return self.size * self.steps


def plan(fitted: Fitted, recipe: Recipe) -> Plan:
    """Cut an epoch into steps of one size: at most `batch_size` reviews each, and FEW_STEPS where that is possible.

    An epoch leaves out fewer reviews than it has steps, other ones each time. Without any list for a loss over lists
    the size is 0.
    """
    rows = len(list_order(fitted, np.random.default_rng(0), recipe.lists)) if recipe.lists > 1 else len(fitted)
    size, steps = batch_size(rows, recipe.batch_size, 1 if recipe.features == "ids" else FEW_STEPS)
    return Plan(max(size // recipe.lists, 1) * recipe.lists if rows else 0, steps, recipe.lists)


def batch_size(rows: int, most: int, least_steps: int = FEW_STEPS) -> tuple[int, int]:
    """Reviews per step and steps per epoch: `most` reviews at most, `least_steps` where each has ROWS_PER_STEP."""
    steps = max(-(-rows // most), min(least_steps, -(-rows // ROWS_PER_STEP)), 1)
    return rows // steps, steps


def positions(fitted: Fitted, cut: Plan, seed: list[int]) -> Iterator[Ints]:
    """The reviews of each step of one epoch, in a fresh random order."""
    rng = np.random.default_rng(seed)
    order = list_order(fitted, rng, cut.lists) if cut.lists > 1 else rng.permutation(len(fitted))
    for step in range(cut.steps):
        yield order[step * cut.size : (step + 1) * cut.size]


def list_order(fitted: Fitted, rng: np.random.Generator, size: int) -> Ints:
    """Positions of rated reviews in random lists of `size` of one customer; the rest of each customer is left out."""
    rated = np.flatnonzero(fitted.rated > 0)
    customer = fitted.customer[rated]
    order = np.lexsort((rng.random(len(rated)), customer))
    counts = np.bincount(customer)
    rank = np.arange(len(rated)) - offsets_of(counts)[customer[order]]
    whole = rated[order][rank < counts[customer[order]] // size * size]
    drawn: Ints = whole.reshape(-1, size)[rng.permutation(len(whole) // size)].reshape(-1)
    return drawn
