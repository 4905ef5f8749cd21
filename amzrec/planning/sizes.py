"""What a plan is made from: how many there are of everything that a training holds and touches."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from amzrec.arrays import Array, Ints, Rows
from amzrec.config import Recipe
from amzrec.features.attributes import Attributes
from amzrec.features.batches import FEW_STEPS, cut_evenly
from amzrec.features.fitted import vector_rows
from amzrec.features.popularity import MOST_ENTRIES, MOST_PERIODS
from amzrec.store.dataset import Dataset
from amzrec.store.times import DAY


class Side(NamedTuple):
    """The customers, or the products, of a training."""

    rows: int  # all that the dataset lists, and the unknown one
    counts: Ints  # [rows] fitted reviews of each
    own: int  # rows of the trained tables: those with a vector of their own, and the unknown one
    attributes: int  # features and title words that two or more share
    table: int  # bytes of the table of ids, titles and features


class Phase(NamedTuple):
    """One of the two passes of a training: choosing epochs on train, then the refit on train + valid."""

    reviews: int
    batch: int  # reviews per step
    steps: int  # per epoch
    customers: Side
    products: Side


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Everything that is counted, for one dataset and one recipe."""

    parts: dict[str, int]  # reviews of train, valid and test
    phases: dict[str, Phase]  # by name: "select", and "refit" where there is one
    candidates: int  # products to retrieve from
    periods: int  # of popularity over time, at most
    dated: bool
    judged: int  # customers of valid

    @property
    def largest(self) -> Phase:
        """Return the phase with the most reviews, which is the last one."""
        return list(self.phases.values())[-1]


def sizes_of(dataset: Dataset, recipe: Recipe) -> Sizes:
    """Count a dataset for a recipe; the reviews of train and valid are read."""
    train, valid = dataset.train, dataset.valid
    tables = dataset.customers, dataset.products
    known = [Attributes.of(table).number for table in tables] if recipe.features != "ids" else [0, 0]
    fitted = {"select": [train]} | ({"refit": [train, valid]} if recipe.refit else {})
    phases = {}
    for name, parts in fitted.items():
        number = sum(map(len, parts))
        sides = [
            side_of([getattr(part, kind) for part in parts], table.num_rows, recipe, attributes, table.nbytes)
            for kind, table, attributes in zip(("customer", "product"), tables, known, strict=True)
        ]
        batch, steps = cut_evenly(number, recipe.batch_size, 1 if recipe.features == "ids" else FEW_STEPS)
        phases[name] = Phase(number, batch, steps, *sides)
    counts = list(phases.values())[-1].products.counts
    timed = dataset.has_time and recipe.features != "ids"
    return Sizes(
        parts={"train": len(train), "valid": len(valid), "test": dataset.info.counts.test},
        phases=phases,
        candidates=len(dataset.candidates(counts)),
        periods=periods_of(train.timestamp, dataset.products.num_rows) if timed else 1,
        dated=timed,
        judged=len(np.unique(valid.customer)),
    )


def side_of(rows: list[Rows], size: int, recipe: Recipe, attributes: int, table: int) -> Side:
    """Count the reviews of each row of a side; `size` is how many rows its table has."""
    counts = sum((np.bincount(part, minlength=size) for part in rows), np.zeros(size, np.int64))
    own = int(vector_rows(counts, recipe.own_vector).max(initial=0)) + 1
    return Side(size, counts, own, attributes, table)


def periods_of(timestamp: Array, products: int) -> int:
    """Return into how many periods popularity over time is cut, as `features.popularity` does it."""
    days = (int(timestamp.max()) - int(timestamp.min())) / DAY
    return int(np.clip(np.ceil(days), 1, np.clip(MOST_ENTRIES // products, 1, MOST_PERIODS)))


class StepSizes(NamedTuple):
    """What one step of B reviews reads, in the mean."""

    customers: int  # distinct ones
    products: int  # distinct ones, and candidates
    candidates: int  # that each query is compared with
    entries: tuple[int, int]  # reviews of the histories of customers, and of products
    partners: tuple[int, int]  # distinct rows of the trained tables that these name


def step_sizes(sizes: Sizes, phase: Phase, recipe: Recipe) -> StepSizes:
    """Return what a step of a phase reads.

    A row with a share s of the reviews is in a step of B of them with probability 1 − (1 − s)^B.
    """
    there = [expected(side.counts, phase.batch) for side in (phase.customers, phase.products)]
    customers, products = (int(probability.sum()) for probability in there)
    candidates = sizes.candidates
    if recipe.negatives == "full" and recipe.retrieval_weight > 0:
        products = candidates
        there[1] = (phase.products.counts > 0).astype(np.float64)
    else:
        compared = min(recipe.compared or phase.batch, phase.batch)
        candidates = int(expected(phase.products.counts, compared).sum())
    if recipe.features == "ids":
        return StepSizes(customers, products, candidates, (0, 0), (0, 0))
    entries, partners = [], []
    for side, probability, other in (
        (phase.customers, there[0], phase.products),
        (phase.products, there[1], phase.customers),
    ):
        read = int((probability * np.minimum(side.counts, recipe.history_cap)).sum())
        read = min(read, max(recipe.history_budget, len(probability[probability > 0.5])))
        entries.append(read)
        owned = np.sort(other.counts)[::-1][: max(other.own - 1, 0)]
        partners.append(1 + int(-np.expm1(-read * owned / max(phase.reviews, 1)).sum()))
    return StepSizes(customers, products, candidates, (entries[0], entries[1]), (partners[0], partners[1]))


def expected(counts: Ints, draws: int) -> Array:
    """Return the probability [R + 1] that each row is among so many reviews that are drawn."""
    share = counts / max(int(counts.sum()), 1)
    return np.asarray(-np.expm1(draws * np.log1p(-np.minimum(share, 1 - 1e-12))))
