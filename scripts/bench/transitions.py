"""What followed what: a table of transitions between products, tuned on valid, as a peer where there is an order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, diags

from amzrec.arrays import Array, Doubles, Floats
from amzrec.evaluation.judge import judge
from amzrec.evaluation.systems import Scored, System
from amzrec.evaluation.testset import Queries, TestSet, line_up
from amzrec.store.dataset import Dataset, Reviews


@dataclasses.dataclass(frozen=True)
class Settings:
    """How transitions are counted and used; the defaults are known as good on Amazon's 5-core sets."""

    window: int = 10  # products after one that follow it, each worth 1 / its distance
    decay: float = 0.8  # what a product of the history is worth, per product that came after it
    shrink: float = 40.0  # reviews that are added to the popularity of each product
    backward: float = 0.5  # what a transition the other way round is worth
    power: float = 0.5  # of the popularity of both products, by which transitions are divided


GRID: dict[str, tuple[Any, ...]] = {  # what is tried, one setting after the other, twice
    "window": (3, 10, 30),
    "decay": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "shrink": (0, 10, 40, 160),
    "backward": (0, 0.1, 0.25, 0.5, 1),
    "power": (0.25, 0.35, 0.5, 0.65),
}


def transition_peer(testset: TestSet, dataset: Dataset) -> Iterator[tuple[str, Callable[[], System]]]:
    """The table, tuned on valid, then counted again on train and valid."""

    def fit() -> System:
        return Transitions(testset.fit, tuned(dataset))

    yield "transitions, tuned", fit


def tuned(dataset: Dataset) -> Settings:
    """The settings with the best NDCG@10 on valid, for a table of train."""
    train, candidates = dataset.train, np.unique(dataset.train.product)
    valid = line_up(dataset, dataset.valid, train, train, candidates, np.random.default_rng(0))

    @cache
    def worth(settings: Settings) -> float:
        return float((judge(valid, Transitions(train, settings)).ranking or {})["ndcg@10"])

    best = Settings()
    for _ in range(2):
        for name, values in GRID.items():
            best = max((dataclasses.replace(best, **{name: value}) for value in values), key=worth)
    print(f"transitions: {best}, NDCG@10 {worth(best):.4f} on valid", flush=True)
    return best


class Transitions:
    """A system that scores products by what followed those of a history: see System."""

    name = "transitions"

    def __init__(self, fit: Reviews, settings: Settings) -> None:
        self.settings = settings
        order = np.lexsort((fit.timestamp, fit.customer))
        self.customer, self.product = fit.customer[order], fit.product[order]

    def stars(self, testset: TestSet) -> Doubles | None:
        """See System.stars."""
        return None

    def moments(self, testset: TestSet) -> Array | None:
        """See System.moments."""
        return None

    def scores(self, testset: TestSet, queries: Queries) -> Scored:
        """See System.scores."""
        table = transitions(self.customer, self.product, len(testset.column), self.settings)
        after = np.searchsorted(self.customer, self.customer, side="right") - 1 - np.arange(len(self.customer))
        customers = int(max(self.customer.max(), testset.customers.max())) + 1
        weights = (self.settings.decay**after).astype(np.float32)
        histories = csr_matrix((weights, (self.customer, self.product)), (customers, len(testset.column)))
        products = SparseProducts(histories[testset.customers], table[:, testset.candidates])
        return Scored(products, queries.owner)


@dataclasses.dataclass(frozen=True)
class SparseProducts:
    """Histories [G, N + 1] · table [N + 1, M]: see Scores of answers/ranks.py."""

    histories: Any
    table: Any

    @property
    def shape(self) -> tuple[int, int]:
        """(G, M)."""
        return self.histories.shape[0], self.table.shape[1]

    def fill(self, start: int, stop: int, out: Floats) -> None:
        """See Scores.fill."""
        (self.histories[start:stop] @ self.table).toarray(out=out)


def transitions(customer: Array, product: Array, size: int, settings: Settings) -> Any:
    """Count what followed what, in reviews by customer and time: a sparse matrix [size, size], voter first."""
    first, then, weight = [], [], []
    for distance in range(1, settings.window + 1):
        same = customer[distance:] == customer[:-distance]
        first.append(product[:-distance][same])
        then.append(product[distance:][same])
        weight.append(np.full(int(same.sum()), 1 / distance, np.float32))
    pairs = np.concatenate(first), np.concatenate(then)
    counted = coo_matrix((np.concatenate(weight), pairs), (size, size)).tocsr()
    popularity = np.bincount(product, minlength=size) + settings.shrink
    scale = diags(np.where(popularity > 0, np.maximum(popularity, 1) ** -settings.power, 0).astype(np.float32))
    return (scale @ (counted + settings.backward * counted.T) @ scale).tocsr().astype(np.float32)
