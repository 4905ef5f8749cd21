"""The order of a training: how an epoch is cut into steps, and which reviews each step has, anew in every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from amzrec.arrays import Bools, Ints, offsets_of
from amzrec.config import Recipe
from amzrec.features.fitted import FittedReviews

FEW_STEPS = 10  # steps of an epoch where there are ROWS_PER_STEP reviews for each
ROWS_PER_STEP = 256  # reviews that a step should have before an epoch gets more steps
REPLAYED = 1  # old reviews for each new one, where a training goes on with new ones (see `one_pass`)


class EpochPlan(NamedTuple):
    """How an epoch is cut into steps."""

    batch_size: int  # reviews per step
    steps: int  # per epoch
    reviews_together: int  # reviews of one customer that stand together in a batch

    @property
    def reviews(self) -> int:
        """Return how many reviews an epoch passes over."""
        return self.batch_size * self.steps


def plan_epoch(fitted: FittedReviews, recipe: Recipe, fresh: Bools | None = None) -> EpochPlan:
    """Cut an epoch into steps of one size: at most `batch_size` reviews each, and FEW_STEPS or more where possible.

    `fresh` [n] are the reviews that are new to the model, as `one_pass` reads them.

    An epoch leaves out fewer reviews than it has steps, and every epoch leaves out other ones. With a loss over lists
    the size is a multiple of the length of a list, and 0 where no customer has enough reviews for a list.
    """
    together = recipe.reviews_together
    rng = np.random.default_rng(0)
    least = step_of(len(fitted), recipe)
    rows = len(shuffled_lists(fitted, rng, together) if together > 1 else one_pass(len(fitted), rng, fresh, least))
    few = recipe.features == "ids" or fresh is not None  # those few reviews, in many steps, would be learned by heart
    size, steps = cut_evenly(rows, recipe.batch_size, 1 if few else FEW_STEPS)
    return EpochPlan(max(size // together, 1) * together if rows else 0, steps, together)


def step_of(reviews: int, recipe: Recipe) -> int:
    """Return how many reviews a step has in a training from scratch on so many."""
    return cut_evenly(reviews, recipe.batch_size, 1 if recipe.features == "ids" else FEW_STEPS)[0]


def cut_evenly(rows: int, most: int, least_steps: int = FEW_STEPS) -> tuple[int, int]:
    """Return reviews per step and steps per epoch for an epoch of so many `rows`.

    A step has at most `most` reviews; there are at least `least_steps` steps where each has ROWS_PER_STEP reviews.
    """
    steps = max(-(-rows // most), min(least_steps, -(-rows // ROWS_PER_STEP)), 1)
    return rows // steps, steps


def shuffled_batches(
    fitted: FittedReviews, plan: EpochPlan, seed: list[int], fresh: Bools | None = None
) -> Iterator[Ints]:
    """Yield the positions [B] of the reviews of each step of one epoch, in a random order drawn from the seed."""
    rng = np.random.default_rng(seed)
    together = plan.reviews_together
    if together > 1:
        order = shuffled_lists(fitted, rng, together)
    else:
        order = one_pass(len(fitted), rng, fresh, least=plan.reviews)
    for step in range(plan.steps):
        yield order[step * plan.batch_size : (step + 1) * plan.batch_size]


def one_pass(reviews: int, rng: np.random.Generator, fresh: Bools | None, least: int = 0) -> Ints:
    """Return the positions of the reviews of one epoch, in a random order: of all n `reviews`.

    Where some are `fresh` [n], those and REPLAYED times as many of the others, drawn anew, so that what is known is not
    forgotten over what is new; and of the others so many that there are `least` in all: a step of fewer reviews than
    the moments of Adam are from would move what it touches too far, since each review is more of its mean loss.
    """
    if fresh is None:
        return rng.permutation(reviews)
    new, old = np.flatnonzero(fresh), np.flatnonzero(~fresh)
    again = rng.choice(old, min(len(old), max(REPLAYED * len(new), least - len(new))), replace=False)
    return rng.permutation(np.concatenate([new, again]))


def shuffled_lists(fitted: FittedReviews, rng: np.random.Generator, size: int) -> Ints:
    """Return positions of reviews with stars, in a random order of lists of `size` reviews of one customer each.

    Of a customer whose reviews do not fill whole lists the remaining ones, drawn at random, are left out.
    """
    rated = np.flatnonzero(fitted.rated > 0)
    customer = fitted.customer[rated]
    order = np.lexsort((rng.random(len(rated)), customer))
    counts = np.bincount(customer)
    rank = np.arange(len(rated)) - offsets_of(counts)[customer[order]]
    in_whole_lists = rated[order][rank < counts[customer[order]] // size * size]
    lists = in_whole_lists.reshape(-1, size)
    shuffled: Ints = lists[rng.permutation(len(in_whole_lists) // size)].reshape(-1)
    return shuffled
