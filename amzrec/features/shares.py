"""What each of N replicas computes of a step: the reviews of some of its customers, against all of its candidates."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from amzrec.arrays import Floats, Ints
from amzrec.config import Recipe
from amzrec.features.columns import ReviewColumns, ShareWeights


class Share(NamedTuple):
    """Which share of every step is meant: number `number`, from 0, of `of`."""

    number: int = 0
    of: int = 1


WHOLE = Share()


@dataclasses.dataclass(frozen=True)
class Part:
    """The reviews of a step that one share has: all those of some customers.

    All reviews of a customer stay together, since its query vector and its lists are made of them. What is drawn for a
    step is drawn for all of its reviews, and cut by `reviews` and `customers`, so that it does not depend on shares.
    """

    size: int  # B reviews of the whole step
    distinct: int  # U customers of the whole step
    reviews: Ints | slice  # [b] positions, ascending
    customers: slice  # of the distinct customers
    stands_in: bool = False  # there were too few customers: it has the reviews of another share, and counts nothing

    @classmethod
    def of(cls, customer: Ints, share: Share) -> Part:
        """Cut a step between customers into shares of about as many reviews.

        `customer` [B] are positions of the reviews' customers among the distinct ones of the step.
        """
        size, distinct = len(customer), int(customer.max(initial=-1)) + 1
        if share.of == 1:
            return cls.whole(size, distinct)
        counts = np.bincount(customer, minlength=distinct)
        owner = (np.cumsum(counts) - counts) * share.of // size  # ascends from 0
        first, last = np.searchsorted(owner, [share.number, share.number + 1]).tolist()
        stands_in = first == last
        if stands_in:
            first, last = 0, int(np.searchsorted(owner, 1))
        reviews = np.flatnonzero((customer >= first) & (customer < last))
        return cls(size, distinct, reviews, slice(first, last), stands_in)

    @classmethod
    def whole(cls, size: int, distinct: int = 0) -> Part:
        """Return all reviews of a step; `distinct` may be left out where nobody asks for it."""
        return cls(size, distinct, slice(None), slice(None))

    def weights(self, recipe: Recipe, reviews: ReviewColumns, weight: Floats) -> ShareWeights:
        """Return what the losses of this part weigh, so that those of all parts add up to those of the whole step.

        `reviews` and `weight` [B], what a review counts in the retrieval loss, are those of the whole step.
        """
        counts = 0.0 if self.stands_in else 1.0
        rating = share_of(rating_terms(recipe, reviews), self.reviews, 1.0)
        rated = share_of(reviews.rated, self.reviews, 1.0)
        retrieval = rated if recipe.retrieval_loss == "dot" else share_of(weight, self.reviews)
        return ShareWeights(*(np.array([counts * each], np.float32) for each in (rating, retrieval, 1.0)))


def rating_terms(recipe: Recipe, reviews: ReviewColumns) -> Floats:
    """Return how many terms of the mean of the rating loss each review [B] stands for."""
    size = recipe.reviews_together
    if size == 1:
        return reviews.rated
    lists = reviews.value.reshape(-1, size)
    if recipe.rating_loss == "listmle":
        return np.ones(lists.size, np.float32)
    better: Floats = (lists[:, :, None] > lists[:, None, :]).sum(axis=2).astype(np.float32)  # pairs of unequal stars
    return better.ravel()


def share_of(terms: Floats, part: Ints | slice, least: float = 0.0) -> float:
    """Return the terms of a part of the reviews over those of all; a mean divides by `least` where they are fewer."""
    mine, total = (max(float(each.sum(dtype=np.float64)), least) for each in (terms[part], terms))
    return mine / total if total else 0.0
