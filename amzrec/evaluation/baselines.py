"""What a model must beat: constants and biases for stars, popularity and decayed popularity for retrieval."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from amzrec.answers.ranks import InnerProducts
from amzrec.arrays import Array, Doubles, Floats, Ints
from amzrec.evaluation.metrics import top_k
from amzrec.evaluation.systems import Scored, System, rank_system
from amzrec.evaluation.testset import Queries, TestSet, line_up
from amzrec.store.dataset import Dataset
from amzrec.store.times import DAY, NO_TIME

PRODUCT_SHRINKAGE = 5.0  # reviews of the mean that the bias of a product is shrunk by
CUSTOMER_SHRINKAGE = 10.0  # reviews of the mean that the bias of a customer is shrunk by
RECENT_DAYS = (7, 14, 30, 60, 90, 180, 365, 730, 1460)  # half-lives that recent and dated popularity choose from
DEFAULT_DAYS = 90  # the half-life where there is no valid part to choose on
JUDGED = 3000  # most valid reviews that a half-life is chosen on

HalfLife = TypeVar("HalfLife", int, float | None)


def all_baselines(dataset: Dataset, testset: TestSet) -> list[System]:
    """Fit every baseline that the data allow on the fitted reviews of a test set: biases need stars, others dates."""
    fit, products = testset.fit, dataset.products.num_rows
    baselines: list[System] = []
    if testset.scale:
        biases = fit_biases(fit.customer, fit.product, fit.stars, dataset.customers.num_rows, products)
        nobody, nothing = np.zeros_like(biases.customer), np.zeros_like(biases.product)
        baselines.append(BiasBaseline("global_mean", Biases(biases.mean, nothing, nobody)))
        baselines.append(BiasBaseline("product_bias", Biases(biases.mean, biases.product, nobody)))
        baselines.append(BiasBaseline("customer_product_bias", biases))
    baselines.append(PopularityBaseline("popularity", popularity(fit.product, products)))
    if dataset.has_time and len(fit):
        days = choose_recent_days(dataset)
        recent = recent_popularity(fit.product, fit.timestamp, days, products)
        baselines.append(PopularityBaseline("recent_popularity", recent, days))
        if fit.timestamp.min() // DAY < fit.timestamp.max() // DAY:
            baselines.append(DatedBaseline("dated_popularity", choose_recent_days(dataset, dated=True)))
    return baselines


# --- stars


@dataclasses.dataclass(frozen=True)
class Biases:
    """stars(c, p) = mean + product[p] + customer[c], from shrunk means; row 0, the unknown one, has no bias."""

    mean: float
    product: Doubles  # [N + 1] stars
    customer: Doubles  # [C + 1] stars, what is left after the product


def fit_biases(customer: Array, product: Array, stars: Array, customers: int, products: int) -> Biases:
    """Fit biases to aligned reviews [n], those with NaN stars left out: products first, then customers.

    bias = sum of what is left / (reviews + shrinkage). `customers` and `products` are table sizes with row 0. Without
    any stars the mean is NaN and the biases are 0.
    """
    rated = ~np.isnan(stars)
    c, p, s = customer[rated], product[rated], stars[rated].astype(np.float64)
    mean = float(s.mean()) if len(s) else float("nan")
    by_product = np.bincount(p, s - mean, products) / (np.bincount(p, minlength=products) + PRODUCT_SHRINKAGE)
    rest = np.bincount(c, s - mean - by_product[p], customers)
    by_customer = rest / (np.bincount(c, minlength=customers) + CUSTOMER_SHRINKAGE)
    by_product[0] = by_customer[0] = 0.0
    return Biases(mean, by_product, by_customer)


@dataclasses.dataclass(frozen=True)
class BiasBaseline:
    """Stars from biases, no retrieval."""

    name: str
    biases: Biases

    def stars(self, testset: TestSet) -> Doubles:
        """See System.stars."""
        reviews = testset.reviews
        return self.biases.mean + self.biases.product[reviews.product] + self.biases.customer[reviews.customer]

    def moments(self, testset: TestSet) -> Array | None:
        """See System.moments."""
        return None

    def scores(self, testset: TestSet, queries: Queries) -> Scored | None:
        """See System.scores."""
        return None


# --- popularity


def popularity(product: Array, products: int) -> Ints:
    """Count the reviews of each product row, [products]."""
    return np.bincount(product, minlength=products)


def recent_popularity(product: Array, timestamp: Array, half_life: float, products: int) -> Doubles:
    """Count the reviews of each product row [products], each half as much per `half_life` days before the latest."""
    age = (timestamp.max() - timestamp) / (half_life * DAY)
    weights = np.exp2(-age)
    return np.asarray(np.bincount(product, weights, products), np.float64)


@dataclasses.dataclass(frozen=True)
class PopularityBaseline:
    """Every customer is answered with the same score of each product."""

    name: str
    score: Array  # [N + 1]
    half_life: int | None = None  # days; None: of all time

    def stars(self, testset: TestSet) -> Doubles | None:
        """See System.stars."""
        return None

    def moments(self, testset: TestSet) -> Array | None:
        """See System.moments."""
        return None

    def scores(self, testset: TestSet, queries: Queries) -> Scored:
        """See System.scores: one row for all, as of a model with vectors of width 1."""
        column = self.score[testset.candidates, None].astype(np.float32)
        return Scored(InnerProducts(np.ones((1, 1), np.float32), column), np.zeros(len(queries), np.int64))


@dataclasses.dataclass(frozen=True)
class DatedBaseline:
    """Every customer is answered with what was popular before the day of the review."""

    name: str
    half_life: int  # days

    def stars(self, testset: TestSet) -> Doubles | None:
        """See System.stars."""
        return None

    def moments(self, testset: TestSet) -> Ints:
        """See System.moments: days since 1970, none after the day that follows the latest fitted review.

        From then on nothing new is known, and decay changes no order. NO_TIME means now, which is after the end.
        """
        last = int(testset.fit.timestamp.max()) // int(DAY)
        times = testset.reviews.timestamp
        return np.where(times == NO_TIME, last + 1, np.minimum(times // int(DAY), last + 1))

    def scores(self, testset: TestSet, queries: Queries) -> Scored:
        """See System.scores: one row per day."""
        column = testset.column[testset.fit.product]
        known = column >= 0
        days, row_of = np.unique(queries.moment, return_inverse=True)
        width = len(testset.candidates)
        return Scored(DatedPopularity(column[known], testset.fit.timestamp[known], self.half_life, width, days), row_of)


class DatedPopularity:
    """Popularity as of the begin of each day: Scores of shape [days, candidates].

    Only reviews of earlier days count, each half as much per `half_life` days. A row follows from the one before it:
    decayed by the days between them, and the new reviews added. Each thread goes through the days once, ascending, so
    that no row costs a pass over all reviews, and every row has the same bits whoever fills it.
    """

    def __init__(self, column: Array, timestamp: Array, half_life: float, width: int, days: Ints) -> None:
        """`column` [n] < `width` and `timestamp` [n] are the reviews, `days` [U] ascending days since 1970."""
        order = np.argsort(timestamp, kind="stable")
        self.column, self.day = column[order], timestamp[order] // int(DAY)
        self.half_life, self.width, self.days = half_life, width, days
        self.first_new = np.searchsorted(self.day, days)  # of each day, the first review that does not count yet
        self.kept = threading.local()  # the row of a day, and which one: [M] in double precision

    @property
    def shape(self) -> tuple[int, int]:
        """(days, candidates)."""
        return len(self.days), self.width

    def fill(self, start: int, stop: int, out: Floats) -> None:
        """See Scores.fill."""
        kept = self.kept
        if not hasattr(kept, "line") or kept.line > start:
            kept.line, kept.row = 0, np.zeros(self.width)
            self.add(kept.row, 0, 0)
        for line in range(kept.line, stop):
            if line > kept.line:
                kept.line = line
                kept.row *= 0.5 ** ((self.days[line] - self.days[line - 1]) / self.half_life)
                self.add(kept.row, line, self.first_new[line - 1])
            if line >= start:
                out[line - start] = kept.row

    def add(self, row: Doubles, line: int, first: int) -> None:
        """Add the reviews from `first` on that count on the day of a line, decayed to that day."""
        new = slice(first, self.first_new[line])
        np.add.at(row, self.column[new], 0.5 ** ((self.days[line] - self.day[new]) / self.half_life))


# --- half-lives


def choose_half_life(days: Sequence[HalfLife], worth: Callable[[HalfLife], float]) -> HalfLife:
    """Choose the half-life, in days, with the largest worth; None is all time. Ties go to the longer one."""
    worths = {half_life: worth(half_life) for half_life in days}
    return max(worths, key=lambda half_life: (worths[half_life], np.inf if half_life is None else half_life))


def choose_recent_days(dataset: Dataset, dated: bool = False) -> int:
    """Choose the half-life of recent (or dated) popularity by the mean top_k of valid when fitted on train.

    At most JUDGED valid reviews, evenly spread, are ranked among the products that train reviews.
    """
    train, valid = dataset.train, dataset.valid
    if not len(valid):
        return DEFAULT_DAYS
    valid = valid.take(np.linspace(0, len(valid) - 1, min(len(valid), JUDGED)).astype(np.int64))
    nothing = train.take(np.zeros(0, np.int64))
    testset = line_up(dataset, valid, train, nothing, np.unique(train.product), np.random.default_rng(0))

    def worth(days: int) -> float:
        if dated:
            system: System = DatedBaseline("dated_popularity", days)
        else:
            recent = recent_popularity(train.product, train.timestamp, days, dataset.products.num_rows)
            system = PopularityBaseline("recent_popularity", recent)
        ranked = rank_system(testset, system, lists=False)
        return sum(top_k(ranked.above).values()) if ranked else 0.0

    return choose_half_life(RECENT_DAYS, worth)
