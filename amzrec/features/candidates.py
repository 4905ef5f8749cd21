"""The products that the softmax of a step compares: the whole catalogue, or the products of the batch."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from amzrec.arrays import Floats, Ints, Rows
from amzrec.config import Recipe
from amzrec.features.fitted import FittedReviews
from amzrec.features.sparse import unique_in_order


class Candidates(NamedTuple):
    """The M products that the softmax of a step of B reviews compares."""

    rows: Rows  # [M] product rows, each of them once
    target: Ints  # [B] the candidate that each review should find: its product, as a position in `rows`
    bias: Floats  # [M] what is added to their logits because of how they were chosen


class Negatives(Protocol):
    """A way to choose the candidates of a step."""

    def of(self, product: Rows) -> Candidates:
        """Return the candidates of a step whose reviews are of these product rows [B]."""


def negatives_of(fitted: FittedReviews, recipe: Recipe) -> Negatives:
    """Return the way to choose candidates that the recipe names.

    Without a retrieval loss nothing but the products of the batch is needed, whatever the recipe says.
    """
    if recipe.negatives == "full" and recipe.retrieval_weight > 0:
        return WholeCatalogue(fitted)
    return InBatch(fitted, recipe.log_q)


class WholeCatalogue:
    """Every product that may be recommended is a candidate in every step."""

    def __init__(self, fitted: FittedReviews) -> None:
        self.rows = fitted.candidates
        self.candidate_of_product = np.zeros(len(fitted.products), np.int64)
        self.candidate_of_product[self.rows] = np.arange(len(self.rows))
        self.bias = np.zeros(len(self.rows), np.float32)

    def of(self, product: Rows) -> Candidates:
        """Return the candidates of a step whose reviews are of these product rows [B]."""
        return Candidates(self.rows, self.candidate_of_product[product], self.bias)


class InBatch:
    """The distinct products of the batch are the candidates.

    Two terms are added to the logit of each. log(how often it is in the batch) makes a softmax over distinct products
    equal to one over the batch with its repeats. −log q, where q is its share of the fitted reviews, corrects for
    popular products being in batches more often (Yi et al. 2019, eq. 3); q is not clipped.
    """

    def __init__(self, fitted: FittedReviews, log_q: bool) -> None:
        """`log_q` tells whether to correct for popular products."""
        share = np.maximum(fitted.products.counts, 0.5) / max(len(fitted), 1)
        self.log_share = np.log(share).astype(np.float32) * log_q

    def of(self, product: Rows) -> Candidates:
        """Return the candidates of a step whose reviews are of these product rows [B]."""
        rows, target = unique_in_order(product)
        return Candidates(rows, target, np.log(np.bincount(target)).astype(np.float32) - self.log_share[rows])
