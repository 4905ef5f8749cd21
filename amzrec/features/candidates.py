"""The products that the softmax of a step compares: the whole catalogue, or the products of the batch."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from amzrec.arrays import Floats, Ints, Rows
from amzrec.config import Recipe
from amzrec.features.fitted import FittedReviews
from amzrec.features.sparse import unique_in_order

NOT_COMPARED = -1e30  # the bias of a candidate that no query ever finds


class OwnProducts(NamedTuple):
    """The products of B reviews, where the softmax does not compare all of them."""

    rows: Rows  # [P] the distinct product rows
    place: Ints  # [B] position of each review's product among them
    bias: Floats  # [B] what is added to the logit of each review's product because of how candidates are chosen

    def part(self, reviews: Ints | slice) -> OwnProducts:
        """Return what some of the reviews read."""
        return OwnProducts(self.rows, self.place[reviews], self.bias[reviews])


class Candidates(NamedTuple):
    """The M products that the softmax of a step of B reviews compares."""

    rows: Rows  # [M] product rows, each of them once; the last one is row 0 where the step has `own` products
    target: Ints  # [B] the candidate that each review should find: its product, as a position in `rows`
    bias: Floats  # [M] what is added to their logits because of how they were chosen
    own: OwnProducts | None = None  # None: all products of the reviews are among the candidates

    @property
    def products(self) -> Rows:
        """The distinct rows [P] of products whose vectors a step needs; the candidates come first."""
        return self.rows if self.own is None else self.own.rows

    @property
    def place(self) -> Ints:
        """Position of each review's product [B] among `products`."""
        return self.target if self.own is None else self.own.place

    def part(self, reviews: Ints | slice) -> Candidates:
        """Return what some of the reviews are told from: the same candidates."""
        return Candidates(self.rows, self.target[reviews], self.bias, self.own and self.own.part(reviews))


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
    # all steps of a training have columns of one form, so that it is decided here which form that is
    return InBatch(fitted, recipe.log_q, recipe.compared if 0 < recipe.compared < recipe.batch_size else None)


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
    """The distinct products of the batch are the candidates, or of its first reviews where it is large.

    Two terms are added to the logit of each. log(how often it is in the batch) makes a softmax over distinct products
    equal to one over the batch with its repeats. −log q, where q is its share of the fitted reviews, corrects for
    popular products being in batches more often (Yi et al. 2019, eq. 3); q is not clipped.

    With `most`, what a review costs does not grow with the batch: the reviews of a batch lie in a random order, so its
    first ones draw negatives for all as a batch of that size would. The product of a later review, where it is not
    among them, stands in the softmax of that review alone; as a target it is the last candidate, row 0, which is no
    negative of any query.
    """

    def __init__(self, fitted: FittedReviews, log_q: bool, most: int | None = None) -> None:
        """`log_q` tells whether to correct for popular products, `most` is how many reviews of a batch are compared.

        With None all of them are, and the candidates have no `own` products.
        """
        share = np.maximum(fitted.products.counts, 0.5) / max(len(fitted), 1)
        self.log_share, self.most = np.log(share).astype(np.float32) * log_q, most

    def of(self, product: Rows) -> Candidates:
        """Return the candidates of a step whose reviews are of these product rows [B]."""
        rows, place = unique_in_order(product)
        most = len(product) if self.most is None else min(self.most, len(product))
        times = np.maximum(np.bincount(place[:most], minlength=len(rows)), 1)
        bias = np.log(times).astype(np.float32) - self.log_share[rows]
        if self.most is None:
            return Candidates(rows, place, bias)
        compared = int(place[:most].max(initial=-1)) + 1  # rows are in the order in which the reviews name them
        return Candidates(
            np.append(rows[:compared], np.int32(0)),
            np.minimum(place, compared),
            np.append(bias[:compared], np.float32(NOT_COMPARED)),
            OwnProducts(rows, place, bias[place]),
        )
