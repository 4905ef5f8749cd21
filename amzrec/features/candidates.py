"""The products that the softmax of a step is over: the whole catalogue, or those of the batch."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from amzrec.arrays import Floats, Ints, Rows
from amzrec.config import Recipe
from amzrec.features.fitted import Fitted
from amzrec.features.sparse import first_seen


class Candidates(NamedTuple):
    """The products that a step's softmax is over."""

    rows: Rows  # [M] product rows
    place: Ints  # [B] where each review's product stands among them
    bias: Floats  # [M]


class Negatives(Protocol):
    """How the candidates of a step are chosen."""

    def of(self, product: Rows) -> Candidates:
        """The candidates of a step with these products [B]."""


def negatives_of(fitted: Fitted, recipe: Recipe) -> Negatives:
    """Choose as the recipe says; without a retrieval loss only the products of the batch are looked at."""
    if recipe.negatives == "full" and recipe.retrieval_weight > 0:
        return WholeCatalogue(fitted)
    return InBatch(fitted, recipe.log_q)


class WholeCatalogue:
    """All candidates in every step."""

    def __init__(self, fitted: Fitted) -> None:
        self.rows = fitted.candidates
        self.place = np.zeros(len(fitted.products), np.int64)
        self.place[self.rows] = np.arange(len(self.rows))
        self.bias = np.zeros(len(self.rows), np.float32)

    def of(self, product: Rows) -> Candidates:
        """The candidates of a step with these products [B]."""
        return Candidates(self.rows, self.place[product], self.bias)


class InBatch:
    """The distinct products of the batch.

    log(times in the batch) makes them equal to a batch with repeats, and minus log q (the share of each in the fitted
    reviews, unclipped) corrects for the popular ones being drawn more often: Yi et al. 2019, eq. 3.
    """

    def __init__(self, fitted: Fitted, log_q: bool) -> None:
        share = np.maximum(fitted.products.counts, 0.5) / max(len(fitted), 1)
        self.log_share = np.log(share).astype(np.float32) * log_q

    def of(self, product: Rows) -> Candidates:
        """The candidates of a step with these products [B]."""
        rows, place = first_seen(product)
        return Candidates(rows, place, np.log(np.bincount(place)).astype(np.float32) - self.log_share[rows])
